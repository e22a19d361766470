//! `dray bench page`: traces and reports to one page.

use std::fs::{File, Metadata, Permissions};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use clap::Args;
use tempfile::NamedTempFile;

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
    let output = Output::open(args.output.as_deref(), &args.files)?;
    let (mut reports, mut traces) = (Vec::new(), Vec::new());
    for path in &args.files {
        let wrong = |why: &dyn std::fmt::Display| Error::Usage(format!("{}: {why}", path.display()));
        match read(path).map_err(|why| wrong(&why))? {
            Record::Report(report) => reports.push(*report),
            Record::Trace(trace) => traces.push(*trace),
        }
    }
    output.write(&page::page(&reports, &traces)?)
}

/// Where the page goes.
enum Output {
    Stdout,
    /// A pipe, a device.
    Stream(PathBuf, File),
    /// A file, which takes its name once it is whole.
    Beside(PathBuf, NamedTempFile),
}

impl Output {
    /// Opens what `-o` names, before anything is drawn. None of `inputs` is written over.
    fn open(path: Option<&Path>, inputs: &[PathBuf]) -> Result<Self, Error> {
        let Some(path) = path.filter(|path| *path != Path::new("-")) else { return Ok(Self::Stdout) };
        let wrong = |why: &dyn std::fmt::Display| Error::Usage(format!("--output {}: {why}", path.display()));
        let which = |about: Metadata| (about.dev(), about.ino());
        let about = path.metadata().ok();
        let place = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        if about.as_ref().is_some_and(|about| !about.is_file()) {
            let file = File::options().write(true).open(path).map_err(|error| wrong(&error))?;
            return Ok(Self::Stream(place, file));
        }
        let same = |output| inputs.iter().any(|input| input.metadata().is_ok_and(|input| which(input) == output));
        if about.map(which).is_some_and(same) {
            return Err(wrong(&"the page would be written over what it is drawn from"));
        }
        let parent = place.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let mode = Permissions::from_mode(0o666);
        let beside = tempfile::Builder::new().prefix(".page-").permissions(mode).tempfile_in(parent);
        beside.map(|file| Self::Beside(place, file)).map_err(|error| wrong(&error))
    }

    fn write(self, page: &str) -> Result<(), Error> {
        let (place, written) = match self {
            Self::Stdout => return print(page),
            Self::Stream(place, mut file) => (place, file.write_all(page.as_bytes())),
            Self::Beside(place, mut file) => {
                let written = file.write_all(page.as_bytes());
                let named = written.and_then(|()| file.persist(&place).map_err(|error| error.error));
                (place, named.map(drop))
            }
        };
        written.map_err(|error| crate::error::storage(&format!("write {}", place.display()), &error))
    }
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
