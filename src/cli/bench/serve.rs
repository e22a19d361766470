//! `dray bench serve`: the arena alone, until SIGINT.

use clap::Args;

use crate::bench::contender::Origin;
use crate::cli::bench::arena::{Arena, ArenaArgs};
use crate::cli::print;
use crate::cli::progress::eprintln_line;
use crate::engine::Signals;
use crate::error::{Error, storage};

/// Arguments of `dray bench serve`.
#[derive(Debug, Args)]
pub(super) struct ServeArgs {
    #[command(flatten)]
    arena: ArenaArgs,
}

pub(super) async fn run(args: ServeArgs) -> Result<(), Error> {
    let mut signals = Signals::watch()?;
    let folder = tempfile::tempdir().map_err(|error| storage("a temporary folder", &error))?;
    let (arena, origins) = Arena::start(&args.arena, folder.path())?;
    print(&origins.iter().map(lines).collect::<String>())?;
    eprintln_line("serving; end with Ctrl-C");
    // A signal is how it is meant to end.
    drop(signals.next().await);
    if let Some(met) = arena.met() {
        eprintln_line(&met);
    }
    Ok(())
}

/// What a client needs of an origin, as lines that a shell may read.
fn lines(origin: &Origin) -> String {
    let mut lines = format!("# {}\n", origin.word);
    for (name, value) in &origin.env {
        lines +=
            &if value.is_empty() { format!("unset {name}\n") } else { format!("export {name}={}\n", quoted(value)) };
    }
    if origin.urls.is_empty() {
        lines += &format!("# {}\n", origin.uri);
    }
    for url in &origin.urls {
        lines += &format!("# {url}\n");
    }
    lines
}

/// `value` as one word of a shell.
fn quoted(value: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:%+=@,".contains(c);
    if value.chars().all(plain) { value.to_owned() } else { format!("'{}'", value.replace('\'', "'\\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_reads_one_word_of_any_value() {
        for (value, word) in
            [("/tmp/x-1/a.pem", "/tmp/x-1/a.pem"), ("/tmp/a b", "'/tmp/a b'"), ("it's $1", r"'it'\''s $1'")]
        {
            assert_eq!(quoted(value), word);
        }
    }
}
