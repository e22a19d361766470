//! GET and HEAD of objects by their names, with ranges and conditions.

use hyper::header::{HeaderName, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};

use super::State;
use super::answer::Answer;
use crate::content::Content;
use crate::http::{Seen, Validators, Verdict, Wanted};

/// Answers `request`.
pub(super) fn answer<B>(state: &State, request: &Request<B>) -> Response<Answer> {
    if request.method() != Method::GET && request.method() != Method::HEAD {
        return words(StatusCode::METHOD_NOT_ALLOWED, "GET and HEAD alone are known here\n");
    }
    let name = request.uri().path().trim_start_matches('/');
    let Some(content) = state.objects.get(name) else {
        return words(StatusCode::NOT_FOUND, "there is no such object\n");
    };
    let seen = seen(request);
    let size = content.size();
    let verdict = seen.conditions(content, Validators::Strong);
    let wanted = if verdict == Verdict::Proceed { seen.wanted(size) } else { Wanted::Whole };
    let (status, start, end) = match (verdict, wanted) {
        (Verdict::Failed, _) => return words(StatusCode::PRECONDITION_FAILED, "the object is another\n"),
        (Verdict::NotModified, _) => (StatusCode::NOT_MODIFIED, 0, 0),
        (_, Wanted::Whole) => (StatusCode::OK, 0, size),
        (_, Wanted::Span(start, end)) => (StatusCode::PARTIAL_CONTENT, start, end),
        (_, Wanted::Unsatisfiable) => {
            let mut refused = words(StatusCode::RANGE_NOT_SATISFIABLE, "");
            set(&mut refused, "content-range", &format!("bytes */{size}"));
            return refused;
        }
    };
    let body = Answer::object(content.clone(), start, end - start, state.pool.clone());
    let mut response = Response::new(body);
    *response.status_mut() = status;
    if status == StatusCode::PARTIAL_CONTENT {
        set(&mut response, "content-range", &format!("bytes {start}-{}/{size}", end - 1));
    }
    describe(&mut response, content);
    response
}

/// The reply of a store that has too much to do.
pub(super) fn slow_down() -> Response<Answer> {
    let xml = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>SlowDown</Code>\
               <Message>Please reduce your request rate.</Message></Error>";
    let mut response = words(StatusCode::SERVICE_UNAVAILABLE, xml);
    set(&mut response, "content-type", "application/xml");
    response
}

fn describe(response: &mut Response<Answer>, content: &Content) {
    set(response, "accept-ranges", "bytes");
    set(response, "etag", &format!("\"{}\"", content.etag()));
    set(response, "last-modified", &httpdate::fmt_http_date(content.modified()));
    set(response, "content-type", "application/octet-stream");
}

fn words(status: StatusCode, text: &'static str) -> Response<Answer> {
    let mut response = Response::new(Answer::words(text));
    *response.status_mut() = status;
    response
}

fn set<B>(response: &mut Response<B>, name: &'static str, value: &str) {
    // Names and values here are our own: visible ASCII.
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(HeaderName::from_static(name), value);
    }
}

/// The request in the form that the fault origin reads ranges and conditions from.
fn seen<B>(request: &Request<B>) -> Seen {
    let header =
        |(name, value): (&HeaderName, &HeaderValue)| Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned()));
    Seen {
        method: request.method().to_string(),
        target: request.uri().path().to_owned(),
        headers: request.headers().iter().filter_map(header).collect(),
        ..Seen::default()
    }
}
