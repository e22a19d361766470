//! `mlflow-artifacts:/…`: files that an MLflow server hands out itself, or by a signed link to its store.
//!
//! In: an [`ArtifactsSource`] and the tracking server of the environment. Out: an [`Origin`].
//! Holds: the login goes to the tracking server only; a signed link is held to the rules of a redirect; a listing is
//! bounded in depth, folders, files and bytes of names. The server states sizes and nothing else of an artifact: those are pinned.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::future::BoxFuture;
use futures::{StreamExt, TryStreamExt};
use http::header::AUTHORIZATION;
use serde::Deserialize;

use crate::error::{Error, Failure, FailureKind};
use crate::manifest::{Entry, Ranges, Version};
use crate::origin::control::CALLS_MAX;
use crate::origin::http::OWN_HEADERS;
use crate::origin::listing::TEXT_BYTES_MAX;
use crate::origin::rest::{Rest, Said};
use crate::origin::tracking::{Tracking, nobody};
use crate::origin::{Credential, Environment, Found, Origin};
use crate::secret::Secret;
use crate::uri::ArtifactsSource;
use crate::wire::{self, Access, Coding, Policy, redirect};

/// The part of the API that serves files.
const API: [&str; 3] = ["api", "2.0", "mlflow-artifacts"];

/// Deepest folder below the source.
const DEPTH_MAX: usize = 32;

/// Most folders of one source: each costs a request.
const FOLDERS_MAX: usize = 10_000;

/// Most files of one source.
const FILES_MAX: usize = 200_000;

/// Servers sign links for 300 s; asked again a little before.
const SIGNED_FOR: Duration = Duration::from_secs(240);

/// Files below a path of an MLflow server's artifact store.
pub struct Artifacts {
    source: ArtifactsSource,
    rest: Rest,
    login: Vec<(String, Secret)>,
    /// Whether signed links are worth asking for.
    signs: AtomicBool,
    /// Who named the server.
    policy: Policy,
}

#[derive(Deserialize)]
struct Listing {
    files: Option<Vec<File>>,
}

#[derive(Deserialize)]
struct File {
    path: String,
    #[serde(default)]
    is_dir: bool,
    file_size: Option<Size>,
}

/// Protobuf's JSON writes 64-bit numbers as text, MLflow's own as numbers.
#[derive(Deserialize)]
#[serde(untagged)]
enum Size {
    Number(u64),
    Text(String),
}

#[derive(Deserialize)]
struct Signed {
    url: String,
    #[serde(default)]
    headers: std::collections::BTreeMap<String, String>,
}

impl Artifacts {
    /// An origin for `source`, which `policy` named. Asks nothing yet.
    ///
    /// # Errors
    /// [`Error::Usage`] without a tracking server in the environment; [`Error::Policy`] for a server that may not be
    /// named.
    pub fn new(
        source: &ArtifactsSource,
        environment: &Environment,
        settings: Arc<wire::Settings>,
        policy: Policy,
    ) -> Result<Self, Error> {
        let Tracking { url, login } = Tracking::artifacts(environment)?;
        let (url, login, policy) = match &source.host {
            None => (url, login, Policy::Configured),
            Some(host) => {
                let text = format!("{}://{host}/", url.scheme());
                let named = url::Url::parse(&text).map_err(|error| Error::Usage(format!("`{host}`: {error}")))?;
                // The same server under its own name keeps its path and its login; another gets neither.
                if named.origin() == url.origin() {
                    (url, login, Policy::Configured)
                } else {
                    (named, nobody(), policy)
                }
            }
        };
        let header = |(name, value): (&http::HeaderName, &http::HeaderValue)| {
            Some((name.as_str().to_owned(), Secret::new(value.to_str().ok()?)))
        };
        let headers = login.headers.iter().filter_map(header).collect();
        // A link leads to another host, which nobody meant when turning verification off.
        let signs = AtomicBool::new(!environment.flag("MLFLOW_TRACKING_INSECURE_TLS"));
        let rest = Rest::new(url, login, settings, policy)?;
        Ok(Self { source: source.clone(), rest, login: headers, signs, policy })
    }

