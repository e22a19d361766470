//! `dray bench page`: traces and reports to one page.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use clap::Args;

use crate::bench::BenchReport;
use crate::bench::page;
use crate::bench::report;
use crate::bench::trace::{self, Trace};
use crate::cli::print;
use crate::error::Error;

/// Longest file that is read: several times the trace of a run of a year.
const FILE_BYTES_MAX: u64 = 64 << 20;

/// Arguments of `dray bench page`.
#[derive(Debug, Args)]
pub(super) struct PageArgs {
    /// What `dray pull --trace` or `dray bench --json` wrote
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// Where the page goes; - is stdout, as without it
    #[arg(long, short = 'o', value_name = "FILE", env = "DRAY_OUTPUT")]
    output: Option<PathBuf>,
}

pub(super) async fn run(args: PageArgs) -> Result<(), Error> {
    let work = tokio::task::spawn_blocking(move || draw(&args));
    work.await.unwrap_or_else(|_| Err(Error::Internal("the page was lost".to_owned())))
}

fn draw(args: &PageArgs) -> Result<(), Error> {
    if page::SECTIONS_MAX < args.files.len() {
        return Err(Error::Usage(format!("a page shows at most {} files", page::SECTIONS_MAX)));
    }
    let (mut reports, mut traces) = (Vec::new(), Vec::new());
    for path in &args.files {
        let wrong = |why: &dyn std::fmt::Display| Error::Usage(format!("{}: {why}", path.display()));
        match read(path).map_err(|why| wrong(&why))? {
            Record::Report(report) => reports.push(*report),
            Record::Trace(trace) => traces.push(*trace),
        }
    }
    write(args.output.as_deref(), &page::page(&reports, &traces)?)
}

/// Writes a page to `path`, or to stdout.
fn write(path: Option<&Path>, page: &str) -> Result<(), Error> {
    let Some(path) = path.filter(|path| *path != Path::new("-")) else { return print(page) };
    std::fs::write(path, page).map_err(|error| crate::error::storage(&format!("write {}", path.display()), &error))
}

/// What a file holds.
enum Record {
    Report(Box<BenchReport>),
    Trace(Box<Trace>),
}

/// What is read to know what a file is.
#[derive(serde::Deserialize)]
struct Schema {
    schema: String,
}

fn read(path: &Path) -> Result<Record, String> {
    let file = File::open(path).map_err(|error| error.to_string())?;
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    if FILE_BYTES_MAX < u64::try_from(bytes.len()).unwrap_or(u64::MAX) {
        return Err(format!("longer than {FILE_BYTES_MAX} bytes"));
    }
    let mut first = Vec::new();
    BufReader::new(bytes.as_slice()).read_until(b'\n', &mut first).map_err(|error| error.to_string())?;
    // A trace is lines, a report is one value over many.
    let of = |text: &[u8]| serde_json::from_slice::<Schema>(text).map(|found| found.schema);
    match of(&first).or_else(|_| of(&bytes)).as_deref() {
        Ok(trace::SCHEMA) => Trace::read(bytes.as_slice()).map(|trace| Record::Trace(Box::new(trace))),
        Ok(report::SCHEMA) => serde_json::from_slice(&bytes).map(Record::Report).map_err(|error| error.to_string()),
        Ok(_) | Err(_) => Err(format!("neither {} nor {}", trace::SCHEMA, report::SCHEMA)),
    }
}
