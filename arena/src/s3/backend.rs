//! The S3 operations over buckets of [`Content`]s: list, head, get. Nothing can be written.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use s3s::dto::*;
use s3s::{S3, S3Request, S3Response, S3Result, s3_error};

use super::body::Body;
use super::list::{self, Page, Query};
use crate::content::{Content, Statement};
use crate::pool::Pool;

/// Buckets by name, objects by key.
pub(super) type Buckets = BTreeMap<String, BTreeMap<String, Content>>;

/// What the operations share; a clone serves the same buckets and counters.
#[derive(Clone, Default)]
pub(super) struct Backend {
    pub(super) buckets: Arc<RwLock<Buckets>>,
    pub(super) tally: Arc<Tally>,
    pub(super) pool: Pool,
}

/// Requests that passed the signature check, by kind, and all requests.
#[derive(Default)]
pub(super) struct Tally {
    pub(super) all: AtomicU64,
    pub(super) list: AtomicU64,
    pub(super) head: AtomicU64,
    pub(super) get: AtomicU64,
    pub(super) sent: Arc<AtomicU64>,
}

/// The conditions HEAD and GET share.
struct Conditions {
    matching: Option<ETagCondition>,
    none_matching: Option<ETagCondition>,
    unmodified_since: Option<Timestamp>,
    modified_since: Option<Timestamp>,
    version: Option<String>,
}

impl Backend {
    fn with_bucket<T>(
        &self,
        bucket: &str,
        read: impl FnOnce(&BTreeMap<String, Content>) -> S3Result<T>,
    ) -> S3Result<T> {
        let buckets = self.buckets.read().unwrap_or_else(PoisonError::into_inner);
        read(buckets.get(bucket).ok_or_else(|| s3_error!(NoSuchBucket, "The specified bucket does not exist"))?)
    }

    fn find(&self, bucket: &str, key: &str) -> S3Result<Content> {
        self.with_bucket(bucket, |objects| {
            let found = objects.get(key).cloned();
            found.ok_or_else(|| s3_error!(NoSuchKey, "The specified key does not exist."))
        })
    }

    fn list_page(&self, input: &ListObjectsV2Input) -> S3Result<ListObjectsV2Output> {
        let query = Query {
            prefix: input.prefix.as_deref().unwrap_or(""),
            delimiter: input.delimiter.as_deref(),
            start_after: input.start_after.as_deref(),
            token: input.continuation_token.as_deref(),
            max_keys: input.max_keys,
        };
        self.with_bucket(&input.bucket, |objects| {
            let page = list::page(objects, query)
                .map_err(|_| s3_error!(InvalidArgument, "The continuation token provided is incorrect"))?;
            Ok(listing(objects, &page, input))
        })
    }
}

/// The page as S3 words it, keys percent-encoded when the client asked for that.
fn listing(objects: &BTreeMap<String, Content>, page: &Page<'_>, input: &ListObjectsV2Input) -> ListObjectsV2Output {
    let encode = |text: &str| match &input.encoding_type {
        Some(kind) if kind.as_str() == EncodingType::URL => percent_encode(text),
        _ => text.to_owned(),
    };
    let contents = page.keys.iter().filter_map(|key| {
        let content = objects.get(*key)?;
        Some(Object {
            key: Some(encode(key)),
            size: Some(signed(content.size())),
            e_tag: Some(ETag::Strong(content.etag().to_owned())),
            last_modified: Some(content.modified().into()),
            storage_class: Some(ObjectStorageClass::from_static(ObjectStorageClass::STANDARD)),
            checksum_type: stated(content).then(full_object),
            checksum_algorithm: stated(content)
                .then(|| vec![ChecksumAlgorithm::from_static(ChecksumAlgorithm::CRC64NVME)]),
            ..Object::default()
        })
    });
    let prefixes = page.prefixes.iter().map(|prefix| CommonPrefix { prefix: Some(encode(prefix)) });
    ListObjectsV2Output {
        name: Some(input.bucket.clone()),
        prefix: Some(encode(input.prefix.as_deref().unwrap_or(""))),
        delimiter: input.delimiter.as_deref().map(encode),
        start_after: input.start_after.as_deref().map(encode),
        encoding_type: input.encoding_type.clone(),
        max_keys: i32::try_from(list::page_size(input.max_keys)).ok(),
        key_count: i32::try_from(page.keys.len() + page.prefixes.len()).ok(),
        contents: Some(contents.collect()),
        common_prefixes: Some(prefixes.collect()),
        continuation_token: input.continuation_token.clone(),
        next_continuation_token: page.next.clone(),
        is_truncated: Some(page.next.is_some()),
        ..ListObjectsV2Output::default()
    }
}

