//! A Kubeflow Model Registry in memory, shaped as its OpenAPI document and its Python client expect.
//!
//! In: models, versions and artifacts, by this type's methods or by POST and PATCH. Out: the REST API on 127.0.0.1, and
//! a log of what was asked.
//! Holds: the log and every body are bounded; a [`Mode`] that misbehaves does so on every request, so that a client's
//! patience and not its luck is tested.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hyper::body::{Body, Incoming};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE};
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::{Map, Value, json};

use crate::serve::Server;

/// Requests the log holds.
const LOG_MAX: usize = 65_536;

/// Longest request body.
const BODY_BYTES_MAX: usize = 1 << 20;

/// The end of a silence on purpose: two minutes outlast every timeout a client should have.
const SILENCE: Duration = Duration::from_secs(120);

/// What the registry is asked with and answers to.
#[derive(Debug, Clone, Default)]
pub struct RegistryOptions {
    /// The only version of the API that is there, `v1` or `v1alpha3`; both when `None`.
    pub api: Option<&'static str>,
    /// The bearer token that every request must carry.
    pub token: Option<String>,
    /// What goes wrong.
    pub mode: Mode,
    /// Most items of a page, whatever is asked; `None` for no limit.
    pub page_items_max: Option<usize>,
}

/// What goes wrong.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Mode {
    /// Nothing.
    #[default]
    Calm,
    /// Every reply has this status and body.
    Always(u16, String),
    /// Every list has a next page, each under a new token.
    EndlessPages,
    /// Every list has a next page, under the same token.
    LoopingPages,
    /// Replies of 64 MiB.
    Huge,
    /// No reply.
    Silent,
}

/// A request as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AskedOfRegistry {
    /// GET, POST, PATCH.
    pub method: String,
    /// Path and query.
    pub target: String,
    /// The `Authorization` header.
    pub authorization: Option<String>,
}

/// A running registry; dropping it stops it.
pub struct Registry {
    server: Server,
    shared: Arc<Shared>,
}

struct Shared {
    options: RegistryOptions,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    entities: Vec<Entity>,
    log: Vec<AskedOfRegistry>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Model,
    Version,
    Artifact,
}

struct Entity {
    kind: Kind,
    parent: Option<String>,
    body: Map<String, Value>,
}

/// Status and document.
type Reply = (u16, Value);

impl Registry {
    /// Starts an empty registry.
    ///
    /// # Errors
    /// Whatever the listener or its thread gave.
    pub fn start(options: RegistryOptions) -> io::Result<Self> {
        let shared = Arc::new(Shared { options, state: Mutex::default() });
        let serving = Arc::clone(&shared);
        let server = Server::start("registry", move |stream| {
            let shared = Arc::clone(&serving);
            async move {
                let service = service_fn(move |request| answer(Arc::clone(&shared), request));
                // A client that goes away in the middle is its own business.
                drop(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await);
            }
        })?;
        Ok(Self { server, shared })
    }

    /// `127.0.0.1:PORT`.
    pub fn address(&self) -> String {
        self.server.address().to_string()
    }

    /// Adds a registered model in `state`; its id.
    pub fn add_model(&self, name: &str, state: &str) -> String {
        let body = json!({"name": name, "state": state});
        self.shared.lock().insert(Kind::Model, None, body)
    }

    /// Adds a version of the model `model`, made at `created` milliseconds since 1970; its id.
    pub fn add_version(&self, model: &str, name: &str, state: &str, created: u64) -> String {
        let body = json!({"name": name, "state": state, "registeredModelId": model,
            "createTimeSinceEpoch": created.to_string()});
        self.shared.lock().insert(Kind::Version, Some(model.to_owned()), body)
    }

    /// Adds an artifact of the version `version`; its id. `uri` is left out when it is empty.
    pub fn add_artifact(&self, version: &str, kind: &str, uri: &str, state: &str, created: u64) -> String {
        let mut body = json!({"artifactType": kind, "state": state, "createTimeSinceEpoch": created.to_string()});
        if !uri.is_empty() {
            body["uri"] = uri.into();
        }
        self.shared.lock().insert(Kind::Artifact, Some(version.to_owned()), body)
    }

