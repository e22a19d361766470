//! `dray verify`: proves a directory against its receipt; `--repair` refetches the bad pieces only.

use std::path::PathBuf;

use clap::Args;

use crate::cli::{Common, print, pull};
use crate::engine::{self, Proof};
use crate::error::Error;
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
    let proof = scan(args.dir.clone()).await?;
    if proof.damaged.is_empty() {
        return print(&format!(
            "proved {} in {} files of {}\n",
            show_size(proof.bytes),
            proof.files,
            args.dir.display()
        ));
    }
    for damage in &proof.damaged {
        print(&format!("damaged: {} ({})\n", damage.path, damage.what))?;
    }
    if !args.repair {
        let first = proof.damaged.first().map_or("", |damage| damage.path.as_str());
        return Err(Error::Integrity(format!(
            "{} of {} files in {} are not as sealed, `{first}` among them; --repair fetches the bad pieces again",
            proof.damaged.len(),
            proof.files,
            args.dir.display()
        )));
    }
    let source = args.from.clone().unwrap_or_else(|| proof.source.clone());
    pull::repair(&source, &args.dir, &args.common, &proof).await
}

async fn scan(dir: PathBuf) -> Result<Proof, Error> {
    let scanned = tokio::task::spawn_blocking(move || engine::prove(&dir)).await;
    scanned.unwrap_or_else(|_| Err(Error::Internal("the scan was lost".to_owned())))
}
