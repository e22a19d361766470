//! Who answers what: the API, `resolve` with its redirects, the CDN behind its signatures.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::Pin;

use hyper::body::{Body, Incoming};
use hyper::header::AUTHORIZATION;
use hyper::{Request, Response};
use serde_json::Value;

use super::reply::{Sent, content, refusal, text};
use super::repo::{Access, File, Kept, Repo};
use super::state::{HubSeen, LOG_MAX, Link, Shared, Side, State};

/// Longest form that is read.
const FORM_BYTES_MAX: usize = 64 * 1024;

/// A request, taken apart.
struct Asked {
    method: String,
    path: String,
    query: String,
    range: Option<String>,
    if_match: Option<String>,
    host: String,
    authorization: Option<String>,
    form: String,
}

impl Asked {
    /// The first value of a parameter of the query or the form.
    fn parameter(&self, name: &str) -> Option<String> {
        let pairs = self.query.split('&').chain(self.form.split('&'));
        let mut pairs = pairs.filter_map(|pair| pair.split_once('='));
        pairs.find(|(found, _)| *found == name).map(|(_, value)| decoded(&value.replace('+', " ")))
    }
}

/// Answers one request and writes it down.
pub(super) async fn answer(
    shared: &Shared,
    side: Side,
    request: Request<Incoming>,
) -> Result<Response<Sent>, Infallible> {
    let header = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let asked = Asked {
        method: request.method().to_string(),
        path: request.uri().path().to_owned(),
        query: request.uri().query().unwrap_or_default().to_owned(),
        range: header("range"),
        if_match: header("if-match"),
        host: header("host").unwrap_or_default(),
        authorization: header(AUTHORIZATION.as_str()),
        form: String::new(),
    };
    let lines = request
        .headers()
        .iter()
        .map(|(name, value)| format!("{name}: {}\n", String::from_utf8_lossy(value.as_bytes())));
    let mut seen = HubSeen {
        side,
        method: asked.method.clone(),
        target: request.uri().to_string(),
        authorization: asked.authorization.clone(),
        headers: lines.collect(),
        status: 0,
    };
    let asked = Asked { form: form(request.into_body()).await, ..asked };
    let mut state = shared.state();
    let reply = match side {
        Side::Hub => hub(shared, &mut state, &asked),
        Side::Cdn => cdn(shared, &mut state, &asked),
    };
    seen.status = reply.status().as_u16();
    if state.log.len() < LOG_MAX {
        state.log.push(seen);
    }
    Ok(reply)
}