    /// A model with one live version that has one artifact.
    pub fn add(&self, model: &str, version: &str, uri: &str) {
        let model = self.add_model(model, "LIVE");
        let version = self.add_version(&model, version, "LIVE", 1000);
        self.add_artifact(&version, "model-artifact", uri, "UNKNOWN", 1000);
    }

    /// The requests so far.
    pub fn log(&self) -> Vec<AskedOfRegistry> {
        self.shared.lock().log.clone()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // What a panicking request left is still a registry.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn answer(shared: Arc<Shared>, request: Request<Incoming>) -> Result<Response<String>, io::Error> {
    let target = request.uri().path_and_query().map_or_else(String::new, ToString::to_string);
    let authorization = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let method = request.method().clone();
    let body = body(request.into_body()).await?;
    let asked = AskedOfRegistry { method: method.to_string(), target: target.clone(), authorization };
    let allowed = shared.options.token.as_ref().is_none_or(|token| {
        asked.authorization.as_deref().is_some_and(|sent| sent.strip_prefix("Bearer ") == Some(token))
    });
    {
        let mut state = shared.lock();
        if state.log.len() < LOG_MAX {
            state.log.push(asked);
        }
    }
    let reply = match &shared.options.mode {
        Mode::Silent => {
            tokio::time::sleep(SILENCE).await;
            return Err(io::ErrorKind::TimedOut.into());
        }
        Mode::Always(status, body) => return document(*status, "application/json", body.clone()),
        Mode::Huge => return document(200, "application/json", format!("{{\"name\":\"{}\"}}", "x".repeat(64 << 20))),
        _ if !allowed => refusal(401, "a bearer token is required"),
        mode => {
            let Some(path) = below_api(&target, shared.options.api) else {
                return document(404, "text/plain", "404 page not found\n".to_owned());
            };
            let most = shared.options.page_items_max;
            let mut reply = shared.lock().route(&method, &path, &query(&target), &body, most);
            let count = shared.lock().log.len();
            if reply.1.get("items").is_some() && *mode != Mode::Calm {
                let token = if *mode == Mode::EndlessPages { format!("page-{count}") } else { "again".to_owned() };
                reply.1["nextPageToken"] = token.into();
            }
            reply
        }
    };
    document(reply.0, "application/json", reply.1.to_string())
}

fn document(status: u16, kind: &str, text: String) -> Result<Response<String>, io::Error> {
    Response::builder().status(status).header(CONTENT_TYPE, kind).body(text).map_err(io::Error::other)
}

async fn body(mut incoming: Incoming) -> Result<Vec<u8>, io::Error> {
    let mut bytes = Vec::new();
    while let Some(frame) = poll_fn(|context| Pin::new(&mut incoming).poll_frame(context)).await {
        if let Ok(data) = frame.map_err(io::Error::other)?.into_data() {
            bytes.extend_from_slice(&data);
        }
        if BODY_BYTES_MAX < bytes.len() {
            return Err(io::ErrorKind::InvalidData.into());
        }
    }
    Ok(bytes)
}

/// The path below the API's version, when that version is there.
fn below_api(target: &str, only: Option<&str>) -> Option<Vec<String>> {
    let path = target.split('?').next()?.strip_prefix("/api/model_registry/")?;
    let (api, rest) = path.split_once('/')?;
    let there = only.map_or(matches!(api, "v1" | "v1alpha3"), |only| only == api);
    there.then(|| rest.split('/').map(decoded).collect())
}

fn query(target: &str) -> Vec<(String, String)> {
    let query = target.split_once('?').map_or("", |(_, query)| query);
    let pair = |pair: &str| pair.split_once('=').map(|(name, value)| (decoded(name), decoded(value)));
    query.split('&').filter_map(pair).collect()
}

/// A part of a URL without its percent-encoding.
fn decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let code = text.get(at + 1..at + 3).and_then(|code| u8::from_str_radix(code, 16).ok());
        match (byte, code) {
            (b'%', Some(code)) => {
                out.push(code);
                at += 2;
            }
            (b'+', _) => out.push(b' '),
            (byte, _) => out.push(*byte),
        }
        at += 1;
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn refusal(status: u16, message: &str) -> Reply {
    (status, json!({"code": status.to_string(), "message": message}))
}

fn text<'a>(body: &'a Map<String, Value>, name: &str) -> &'a str {
    body.get(name).and_then(Value::as_str).unwrap_or_default()
}