impl Conditions {
    /// In the order of RFC 9110, section 13.2.2.
    fn check(&self, content: &Content) -> S3Result<()> {
        if self.version.as_deref().is_some_and(|version| version != "null") {
            return Err(s3_error!(NoSuchVersion, "The specified version does not exist."));
        }
        let etag = ETag::Strong(content.etag().to_owned());
        let failed = || s3_error!(PreconditionFailed, "At least one of the pre-conditions you specified did not hold");
        match &self.matching {
            Some(ETagCondition::ETag(wanted)) if !wanted.strong_cmp(&etag) => return Err(failed()),
            Some(_) => {}
            None if is_later(content, self.unmodified_since.as_ref()) => return Err(failed()),
            None => {}
        }
        match &self.none_matching {
            Some(ETagCondition::ETag(known)) if !known.weak_cmp(&etag) => Ok(()),
            Some(_) => Err(s3_error!(NotModified)),
            None if self.modified_since.is_some() && !is_later(content, self.modified_since.as_ref()) => {
                Err(s3_error!(NotModified))
            }
            None => Ok(()),
        }
    }
}

/// Whether the object changed after `moment`.
fn is_later(content: &Content, moment: Option<&Timestamp>) -> bool {
    // Through an HTTP date: the client's moment came as one, and both then have whole seconds.
    let modified = httpdate::fmt_http_date(content.modified());
    let modified = Timestamp::parse(TimestampFormat::HttpDate, &modified).ok();
    moment.is_some_and(|moment| modified.is_some_and(|modified| *moment < modified))
}

fn stated(content: &Content) -> bool {
    content.statement() == Statement::Crc64Nvme
}

fn full_object() -> ChecksumType {
    ChecksumType::from_static(ChecksumType::FULL_OBJECT)
}

/// The object's stated checksum if the client asked and the object has one.
async fn checksum(content: &Content, mode: Option<&ChecksumMode>) -> S3Result<Option<String>> {
    if !stated(content) || mode.map(ChecksumMode::as_str) != Some(ChecksumMode::ENABLED) {
        return Ok(None);
    }
    let content = content.clone();
    // One pass over the object, the first time: not on the thread that serves the others.
    let sum = tokio::task::spawn_blocking(move || content.crc64nvme_base64()).await;
    sum.map(Some).map_err(|_| s3_error!(InternalError))
}

/// S3's sizes are signed; no object here comes near the limit.
fn signed(size: u64) -> i64 {
    i64::try_from(size).unwrap_or(i64::MAX)
}

fn percent_encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b'/' => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[async_trait::async_trait]
impl S3 for Backend {
    async fn list_objects_v2(&self, req: S3Request<ListObjectsV2Input>) -> S3Result<S3Response<ListObjectsV2Output>> {
        self.tally.list.fetch_add(1, Ordering::Relaxed);
        self.list_page(&req.input).map(S3Response::new)
    }

