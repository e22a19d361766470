//! The origin itself: what is listed, described and signed, in which order.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_sdk_s3::operation::head_object::HeadObjectOutput;
use aws_sdk_s3::presigning::PresigningConfig;
use aws_sdk_s3::types::{ChecksumMode, ChecksumType, EncodingType, ServerSideEncryption, StorageClass};
use futures::future::BoxFuture;
use futures::{StreamExt, TryStreamExt};

use super::client::Session;
use super::fault::Fault;
use super::parts::{Asking, Uploaded};
use super::signature::{Object, Pattern};
use super::{head, listing};
use crate::error::{Error, Failure, FailureKind};
use crate::manifest::{Composite, Entry, Ranges, Stated, Version};
use crate::origin::control::CALLS_MAX;
use crate::origin::listing::{Listing, Page, basename};
use crate::origin::sums::{Fields, Kept, PartsSum};
use crate::origin::{Credential, Environment, Found, Origin, failed};
use crate::secret::Secret;
use crate::uri::S3Source;
use crate::wire::{self, Access, Coding, Policy};

/// How long a signed URL is valid, unless the credentials end sooner.
const SIGNED_FOR: Duration = Duration::from_secs(3600);

/// Keys asked per page: S3's own most.
const PAGE_KEYS: i32 = 1000;

/// An S3 source with its credentials.
pub struct S3 {
    source: S3Source,
    session: Session,
    /// The session of the region the bucket turned out to be in.
    moved: OnceLock<Session>,
    parts: Asking,
}

impl S3 {
    /// Finds endpoint, region and credentials of a source that `policy` named. Only the credential chain may ask the
    /// network.
    ///
    /// # Errors
    /// [`Error::Usage`] for a bad setting; [`Error::Denied`] when configured credentials cannot be loaded;
    /// [`Error::Policy`] for an endpoint that may not be named, or not with these credentials.
    pub async fn connect(
        source: &S3Source,
        environment: &Environment,
        wire: &wire::Settings,
        policy: Policy,
    ) -> Result<Self, Error> {
        let session = Session::open(source, environment, wire, policy).await?;
        Ok(Self { source: source.clone(), session, moved: OnceLock::new(), parts: Asking::new() })
    }

    fn session(&self) -> &Session {
        self.moved.get().unwrap_or(&self.session)
    }

    fn error(&self, fault: &Fault) -> Error {
        failed(self.session().explain(&self.source.bucket, fault))
    }

    /// Lists, and lists again when the bucket turns out to be in another region.
    async fn list_anywhere(&self) -> Result<Vec<Found>, Error> {
        let first = match self.list_once().await {
            Ok(found) => return self.require_some(found),
            Err(fault) => fault,
        };
        let other = first.region.as_ref().filter(|region| **region != self.session().region());
        let Some(region) = other else { return Err(self.error(&first)) };
        tracing::debug!(%region, "the bucket is in another region");
        if self.moved.set(self.session.in_region(region)).is_err() {
            return Err(self.error(&first));
        }
        let found = self.list_once().await.map_err(|fault| self.error(&fault))?;
        self.require_some(found)
    }

    fn require_some(&self, found: Vec<Found>) -> Result<Vec<Found>, Error> {
        if !found.is_empty() {
            return Ok(found);
        }
        let S3Source { bucket, key, .. } = &self.source;
        let what =
            if key.is_empty() { "is empty".to_owned() } else { format!("has neither an object nor a folder `{key}`") };
        Err(Error::NotFound(format!("bucket `{bucket}` at {} {what}", self.session().place())))
    }