    /// The files and folders directly below `path`.
    async fn folder(&self, path: &str) -> Result<Vec<File>, Error> {
        let at = [API.as_slice(), &["artifacts"]].concat();
        match self.rest.get::<Listing>(&at, &[("path", path)]).await? {
            Said::Yes(listing, _) => Ok(listing.files.unwrap_or_default()),
            Said::No(refusal) => {
                let place = self.rest.place();
                let hint = if refusal.by_api { "" } else { "; does it serve artifacts (--serve-artifacts)?" };
                Err(Error::NotFound(format!("`{path}` at {place}: {} ({}){hint}", refusal.message, refusal.status)))
            }
        }
    }

    async fn walk(&self) -> Result<Vec<Found>, Error> {
        let root = self.source.path.as_str();
        let endless = |what: &str| Error::Network(format!("{} lists {what} below `{root}`", self.rest.place()));
        let (mut found, mut folders) = (Vec::new(), 1);
        let mut text_bytes = 0_usize;
        let mut waiting = VecDeque::from([(String::new(), 0)]);
        while let Some((below, depth)) = waiting.pop_front() {
            for file in self.folder(&joined(root, &below)).await? {
                let path = joined(&below, name_below(&file.path, root, &below));
                text_bytes = text_bytes.saturating_add(path.len());
                if TEXT_BYTES_MAX < text_bytes {
                    return Err(endless("names without end"));
                }
                if file.is_dir {
                    folders += 1;
                    if path.split('/').any(|name| matches!(name, "" | "." | "..")) {
                        let text = format!("{} lists an unsafe folder name: refused", self.rest.place());
                        return Err(Error::Policy(text));
                    }
                    if DEPTH_MAX <= depth || FOLDERS_MAX < folders {
                        return Err(endless("folders without end"));
                    }
                    waiting.push_back((path, depth + 1));
                } else {
                    found.push(described(&file, path.clone(), joined(root, &path)));
                }
            }
            if FILES_MAX < found.len() {
                return Err(endless("files without end"));
            }
        }
        if found.is_empty() { self.one_file().await } else { Ok(found) }
    }

    /// The source as a file: a server lists nothing below one.
    async fn one_file(&self) -> Result<Vec<Found>, Error> {
        let path = self.source.path.as_str();
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        let files = self.folder(parent).await?;
        let file = files.iter().find(|file| !file.is_dir && name_below(&file.path, parent, "") == name);
        let missing = || Error::NotFound(format!("{} has no artifact `{path}`", self.rest.place()));
        Ok(vec![described(file.ok_or_else(missing)?, name.to_owned(), path.to_owned())])
    }

    async fn describe_one(&self, entry: &Entry) -> Result<Entry, Failure> {
        let (parent, name) = entry.object.rsplit_once('/').unwrap_or(("", &entry.object));
        let files = self.folder(parent).await.map_err(as_failure)?;
        let file = files.iter().find(|file| !file.is_dir && name_below(&file.path, parent, "") == name);
        let missing = || Failure::new(FailureKind::Missing, format!("the artifact `{}` is gone", entry.object));
        let found = described(file.ok_or_else(missing)?, String::new(), entry.object.clone());
        let entry = Entry { size: found.size, version: found.version, ..entry.clone() };
        self.sized(entry).await.map_err(as_failure)
    }

    /// The entry with a size: a listing leaves out the size of an empty file, and some stores' sizes altogether.
    async fn sized(&self, entry: Entry) -> Result<Entry, Error> {
        if entry.size.is_some() {
            return Ok(entry);
        }
        let size = self.rest.size_of(&self.at("artifacts", &entry)).await?;
        Ok(Entry { size, ..entry })
    }

    async fn size_all(&self, entries: Vec<Entry>) -> Result<Vec<Entry>, Error> {
        let sizes = futures::stream::iter(entries.into_iter().map(|entry| self.sized(entry)));
        sizes.buffered(CALLS_MAX).try_collect().await
    }

    async fn authorise(&self, entry: &Entry) -> Result<(Access, Option<Duration>), Failure> {
        if self.signs.load(Ordering::Relaxed)
            && let Some(access) = self.signed(entry).await?
        {
            return Ok((access, Some(SIGNED_FOR)));
        }
        let url = wire::Url::parse(self.at("artifacts", entry).as_str())?;
        Ok((Access { url, headers: self.login.clone(), policy: self.policy, coding: Coding::Identity }, None))
    }

