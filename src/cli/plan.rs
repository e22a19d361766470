//! `dray plan`: what would be fetched, without fetching it.

use clap::Args;
use serde_json::json;

use crate::audit::Audit;
use crate::cli::options::Origins;
use crate::cli::progress::eprintln_line;
use crate::cli::pull::{self, Asked};
use crate::cli::{environment, local, print};
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
    let asked = Asked { source, filter, environment, limits, audit, counters };
    let resolved = pull::resolve_source(asked, &mut |line| eprintln_line(line)).await?;
    let manifest = resolved.manifest;
    let source = resolved.origin.resolved().unwrap_or_else(|| manifest.source.clone());
    print(&if args.json { as_json(&manifest, &source)? } else { as_table(&manifest) })
}

/// `resolved` is the source with its moving parts fixed.
fn as_json(manifest: &Manifest, resolved: &str) -> Result<String, Error> {
    let file = |entry: &Entry| {
        let stated = entry
            .stated
            .iter()
            .map(|stated| json!({ "name": stated.name(), "value": value(stated) }))
            .collect::<Vec<_>>();
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
            "stated": stated,
        })
    };
    let plan = json!({
        "schema": "dray.plan/1",
        "source": manifest.source,
        "resolved": resolved,
        "bytes": manifest.total_bytes(),
        "files": manifest.entries.iter().map(file).collect::<Vec<_>>(),
    });
    let text = serde_json::to_string_pretty(&plan).map_err(|error| Error::Internal(error.to_string()))?;
    Ok(text + "\n")
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
