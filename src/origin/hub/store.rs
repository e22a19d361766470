//! The origin itself: a commit first, then its tree, then its files, each by a URL that names the commit.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;

use super::api::{Api, Ask, encoded, encoded_path};
use super::settings::Settings;
use super::tree::{self, Listing};
use crate::audit::{Act, Audit};
use crate::error::{Error, Failure, FailureKind};
use crate::manifest::Entry;
use crate::origin::{Credential, Environment, Found, Origin, failed};
use crate::uri::HubSource;
use crate::wire::{self, Access, Coding, Policy};

/// A repository on the Hub.
pub struct Hub {
    source: HubSource,
    api: Api,
    audit: Audit,
    /// What the revision meant when the source was listed.
    commit: OnceLock<String>,
}

impl Hub {
    /// An origin for `source`. Reads the token's file and asks nothing yet.
    ///
    /// # Errors
    /// [`Error::Usage`] for a setting that cannot be used, [`Error::Internal`] when no client can be made.
    pub fn new(
        source: &HubSource,
        environment: &Environment,
        wire: Arc<wire::Settings>,
        audit: &Audit,
    ) -> Result<Self, Error> {
        let api = Api::new(Settings::read(environment)?, wire)?;
        Ok(Self { source: source.clone(), api, audit: audit.clone(), commit: OnceLock::new() })
    }

    /// The commit that the revision is now.
    async fn ask_commit(&self) -> Result<String, Failure> {
        let revision = self.source.revision();
        if tree::is_commit(revision) {
            return Ok(revision.to_owned());
        }
        let url = self.api.api_url(&self.source, &format!("revision/{}", encoded(revision)));
        let answer = self.api.ask(&self.source, &url, &Ask::Get).await?;
        tree::commit(&answer.body).map_err(|failure| self.at_place(&failure))
    }

    async fn found(&self, commit: &str) -> Result<Vec<Found>, Failure> {
        let path = self.source.path.as_str();
        if path.is_empty() {
            return self.below(commit).await;
        }
        let form = url::form_urlencoded::Serializer::new(String::new()).append_pair("paths", path).finish();
        let url = self.api.api_url(&self.source, &format!("paths-info/{commit}"));
        let answer = self.api.ask(&self.source, &url, &Ask::Post(Bytes::from(form))).await?;
        let entries = tree::entries(&answer.body).map_err(|failure| self.at_place(&failure))?;
        match entries.into_iter().find(|entry| entry.path == path) {
            Some(file) if file.is_file() => {
                let name = path.rsplit('/').next().unwrap_or(path).to_owned();
                Ok(vec![file.into_found(name)])
            }
            Some(folder) if folder.is_folder() => self.below(commit).await,
            Some(_) | None => Ok(Vec::new()),
        }
    }

    /// The files below the source's folder.
    async fn below(&self, commit: &str) -> Result<Vec<Found>, Failure> {
        let folder = self.source.path.as_str();
        let slash = if folder.is_empty() { "" } else { "/" };
        let url = self.api.api_url(&self.source, &format!("tree/{commit}{slash}{}", encoded_path(folder)));
        let mut listing = Listing::new(folder);
        let mut query = "recursive=true&expand=false".to_owned();
        loop {
            let answer = self.api.ask(&self.source, &format!("{url}?{query}"), &Ask::Get).await?;
            let page = tree::entries(&answer.body).map_err(|failure| self.at_place(&failure))?;
            match listing.add(page, tree::next(&answer.headers)).map_err(|failure| self.at_place(&failure))? {
                Some(next) => query = next,
                None => {
                    tracing::debug!(chunked = listing.chunked(), "files kept in chunks are read whole");
                    return Ok(listing.into_found());
                }
            }
        }
    }

    fn at_place(&self, failure: &Failure) -> Failure {
        Failure::new(failure.kind, format!("{}, `{}`: {}", self.api.place(), self.source.id(), failure.detail))
    }

    fn nothing(&self) -> Error {
        let (id, revision, place) = (self.source.id(), self.source.revision(), self.api.place());
        let what = match self.source.path.as_str() {
            "" => "no files".to_owned(),
            path => format!("neither a file nor a folder `{path}`"),
        };
        Error::NotFound(format!("`{id}` at {place} has {what} in revision `{revision}`"))
    }
}

impl Origin for Hub {
    fn list(&self) -> BoxFuture<'_, Result<Vec<Found>, Error>> {
        Box::pin(async {
            let commit = match self.commit.get() {
                Some(commit) => commit,
                None => {
                    let commit = self.ask_commit().await.map_err(failed)?;
                    self.commit.get_or_init(|| commit)
                }
            };
            let (asked, answered) = (self.source.to_string(), self.source.at(commit).to_string());
            self.audit.record(&Act::Registry { asked: &asked, version: commit, answered: &answered });
            tracing::info!(source = %asked, %commit, "the revision is this commit");
            let found = self.found(commit).await.map_err(failed)?;
            if found.is_empty() { Err(self.nothing()) } else { Ok(found) }
        })
    }

    /// A gated repository lists its files to everybody and refuses each of them: one is asked for, so that the reason
    /// is told before anything begins.
    fn detail(&self, entries: Vec<Entry>) -> BoxFuture<'_, Result<Vec<Entry>, Error>> {
        Box::pin(async move {
            if let (Some(first), Some(commit)) = (entries.first(), self.commit.get()) {
                let url = self.api.file_url(&self.source, commit, &first.object);
                match self.api.once(&self.source, &url, &Ask::FirstByte).await {
                    Err(failure) if failure.kind == FailureKind::Denied => return Err(failed(failure)),
                    Err(failure) => tracing::debug!(%failure, "the first byte is refused; the data requests decide"),
                    Ok(_) => {}
                }
            }
            Ok(entries)
        })
    }

    /// A file of a commit never changes.
    fn stat<'a>(&'a self, entry: &'a Entry) -> BoxFuture<'a, Result<Entry, Failure>> {
        Box::pin(async move { Ok(entry.clone()) })
    }

    fn access<'a>(&'a self, entry: &'a Entry) -> BoxFuture<'a, Result<(Access, Option<Duration>), Failure>> {
        Box::pin(async move {
            let unlisted = || Failure::new(FailureKind::BadReply, "a file was asked for before its commit was known");
            let commit = self.commit.get().ok_or_else(unlisted)?;
            let url = wire::Url::parse(&self.api.file_url(&self.source, commit, &entry.object))?;
            Ok((
                Access { url, headers: self.api.headers(), policy: Policy::Configured, coding: Coding::Identity },
                None,
            ))
        })
    }

    fn credential(&self) -> BoxFuture<'_, Option<Credential>> {
        let kind = self.api.settings.credential();
        let url = wire::Url::parse(&self.api.settings.endpoint);
        Box::pin(async move { url.ok().map(|url| Credential { origin: url.origin(), kind }) })
    }

    fn describe(&self) -> String {
        format!("{} at {}, {}", self.source, self.api.place(), self.api.settings.asked_as())
    }

    fn resolved(&self) -> Option<String> {
        self.commit.get().map(|commit| self.source.at(commit).to_string())
    }
}