    /// A signed link to the file in the server's own store; `None` where the server makes none.
    async fn signed(&self, entry: &Entry) -> Result<Option<Access>, Failure> {
        let path: Vec<&str> = API.into_iter().chain(["presigned"]).chain(entry.object.split('/')).collect();
        let (signed, class) = match self.rest.get::<Signed>(&path, &[]).await.map_err(as_failure)? {
            Said::Yes(signed, class) => (signed, class),
            Said::No(refusal) => {
                tracing::debug!(status = refusal.status, "the MLflow server signs no links; it sends the files itself");
                self.signs.store(false, Ordering::Relaxed);
                return Ok(None);
            }
        };
        let from = wire::Url::parse(self.at("presigned", entry).as_str())?;
        let url = redirect::decide(&from, class, &signed.url, 0)?;
        let headers = signed.headers.into_iter().filter(|(name, _)| is_of_the_store(name));
        let headers = headers.map(|(name, value)| (name, Secret::new(value))).collect();
        Ok(Some(Access { url, headers, policy: Policy::NamedBy(class), coding: Coding::Identity }))
    }

    fn at(&self, what: &str, entry: &Entry) -> url::Url {
        let path: Vec<&str> = API.into_iter().chain([what]).chain(entry.object.split('/')).collect();
        self.rest.url(&path, &[])
    }
}

impl Origin for Artifacts {
    fn list(&self) -> BoxFuture<'_, Result<Vec<Found>, Error>> {
        Box::pin(self.walk())
    }

    fn detail(&self, entries: Vec<Entry>) -> BoxFuture<'_, Result<Vec<Entry>, Error>> {
        Box::pin(self.size_all(entries))
    }

    fn stat<'a>(&'a self, entry: &'a Entry) -> BoxFuture<'a, Result<Entry, Failure>> {
        Box::pin(self.describe_one(entry))
    }

    fn access<'a>(&'a self, entry: &'a Entry) -> BoxFuture<'a, Result<(Access, Option<Duration>), Failure>> {
        Box::pin(self.authorise(entry))
    }

    fn credential(&self) -> BoxFuture<'_, Option<Credential>> {
        let credential = self.rest.origin().ok().map(|origin| Credential { origin, kind: self.rest.login().kind });
        Box::pin(async move { credential })
    }

    fn describe(&self) -> String {
        format!("MLflow at {}, {}", self.rest.place(), self.rest.login().kind)
    }
}

/// Whether a header that comes with a signed link is sent there: what decides the range and the framing is ours to
/// say, and a login is for the server that holds it.
fn is_of_the_store(name: &str) -> bool {
    let ours = OWN_HEADERS.iter().chain([&AUTHORIZATION]).any(|own| name.eq_ignore_ascii_case(own.as_str()));
    !ours && !redirect::may_forward(name)
}

fn joined(root: &str, below: &str) -> String {
    match (root, below) {
        ("", path) | (path, "") => path.to_owned(),
        (root, below) => format!("{root}/{below}"),
    }
}

/// A listed name below the folder that was listed: servers state it from there, some from the root.
fn name_below<'a>(listed: &'a str, root: &str, below: &str) -> &'a str {
    let folder = joined(root, below);
    listed.strip_prefix(&folder).and_then(|rest| rest.strip_prefix('/')).unwrap_or(listed)
}

fn described(file: &File, path: String, object: String) -> Found {
    let size = match &file.file_size {
        Some(Size::Number(size)) => Some(*size),
        Some(Size::Text(text)) => text.parse().ok(),
        None => None,
    };
    Found { path, object, size, version: Version::default(), ranges: Ranges::Assumed, stated: Vec::new() }
}

/// What the scheduler may do about an API's answer.
fn as_failure(error: Error) -> Failure {
    let kind = match &error {
        Error::NotFound(_) => FailureKind::Missing,
        Error::Denied(_) => FailureKind::Denied,
        Error::Policy(_) | Error::Usage(_) => FailureKind::Refused,
        _ => FailureKind::Broken,
    };
    Failure::new(kind, error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_of_a_signed_link_neither_frame_nor_range_nor_log_in() {
        for name in ["x-ms-version", "X-Amz-Server-Side-Encryption-Customer-Key"] {
            assert!(is_of_the_store(name), "{name}");
        }
        let framing = ["Content-Length", "transfer-encoding", "Connection", "TE", "Upgrade", "Expect"];
        for name in framing.into_iter().chain(["Host", "Range", "Accept-Encoding", "If-Match", "Authorization"]) {
            assert!(!is_of_the_store(name), "{name}");
        }
    }
}
