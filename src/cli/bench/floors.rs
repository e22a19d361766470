//! What the floors' commands share: rounds, where figures go, and work that hears signals.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::bench::Stop;
use crate::bench::floors::{self, FloorReport};
use crate::cli::bench::output::{Json, on_thread};
use crate::error::Error;
use crate::units::parse_duration;

/// More runs of one row say nothing new.
const ROUNDS_MAX: i64 = 1000;

/// Flags of every floor.
#[derive(Debug, Clone, Args)]
pub(super) struct Measured {
    /// Runs of each row, in turn with the others
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=ROUNDS_MAX), default_value = "3", env = "DRAY_ROUNDS")]
    pub(super) rounds: u32,
    /// Write the figures as JSON; - is stdout, in place of the table
    #[arg(long, value_name = "FILE", env = "DRAY_JSON")]
    json: Option<PathBuf>,
}

impl Measured {
    /// Does `work` on a thread of its own, then prints its table and writes its figures.
    pub(super) async fn show(
        &self,
        work: impl FnOnce(&Stop) -> Result<FloorReport, Error> + Send + 'static,
    ) -> Result<(), Error> {
        let json = Json::open(self.json.as_deref())?;
        let report = on_thread(work).await?;
        json.put(&report, &floors::table(&report))
    }
}

/// `--seconds`: from a hundredth of a second to an hour.
pub(super) fn parse_time(text: &str) -> Result<Duration, String> {
    let time = parse_duration(text).map_err(|error| error.to_string())?;
    if (Duration::from_millis(10)..=Duration::from_secs(3600)).contains(&time) {
        return Ok(time);
    }
    Err(format!("`{text}` is not between 10ms and 1h"))
}