    async fn list_objects(&self, req: S3Request<ListObjectsInput>) -> S3Result<S3Response<ListObjectsOutput>> {
        self.tally.list.fetch_add(1, Ordering::Relaxed);
        let input = req.input;
        let marker = input.marker.as_deref().filter(|marker| !marker.is_empty());
        let page = self.list_page(&ListObjectsV2Input {
            bucket: input.bucket.clone(),
            prefix: input.prefix.clone(),
            delimiter: input.delimiter.clone(),
            encoding_type: input.encoding_type.clone(),
            max_keys: input.max_keys,
            continuation_token: marker.map(|marker| list::token_after(marker, input.delimiter.as_deref())),
            ..ListObjectsV2Input::default()
        })?;
        let last = page.next_continuation_token.as_deref().and_then(list::entry_of);
        let encodes = input.encoding_type.as_ref().is_some_and(|kind| kind.as_str() == EncodingType::URL);
        Ok(S3Response::new(ListObjectsOutput {
            name: page.name,
            prefix: page.prefix,
            delimiter: page.delimiter,
            encoding_type: page.encoding_type,
            max_keys: page.max_keys,
            contents: page.contents,
            common_prefixes: page.common_prefixes,
            marker: input.marker,
            next_marker: last.map(|last| if encodes { percent_encode(&last) } else { last }),
            is_truncated: page.is_truncated,
            ..ListObjectsOutput::default()
        }))
    }

    async fn head_bucket(&self, req: S3Request<HeadBucketInput>) -> S3Result<S3Response<HeadBucketOutput>> {
        self.with_bucket(&req.input.bucket, |_| Ok(S3Response::new(HeadBucketOutput::default())))
    }

    async fn get_bucket_location(
        &self,
        req: S3Request<GetBucketLocationInput>,
    ) -> S3Result<S3Response<GetBucketLocationOutput>> {
        self.with_bucket(&req.input.bucket, |_| Ok(S3Response::new(GetBucketLocationOutput::default())))
    }

    async fn head_object(&self, req: S3Request<HeadObjectInput>) -> S3Result<S3Response<HeadObjectOutput>> {
        self.tally.head.fetch_add(1, Ordering::Relaxed);
        let input = req.input;
        let content = self.find(&input.bucket, &input.key)?;
        let conditions = Conditions {
            matching: input.if_match,
            none_matching: input.if_none_match,
            unmodified_since: input.if_unmodified_since,
            modified_since: input.if_modified_since,
            version: input.version_id,
        };
        conditions.check(&content)?;
        let sum = checksum(&content, input.checksum_mode.as_ref()).await?;
        Ok(S3Response::new(HeadObjectOutput {
            accept_ranges: Some("bytes".to_owned()),
            content_length: Some(signed(content.size())),
            e_tag: Some(ETag::Strong(content.etag().to_owned())),
            last_modified: Some(content.modified().into()),
            checksum_type: sum.is_some().then(full_object),
            checksum_crc64nvme: sum,
            ..HeadObjectOutput::default()
        }))
    }

    async fn get_object(&self, req: S3Request<GetObjectInput>) -> S3Result<S3Response<GetObjectOutput>> {
        self.tally.get.fetch_add(1, Ordering::Relaxed);
        let input = req.input;
        let content = self.find(&input.bucket, &input.key)?;
        let conditions = Conditions {
            matching: input.if_match,
            none_matching: input.if_none_match,
            unmodified_since: input.if_unmodified_since,
            modified_since: input.if_modified_since,
            version: input.version_id,
        };
        conditions.check(&content)?;
        let size = content.size();
        let span = match &input.range {
            Some(range) => range.check(size)?,
            None => 0..size,
        };
        // S3 states the sum of the object, so only with a reply that is the object.
        let sum = match span.end - span.start == size {
            true => checksum(&content, input.checksum_mode.as_ref()).await?,
            false => None,
        };
        let content_range = input.range.map(|_| format!("bytes {}-{}/{size}", span.start, span.end.saturating_sub(1)));
        let (etag, modified) = (content.etag().to_owned(), content.modified());
        let remaining = span.end - span.start;
        let (pool, sent) = (self.pool.clone(), Arc::clone(&self.tally.sent));
        let body = Body { content, offset: span.start, remaining, pool, sent };
        Ok(S3Response::new(GetObjectOutput {
            accept_ranges: Some("bytes".to_owned()),
            body: Some(body.into_blob()),
            content_length: Some(signed(remaining)),
            content_range,
            content_type: Some("application/octet-stream".parse().map_err(|_| s3_error!(InternalError))?),
            e_tag: Some(ETag::Strong(etag)),
            last_modified: Some(modified.into()),
            checksum_type: sum.is_some().then(full_object),
            checksum_crc64nvme: sum,
            ..GetObjectOutput::default()
        }))
    }
}
