//! Reused body buffers: fresh memory costs more to touch than its bytes cost to generate.
//!
//! In: requests for [`CHUNK_BYTES`]. Out: buffers that come back when the last reader drops them.
//! Holds: at most [`IDLE_MAX`] buffers lie idle.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use crate::content::Content;

/// Bytes in one body chunk: few wake-ups, and still inside the second-level cache.
pub(crate) const CHUNK_BYTES: usize = 256 * 1024;

/// Idle buffers kept: 16 MiB, enough for the connections a test opens.
const IDLE_MAX: usize = 64;

/// The idle buffers of one origin.
#[derive(Clone, Default)]
pub(crate) struct Pool {
    idle: Arc<Mutex<Vec<Vec<u8>>>>,
}

/// A filled buffer on loan; dropping it gives the memory back.
struct Loan {
    buf: Vec<u8>,
    len: usize,
    pool: Pool,
}

impl Pool {
    /// Up to [`CHUNK_BYTES`] of `content` from `offset` on; `len` is cut to that, or to what lies ready.
    pub(crate) fn chunk(&self, content: &Content, offset: u64, len: u64) -> Bytes {
        let len = usize::try_from(len).map_or(CHUNK_BYTES, |len| len.min(CHUNK_BYTES));
        if let Some(ready) = content.ready(offset, len) {
            return ready;
        }
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut buf = idle.unwrap_or_else(|| vec![0; CHUNK_BYTES]);
        content.fill(offset, &mut buf[..len]);
        Bytes::from_owner(Loan { buf, len, pool: self.clone() })
    }
}

impl AsRef<[u8]> for Loan {
    fn as_ref(&self) -> &[u8] {
        &self.buf[..self.len]
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        let mut idle = self.pool.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < IDLE_MAX {
            idle.push(std::mem::take(&mut self.buf));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_chunk_is_used_again() {
        let pool = Pool::default();
        let content = Content::generated(1, 1 << 30);
        let first = pool.chunk(&content, 0, u64::MAX);
        assert_eq!(first.len(), CHUNK_BYTES);
        let address = first.as_ptr();
        drop(first);
        let second = pool.chunk(&content, 77, 100);
        assert_eq!((second.as_ptr(), &second[..]), (address, &content.range(77, 100)[..]));
    }
}
