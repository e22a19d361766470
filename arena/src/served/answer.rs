//! Bodies of replies: an object's bytes, the S3 endpoint's, or a few words; cut where a fault says so.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::time::{Sleep, sleep};

use super::SILENCE_MAX;
use crate::content::Content;
use crate::pool::Pool;

/// Pause before a reset: what was sent is delivered first.
const RESET_PAUSE: Duration = Duration::from_millis(30);

/// Where a body ends early, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cut {
    /// So many bytes, then nothing.
    Silence { after: u64 },
    /// So many bytes, then the connection is reset.
    Reset { after: u64 },
}

/// A body on its way.
pub(super) struct Answer {
    inner: Inner,
    cut: Option<Ending>,
    reset: Arc<AtomicBool>,
}

/// What is still to come before a cut, and the silence once it is there.
struct Ending {
    cut: Cut,
    left: u64,
    silence: Option<Pin<Box<Sleep>>>,
}

enum Inner {
    Words(Option<Bytes>),
    Object { content: Content, offset: u64, left: u64, pool: Pool },
    S3(Box<s3s::Body>),
}

/// Why a body ended early.
type Broken = Box<dyn std::error::Error + Send + Sync>;

impl Answer {
    /// A few words.
    pub(super) fn words(text: impl Into<Bytes>) -> Self {
        Self { inner: Inner::Words(Some(text.into())), cut: None, reset: Arc::default() }
    }

    /// `left` bytes of an object from `offset` on.
    pub(super) fn object(content: Content, offset: u64, left: u64, pool: Pool) -> Self {
        Self { inner: Inner::Object { content, offset, left, pool }, cut: None, reset: Arc::default() }
    }

    /// The S3 endpoint's body.
    pub(super) fn s3(body: s3s::Body) -> Self {
        Self { inner: Inner::S3(Box::new(body)), cut: None, reset: Arc::default() }
    }

    /// The same, ending early; `reset` tells the connection how.
    pub(super) fn cut(mut self, cut: Cut, reset: &Arc<AtomicBool>) -> Self {
        let (Cut::Silence { after } | Cut::Reset { after }) = cut;
        let whole = self.size_hint().exact().unwrap_or(after);
        self.cut = Some(Ending { cut, left: after.min(whole / 2), silence: None });
        self.reset = Arc::clone(reset);
        self
    }

    /// Ends the reply once its bytes before the cut are sent.
    fn end(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let Some(ending) = &mut self.cut else { return Poll::Ready(None) };
        let wait = if let Cut::Silence { .. } = ending.cut { SILENCE_MAX } else { RESET_PAUSE };
        let silence = ending.silence.get_or_insert_with(|| Box::pin(sleep(wait)));
        if silence.as_mut().poll(context).is_pending() {
            return Poll::Pending;
        }
        self.reset.store(matches!(ending.cut, Cut::Reset { .. }), Ordering::Relaxed);
        Poll::Ready(Some(Err("the reply ends here on purpose".into())))
    }
}

impl Inner {
    fn next(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        match self {
            Self::Words(words) => Poll::Ready(words.take().map(|words| Ok(Frame::data(words)))),
            Self::Object { left: 0, .. } => Poll::Ready(None),
            Self::Object { content, offset, left, pool } => {
                let chunk = pool.chunk(content, *offset, *left);
                *offset += chunk.len() as u64;
                *left -= chunk.len() as u64;
                Poll::Ready(Some(Ok(Frame::data(chunk))))
            }
            Self::S3(body) => Pin::new(body.as_mut()).poll_frame(context),
        }
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        if self.cut.as_ref().is_some_and(|ending| ending.left == 0) {
            return self.end(context);
        }
        let next = self.inner.next(context);
        let (Poll::Ready(Some(Ok(frame))), Some(ending)) = (&next, &mut self.cut) else { return next };
        let Some(data) = frame.data_ref() else { return next };
        let len = usize::try_from(ending.left).map_or(data.len(), |left| data.len().min(left));
        let data = data.slice(..len);
        ending.left -= len as u64;
        Poll::Ready(Some(Ok(Frame::data(data))))
    }

    fn size_hint(&self) -> SizeHint {
        match &self.inner {
            Inner::Words(words) => SizeHint::with_exact(words.as_ref().map_or(0, |words| words.len() as u64)),
            Inner::Object { left, .. } => SizeHint::with_exact(*left),
            Inner::S3(body) => body.size_hint(),
        }
    }
}
