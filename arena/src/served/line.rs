//! One connection: its pace, its delays, its end.
//!
//! In: a socket and a protocol. Out: replies as late, slow and broken as the weather has it.
//! Holds: a connection sends no more than its rate over any second, but for a hundredth of one at its start.

use std::convert::Infallible;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use s3s::service::S3Service;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep, sleep_until, timeout};
use tokio_rustls::TlsAcceptor;

use super::answer::Answer;
use super::{State, plain};

/// A handshake that takes longer is given up.
const HANDSHAKE_MAX: Duration = Duration::from_secs(30);

/// Bytes written at once on a paced connection: a fiftieth of a second's, between these.
const STEP_BYTES: (u64, u64) = (1024, 256 * 1024);

/// How far a paced connection may fall behind and still catch up.
const SLACK: Duration = Duration::from_millis(10);

/// What is spoken on a port.
#[derive(Clone)]
pub(super) enum Protocol {
    Http,
    Https(TlsAcceptor),
    S3(S3Service),
}

/// Serves one connection until either side is done with it.
pub(super) async fn connection(state: Arc<State>, protocol: Protocol, stream: TcpStream) {
    sleep(state.weather.rtt).await;
    let reset = Arc::new(AtomicBool::new(false));
    let pace = state.weather.per_connection.map(|rate| Pace::new(rate.get()));
    let line = Line { stream, pace, reset: Arc::clone(&reset) };
    match protocol {
        Protocol::Https(acceptor) => {
            sleep(state.weather.rtt).await;
            if let Ok(Ok(stream)) = timeout(HANDSHAKE_MAX, acceptor.accept(line)).await {
                speak(state, None, reset, stream).await;
            }
        }
        Protocol::Http => speak(state, None, reset, line).await,
        Protocol::S3(service) => speak(state, Some(service), reset, line).await,
    }
}

async fn speak<S>(state: Arc<State>, s3: Option<S3Service>, reset: Arc<AtomicBool>, stream: S)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request| reply(Arc::clone(&state), s3.clone(), Arc::clone(&reset), request));
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new());
    // A client that goes away in mid-body is an everyday event.
    drop(http.serve_connection(TokioIo::new(stream), service).await);
}

async fn reply(
    state: Arc<State>,
    s3: Option<S3Service>,
    reset: Arc<AtomicBool>,
    request: Request<Incoming>,
) -> Result<Response<Answer>, Infallible> {
    state.tally.requests.fetch_add(1, Ordering::Relaxed);
    let key = match s3 {
        None => request.uri().path().strip_prefix('/'),
        Some(_) => request.uri().path().strip_prefix('/').and_then(|path| Some(path.split_once('/')?.1)),
    };
    let object = request.method() == Method::GET && key.is_some_and(|key| state.objects.contains_key(key));
    let course = if object { state.course(request.uri().path()) } else { super::Course::default() };
    sleep(state.weather.rtt + course.delay).await;
    if course.refused {
        return Ok(plain::slow_down());
    }
    let response = match s3 {
        None => plain::answer(&state, &request),
        Some(service) => match Service::call(&service, request).await {
            Ok(response) => response.map(Answer::s3),
            Err(_) => {
                let mut failed = Response::new(Answer::words("the endpoint failed\n"));
                *failed.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
                failed
            }
        },
    };
    Ok(match course.cut {
        Some(cut) if response.status().is_success() => response.map(|body| body.cut(cut, &reset)),
        _ => response,
    })
}

/// A socket that sends at its pace, and ends as it is told to.
struct Line {
    stream: TcpStream,
    pace: Option<Pace>,
    reset: Arc<AtomicBool>,
}

/// When the next bytes may go.
struct Pace {
    rate: u64,
    step: usize,
    due: Instant,
    waiting: Pin<Box<Sleep>>,
}

impl Pace {
    fn new(rate: u64) -> Self {
        let step = (rate / 50).clamp(STEP_BYTES.0, STEP_BYTES.1);
        let now = Instant::now();
        // At most 256 KiB: any `usize` holds it.
        let step = usize::try_from(step).unwrap_or(usize::MAX);
        Self { rate, step, due: now, waiting: Box::pin(sleep_until(now)) }
    }

    /// Charges `sent` bytes to the time to come.
    fn charge(&mut self, sent: usize) {
        let now = Instant::now();
        let from = now.checked_sub(SLACK).map_or(self.due, |late| self.due.max(late));
        let nanos = u128::from(sent as u64) * 1_000_000_000 / u128::from(self.rate);
        self.due = from + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        if now < self.due {
            self.waiting.as_mut().reset(self.due);
        }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if self.reset.load(Ordering::Relaxed) {
            // Without it the connection ends in order, which is a broken body as well.
            drop(self.stream.set_zero_linger());
        }
    }
}

impl AsyncRead for Line {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Line {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let Some(pace) = &mut self.pace else { return Pin::new(&mut self.stream).poll_write(cx, buf) };
        if pace.waiting.as_mut().poll(cx).is_pending() {
            return Poll::Pending;
        }
        let step = pace.step.min(buf.len());
        let sent = Pin::new(&mut self.stream).poll_write(cx, &buf[..step]);
        if let (Poll::Ready(Ok(sent)), Some(pace)) = (&sent, &mut self.pace) {
            pace.charge(*sent);
        }
        sent
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.pace.is_none() {
            return Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        }
        let first = bufs.iter().find(|buf| !buf.is_empty()).map_or(&[][..], |buf| buf);
        self.poll_write(cx, first)
    }

    // Said of paced lines too: a body would be copied behind its head otherwise.
    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
