//! Who is measured: a program with its arguments, and what it is to bring.
//!
//! In: origins and files, from the command line. Out: [`Contender`]s, which [`super::rounds`] runs.

use std::path::PathBuf;

use crate::bench::report::Kind;

/// A program to run in turn with others.
#[derive(Debug, Clone)]
pub struct Contender {
    /// The row's name.
    pub name: String,
    /// What it stands for.
    pub kind: Kind,
    /// The word of the origin that it takes, where it takes one.
    pub origin: Option<String>,
    /// Program and arguments, or why there is none to run.
    pub argv: Result<Vec<String>, String>,
    /// Variables on top of the harness's own; an empty one is taken away.
    pub env: Vec<(String, String)>,
    /// What is known of the bytes when it ends well.
    pub proof: String,
    /// Whether they survive a power cut when it ends.
    pub durable: bool,
    /// What it leaves.
    pub leaves: Leaves,
}

/// What a contender leaves when it ends well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Leaves {
    /// The files, in the folder of its run.
    Files,
    /// The files, and dray's report at this path.
    FilesAndReport(PathBuf),
    /// A [`crate::bench::BenchReport`] on stdout, whose rows count for it.
    Rows {
        /// What kind of floor they are: `disk`, `lane`.
        kind: &'static str,
        /// What is said of them behind their names.
        note: &'static str,
    },
}

/// One of the files that everybody brings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceFile {
    /// Path below the model, as dray lays it.
    pub path: String,
    /// Size in bytes.
    pub size: u64,
    /// BLAKE3 of its bytes, where somebody knows it without having downloaded it.
    pub digest: Option<blake3::Hash>,
}

/// One way to the files.
#[derive(Debug, Clone, Default)]
pub struct Origin {
    /// `http`, `https`, `s3`, `hf`, or the scheme of another source.
    pub word: String,
    /// What dray is given.
    pub uri: String,
    /// The URL of each file, where files have URLs of their own.
    pub urls: Vec<String>,
    /// What clients need in their environment: keys, endpoint, certificates.
    pub env: Vec<(String, String)>,
    /// A file of certificates to trust beside the usual ones.
    pub authority: Option<PathBuf>,
}

/// Where a run takes place.
#[derive(Debug, Clone)]
pub struct Place {
    /// The folder that each contender finds empty.
    pub dest: PathBuf,
    /// A folder for settings, lists and logs.
    pub scratch: PathBuf,
}

impl Contender {
    /// How to run it again: no query of a URL, no program text, no path of the harness.
    pub fn shown(&self, place: &Place) -> String {
        let Ok(argv) = &self.argv else { return String::new() };
        let word = |word: &String| shown_word(word, place);
        argv.iter().map(word).collect::<Vec<_>>().join(" ")
    }
}

fn shown_word(word: &str, place: &Place) -> String {
    if word.contains('\n') {
        return "'…'".to_owned();
    }
    let word = word.replace(&*place.dest.to_string_lossy(), "DEST");
    without_secrets(&word.replace(&*place.scratch.to_string_lossy(), "SCRATCH"))
}

/// A word without the query of a URL in it; of a URL with a user, or of several in one, nothing.
pub fn without_secrets(word: &str) -> String {
    let Some((_, rest)) = word.split_once("://") else { return word.to_owned() };
    if rest.split('/').next().is_some_and(|host| host.contains('@')) || rest.contains("://") {
        return "URL".to_owned();
    }
    word.split_once('?').map_or_else(|| word.to_owned(), |(plain, _)| format!("{plain}?…"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_has_no_secrets() {
        for (word, shown) in [
            ("pull", "pull"),
            ("https://host/file?X-Amz-Signature=1", "https://host/file?…"),
            ("https://user:word@host/file", "URL"),
            ("http://a/,http://user:word@host/file", "URL"),
            ("s3://bucket/m", "s3://bucket/m"),
            ("import x\nx()", "'…'"),
            ("/d/run/a.bin", "DEST/a.bin"),
            ("--config=/d/scratch/c", "--config=SCRATCH/c"),
        ] {
            let place = Place { dest: "/d/run".into(), scratch: "/d/scratch".into() };
            assert_eq!(shown_word(word, &place), shown);
        }
    }
}
