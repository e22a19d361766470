//! `demo://SIZE?files=N&seed=N`: a model that the embedded arena generates.

use super::{shown, usage};
use crate::error::Error;
use crate::units;

const DEMO_BYTES_DEFAULT: u64 = 1 << 30;
const DEMO_BYTES_MAX: u64 = 16 << 40;
const DEMO_FILES_DEFAULT: u32 = 4;
const DEMO_FILES_MAX: u32 = 10_000;

/// A model that the embedded arena generates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DemoSource {
    /// Bytes of all shards together.
    pub total_bytes: u64,
    /// Number of shards.
    pub files: u32,
    /// Seed of the content.
    pub seed: u64,
}

impl DemoSource {
    pub(super) fn parse(rest: &str) -> Result<Self, Error> {
        let (size, query) = rest.split_once('?').unwrap_or((rest, ""));
        let size = size.trim_end_matches('/');
        let total_bytes = match size {
            "" => DEMO_BYTES_DEFAULT,
            size => units::parse_size(size).map_err(|error| usage(error.to_string()))?,
        };
        let mut demo = Self { total_bytes, files: DEMO_FILES_DEFAULT, seed: 1 };
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            let number = || {
                value.parse::<u64>().map_err(|_| usage(format!("demo:// parameter {} is not a number", shown(&name))))
            };
            match name.as_ref() {
                "files" => demo.files = u32::try_from(number()?).unwrap_or(u32::MAX),
                "seed" => demo.seed = number()?,
                _ => return Err(usage("a demo:// source takes only the parameters files and seed")),
            }
        }
        if demo.files == 0 || DEMO_FILES_MAX < demo.files {
            return Err(usage(format!("demo:// takes 1 to {DEMO_FILES_MAX} files")));
        }
        if DEMO_BYTES_MAX < demo.total_bytes {
            return Err(usage("demo:// takes at most 16TiB"));
        }
        Ok(demo)
    }
}
