//! `dray plan`: what would be fetched, without fetching it.

use std::io::{BufWriter, Write};

use clap::Args;
use serde::{Serialize, Serializer};
use serde_json::{Value, json};

use crate::audit::Audit;
use crate::cli::options::Origins;
use crate::cli::progress::eprintln_line;
use crate::cli::pull::{self, Asked};
use crate::cli::{environment, print};
use crate::error::Error;
use crate::limits::Limits;
use crate::manifest::{Entry, Manifest, Stated, Version};
use crate::units::show_size;
use crate::wire::Counters;

/// Arguments of `dray plan`.
#[derive(Debug, Args)]
pub(super) struct PlanArgs {
    /// Where the model is: s3://bucket/prefix-or-key, gs://bucket/…, az://account/container/…, hf://owner/name, https://host/file, model-registry://name, models:/name/1, demo://
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
    let (source, filter, environment) = (args.source.as_str(), &filter, &environment);
    let asked = Asked { source, filter, environment, limits, audit, counters };
    let resolved = pull::resolve_source(asked, &mut |line| eprintln_line(line)).await?;
    let manifest = resolved.manifest;
    let source = resolved.origin.resolved().unwrap_or_else(|| manifest.source.clone());
    if args.json { print_json(&manifest, &source) } else { print(&as_table(&manifest)) }
}

/// A plan as JSON. Its files become JSON one after the other: there may be a million.
#[derive(Serialize)]
struct Printed<'a> {
    bytes: u64,
    #[serde(serialize_with = "files")]
    files: &'a [Entry],
    /// The source with its moving parts fixed.
    resolved: &'a str,
    schema: &'static str,
    source: &'a str,
}

fn files<S: Serializer>(entries: &&[Entry], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(entries.iter().map(as_json))
}

fn as_json(entry: &Entry) -> Value {
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

fn print_json(manifest: &Manifest, resolved: &str) -> Result<(), Error> {
    let Manifest { source, entries } = manifest;
    let bytes = manifest.total_bytes();
    let plan = Printed { bytes, files: entries, resolved, schema: "dray.plan/1", source };
    let unwritten = |error: std::io::Error| Error::Storage(format!("stdout: {error}"));
    let mut out = BufWriter::new(std::io::stdout().lock());
    serde_json::to_writer_pretty(&mut out, &plan).map_err(|error| unwritten(error.into()))?;
    out.write_all(b"\n").and_then(|()| out.flush()).map_err(unwritten)
}

fn as_table(manifest: &Manifest) -> String {
    let mut lines =
        vec![format!("{}: {} in {} files", manifest.source, show_size(manifest.total_bytes()), manifest.entries.len())];
    for entry in &manifest.entries {
        let size = entry.size.map_or_else(|| "?".to_owned(), show_size);
        let stated: Vec<String> =
            entry.stated.iter().map(|stated| format!("{} {}", stated.name(), value(stated))).collect();
        let Version { etag, version_id, last_modified, content } = &entry.version;
        let version = [etag, version_id, content, last_modified].into_iter().flatten().next();
        let version = version.map_or("no version", String::as_str);
        lines.push(format!("{size:>10}  {}  {version}  {}", entry.path, stated.join(", ")).trim_end().to_owned());
    }
    lines.push(String::new());
    lines.join("\n")
}

/// A statement's value as its store writes it.
fn value(stated: &Stated) -> String {
    crate::verify::stated_text(stated)
}
