//! `dray plan`: what would be fetched, without fetching it.

use std::io::{self, BufWriter, Write};

use clap::Args;
use serde::{Serialize, Serializer};
use serde_json::{Value, json};

use crate::audit::Audit;
use crate::cli::environment::{self, Wires};
use crate::cli::local;
use crate::cli::options::Origins;
use crate::cli::progress::eprintln_line;
use crate::cli::pull::{self, Asked};
use crate::error::Error;
use crate::limits::Limits;
use crate::manifest::{Entry, Manifest, Stated, Version};
use crate::units::show_size;
use crate::wire::Counters;

/// Arguments of `dray plan`.
#[derive(Debug, Args)]
pub(super) struct PlanArgs {
    /// Where the model is: s3://bucket/prefix-or-key, gs://bucket/…, hf://owner/name, https://host/file, /path or file:///path, model-registry://name, models:/name/1, demo://
    #[arg(value_name = "SRC")]
    source: String,
    /// Print JSON
    #[arg(long, env = "DRAY_JSON")]
    json: bool,
    #[command(flatten)]
    origins: Origins,
}

pub(super) async fn run(args: PlanArgs) -> Result<(), Error> {
    let environment = environment::process()?;
    let filter = args.origins.filter(&environment)?;
    let (limits, audit, counters) = (&Limits::default(), &Audit::default(), &Counters::default());
    let written = local::written(&args.source);
    let (source, filter, environment) = (&*written, &filter, &environment);
    let asked = Asked { source, filter, environment, limits, audit, counters, wires: &Wires::default() };
    let resolved = pull::resolve_source(asked, &mut |line| eprintln_line(line)).await?;
    let manifest = resolved.manifest;
    let source = resolved.origin.resolved().unwrap_or_else(|| manifest.source.clone());
    let mut out = BufWriter::new(std::io::stdout().lock());
    let written = if args.json { write_json(&mut out, &manifest, &source) } else { write_table(&mut out, &manifest) };
    written.and_then(|()| out.flush()).map_err(|error| Error::Storage(format!("stdout: {error}")))
}

/// The plan as JSON, written file by file: a million of them take no memory of their own.
#[derive(Serialize)]
struct Plan<'a> {
    bytes: u64,
    files: Files<'a>,
    /// The source with its moving parts fixed.
    resolved: &'a str,
    schema: &'static str,
    source: &'a str,
}

struct Files<'a>(&'a [Entry]);

impl Serialize for Files<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(file))
    }
}

fn write_json(out: &mut impl Write, manifest: &Manifest, resolved: &str) -> io::Result<()> {
    let (bytes, files, source) = (manifest.total_bytes(), Files(&manifest.entries), manifest.source.as_str());
    serde_json::to_writer_pretty(&mut *out, &Plan { bytes, files, resolved, schema: "dray.plan/1", source })?;
    writeln!(out)
}

fn file(entry: &Entry) -> Value {
    let stated = entry.stated.iter().map(|stated| json!({ "name": stated.name(), "value": value(stated) }));
    json!({
        "path": entry.path.as_str(),
        "object": entry.object,
        "size": entry.size,
        "version": {
            "etag": entry.version.etag,
            "version_id": entry.version.version_id,
            "last_modified": entry.version.last_modified,
            "content": entry.version.content,
        },
        "stated": stated.collect::<Vec<_>>(),
    })
}

fn write_table(out: &mut impl Write, manifest: &Manifest) -> io::Result<()> {
    writeln!(out, "{}: {} in {} files", manifest.source, show_size(manifest.total_bytes()), manifest.entries.len())?;
    for entry in &manifest.entries {
        let size = entry.size.map_or_else(|| "?".to_owned(), show_size);
        let stated: Vec<String> =
            entry.stated.iter().map(|stated| format!("{} {}", stated.name(), value(stated))).collect();
        let Version { etag, version_id, last_modified, content } = &entry.version;
        let version = [etag, version_id, content, last_modified].into_iter().flatten().next();
        let version = version.map_or("no version", String::as_str);
        let line = format!("{size:>10}  {}  {version}  {}", entry.path, stated.join(", "));
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

/// A statement's value as its store writes it.
fn value(stated: &Stated) -> String {
    crate::verify::stated_text(stated)
}
