//! `dray lock`: reads a whole model once, keeps none of it, and writes down versions and digests to demand later.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;

use crate::cli::environment::{self, Wires};
use crate::cli::layout::Layout;
use crate::cli::options::{Common, Origins};
use crate::cli::pull::{self, Archives, Wanted};
use crate::cli::{local, print};
use crate::engine::{self, Observer};
use crate::error::{Error, storage};
use crate::manifest::Receipt;
use crate::units::show_size;

/// Arguments of `dray lock`.
#[derive(Debug, Args)]
pub(super) struct LockArgs {
    /// Where the model is, as for `dray pull`
    #[arg(value_name = "SRC")]
    source: String,
    /// The lock to write, for `--pin`; - is stdout
    #[arg(long, short, value_name = "FILE", env = "DRAY_OUTPUT")]
    output: PathBuf,
    #[command(flatten)]
    origins: Origins,
    #[command(flatten)]
    common: Common,
}

pub(super) async fn run(args: LockArgs) -> Result<(), Error> {
    let LockArgs { output, origins, common, .. } = &args;
    let source = &*local::written(&args.source);
    let environment = &environment::process()?;
    let (filter, audit) = (&origins.filter(environment)?, &common.audit()?);
    let metrics = &common.metrics(1, environment)?;
    let mut watcher = pull::watcher(common, metrics);
    let failed = |error: std::io::Error| Error::Usage(format!("--output {}: {error}", output.display()));
    // Beside the lock, where something may be written; it goes with its files of holes, however the run ends.
    let folder = folder_of(output);
    // Said of the folder the user named: the scratch folder's own name would only puzzle.
    std::fs::metadata(&folder).map_err(failed)?;
    let scratch = tempfile::Builder::new().prefix(".dray-lock-").tempdir_in(folder).map_err(failed)?;
    let dest = scratch.path();
    let wanted = Wanted {
        source,
        dest,
        common,
        filter,
        environment,
        audit,
        metrics,
        wires: &Wires::default(),
        sealed: None,
        archives: Archives::Packed,
        layout: Layout::Files,
        formats: None,
    };
    let (resolved, pull) = pull::begin(wanted, watcher.as_mut()).await?;
    let (outcome, receipt) = engine::digests(pull, watcher.as_mut()).await;
    drop(resolved);
    pull::end(outcome, common, audit)?;
    let receipt = receipt.ok_or_else(|| Error::Internal("a run without its digests".to_owned()))?;
    write(output, &receipt)?;
    tell(watcher.as_mut(), output, &receipt);
    Ok(())
}

/// The folder a file is in. stdout has none: the temporary folder of this machine does.
fn folder_of(output: &Path) -> PathBuf {
    if output == Path::new("-") {
        return std::env::temp_dir();
    }
    let parent = output.parent().filter(|parent| !parent.as_os_str().is_empty());
    parent.unwrap_or(Path::new(".")).to_owned()
}

/// Writes the lock: whole and durable, or as it was.
fn write(output: &Path, receipt: &Receipt) -> Result<(), Error> {
    let bytes = receipt.to_bytes();
    if output == Path::new("-") {
        return print(&String::from_utf8_lossy(&bytes));
    }
    let failed = |error: std::io::Error| storage(&format!("--output {}", output.display()), &error);
    let mut file = tempfile::NamedTempFile::new_in(folder_of(output)).map_err(failed)?;
    file.write_all(&bytes).map_err(failed)?;
    // Not a secret: whoever pulls with it may be another user.
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    file.as_file().set_permissions(mode).and_then(|()| file.as_file().sync_all()).map_err(failed)?;
    file.persist(output).map_err(|error| failed(error.error))?;
    std::fs::File::open(folder_of(output)).and_then(|folder| folder.sync_all()).map_err(failed)
}

fn tell(watcher: &mut dyn Observer, output: &Path, receipt: &Receipt) {
    let bytes: u64 = receipt.files.iter().map(|file| file.size).sum();
    let told = receipt.files.iter().filter(|file| file.assurance != "hashed").count();
    let files = receipt.files.len();
    watcher.end(&format!(
        "locked {} in {files} files, {told} of them vouched for by the store: {}",
        show_size(bytes),
        output.display()
    ));
}
