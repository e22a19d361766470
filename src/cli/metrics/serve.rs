//! The HTTP server: three pages, one request a connection.
//!
//! Holds: at most [`CONNECTIONS_MAX`] connections, of which the oldest makes room for a new one, so that clients who
//! say nothing cannot keep a probe out; a connection ends within [`TIME_MAX`]; no body is read.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::AbortHandle;

use super::figures::Figures;
use super::text;

/// Connections at once: a hundred impatient clients are served side by side.
const CONNECTIONS_MAX: usize = 128;

/// Bound of one connection, from its first byte to its last.
const TIME_MAX: Duration = Duration::from_secs(5);

/// Bytes of a request's head; the least that hyper takes.
const HEAD_BYTES_MAX: usize = 8 << 10;

/// Headers of a request.
const HEADERS_MAX: usize = 64;

/// How often the server looks whether anything moved.
const LOOK: Duration = Duration::from_millis(200);

/// Pause after a connection could not be taken: descriptors are short.
const PAUSE: Duration = Duration::from_millis(100);

/// Serves `figures` on a thread of its own for as long as the process lives.
///
/// # Errors
/// When there is no thread or no runtime for it.
pub(super) fn start(listener: TcpListener, figures: Arc<Figures>) -> std::io::Result<()> {
    listener.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let thread = std::thread::Builder::new().name("metrics".to_owned());
    thread.spawn(move || runtime.block_on(run(listener, figures)))?;
    Ok(())
}

async fn run(listener: TcpListener, figures: Arc<Figures>) {
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(%error, "metrics cannot be served"),
    };
    let mut look = tokio::time::interval(LOOK);
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut connections: VecDeque<AbortHandle> = VecDeque::new();
    loop {
        let stream = tokio::select! {
            _ = look.tick() => {
                figures.look(Instant::now());
                continue;
            }
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::debug!(%error, "a connection could not be taken");
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            },
        };
        connections.retain(|connection| !connection.is_finished());
        if CONNECTIONS_MAX <= connections.len()
            && let Some(oldest) = connections.pop_front()
        {
            oldest.abort();
        }
        let figures = figures.clone();
        let connection = tokio::spawn(async move {
            if tokio::time::timeout(TIME_MAX, serve(stream, figures)).await.is_err() {
                tracing::debug!("a client of the metrics took too long");
            }
        });
        connections.push_back(connection.abort_handle());
    }
}

async fn serve(stream: TcpStream, figures: Arc<Figures>) {
    let service = service_fn(move |request: Request<Incoming>| {
        let response = answer(&request, &figures);
        async move { Ok::<_, Infallible>(response) }
    });
    let mut server = http1::Builder::new();
    server.keep_alive(false).max_buf_size(HEAD_BYTES_MAX).max_headers(HEADERS_MAX).header_read_timeout(None);
    if let Err(error) = server.serve_connection(TokioIo::new(stream), service).await {
        tracing::debug!(%error, "a request for metrics failed");
    }
}

fn answer(request: &Request<Incoming>, figures: &Figures) -> Response<String> {
    let known = ["/metrics", "/healthz", "/readyz"].into_iter().find(|path| *path == request.uri().path());
    let Some(path) = known else { return plain(StatusCode::NOT_FOUND, "not found\n".to_owned()) };
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n".to_owned());
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    let view = figures.view(Instant::now());
    match path {
        "/healthz" if view.healthy() => plain(StatusCode::OK, "ok\n".to_owned()),
        "/healthz" => {
            let (word, idle) = (view.now.phase.word(), view.idle.as_secs());
            plain(StatusCode::SERVICE_UNAVAILABLE, format!("no progress for {idle} s while {word}\n"))
        }
        "/readyz" if view.ready() => plain(StatusCode::OK, "sealed\n".to_owned()),
        "/readyz" => {
            let text = format!("{}: {} of {} sealed\n", view.now.phase.word(), view.sealed, view.models);
            plain(StatusCode::SERVICE_UNAVAILABLE, text)
        }
        _ => match text::page(&view) {
            Ok(page) => {
                let mut response = plain(StatusCode::OK, page);
                response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(prometheus::TEXT_FORMAT));
                response
            }
            Err(error) => plain(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
        },
    }
}

fn plain(status: StatusCode, text: String) -> Response<String> {
    let mut response = Response::new(text);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
