//! `dray prefetch`: many models under one budget: a large one alone with all of it, small ones several at once.
//!
//! In: LIST and `--into`. Out: a sealed directory per model, a table, a report, the worst exit class.
//! Holds: nothing is fetched before all of it is known to fit; a model that fails stops no other; slabs, lanes,
//! connections and rate are those of one pull, however many are under way.

mod board;
mod list;
mod models;
mod outcome;
mod share;

use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::Args;

use crate::cli::environment::{self, Wires};
use crate::cli::options::{Common, Formats, Origins};
use crate::cli::prefetch::list::{LIST_BYTES_MAX, Model};
use crate::cli::prefetch::outcome::Whole;
use crate::cli::print;
use crate::cli::pull::{self, Archives};
use crate::error::Error;

/// Arguments of `dray prefetch`.
#[derive(Debug, Args)]
pub(super) struct PrefetchArgs {
    /// The models: YAML with uri, name, priority, allow, ignore, pin, subdir of each, or one URI a line; - is stdin
    #[arg(value_name = "LIST")]
    list: PathBuf,
    /// The directory that gets a folder for each model; made when missing
    #[arg(long, value_name = "DIR", env = "DRAY_INTO")]
    into: PathBuf,
    /// Of models that are one archive (tar, tar.gz, tar.bz2, tar.xz, zip by its name), publish the files instead
    #[arg(long, env = "DRAY_UNPACK")]
    unpack: bool,
    /// Print the report as JSON instead of the table
    #[arg(long, env = "DRAY_JSON")]
    json: bool,
    #[command(flatten)]
    formats: Formats,
    #[command(flatten)]
    origins: Origins,
    #[command(flatten)]
    common: Common,
}

pub(super) async fn run(args: PrefetchArgs) -> Result<(), Error> {
    let started = Instant::now();
    let environment = environment::process()?;
    let audit = args.common.audit()?;
    let models = read(&args)?;
    let metrics = args.common.metrics(models.len(), &environment)?;
    let setting = models::Setting {
        into: &args.into,
        archives: if args.unpack { Archives::Unpacked } else { Archives::Packed },
        formats: args.formats.allowed(),
        common: &args.common,
        environment: &environment,
        audit: &audit,
        metrics: &metrics,
        wires: &Wires::default(),
        started,
    };
    let plans = models.into_iter().map(|model| plan(&args, &setting, model)).collect::<Result<Vec<_>, _>>()?;
    let ended = models::fetch(&setting, plans).await?;
    if let Some(stop) = &ended.stop {
        pull::refused(&audit, stop);
    }
    let whole = Whole::new(&args.into, ended, started);
    let written = audit.check().and(whole.write(args.common.report.as_deref()));
    print(&if args.json { whole.json()? } else { whole.table() })?;
    whole.result().and(written)
}

/// The list, highest priority first.
fn read(args: &PrefetchArgs) -> Result<Vec<Model>, Error> {
    if args.common.pin.is_some() {
        return Err(Error::Usage("--pin is of one model: name it in the list, with `pin`".to_owned()));
    }
    let failed = |error: std::io::Error| Error::Usage(format!("{}: {error}", args.list.display()));
    let mut text = String::new();
    let from: Box<dyn Read> = if args.list == Path::new("-") {
        Box::new(std::io::stdin())
    } else {
        Box::new(std::fs::File::open(&args.list).map_err(failed)?)
    };
    from.take(LIST_BYTES_MAX + 1).read_to_string(&mut text).map_err(failed)?;
    if LIST_BYTES_MAX < u64::try_from(text.len()).unwrap_or(u64::MAX) {
        return Err(Error::Usage(format!("the list is longer than {LIST_BYTES_MAX} bytes")));
    }
    list::parse(&text)
}

/// What is settled about a model before anybody is asked.
fn plan(args: &PrefetchArgs, setting: &models::Setting<'_>, model: Model) -> Result<models::Planned, Error> {
    let of_model = |error: Error| error.worded(format!("{}: {error}", model.name));
    let origins = Origins {
        allow: model.allow.clone().unwrap_or_else(|| args.origins.allow.clone()),
        ignore: model.ignore.clone().unwrap_or_else(|| args.origins.ignore.clone()),
    };
    let filter = origins.filter(setting.environment).map_err(of_model)?;
    // Beside the list, wherever the command runs.
    let beside = args.list.parent().unwrap_or(Path::new(""));
    let pin = model.pin.as_ref().map(|pin| beside.join(pin));
    let common = Common { pin, report: None, ..args.common.clone() };
    // A pin that cannot be read is a mistake in the list, to be told before anything moves.
    common.pins().map_err(of_model)?;
    let dest = args.into.join(model.subdir.as_str());
    Ok(models::Planned { model, filter, common, dest })
}