    async fn list_once(&self) -> Result<Vec<Found>, Fault> {
        let key = self.source.key.as_str();
        if key.is_empty() || key.ends_with('/') {
            return self.list_below(key).await;
        }
        let refused = match self.head(key).await {
            Ok(head) => return Ok(vec![self.found(basename(key), key, &head).await?]),
            Err(fault) if fault.failure.kind == FailureKind::Missing => None,
            // A HEAD carries no error document and some stores refuse it: the listing says more.
            Err(fault) if fault.answered => Some(fault),
            Err(fault) => return Err(fault),
        };
        let below = self.list_below(&format!("{key}/")).await?;
        match refused {
            Some(refused) if below.is_empty() => self.list_exact(key).await?.map(|found| vec![found]).ok_or(refused),
            _ => Ok(below),
        }
    }

    /// All objects whose keys begin with `prefix`, folder markers left out.
    async fn list_below(&self, prefix: &str) -> Result<Vec<Found>, Fault> {
        let mut listing = Listing::new(prefix);
        let mut token = None;
        loop {
            let page = self.page(prefix, token.take(), PAGE_KEYS).await?;
            match listing.add(page).map_err(Fault::of_listing)? {
                Some(next) => token = Some(next),
                None => return Ok(listing.into_found()),
            }
        }
    }

    /// The object `key` as a listing shows it: it comes first among the keys that begin with it.
    async fn list_exact(&self, key: &str) -> Result<Option<Found>, Fault> {
        let page = self.page(key, None, 1).await?;
        let object = page.objects.into_iter().find(|object| object.key == key);
        Ok(object.map(|object| object.into_found(basename(key))))
    }

    async fn page(&self, prefix: &str, token: Option<String>, keys: i32) -> Result<Page, Fault> {
        let session = self.session();
        let send = || async {
            let request = session.client().list_objects_v2().bucket(&self.source.bucket);
            let request = request.prefix(prefix).max_keys(keys).encoding_type(EncodingType::Url);
            request.set_continuation_token(token.clone()).send().await.map_err(|error| Fault::of(&error))
        };
        listing::page_of(&session.fresh(send).await?).map_err(Fault::of_listing)
    }

    async fn head(&self, key: &str) -> Result<HeadObjectOutput, Fault> {
        let session = self.session();
        if let Some(head) = head::head(session, key).await? {
            return Ok(head);
        }
        let send = || async {
            let request = session.client().head_object().bucket(&self.source.bucket).key(key);
            request.checksum_mode(ChecksumMode::Enabled).send().await.map_err(|error| Fault::of(&error))
        };
        session.fresh(send).await
    }

    /// Describes every entry with content; a store that lists but refuses HEAD leaves them as listed.
    async fn describe_all(&self, entries: Vec<Entry>) -> Result<Vec<Entry>, Error> {
        let refused = AtomicBool::new(false);
        self.learn_pattern(&entries).await;
        let one = |(index, entry): (usize, Entry)| {
            let refused = &refused;
            async move {
                if entry.size == Some(0) || described(&entry) || refused.load(Ordering::Relaxed) {
                    return Ok((index, entry));
                }
                match self.stat_entry(&entry).await {
                    Ok(entry) => Ok((index, entry)),
                    Err(failure) if failure.kind == FailureKind::Denied => {
                        if !refused.swap(true, Ordering::Relaxed) {
                            tracing::warn!(reason = %failure.detail, "the store lists but refuses HEAD: no checksums are known");
                        }
                        Ok((index, entry))
                    }
                    Err(failure) if failure.kind == FailureKind::Missing => {
                        Err(Error::Changed(format!("`{}` was listed and is gone", entry.path)))
                    }
                    Err(failure) => Err(failed(failure)),
                }
            }
        };
        let stream = futures::stream::iter(entries.into_iter().enumerate().map(one));
        let mut entries: Vec<(usize, Entry)> = stream.buffer_unordered(CALLS_MAX).try_collect().await?;
        entries.sort_unstable_by_key(|(index, _)| *index);
        Ok(entries.into_iter().map(|(_, entry)| entry).collect())
    }

    /// Has one URL signed before many HEADs are made, which need to know how the SDK signs. Nothing is sent.
    async fn learn_pattern(&self, entries: &[Entry]) {
        if let [first, _, ..] = entries
            && self.session().pattern().get().is_none()
            && let Err(failure) = self.sign(first).await
        {
            // The first HEAD meets it again.
            tracing::debug!(%failure, "nothing can be signed");
        }
    }

