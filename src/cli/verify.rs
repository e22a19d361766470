//! `dray verify`: proves a directory against its receipt; `--repair` refetches the bad pieces only.

use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::Args;

use crate::audit::{Act, Audit};
use crate::cli::{Common, environment, local, print, pull};
use crate::engine::{self, Observer, Phase, Proof, ReadBytes, Snapshot};
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
    let (started, common) = (Instant::now(), &args.common);
    let (audit, metrics) = (&common.audit()?, &common.metrics(1, &environment::process()?)?);
    let mut watcher = pull::watcher(common, metrics);
    let proof = scan(args.dir.clone(), watcher.as_mut(), started).await;
    let whole = proof.as_ref().is_ok_and(|proof| proof.damaged.is_empty());
    if whole || !args.repair {
        watcher.tick(&Snapshot::early(if whole { Phase::Sealed } else { Phase::Stopped }, started));
    }
    let proof = proof.inspect_err(|error| pull::refused(audit, error))?;
    record(audit, &proof);
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
        pull::refused(audit, &error);
        pull::write_report(common, &report(&args.dir, &proof, Some(&error), started))?;
        return Err(error);
    }
    if proof.damaged.is_empty() {
        if let Err(error) = engine::demanded(&proof.receipt, common.required(), common.pins()?) {
            pull::refused(audit, &error);
            pull::write_report(common, &report(&args.dir, &proof, Some(&error), started))?;
            return Err(error);
        }
        audit.check()?;
        pull::write_report(common, &report(&args.dir, &proof, None, started))?;
        return print(&format!("proved {} in {files} files of {dir}\n", show_size(proof.bytes)));
    }
    let source = args.from.as_deref().map_or_else(|| proof.receipt.source.as_str().into(), local::written);
    pull::repair(&source, &args.dir, common, audit, metrics, &proof, watcher.as_mut()).await
}

/// Writes down the digest of every file that is as sealed.
fn record(audit: &Audit, proof: &Proof) {
    let damaged = |file: &FileReceipt| proof.damaged.iter().any(|damage| damage.path == file.path.as_str());
    for file in proof.receipt.files.iter().filter(|file| !damaged(file)) {
        audit.record(&Act::Digest {
            path: file.path.as_str(),
            size: file.size,
            blake3: &file.blake3.to_hex(),
            assurance: &file.assurance,
            checks: &["receipt".to_owned()],
        });
    }
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

async fn scan(dir: PathBuf, watcher: &mut dyn Observer, started: Instant) -> Result<Proof, Error> {
    let tally = ReadBytes::default();
    let counted = tally.clone();
    let work = tokio::task::spawn_blocking(move || engine::prove(&dir, &counted));
    let look = || Snapshot { read_bytes: tally.total(), ..Snapshot::early(Phase::Reading, started) };
    let scanned = engine::observed(watcher, look, work).await;
    scanned.unwrap_or_else(|_| Err(Error::Internal("the scan was lost".to_owned())))
}
