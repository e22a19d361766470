//! `dray verify`: proves a directory against its receipt; `--repair` refetches the bad pieces only.

use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::Args;

use crate::cli::{Common, print, pull};
use crate::engine::{self, Proof};
use crate::error::Error;
use crate::manifest::receipt::FileReceipt;
use crate::report::{Assurance, Bytes, CheckReport, FileReport, Report};
use crate::units::show_size;

/// Arguments of `dray verify`.
#[derive(Debug, Args)]
pub(super) struct VerifyArgs {
    /// The directory to prove
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// Fetch damaged pieces again from the source the receipt names
    #[arg(long, env = "DRAY_REPAIR")]
    repair: bool,
    /// The source to repair from, when the receipt's cannot be used as it stands (a signed link, `demo://`)
    #[arg(long, value_name = "SRC", env = "DRAY_FROM", requires = "repair")]
    from: Option<String>,
    #[command(flatten)]
    common: Common,
}

pub(super) async fn run(args: VerifyArgs) -> Result<(), Error> {
    let started = Instant::now();
    let proof = scan(args.dir.clone()).await?;
    for damage in &proof.damaged {
        print(&format!("damaged: {} ({})\n", damage.path, damage.what))?;
    }
    let (files, dir) = (proof.receipt.files.len(), args.dir.display());
    if let (Some(first), false) = (proof.damaged.first(), args.repair) {
        let error = Error::Integrity(format!(
            "{} of {files} files in {dir} are not as sealed, `{}` among them; --repair fetches the bad pieces again",
            proof.damaged.len(),
            first.path,
        ));
        pull::write_report(&args.common, &report(&args.dir, &proof, Some(&error), started))?;
        return Err(error);
    }
    if proof.damaged.is_empty() {
        pull::write_report(&args.common, &report(&args.dir, &proof, None, started))?;
        return print(&format!("proved {} in {files} files of {dir}\n", show_size(proof.bytes)));
    }
    let source = args.from.clone().unwrap_or_else(|| proof.receipt.source.clone());
    pull::repair(&source, &args.dir, &args.common, &proof).await
}

/// A report of what the scan found: each file is held against the receipt's digest.
fn report(dir: &Path, proof: &Proof, error: Option<&Error>, started: Instant) -> Report {
    let damaged = |path: &str| proof.damaged.iter().any(|damage| damage.path == path);
    let file = |file: &FileReceipt| {
        let result = if damaged(file.path.as_str()) { "mismatch" } else { "matched" };
        FileReport {
            path: file.path.to_string(),
            size: Some(file.size),
            blake3: Some(file.blake3.to_hex()),
            assurance: Assurance::from_word(&file.assurance),
            checks: vec![CheckReport { name: "receipt", stated: file.blake3.to_hex(), result }],
        }
    };
    let files: Vec<FileReport> = proof.receipt.files.iter().map(file).collect();
    let bytes = Bytes { total: proof.bytes, fetched: 0, reused: proof.bytes };
    Report { bytes, ..Report::of_files(&proof.receipt.source, dir, files, error, started) }
}

async fn scan(dir: PathBuf) -> Result<Proof, Error> {
    let scanned = tokio::task::spawn_blocking(move || engine::prove(&dir)).await;
    scanned.unwrap_or_else(|_| Err(Error::Internal("the scan was lost".to_owned())))
}
