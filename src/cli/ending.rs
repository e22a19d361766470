//! How the process ends when it fails: one last `error:` line, its exit code, and a word to the kubelet.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use crate::cli::{print, progress};
use crate::error::Error;

/// Where a pod's container leaves the reason of its end, unless `DRAY_TERMINATION_LOG` names another file.
const TERMINATION_LOG: &str = "/dev/termination-log";

/// Who hears of a failure beside the reader of stderr.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Heard {
    /// Nobody: a command's caller reads stderr and exit code.
    ByCaller,
    /// The kubelet, when a storage initializer fails: what it hears is what the user of the cluster sees.
    ByKubelet,
}

/// Prints the cause as the last line of stderr and yields its exit code.
pub(super) fn fail(error: &Error, heard: Heard) -> ExitCode {
    let text: String = error.to_string().chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let line = format!("error: {text}");
    if heard == Heard::ByKubelet
        && let Err(error) = leave(&line)
    {
        // The kubelet takes the end of the log then, which is the same line.
        tracing::debug!(%error, "no termination message");
    }
    progress::eprintln_line(&line);
    ExitCode::from(error.exit_code())
}

/// Writes `line` to the termination log where there is one; makes none.
fn leave(line: &str) -> std::io::Result<()> {
    let named = std::env::var_os("DRAY_TERMINATION_LOG").filter(|path| !path.is_empty());
    let path = named.map_or_else(|| PathBuf::from(TERMINATION_LOG), PathBuf::from);
    // A report that was sent there says more.
    let reported = std::env::var_os("DRAY_REPORT").is_some_and(|report| path == report);
    if reported || !path.is_file() {
        return Ok(());
    }
    let mut file = std::fs::File::options().write(true).truncate(true).open(path)?;
    writeln!(file, "{line}")
}

/// Help and version go to stdout and succeed; a wrong command line says how first and why last.
pub(super) fn usage(error: &clap::Error) -> ExitCode {
    use clap::error::ErrorKind;
    let text = error.render().to_string();
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        return if print(&text).is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        progress::eprintln_line(text.trim_end());
        return fail(&Error::Usage("no command given".to_owned()), Heard::ByCaller);
    }
    for line in text.lines().filter(|line| !line.trim().is_empty() && !line.starts_with("error:")) {
        progress::eprintln_line(line);
    }
    fail(&wrong(error), Heard::ByCaller)
}

/// What is wrong with a command line, or with the variables that stand for its flags.
pub(super) fn wrong(error: &clap::Error) -> Error {
    let text = error.render().to_string();
    let cause = text.lines().find_map(|line| line.strip_prefix("error:")).unwrap_or("wrong usage").trim();
    Error::Usage(cause.trim_end_matches(':').to_owned())
}
