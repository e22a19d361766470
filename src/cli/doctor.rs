//! `dray doctor`: which I/O path a directory allows, and why.

use std::path::PathBuf;

use clap::Args;

use crate::cli::print;
use crate::disk::{self, Dest, IoWish, place};
use crate::error::Error;
use crate::units::show_size;

/// Arguments of `dray doctor`.
#[derive(Debug, Args)]
pub(super) struct DoctorArgs {
    /// The directory to look at
    #[arg(value_name = "DIR", default_value = ".")]
    dir: PathBuf,
}

pub(super) fn run(args: &DoctorArgs) -> Result<(), Error> {
    let dest = Dest::open_existing(&args.dir)?;
    let probe = disk::probe(&dest, IoWish::Auto)?;
    let mut lines = vec![
        format!("directory     {}", args.dir.display()),
        format!("file system   {}, {} free", probe.file_system, show_size(probe.free_bytes)),
        format!(
            "way to disk   {}{}",
            probe.rung.word(),
            if probe.direct { ", past the page cache (O_DIRECT)" } else { ", through the page cache" }
        ),
        format!("alignment     {} bytes", probe.align),
        format!(
            "io_uring      {}",
            match &probe.uring {
                Ok(()) => "allowed".to_owned(),
                Err(why) => format!("refused: {why}"),
            }
        ),
        format!("CPUs          {} (cgroup quota and affinity)", place::cpus()),
        format!("memory limit  {}", place::memory_limit().map_or_else(|| "none".to_owned(), show_size)),
    ];
    lines.extend(probe.notes.iter().map(|note| format!("note          {note}")));
    lines.push(String::new());
    print(&lines.join("\n"))
}
