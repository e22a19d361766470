//! An S3 endpoint on loopback: signatures checked, objects generated as they are read.
//!
//! In: [`Bucket`]s. Out: an endpoint, the one key pair it accepts, and counters.
//! Holds: a request without a good signature learns nothing and is refused with 403.

mod backend;
mod body;
mod list;

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};

use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use s3s::auth::{S3Auth, SecretKey};
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s::{S3Result, s3_error};

use self::backend::{Backend, Tally};
use crate::content::{Content, mix};
use crate::model::{Model, ModelSpec};
use crate::serve::Server;

/// Bucket of the [`demo`].
const DEMO_BUCKET: &str = "demo";

/// Prefix of the [`demo`]'s model.
const DEMO_PREFIX: &str = "model/";

/// A bucket before it is served. S3's rules for names hold: three characters at least, lower case.
#[derive(Clone, Debug)]
pub struct Bucket {
    name: String,
    objects: BTreeMap<String, Content>,
}

/// What an arena was asked and what it sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Every HTTP request, refused ones and other operations too.
    pub all: u64,
    /// Signed listings.
    pub list: u64,
    /// Signed HEADs of objects.
    pub head: u64,
    /// Signed GETs of objects.
    pub get: u64,
    /// Body bytes of objects handed to connections; a client that hangs up may have got fewer.
    pub bytes_sent: u64,
}

/// A running S3 endpoint; dropping it stops it.
pub struct S3Arena {
    server: Server,
    backend: Backend,
    key: KeyPair,
}

/// The operations and their key, before anybody listens.
pub(crate) struct Endpoint {
    pub(crate) service: S3Service,
    backend: Backend,
    key: KeyPair,
}

/// The one key pair an arena accepts, made at its start.
#[derive(Clone)]
struct KeyPair {
    access: String,
    secret: String,
}

impl Bucket {
    /// An empty bucket.
    pub fn new(name: &str) -> Self {
        Self { name: name.to_owned(), objects: BTreeMap::new() }
    }

    /// Adds an object.
    #[must_use]
    pub fn with(mut self, key: &str, content: Content) -> Self {
        self.objects.insert(key.to_owned(), content);
        self
    }

    /// Adds every file of a model below `prefix`, which brings its own slash.
    #[must_use]
    pub fn with_model(mut self, prefix: &str, model: &Model) -> Self {
        for object in model.objects() {
            self.objects.insert(format!("{prefix}{}", object.name), object.content.clone());
        }
        self
    }
}

impl S3Arena {
    /// Serves `buckets` on a free port of 127.0.0.1, from a thread of its own.
    ///
    /// # Errors
    /// Whatever binding the port or starting the thread gave.
    pub fn start(buckets: impl IntoIterator<Item = Bucket>) -> io::Result<Self> {
        let Endpoint { service, backend, key } = Endpoint::new(buckets);
        let tally = Arc::clone(&backend.tally);
        let server = Server::start("arena-s3", move |stream| connection(service.clone(), Arc::clone(&tally), stream))?;
        Ok(Self { server, backend, key })
    }

    /// The endpoint to configure: `http://127.0.0.1:PORT`. Buckets are in the path.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.server.address())
    }

    /// The access key id to sign with.
    pub fn access_key(&self) -> &str {
        &self.key.access
    }

    /// The secret key to sign with.
    pub fn secret_key(&self) -> &str {
        &self.key.secret
    }

    /// What was asked so far.
    pub fn requests(&self) -> Counts {
        let tally = &self.backend.tally;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts {
            all: read(&tally.all),
            list: read(&tally.list),
            head: read(&tally.head),
            get: read(&tally.get),
            bytes_sent: read(&tally.sent),
        }
    }

    /// Puts an object, or another version of it, while serving. Makes the bucket if there is none.
    pub fn put(&self, bucket: &str, key: &str, content: Content) {
        let mut buckets = self.backend.buckets.write().unwrap_or_else(PoisonError::into_inner);
        buckets.entry(bucket.to_owned()).or_default().insert(key.to_owned(), content);
    }

    /// Takes an object away while serving. Removing what is not there changes nothing.
    pub fn remove(&self, bucket: &str, key: &str) {
        let mut buckets = self.backend.buckets.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(objects) = buckets.get_mut(bucket) {
            objects.remove(key);
        }
    }
}

impl Endpoint {
    pub(crate) fn new(buckets: impl IntoIterator<Item = Bucket>) -> Self {
        let backend = Backend::default();
        {
            let mut served = backend.buckets.write().unwrap_or_else(PoisonError::into_inner);
            served.extend(buckets.into_iter().map(|bucket| (bucket.name, bucket.objects)));
        }
        let key = KeyPair::fresh();
        let mut service = S3ServiceBuilder::new(backend.clone());
        service.set_auth(key.clone());
        Self { service: service.build(), backend, key }
    }

    /// The access key id and the secret to sign with.
    pub(crate) fn keys(&self) -> (&str, &str) {
        (&self.key.access, &self.key.secret)
    }
}

/// An arena with one generated model at `s3://demo/model/`.
///
/// # Errors
/// As [`Model::new`] and [`S3Arena::start`].
pub fn demo(spec: ModelSpec) -> io::Result<S3Arena> {
    let model = Model::new(spec)?;
    S3Arena::start([Bucket::new(DEMO_BUCKET).with_model(DEMO_PREFIX, &model)])
}

/// Serves one connection until the client is done with it.
async fn connection(service: S3Service, tally: Arc<Tally>, stream: tokio::net::TcpStream) {
    let counted = service_fn(move |request: Request<Incoming>| {
        tally.all.fetch_add(1, Ordering::Relaxed);
        Service::call(&service, request)
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new());
    // A client that goes away in mid-body is an everyday event, and the counters show it.
    drop(http.serve_connection(TokioIo::new(stream), counted).await);
}

impl KeyPair {
    /// Keys that differ from run to run: they guard nothing, but must not be guessable constants.
    fn fresh() -> Self {
        use std::hash::{BuildHasher, RandomState};
        let seed = RandomState::new().hash_one(std::process::id());
        let part = |n: u64| mix(seed.wrapping_add(n));
        Self {
            access: format!("ARENA{:016X}", part(1)),
            secret: format!("{:016x}{:016x}{:08x}", part(2), part(3), part(4) >> 32),
        }
    }
}

#[async_trait::async_trait]
impl S3Auth for KeyPair {
    async fn get_secret_key(&self, access_key: &str) -> S3Result<SecretKey> {
        if access_key == self.access {
            return Ok(SecretKey::from(self.secret.as_str()));
        }
        Err(s3_error!(InvalidAccessKeyId, "The AWS Access Key Id you provided does not exist in our records."))
    }
}

#[cfg(test)]
mod tests;
