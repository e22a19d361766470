//! Origins: who lists, describes and authorises objects. Bytes are fetched by `wire`, never here.
//!
//! In: a [`Source`](crate::uri::Source) and the environment's settings. Out: [`Found`] objects, what one is now,
//! and an [`Access`] to it.
//! Holds: every request ends within a bound; no failure text carries userinfo, a query or a header.

pub mod azure;
pub(crate) mod control;
mod environment;
pub mod gcs;
pub mod http;
pub mod hub;
mod listing;
pub mod local;
pub mod mlflow;
pub mod pages;
pub(crate) mod rest;
pub mod s3;
mod sums;
pub(crate) mod tracking;

use std::time::Duration;

use futures::future::BoxFuture;

use crate::error::{Error, Failure};
use crate::manifest::{Entry, Ranges, Stated, Version};
use crate::wire::{self, Access};

pub use azure::Azure;
pub use environment::Environment;
pub use gcs::Gcs;
pub use http::Http;
pub use hub::Hub;
pub use local::Local;
pub use mlflow::Artifacts;
pub use s3::S3;

/// An object an origin offers, under a name that is not checked yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The name below DEST it asks for.
    pub path: String,
    /// Its name at the origin.
    pub object: String,
    /// Size in bytes, where stated.
    pub size: Option<u64>,
    /// What pins it, as far as a listing tells.
    pub version: Version,
    /// Whether ranges may be asked.
    pub ranges: Ranges,
    /// What is stated about its bytes.
    pub stated: Vec<Stated>,
}

/// Which credential requests carry, and where to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credential {
    /// Who is asked.
    pub origin: wire::Origin,
    /// Its kind, never the credential: `static keys`, `anonymous`, `basic login`, `none`, …
    pub kind: &'static str,
}

/// A place that holds models.
///
/// Futures run on the control thread's runtime; dropping one abandons its request.
pub trait Origin: Send + Sync {
    /// Everything the source names, in no order.
    ///
    /// # Errors
    /// By exit class; [`Error::NotFound`] when nothing matches, [`Error::Network`] for a listing without end.
    fn list(&self) -> BoxFuture<'_, Result<Vec<Found>, Error>>;

    /// Adds to listed entries what only the objects themselves tell. The default has nothing to add.
    ///
    /// # Errors
    /// By exit class.
    fn detail(&self, entries: Vec<Entry>) -> BoxFuture<'_, Result<Vec<Entry>, Error>> {
        Box::pin(async move { Ok(entries) })
    }

    /// What the object of `entry` is now; the path stays.
    ///
    /// # Errors
    /// Why the origin did not say.
    fn stat<'a>(&'a self, entry: &'a Entry) -> BoxFuture<'a, Result<Entry, Failure>>;

    /// How to ask for bytes of `entry`, and for how long that holds (`None`: always). Called again to renew.
    ///
    /// # Errors
    /// Why no access could be made.
    fn access<'a>(&'a self, entry: &'a Entry) -> BoxFuture<'a, Result<(Access, Option<Duration>), Failure>>;

    /// Another access to `entry` after `refused` was refused as expired. Files are renewed side by side: an origin
    /// whose accesses share a credential renews that once for all of them. The default asks as if for the first time.
    ///
    /// # Errors
    /// As [`Origin::access`].
    fn renew<'a>(
        &'a self,
        entry: &'a Entry,
        _refused: &'a Access,
    ) -> BoxFuture<'a, Result<(Access, Option<Duration>), Failure>> {
        self.access(entry)
    }

    /// Which credential requests carry from now on, for the audit log; `None` when no request can be made.
    fn credential(&self) -> BoxFuture<'_, Option<Credential>>;

    /// Where this is and as whom we ask, in one line for people.
    fn describe(&self) -> String;

    /// The source with its moving parts fixed (a branch's commit), once it is listed; `None` where it has none.
    fn resolved(&self) -> Option<String> {
        None
    }

    /// Whether the objects are paths of this machine: their bytes are copied from there, not fetched.
    fn is_local(&self) -> bool {
        false
    }
}

/// The exit class of a control request's failure.
pub fn failed(failure: Failure) -> Error {
    Error::of(failure.kind, failure.detail)
}
