//! Bounds on what one archive may become, counted before the bytes are.

use super::refusal::refused;
use crate::error::Error;
use crate::units::{MIB, show_size};
use crate::verify::wide;

/// Members and folders of one archive. Each costs about a kilobyte of memory until the receipt is written; the
/// largest models are a few thousand files.
pub const ENTRIES_MAX: u64 = 50_000;

/// Bytes of all names of one archive, 160 for each of [`ENTRIES_MAX`]: long ones must not multiply the memory.
const NAMES_BYTES_MAX: u64 = 8 * MIB;

/// Bytes of all members: more than any published model has.
pub const BYTES_MAX: u64 = 4 << 40;

/// Unpacked bytes for each packed one, beyond [`RATIO_FLOOR_BYTES`]. Weights hardly shrink and text shrinks to a
/// tenth, while bombs begin at a thousand.
pub const RATIO_MAX: u64 = 100;

/// Unpacked bytes that need no ratio: a small archive of zeros may be honest.
pub const RATIO_FLOOR_BYTES: u64 = 1 << 30;

/// What has been counted so far.
#[derive(Debug)]
pub(super) struct Caps {
    entries: u64,
    names: u64,
    bytes: u64,
    bytes_max: u64,
}

impl Caps {
    /// Nothing yet, of an archive of `packed` bytes.
    pub(super) fn new(packed: u64) -> Self {
        let bytes_max = packed.saturating_mul(RATIO_MAX).clamp(RATIO_FLOOR_BYTES, BYTES_MAX);
        Self { entries: 0, names: 0, bytes: 0, bytes_max }
    }

    /// Counts one member or folder with a name of `name_len` bytes.
    pub(super) fn entry(&mut self, name_len: usize) -> Result<(), Error> {
        self.entries += 1;
        self.names = self.names.saturating_add(wide(name_len));
        if ENTRIES_MAX < self.entries {
            return Err(refused(&format!("it has over {ENTRIES_MAX} entries")));
        }
        if NAMES_BYTES_MAX < self.names {
            return Err(refused(&format!("its names are over {NAMES_BYTES_MAX} bytes long")));
        }
        Ok(())
    }

    /// Counts bytes that come out.
    pub(super) fn bytes(&mut self, count: u64) -> Result<(), Error> {
        self.bytes = self.bytes.saturating_add(count);
        if self.bytes <= self.bytes_max {
            return Ok(());
        }
        let most = show_size(self.bytes_max);
        Err(refused(&format!("it unpacks to more than {most}, the most for an archive of its size")))
    }
}