impl State {
    fn route(
        &mut self,
        method: &Method,
        path: &[String],
        query: &[(String, String)],
        body: &[u8],
        page_items_max: Option<usize>,
    ) -> Reply {
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        if *method == Method::GET {
            return match path.as_slice() {
                ["registered_model"] => self.find(Kind::Model, query),
                ["model_version"] => self.find(Kind::Version, query),
                ["model_artifact" | "artifact"] => self.find(Kind::Artifact, query),
                ["registered_models"] => self.list(Kind::Model, None, query, page_items_max),
                ["model_versions"] => self.list(Kind::Version, None, query, page_items_max),
                ["model_artifacts" | "artifacts"] => self.list(Kind::Artifact, None, query, page_items_max),
                ["registered_models", id, "versions"] => self.list(Kind::Version, Some(id), query, page_items_max),
                ["model_versions", id, "artifacts"] => self.list(Kind::Artifact, Some(id), query, page_items_max),
                [collection, id] => self.one(collection, id),
                _ => refusal(404, "no such resource"),
            };
        }
        let Ok(body) = serde_json::from_slice::<Value>(body) else { return refusal(400, "the body is not JSON") };
        match (method, path.as_slice()) {
            (&Method::POST, ["registered_models"]) => self.create(Kind::Model, None, body),
            (&Method::POST, ["model_versions"]) => {
                // Both spellings are in use.
                let parent = body.get("registeredModelId").or_else(|| body.get("registeredModelID"));
                let parent = parent.and_then(Value::as_str).map(str::to_owned);
                self.create(Kind::Version, parent, body)
            }
            (&Method::POST, ["registered_models", id, "versions"]) => {
                self.create(Kind::Version, Some((*id).to_owned()), body)
            }
            (&Method::POST, ["model_versions", id, "artifacts"]) => match body.get("id").and_then(Value::as_str) {
                Some(own) => self.change("artifacts", own, &body),
                None => self.create(Kind::Artifact, Some((*id).to_owned()), body),
            },
            (&Method::POST, ["model_artifacts" | "artifacts"]) => self.create(Kind::Artifact, None, body),
            (&Method::PATCH, [collection, id]) => self.change(collection, id, &body),
            _ => refusal(404, "no such resource"),
        }
    }

    fn insert(&mut self, kind: Kind, parent: Option<String>, body: Value) -> String {
        let Value::Object(mut body) = body else { return String::new() };
        let id = (self.entities.len() + 1).to_string();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis().to_string();
        let state = if kind == Kind::Artifact { "UNKNOWN" } else { "LIVE" };
        let defaults = [
            ("state", json!(state)),
            ("customProperties", json!({})),
            ("createTimeSinceEpoch", json!(now)),
            ("lastUpdateTimeSinceEpoch", json!(now)),
        ];
        for (name, value) in defaults {
            if body.get(name).is_none_or(Value::is_null) {
                body.insert(name.to_owned(), value);
            }
        }
        body.insert("id".to_owned(), id.clone().into());
        self.entities.push(Entity { kind, parent, body });
        id
    }

