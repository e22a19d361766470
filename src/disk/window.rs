//! The dirty window of the buffered rung: page-cache bytes not yet on disk stay few, and leave the cache after.
//!
//! In: ranges just written. Out: write-back begun at once, waited for one window later. Holds: at most
//! [`WINDOW_BYTES`] per lane are dirty or under write-back, so that a memory-limited cgroup never throttles on them.

use std::collections::VecDeque;
use std::ffi::{c_int, c_uint};
use std::io;
use std::num::NonZeroU64;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::{Arc, Weak};

use rustix::fs::Advice;

use super::part::PartFile;

/// Bytes of one lane between "written to the page cache" and "on disk and dropped from the cache".
const WINDOW_BYTES: u64 = 16 << 20;

/// Linux ABI, `include/uapi/linux/fs.h`.
const SYNC_FILE_RANGE_WAIT_BEFORE: c_uint = 1;
const SYNC_FILE_RANGE_WRITE: c_uint = 2;
const SYNC_FILE_RANGE_WAIT_AFTER: c_uint = 4;

// SAFETY: the signature is that of sync_file_range(2); glibc and musl both have it, with an off_t of 64 bits.
unsafe extern "C" {
    /// Not wrapped by rustix.
    fn sync_file_range(fd: c_int, offset: i64, len: i64, flags: c_uint) -> c_int;
}

/// One writer thread's share of the window.
pub(super) struct Window {
    bytes_max: u64,
    bytes: u64,
    batches: VecDeque<Written>,
}

struct Written {
    /// Weak: the window must not keep a sealed part's lock.
    file: Weak<PartFile>,
    offset: u64,
    len: u64,
}

impl Window {
    /// The window of one of `writers` threads.
    pub(super) fn new(writers: usize) -> Self {
        let share = WINDOW_BYTES / u64::try_from(writers).unwrap_or(1).max(1);
        Self { bytes_max: share, bytes: 0, batches: VecDeque::new() }
    }

    /// Begins write-back of a range and settles the ranges that are a window behind.
    ///
    /// # Errors
    /// What write-back met; the part it belongs to is poisoned, for the kernel tells of it only once.
    pub(super) fn wrote(&mut self, file: &Arc<PartFile>, offset: u64, len: u64) -> io::Result<()> {
        write_back(file, offset, len, SYNC_FILE_RANGE_WRITE)?;
        self.bytes += len;
        self.batches.push_back(Written { file: Arc::downgrade(file), offset, len });
        while self.bytes_max < self.bytes {
            let Some(oldest) = self.batches.pop_front() else { break };
            self.bytes -= oldest.len;
            settle(&oldest)?;
        }
        Ok(())
    }
}

/// Waits until a range is on disk, then drops it from the page cache.
fn settle(written: &Written) -> io::Result<()> {
    // A part that is gone was sealed or given up: its fsync has done this.
    let Some(file) = written.file.upgrade() else { return Ok(()) };
    let wait = SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER;
    write_back(&file, written.offset, written.len, wait)?;
    forget_cached(file.file(), written.offset, written.len);
    Ok(())
}

fn write_back(file: &PartFile, offset: u64, len: u64, flags: c_uint) -> io::Result<()> {
    let result = sync_range(file.file(), offset, len, flags);
    match result.as_ref().map_err(io::Error::raw_os_error) {
        // Filtered or not there: the whole file then, but only where the caller would have waited.
        Err(Some(code)) if is_unsupported(code) => {
            if flags & SYNC_FILE_RANGE_WAIT_AFTER == 0 {
                Ok(())
            } else {
                file.sync_data()
            }
        }
        Err(_) => {
            file.poison();
            result
        }
        Ok(()) => Ok(()),
    }
}

fn is_unsupported(code: i32) -> bool {
    use rustix::io::Errno;
    [Errno::NOSYS, Errno::PERM, Errno::OPNOTSUPP, Errno::SPIPE].iter().any(|errno| errno.raw_os_error() == code)
}

fn sync_range(file: BorrowedFd<'_>, offset: u64, len: u64, flags: c_uint) -> io::Result<()> {
    let offset = i64::try_from(offset).map_err(io::Error::other)?;
    let len = i64::try_from(len).map_err(io::Error::other)?;
    // SAFETY: the call takes numbers only and touches no memory of ours; `file` is open while it is borrowed.
    let result = unsafe { sync_file_range(file.as_raw_fd(), offset, len, flags) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Drops clean pages of a range from the page cache; a length of 0 reaches to the end of the file.
pub(super) fn forget_cached(file: BorrowedFd<'_>, offset: u64, len: u64) {
    if let Err(error) = rustix::fs::fadvise(file, offset, NonZeroU64::new(len), Advice::DontNeed) {
        // Advice only: the pages stay until the kernel needs them.
        tracing::debug!(%error, "page cache not dropped");
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn write_back_of_a_range_works_on_a_file() {
        let file = tempfile::tempfile().unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, &[7; 10_000], 0).unwrap();
        for flags in [SYNC_FILE_RANGE_WRITE, 7] {
            match sync_range(file.as_fd(), 0, 10_000, flags) {
                Ok(()) => {}
                Err(error) => assert!(error.raw_os_error().is_some_and(is_unsupported), "{error}"),
            }
        }
        assert!(sync_range(file.as_fd(), u64::MAX, 1, 7).is_err());
    }
}
