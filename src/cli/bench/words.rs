//! The words of a bench of whole pulls: where the files come from, and where they go.
//!
//! In: `[URI]… DEST`, in which what may be left out comes first. Out: each by its name.

use std::path::{Path, PathBuf};

use clap::Args;

use crate::error::Error;

/// What the words are, for the end of a help: a parser that reads from the left cannot say it of each.
pub(super) const HELP: &str = "\
Arguments:
  [URI]...  Where the files come from, as in `dray pull`; several are files by http or by https;
            left out, the arena of this program serves them
  DEST      An empty directory on the disk to measure; made when missing";

/// Words of the command line that are no flags.
#[derive(Debug, Args)]
pub(super) struct Words {
    #[arg(value_name = "DEST", hide = true)]
    words: Vec<String>,
}

impl Words {
    /// The directory to measure in, which is the last word.
    ///
    /// # Errors
    /// `Usage` when there is none; a URI at the end is no directory, whatever a shell would let it be.
    pub(super) fn dest(&self) -> Result<PathBuf, Error> {
        let missing = || Error::Usage("DEST is missing, an empty directory on the disk to measure".to_owned());
        let word = self.words.last().filter(|word| !word.contains("://"));
        word.map(|word| Path::new(word).to_owned()).ok_or_else(missing)
    }

    /// What stands before it.
    pub(super) fn sources(&self) -> &[String] {
        self.words.split_last().map_or(&[], |(_, sources)| sources)
    }
}