    fn create(&mut self, kind: Kind, parent: Option<String>, body: Value) -> Reply {
        let above = if kind == Kind::Version { Some(Kind::Model) } else { None };
        let missing = above.is_some_and(|above| {
            let known = |entity: &Entity| entity.kind == above && Some(text(&entity.body, "id")) == parent.as_deref();
            !self.entities.iter().any(known)
        });
        if missing {
            return refusal(404, "no such parent");
        }
        let name = body.get("name").and_then(Value::as_str).unwrap_or_default();
        let same =
            |entity: &Entity| entity.kind == kind && entity.parent == parent && text(&entity.body, "name") == name;
        if kind != Kind::Artifact && (name.is_empty() || self.entities.iter().any(same)) {
            return refusal(400, "a name is required, and may be used once");
        }
        let id = self.insert(kind, parent, body);
        self.entities
            .iter()
            .find(|entity| text(&entity.body, "id") == id)
            .map_or_else(|| refusal(500, "lost"), |entity| (201, Value::Object(entity.body.clone())))
    }

    fn change(&mut self, collection: &str, id: &str, change: &Value) -> Reply {
        let kind = kind_of(collection);
        let found = self.entities.iter_mut().find(|entity| Some(entity.kind) == kind && text(&entity.body, "id") == id);
        let Some(entity) = found else { return refusal(404, "no such resource") };
        let fixed = ["id", "createTimeSinceEpoch"];
        for (name, value) in
            change.as_object().into_iter().flatten().filter(|(name, _)| !fixed.contains(&name.as_str()))
        {
            entity.body.insert(name.clone(), value.clone());
        }
        (200, Value::Object(entity.body.clone()))
    }

    fn one(&self, collection: &str, id: &str) -> Reply {
        let kind = kind_of(collection);
        let found = self.entities.iter().find(|entity| Some(entity.kind) == kind && text(&entity.body, "id") == id);
        found.map_or_else(|| refusal(404, "no such resource"), |entity| (200, Value::Object(entity.body.clone())))
    }

    fn find(&self, kind: Kind, query: &[(String, String)]) -> Reply {
        let asked = |name: &str| query.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
        let (name, external, parent) = (asked("name"), asked("externalId"), asked("parentResourceId"));
        if name.is_none() && external.is_none() {
            return refusal(400, "name or externalId is required");
        }
        let fits = |entity: &&Entity| {
            entity.kind == kind
                && name.is_none_or(|name| text(&entity.body, "name") == name)
                && external.is_none_or(|external| text(&entity.body, "externalId") == external)
                && parent.is_none_or(|parent| entity.parent.as_deref() == Some(parent))
        };
        let found = self.entities.iter().find(fits);
        found.map_or_else(|| refusal(404, "not found"), |entity| (200, Value::Object(entity.body.clone())))
    }

    fn list(&self, kind: Kind, parent: Option<&str>, query: &[(String, String)], most: Option<usize>) -> Reply {
        let asked = |name: &str| query.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
        let filter = asked("filterQuery").unwrap_or_default();
        let fits = |entity: &&Entity| {
            entity.kind == kind
                && parent.is_none_or(|parent| entity.parent.as_deref() == Some(parent))
                && asked("artifactType").is_none_or(|wanted| text(&entity.body, "artifactType") == wanted)
                && passes(filter, &entity.body)
        };
        let mut found: Vec<&Map<String, Value>> =
            self.entities.iter().filter(fits).map(|entity| &entity.body).collect();
        let field = match asked("orderBy") {
            Some("CREATE_TIME") => "createTimeSinceEpoch",
            Some("LAST_UPDATE_TIME") => "lastUpdateTimeSinceEpoch",
            _ => "id",
        };
        found.sort_by_key(|body| text(body, field).parse::<u64>().unwrap_or(0));
        if asked("sortOrder") == Some("DESC") {
            found.reverse();
        }
        let from = asked("nextPageToken").and_then(|token| token.strip_prefix("at-")?.parse().ok()).unwrap_or(0);
        let size =
            asked("pageSize").and_then(|size| size.parse().ok()).unwrap_or(usize::MAX).min(most.unwrap_or(usize::MAX));
        let page: Vec<_> = found.iter().skip(from).take(size).collect();
        let end = from + page.len();
        let next = if end < found.len() { format!("at-{end}") } else { String::new() };
        (200, json!({"items": page, "nextPageToken": next, "pageSize": page.len(), "size": page.len()}))
    }
}