/// The body of a POST, as far as it is worth reading.
async fn form(mut body: Incoming) -> String {
    let mut bytes = Vec::new();
    while let Some(Ok(frame)) = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
        if let Some(data) = frame.data_ref() {
            bytes.extend_from_slice(data);
        }
        if FORM_BYTES_MAX < bytes.len() {
            break;
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn hub(shared: &Shared, state: &mut State, asked: &Asked) -> Response<Sent> {
    let target = if asked.query.is_empty() { asked.path.clone() } else { format!("{}?{}", asked.path, asked.query) };
    if state.heads_refused && asked.method == "HEAD" {
        return text(403, &[], String::new());
    }
    let throttle = &mut state.throttled;
    if 0 < throttle.answers && target.contains(&throttle.what) {
        throttle.answers -= 1;
        let wait = ("Retry-After", throttle.seconds.to_string());
        return text(429, &[wait], "We had to rate limit you".to_owned());
    }
    if let Some((from, to)) = state.moved.as_ref().filter(|(from, _)| target.contains(from.as_str())) {
        return text(307, &[("Location", target.replacen(from, to, 1))], String::new());
    }
    let parts: Vec<&str> = asked.path.trim_start_matches('/').splitn(6, '/').collect();
    match parts.as_slice() {
        ["api", "resolve-cache", plural, owner, name, rest] => {
            let Some((commit, path)) = rest.split_once('/') else { return refusal(404, "", "Not found") };
            with_file(state, asked, (plural, owner, name), commit, path, |_, file, headers| {
                content(&file.content, asked.range.as_deref(), headers, &shared.pool)
            })
        }
        ["api", plural, owner, name, rest @ ..] => api(state, asked, (plural, owner, name), rest),
        ["datasets", owner, name, "resolve", revision, path] => {
            resolve(state, asked, ("datasets", owner, name), revision, path)
        }
        [owner, name, "resolve", revision, rest @ ..] => {
            resolve(state, asked, ("models", owner, name), revision, &rest.join("/"))
        }
        _ => refusal(404, "", "Sorry, we can't find the page you are looking for."),
    }
}

type Place<'a> = (&'a str, &'a str, &'a str);

/// The repository, when this caller may know of it.
fn repo<'a>(
    state: &'a State,
    asked: &Asked,
    (plural, owner, name): Place<'_>,
) -> Result<&'a Repo, Box<Response<Sent>>> {
    let right = state.token.as_ref().map(|token| format!("Bearer {token}"));
    if asked.authorization.is_some() && asked.authorization != right {
        return Err(Box::new(refusal(401, "", "Invalid credentials in Authorization header")));
    }
    let repo = state.repos.get(&format!("{plural}/{owner}/{name}"));
    let known = asked.authorization.is_some();
    match repo.filter(|repo| repo.access != Access::Private || known) {
        Some(repo) => Ok(repo),
        None if known => Err(Box::new(refusal(404, "RepoNotFound", "Repository not found"))),
        None => Err(Box::new(refusal(401, "", "Invalid username or password."))),
    }
}

fn api(state: &State, asked: &Asked, place: Place<'_>, rest: &[&str]) -> Response<Sent> {
    let repo = match repo(state, asked, place) {
        Ok(repo) => repo,
        Err(reply) => return *reply,
    };
    let (what, rest) = match rest {
        [] => ("revision", "main"),
        [what, rest] => (*what, *rest),
        _ => return refusal(404, "", "Not found"),
    };
    let (revision, path) = rest.split_once('/').unwrap_or((rest, ""));
    let revision = decoded(revision);
    let Some(commit) = repo.resolve(&revision) else {
        return refusal(404, "RevisionNotFound", &format!("Invalid rev id: {revision}"));
    };
    let json = ("Content-Type", "application/json; charset=utf-8".to_owned());
    match (what, asked.method.as_str()) {
        ("revision", "GET") => text(200, &[json], repo.description(commit).to_string()),
        ("tree", "GET") => {
            let folder = decoded(path);
            if !folder.is_empty() && repo.tree(commit, &folder).is_empty() {
                return refusal(404, "EntryNotFound", &format!("{folder} does not exist on \"{revision}\""));
            }
            page(state, asked, repo.tree(commit, &folder))
        }
        ("paths-info", "POST") => {
            let path = asked.parameter("paths").unwrap_or_default();
            let found: Vec<Value> = repo.entry(commit, &path).into_iter().collect();
            text(200, &[json], Value::Array(found).to_string())
        }
        _ => refusal(404, "", "Not found"),
    }
}

/// The page that the query's cursor names, with a link to the next.
fn page(state: &State, asked: &Asked, entries: Vec<Value>) -> Response<Sent> {
    let from: usize = asked.parameter("cursor").and_then(|cursor| cursor.parse().ok()).unwrap_or(0);
    let end = entries.len().min(from + state.page);
    let mut headers = vec![("Content-Type", "application/json; charset=utf-8".to_owned())];
    if end < entries.len() {
        let next = format!("http://{}{}?recursive=true&expand=false&cursor={end}", asked.host, asked.path);
        headers.push(("Link", format!("<{next}>; rel=\"next\"")));
    }
    text(200, &headers, Value::Array(entries.into_iter().skip(from).take(state.page).collect()).to_string())
}

