//! `--layout`: where a model's files go below DEST.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::ValueEnum;

use crate::error::Error;
use crate::manifest::{Manifest, Names, Receipt};
use crate::origin::Origin;
use crate::resolve::Cached;
use crate::uri::{HubSource, Source};

/// `--layout`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum LayoutArg {
    /// Each file under its own path.
    Files,
    /// DEST is a cache of the Hugging Face Hub.
    Hub,
}

/// Where a model's files go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Layout {
    /// Below DEST, each under its own path.
    Files,
    /// Into a repository's folder below DEST, which is a cache of the Hub.
    Cache,
    /// As [`Layout::Cache`], and DEST is the repository's folder: a repair.
    Repository,
}

/// A manifest as it goes to disk.
pub(super) struct Laid {
    pub(super) manifest: Manifest,
    pub(super) dest: PathBuf,
    pub(super) names: Option<Arc<Names>>,
    pub(super) pin: Option<Receipt>,
}

impl From<LayoutArg> for Layout {
    fn from(arg: LayoutArg) -> Self {
        match arg {
            LayoutArg::Files => Self::Files,
            LayoutArg::Hub => Self::Cache,
        }
    }
}

impl Layout {
    /// How a sealed directory is laid out.
    pub(super) fn of(receipt: &Receipt) -> Self {
        if receipt.is_cache() { Self::Repository } else { Self::Files }
    }

    /// Refuses what cannot be laid out so, before anything is asked.
    ///
    /// # Errors
    /// [`Error::Usage`] for a source that is no repository of the Hub.
    pub(super) fn check(self, source: &str) -> Result<(), Error> {
        match (self, Source::parse(source)?) {
            (Self::Files, _) | (Self::Cache | Self::Repository, Source::Hub(_)) => Ok(()),
            (Self::Cache | Self::Repository, _) => Err(Error::Usage(
                "--layout hub is for hf:// sources: only they have what a cache is made of".to_owned(),
            )),
        }
    }

    /// Lays a manifest out below `dest`, and the pin with it.
    ///
    /// # Errors
    /// As [`Layout::check`], [`Cached::new`] and [`Cached::pin`].
    pub(super) fn lay(
        self,
        source: &str,
        dest: &Path,
        manifest: Manifest,
        pin: Option<Receipt>,
        origin: &dyn Origin,
    ) -> Result<Laid, Error> {
        if self == Self::Files {
            return Ok(Laid { manifest, dest: dest.to_owned(), names: None, pin });
        }
        self.check(source)?;
        let cached = Cached::new(&hub(source)?, &commit(origin)?, manifest)?;
        let pin = pin.map(|pin| cached.pin(pin)).transpose()?;
        let Cached { folder, manifest, names, .. } = cached;
        let dest = if self == Self::Cache { dest.join(folder) } else { dest.to_owned() };
        Ok(Laid { manifest, dest, names: Some(Arc::new(names)), pin })
    }
}

fn hub(source: &str) -> Result<HubSource, Error> {
    match Source::parse(source)? {
        Source::Hub(hub) => Ok(hub),
        _ => Err(Error::Internal("a cache of what is no repository".to_owned())),
    }
}

/// The commit at which the origin has listed its files.
fn commit(origin: &dyn Origin) -> Result<String, Error> {
    let unlisted = || Error::Internal("a repository was to be laid out before its commit was known".to_owned());
    let resolved = origin.resolved().ok_or_else(unlisted)?;
    hub(&resolved)?.revision.ok_or_else(unlisted)
}