fn kind_of(collection: &str) -> Option<Kind> {
    match collection {
        "registered_models" => Some(Kind::Model),
        "model_versions" => Some(Kind::Version),
        "model_artifacts" | "artifacts" => Some(Kind::Artifact),
        _ => None,
    }
}

/// `name='x' AND state='LIVE'`: equalities, all of which must hold.
fn passes(filter: &str, body: &Map<String, Value>) -> bool {
    let holds = |term: &str| {
        let Some((name, value)) = term.split_once('=') else { return term.trim().is_empty() };
        text(body, name.trim()) == value.trim().trim_matches(['\'', '"'])
    };
    filter.replace(" and ", " AND ").split(" AND ").all(holds)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn lists_are_filtered_ordered_and_paged() {
        let mut state = State::default();
        let model = state.insert(Kind::Model, None, json!({"name": "m"}));
        for (name, created, live) in [("a", "300", "LIVE"), ("b", "100", "LIVE"), ("c", "200", "ARCHIVED")] {
            let body = json!({"name": name, "createTimeSinceEpoch": created, "state": live});
            state.insert(Kind::Version, Some(model.clone()), body);
        }
        let names = |query: &[(&str, &str)]| {
            let (_, reply) = state.list(Kind::Version, Some(&model), &pairs(query), None);
            let names: Vec<String> =
                reply["items"].as_array().unwrap().iter().map(|it| it["name"].as_str().unwrap().to_owned()).collect();
            (names.join(""), reply["nextPageToken"].as_str().unwrap().to_owned())
        };
        assert_eq!(names(&[]), ("abc".to_owned(), String::new()));
        assert_eq!(names(&[("sortOrder", "DESC")]).0, "cba");
        assert_eq!(names(&[("orderBy", "CREATE_TIME"), ("sortOrder", "DESC")]).0, "acb");
        assert_eq!(names(&[("filterQuery", "state='LIVE' AND name='b'")]).0, "b");
        assert_eq!(names(&[("pageSize", "2")]), ("ab".to_owned(), "at-2".to_owned()));
        assert_eq!(names(&[("pageSize", "2"), ("nextPageToken", "at-2")]), ("c".to_owned(), String::new()));
    }

    #[test]
    fn what_is_created_is_found_and_changed() {
        let mut state = State::default();
        let path = |text: &str| text.split('/').map(str::to_owned).collect::<Vec<_>>();
        let mut ask = |method: Method, at: &str, query: &[(&str, &str)], body: &str| {
            state.route(&method, &path(at), &pairs(query), body.as_bytes(), None)
        };
        let (status, model) = ask(Method::POST, "registered_models", &[], r#"{"name": "m"}"#);
        assert_eq!((status, model["state"].as_str()), (201, Some("LIVE")));
        assert_eq!(ask(Method::POST, "registered_models", &[], r#"{"name": "m"}"#).0, 400);
        let body = r#"{"name": "v", "registeredModelID": "1"}"#;
        assert_eq!(ask(Method::POST, "model_versions", &[], body).0, 201);
        let query = [("name", "v"), ("parentResourceId", "1")];
        assert_eq!(ask(Method::GET, "model_version", &query, "").1["id"], "2");
        assert_eq!(ask(Method::GET, "model_version", &[("name", "v"), ("parentResourceId", "9")], "").0, 404);
        assert_eq!(ask(Method::PATCH, "model_versions/2", &[], r#"{"state": "ARCHIVED"}"#).0, 200);
        assert_eq!(ask(Method::GET, "model_versions/2", &[], "").1["state"], "ARCHIVED");
        assert_eq!(ask(Method::POST, "model_versions", &[], r#"{"name": "v", "registeredModelId": "9"}"#).0, 404);
    }

    #[test]
    fn a_version_of_the_api_may_be_missing() {
        assert!(below_api("/api/model_registry/v1/registered_models?x=y", None).is_some());
        assert!(below_api("/api/model_registry/v1/registered_models", Some("v1alpha3")).is_none());
        assert_eq!(decoded("a%20b+c%2Fd%"), "a b c/d%");
    }
}
