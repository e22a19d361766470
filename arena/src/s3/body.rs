//! A GET's body: chunks made as the connection asks for them.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::Stream;
use s3s::StdError;
use s3s::dto::StreamingBlob;
use s3s::stream::{ByteStream, RemainingLength};

use crate::content::Content;
use crate::pool::Pool;

/// What is still to send of one range.
pub(super) struct Body {
    pub(super) content: Content,
    pub(super) offset: u64,
    pub(super) remaining: u64,
    pub(super) pool: Pool,
    /// Grows as chunks are handed to the connection.
    pub(super) sent: Arc<AtomicU64>,
}

impl Body {
    pub(super) fn into_blob(self) -> StreamingBlob {
        StreamingBlob::new(self)
    }
}

impl Stream for Body {
    type Item = Result<Bytes, StdError>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.remaining == 0 {
            return Poll::Ready(None);
        }
        let chunk = self.pool.chunk(&self.content, self.offset, self.remaining);
        let len = chunk.len() as u64;
        self.offset += len;
        self.remaining -= len;
        self.sent.fetch_add(len, Ordering::Relaxed);
        Poll::Ready(Some(Ok(chunk)))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let chunks = usize::try_from(self.remaining.div_ceil(crate::pool::CHUNK_BYTES as u64)).ok();
        (chunks.unwrap_or(usize::MAX), chunks)
    }
}

impl ByteStream for Body {
    fn remaining_length(&self) -> RemainingLength {
        usize::try_from(self.remaining).map_or_else(|_| RemainingLength::unknown(), RemainingLength::new_exact)
    }
}