    async fn stat_entry(&self, entry: &Entry) -> Result<Entry, Failure> {
        let described = async { self.found("", &entry.object, &self.head(&entry.object).await?).await };
        let explain = |fault: Fault| self.session().explain(&self.source.bucket, &fault);
        let Found { object, size, version, ranges, stated, .. } = described.await.map_err(explain)?;
        Ok(Entry { path: entry.path.clone(), object, size, version, ranges, stated })
    }

    /// What a HEAD says of an object, and what its parts' ends add to that.
    async fn found(&self, path: &str, key: &str, head: &HeadObjectOutput) -> Result<Found, Fault> {
        let (mut found, sum) = found(path, key, head);
        if let (Some(PartsSum { sum, parts }), Some(size)) = (sum, found.size) {
            let (etag, version_id) = (found.version.etag.as_deref(), found.version.version_id.as_deref());
            let object = Uploaded { bucket: &self.source.bucket, key, size, etag, version_id, parts };
            let ends = self.parts.ends(self.session(), object).await?;
            found.stated.extend(ends.map(|ends| Stated::Composite(Composite { sum, ends })));
        }
        Ok(found)
    }

    /// Where the SDK's rules send requests for the bucket: told by signing one that is never sent.
    async fn place(&self) -> Option<wire::Origin> {
        let config = PresigningConfig::expires_in(SIGNED_FOR).ok()?;
        let request = self.session().signer().get_object().bucket(&self.source.bucket).key("x");
        let signed = request.presigned(config).await.ok()?;
        wire::Url::parse(signed.uri()).ok().map(|url| url.origin())
    }

    async fn sign(&self, entry: &Entry) -> Result<(Access, Option<Duration>), Failure> {
        let (session, now) = (self.session(), SystemTime::now());
        let (keys, valid_for) = session.keys(now).await?;
        let valid_for = valid_for.map(|left| left.min(SIGNED_FOR));
        let signing = Signing { keys, at: now, valid_for: valid_for.unwrap_or(SIGNED_FOR) };
        let pattern = session.pattern().get().and_then(Option::as_ref);
        let url = pattern.and_then(|known| known.url(object(entry), &signing.keys, signing.at, signing.valid_for));
        let (url, headers) = match url {
            Some(url) => (url, Vec::new()),
            None => self.sign_by_sdk(entry, &signing).await?,
        };
        let url = if session.is_anonymous() { listing::unsigned(&url) } else { url };
        let access =
            Access { url: wire::Url::parse(&url)?, headers, policy: session.policy(), coding: Coding::Identity };
        Ok((access, valid_for))
    }

    /// Has the SDK sign, and learns from the first time how it does that.
    async fn sign_by_sdk(&self, entry: &Entry, signing: &Signing) -> Result<(String, Vec<(String, Secret)>), Failure> {
        let session = self.session();
        let broken = |error: &dyn std::error::Error| {
            Failure::new(
                FailureKind::Refused,
                format!("cannot sign a request: {}", wire::refusal::clean(&error.to_string())),
            )
        };
        let config = PresigningConfig::builder().start_time(signing.at).expires_in(signing.valid_for).build();
        let config = config.map_err(|error| broken(&error))?;
        let request = session.signer().get_object().bucket(&self.source.bucket).key(&entry.object);
        let request = request.set_version_id(entry.version.version_id.clone());
        let signed = request.presigned(config).await.map_err(|error| Fault::of(&error).failure)?;
        let headers = signed.headers().filter(|(name, _)| !name.eq_ignore_ascii_case("host"));
        let headers: Vec<_> = headers.map(|(name, value)| (name.to_owned(), Secret::new(value))).collect();
        session.pattern().get_or_init(|| {
            let Signing { keys, at, valid_for } = signing;
            let plain = headers.is_empty().then_some(signed.uri());
            plain.and_then(|url| Pattern::learn(url, object(entry), keys, *at, *valid_for))
        });
        Ok((signed.uri().to_owned(), headers))
    }
}

