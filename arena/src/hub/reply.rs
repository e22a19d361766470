//! Replies and their bodies: a text, or a range of a content made as the connection asks for it.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::Response;
use hyper::body::{Body, Frame, SizeHint};

use crate::content::Content;
use crate::pool::Pool;

/// What is still to send.
pub(super) enum Sent {
    Text(Option<Bytes>),
    Range { content: Content, offset: u64, left: u64, pool: Pool },
}

impl Body for Sent {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let chunk = match &mut *self {
            Self::Text(text) => text.take().filter(|text| !text.is_empty()),
            Self::Range { left: 0, .. } => None,
            Self::Range { content, offset, left, pool } => {
                let chunk = pool.chunk(content, *offset, *left);
                *offset += chunk.len() as u64;
                *left -= chunk.len() as u64;
                Some(chunk)
            }
        };
        Poll::Ready(chunk.map(|chunk| Ok(Frame::data(chunk))))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(match self {
            Self::Text(text) => text.as_ref().map_or(0, |text| text.len() as u64),
            Self::Range { left, .. } => *left,
        })
    }
}

/// A reply with a text.
pub(super) fn text(status: u16, headers: &[(&str, String)], body: String) -> Response<Sent> {
    reply(status, headers, Sent::Text(Some(Bytes::from(body))))
}

/// A refusal as the Hub makes it.
pub(super) fn refusal(status: u16, code: &str, message: &str) -> Response<Sent> {
    let mut headers = vec![("X-Error-Message", message.to_owned()), ("Content-Type", "application/json".to_owned())];
    if !code.is_empty() {
        headers.push(("X-Error-Code", code.to_owned()));
    }
    text(status, &headers, serde_json::json!({ "error": message }).to_string())
}

/// All of `content`, or the part that `range` names: `bytes=A-B`, `bytes=A-`.
pub(super) fn content(
    content: &Content,
    range: Option<&str>,
    mut headers: Vec<(&str, String)>,
    pool: &Pool,
) -> Response<Sent> {
    let size = content.size();
    let span = range.and_then(|range| {
        let (first, last) = range.strip_prefix("bytes=")?.split_once('-')?;
        let first: u64 = first.parse().ok()?;
        let end = last.parse().map_or(size, |last: u64| size.min(last.saturating_add(1)));
        Some((first, end))
    });
    headers.push(("Accept-Ranges", "bytes".to_owned()));
    let (status, offset, end) = match span {
        None => (200, 0, size),
        Some((first, end)) if first < end => {
            headers.push(("Content-Range", format!("bytes {first}-{}/{size}", end - 1)));
            (206, first, end)
        }
        Some(_) => {
            headers.push(("Content-Range", format!("bytes */{size}")));
            return text(416, &headers, String::new());
        }
    };
    // A HEAD has it too, which hyper leaves out of an empty one.
    headers.push(("Content-Length", (end - offset).to_string()));
    let sent = Sent::Range { content: content.clone(), offset, left: end - offset, pool: pool.clone() };
    reply(status, &headers, sent)
}

fn reply(status: u16, headers: &[(&str, String)], sent: Sent) -> Response<Sent> {
    let mut builder = Response::builder().status(status);
    for (name, value) in headers {
        builder = builder.header(*name, value);
    }
    builder.body(sent).unwrap_or_else(|_| {
        let mut broken = Response::new(Sent::Text(None));
        *broken.status_mut() = hyper::StatusCode::INTERNAL_SERVER_ERROR;
        broken
    })
}
