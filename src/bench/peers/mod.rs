//! Other tools at the same work, each by the settings that its own documentation gives for speed.
//!
//! In: an [`Origin`], the folders to look for programs in. Out: [`Contender`]s. Holds: what a tool proves and whether
//! its bytes survive a power cut is stated as its documentation has it; a tool that is not there is a row that says so.

mod find;
mod http;
mod hub;
mod s3;
mod wanted;

use crate::bench::contender::{Contender, Leaves, Origin, Place, SourceFile};
use crate::bench::report::Kind;

pub use find::Finder;
pub use wanted::Wanted;

/// A tool as this module's files know it.
struct Tool {
    /// What `--peers` calls it.
    name: &'static str,
    /// What it knows of the bytes when it ends well.
    proof: &'static str,
    /// How to run it.
    how: How,
}

/// How a tool is run: what comes before its arguments.
enum How {
    /// A program, and its arguments.
    Program(&'static str, Vec<String>),
    /// A shell's loop over files, for a program that takes one at a time: the program, the script, its arguments.
    EachFile(&'static str, &'static str, Vec<String>),
    /// A Python program that needs this module, and its arguments.
    Python(&'static str, &'static str, Vec<String>),
}

/// What the tools are to bring, and where.
struct Task<'a> {
    origin: &'a Origin,
    files: &'a [SourceFile],
    place: &'a Place,
}

/// Every peer there is.
pub fn names() -> Vec<&'static str> {
    [http::NAMES, s3::NAMES, hub::NAMES].concat()
}

/// What is known of the peers of one origin.
#[derive(Debug, Default)]
pub struct Peers {
    /// Those to run, and those that were asked for by name and are missing.
    pub contenders: Vec<Contender>,
    /// Why each of the others is left out.
    pub left_out: Vec<String>,
}

/// The peers for `origin`, ready to be run.
///
/// # Errors
/// What writing a tool's settings gave.
pub fn contenders(
    origin: &Origin,
    files: &[SourceFile],
    place: &Place,
    wanted: &Wanted,
    finder: &Finder,
) -> std::io::Result<Peers> {
    let task = Task { origin, files, place };
    let tools = match (wanted, origin.word.as_str()) {
        (Wanted::None, _) => Vec::new(),
        (_, "http" | "https") => http::tools(&task),
        (_, "s3") => s3::tools(&task)?,
        (_, "hf") => hub::tools(&task),
        _ => Vec::new(),
    };
    let asked = |tool: &Tool| match wanted {
        Wanted::Named(names) => names.iter().any(|name| *name == tool.name),
        Wanted::Auto | Wanted::None => true,
    };
    let mut peers = Peers::default();
    for made in tools.into_iter().filter(asked).map(|tool| contender(tool, &task, finder)) {
        match &made.argv {
            Err(why) if *wanted == Wanted::Auto => peers.left_out.push(why.clone()),
            _ => peers.contenders.push(made),
        }
    }
    Ok(peers)
}

fn contender(tool: Tool, task: &Task<'_>, finder: &Finder) -> Contender {
    let found = |name: &str| finder.program(name).ok_or_else(|| format!("{name} is not installed"));
    let argv = match tool.how {
        How::Program(name, args) => found(name).map(|program| [vec![program], args].concat()),
        How::EachFile(name, script, args) => found(name).map(|program| {
            let dest = task.place.dest.to_string_lossy().into_owned();
            let shell = ["sh", "-c", script, "sh"].map(str::to_owned).to_vec();
            [shell, vec![program, dest], args].concat()
        }),
        How::Python(module, script, args) => {
            let python = finder.python_with(module).ok_or_else(|| format!("{module} is not installed"));
            python.map(|python| [vec![python, "-c".to_owned(), script.to_owned()], args].concat())
        }
    };
    let mut env = task.origin.env.clone();
    if task.origin.word == "s3" {
        env.extend(s3::env(task));
    }
    if task.origin.word == "hf" {
        env.extend(hub::env(task));
    }
    if matches!(task.origin.word.as_str(), "http" | "https") || !task.origin.env.is_empty() {
        // Settings and caches of its own: what lies in a home is of one machine alone. A store of somebody else's may
        // need the credentials that lie there.
        env.push(("HOME".to_owned(), task.place.scratch.to_string_lossy().into_owned()));
    }
    Contender {
        name: format!("{} {}", tool.name, task.origin.word),
        kind: Kind::Peer,
        origin: Some(task.origin.word.clone()),
        argv,
        env,
        proof: tool.proof.to_owned(),
        // None of them syncs what it wrote.
        durable: false,
        leaves: Leaves::Files,
    }
}

impl Task<'_> {
    fn dest(&self) -> String {
        self.place.dest.to_string_lossy().into_owned()
    }

    /// URL and file name of each file; the name is the URL's last segment.
    fn named_urls(&self) -> impl Iterator<Item = (&str, String)> {
        self.origin.urls.iter().zip(self.files).map(|(url, file)| {
            let name = file.path.rsplit('/').next().unwrap_or(&file.path);
            (url.as_str(), name.to_owned())
        })
    }
}

#[cfg(test)]
mod tests;