/// With what, when and for how long a URL is signed.
struct Signing {
    keys: Credentials,
    at: SystemTime,
    valid_for: Duration,
}

fn object(entry: &Entry) -> Object<'_> {
    Object { key: &entry.object, version_id: entry.version.version_id.as_deref() }
}

impl Origin for S3 {
    fn list(&self) -> BoxFuture<'_, Result<Vec<Found>, Error>> {
        Box::pin(self.list_anywhere())
    }

    fn detail(&self, entries: Vec<Entry>) -> BoxFuture<'_, Result<Vec<Entry>, Error>> {
        Box::pin(self.describe_all(entries))
    }

    fn stat<'a>(&'a self, entry: &'a Entry) -> BoxFuture<'a, Result<Entry, Failure>> {
        Box::pin(self.stat_entry(entry))
    }

    fn access<'a>(&'a self, entry: &'a Entry) -> BoxFuture<'a, Result<(Access, Option<Duration>), Failure>> {
        Box::pin(self.sign(entry))
    }

    fn renew<'a>(
        &'a self,
        entry: &'a Entry,
        refused: &'a Access,
    ) -> BoxFuture<'a, Result<(Access, Option<Duration>), Failure>> {
        Box::pin(async move {
            self.session().renew(refused).await?;
            self.sign(entry).await
        })
    }

    fn credential(&self) -> BoxFuture<'_, Option<Credential>> {
        let kind = self.session().credential_kind();
        Box::pin(async move { self.place().await.map(|origin| Credential { origin, kind }) })
    }

    fn describe(&self) -> String {
        self.session().describe()
    }
}

/// A HEAD was made already: the exact key's own, in `list`. A listing never states a checksum or a versionId.
fn described(entry: &Entry) -> bool {
    entry.version.version_id.is_some() || !entry.stated.is_empty()
}

/// What a HEAD says of an object, and the sum over its parts that it states.
fn found(path: &str, key: &str, head: &HeadObjectOutput) -> (Found, Option<PartsSum>) {
    let etag = head.e_tag().and_then(listing::strong_etag);
    let fields = Fields {
        crc64nvme: head.checksum_crc64_nvme(),
        crc32c: head.checksum_crc32_c(),
        crc32: head.checksum_crc32(),
        sha256: head.checksum_sha256(),
        sha1: head.checksum_sha1(),
        md5: head.checksum_md5(),
        kind: head.checksum_type().map(ChecksumType::as_str),
        etag: etag.as_deref(),
    };
    let (mut stated, sum) = fields.read();
    if stated.is_empty() && sum.is_none() {
        let kept = Kept {
            encryption: head.server_side_encryption().map(ServerSideEncryption::as_str),
            customer_algorithm: head.sse_customer_algorithm(),
            storage_class: head.storage_class().map(StorageClass::as_str),
        };
        stated.extend(etag.as_deref().and_then(|etag| kept.md5_of(etag)).map(Stated::Md5));
    }
    let version = Version {
        // Every S3 has ETags; the time, which the SDK keeps only parsed, is for the one that has none.
        last_modified: if etag.is_none() { head.last_modified().and_then(http_date) } else { None },
        etag,
        version_id: head.version_id().filter(|id| *id != "null").map(str::to_owned),
        ..Version::default()
    };
    let size = head.content_length().and_then(|length| u64::try_from(length).ok());
    let ranges = Ranges::Assumed;
    (Found { path: path.to_owned(), object: key.to_owned(), size, version, ranges, stated }, sum)
}

fn http_date(time: &aws_sdk_s3::primitives::DateTime) -> Option<String> {
    time.fmt(aws_sdk_s3::primitives::DateTimeFormat::HttpDate).ok()
}