/// Calls `answer` with the file and the headers that every answer about it has.
fn with_file(
    state: &State,
    asked: &Asked,
    place: Place<'_>,
    revision: &str,
    path: &str,
    answer: impl FnOnce(&str, &File, Vec<(&'static str, String)>) -> Response<Sent>,
) -> Response<Sent> {
    let repo = match repo(state, asked, place) {
        Ok(repo) => repo,
        Err(reply) => return *reply,
    };
    let Some(commit) = repo.resolve(&decoded(revision)) else {
        return refusal(404, "RevisionNotFound", "Invalid rev id");
    };
    match (repo.access, asked.authorization.is_some()) {
        (Access::GatedForAll, true) => return refusal(403, "GatedRepo", "You are not in the authorized list."),
        (Access::GatedForAll | Access::Gated, false) => {
            return refusal(401, "GatedRepo", "Access to this model is restricted. Please log in.");
        }
        _ => {}
    }
    let Some(file) = repo.files(commit).and_then(|files| files.get(&decoded(path))) else {
        return refusal(404, "EntryNotFound", "Entry not found");
    };
    let headers = vec![("X-Repo-Commit", commit.to_owned()), ("ETag", format!("\"{}\"", file.oid))];
    answer(commit, file, headers)
}

fn resolve(state: &mut State, asked: &Asked, place: Place<'_>, revision: &str, path: &str) -> Response<Sent> {
    let mut signed = None;
    let mut reply = with_file(state, asked, place, revision, path, |commit, file, mut headers| match file.kept {
        Kept::Git => {
            let (plural, owner, name) = place;
            headers.push(("Location", format!("/api/resolve-cache/{plural}/{owner}/{name}/{commit}/{path}")));
            text(307, &headers, String::new())
        }
        Kept::Lfs => {
            headers.push(("X-Linked-Size", file.content.size().to_string()));
            headers.push(("X-Linked-Etag", format!("\"{}\"", file.oid)));
            signed = Some(file.oid.clone());
            text(302, &headers, String::new())
        }
    });
    if let Some(oid) = signed {
        // The number is the signature: only the Hub makes them.
        let link = format!(
            "http://{}/repos/{oid}?Expires=1&Signature=canary-link-{}&Key-Pair-Id=K",
            state.cdn,
            state.links.len()
        );
        state.links.push(Link { oid, uses_left: state.link_uses });
        if let Ok(link) = link.parse() {
            reply.headers_mut().insert("Location", link);
        }
    }
    reply
}

/// Objects by signed links, with validators of their own: what stands behind the Hub is another store.
fn cdn(shared: &Shared, state: &mut State, asked: &Asked) -> Response<Sent> {
    let denied = |message: &str| {
        let body =
            format!("<?xml version=\"1.0\"?><Error><Code>AccessDenied</Code><Message>{message}</Message></Error>");
        text(403, &[("Content-Type", "application/xml".to_owned())], body)
    };
    let number =
        asked.parameter("Signature").and_then(|signature| signature.strip_prefix("canary-link-")?.parse().ok());
    let link = number.and_then(|number: usize| state.links.get_mut(number));
    let Some(link) = link.filter(|link| asked.path == format!("/repos/{}", link.oid)) else {
        return denied("Access denied");
    };
    match &mut link.uses_left {
        Some(0) => return denied("Request has expired"),
        Some(left) => *left -= 1,
        None => {}
    }
    let oid = link.oid.clone();
    let found = state.repos.values().find_map(|repo| repo.content(&oid));
    let Some(found) = found else { return text(404, &[], String::new()) };
    let etag = format!("\"{}\"", found.etag());
    if asked.if_match.as_ref().is_some_and(|wanted| *wanted != etag) {
        return text(412, &[], String::new());
    }
    let headers = vec![("ETag", etag), ("x-amz-version-id", "canary-version".to_owned())];
    content(found, asked.range.as_deref(), headers, &shared.pool)
}

/// Without percent-encoding.
fn decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::new();
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let coded = text.get(at + 1..at + 3).and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match (byte, coded) {
            (b'%', Some(coded)) => {
                out.push(coded);
                at += 3;
            }
            (byte, _) => {
                out.push(*byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}
