//! Where the parts of an upload end, which a sum over their sums needs: GetObjectAttributes, else HEAD by part number.
//!
//! In: one object as its HEAD described it. Out: the offset at which each part ends, or that the store does not say.
//! Holds: every answer is of the version that was described, or it does not count; at most [`EACH_MAX`] parts of one
//! object and [`EACH_TOTAL_MAX`] of all are asked one by one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use aws_sdk_s3::operation::get_object_attributes::GetObjectAttributesOutput;
use aws_sdk_s3::operation::head_object::HeadObjectOutput;
use aws_sdk_s3::types::ObjectAttributes;
use futures::{StreamExt, TryStreamExt};
use tokio::sync::Semaphore;

use super::client::Session;
use super::fault::Fault;
use crate::error::FailureKind;
use crate::origin::control::CALLS_MAX;
use crate::wire::check;

/// Parts asked per page: S3's own most.
const PAGE_PARTS: i32 = 1000;

/// Pages of one object's parts; stores may give fewer than a thousand a page.
const PAGES_MAX: u32 = 100;

/// Parts of one object that are asked one by one, where they are not all of one size.
const EACH_MAX: u32 = 1000;

/// The same over all objects of a run.
const EACH_TOTAL_MAX: u32 = 10_000;

/// An object that was uploaded in parts, as its HEAD described it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Uploaded<'a> {
    pub(super) bucket: &'a str,
    pub(super) key: &'a str,
    pub(super) size: u64,
    pub(super) etag: Option<&'a str>,
    pub(super) version_id: Option<&'a str>,
    /// How many parts.
    pub(super) parts: u32,
}

/// What a run has found out about asking for parts.
#[derive(Debug)]
pub(super) struct Asking {
    /// GetObjectAttributes is refused or unknown here.
    unattributed: AtomicBool,
    /// Parts that may still be asked one by one.
    left: AtomicU32,
    /// Requests for parts side by side.
    calls: Semaphore,
}

/// What the store says of one part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Part {
    /// Where it begins, where that is said.
    start: Option<u64>,
    bytes: u64,
}

impl Asking {
    pub(super) fn new() -> Self {
        let left = AtomicU32::new(EACH_TOTAL_MAX);
        Self { unattributed: AtomicBool::new(false), left, calls: Semaphore::new(CALLS_MAX) }
    }

    /// The offsets at which the parts of `object` end; `None` when the store does not say, or speaks of another version.
    ///
    /// # Errors
    /// When the store does not answer or asks to slow down: what it would have said is not known.
    pub(super) async fn ends(&self, session: &Session, object: Uploaded<'_>) -> Result<Option<Arc<[u64]>>, Fault> {
        if object.parts == 1 {
            return Ok(Some([object.size].into()));
        }
        if object.etag.is_none() && object.version_id.is_none() {
            return Ok(None);
        }
        if !self.unattributed.load(Ordering::Relaxed) {
            match self.by_attributes(session, object).await {
                Ok(Some(sizes)) => return Ok(ends_of(&sizes, object.size)),
                // Another object may have been uploaded with part sums, which some stores need here.
                Ok(None) => {}
                Err(fault) => {
                    tracing::debug!(reason = %fault.failure.detail, "parts are asked by number: no object attributes");
                    self.unattributed.fetch_or(says_no(&fault), Ordering::Relaxed);
                }
            }
        }
        let numbered = self.by_number(session, object).await;
        match numbered {
            Err(fault) if says_no(&fault) => {
                tracing::debug!(reason = %fault.failure.detail, "parts cannot be asked: their sum is not compared");
                Ok(None)
            }
            other => other,
        }
    }

    /// The sizes of all parts in order; `None` where the store does not list them.
    async fn by_attributes(&self, session: &Session, object: Uploaded<'_>) -> Result<Option<Vec<u64>>, Fault> {
        let wanted = usize::try_from(object.parts).unwrap_or(usize::MAX);
        let (mut sizes, mut last, mut marker) = (Vec::new(), 0, None);
        for _ in 0..PAGES_MAX {
            let page = self.attributes(session, object, marker.take()).await?;
            let Some(parts) = page.object_parts().filter(|_| is_of(&page, object)) else { return Ok(None) };
            for part in parts.parts() {
                let size = part.size().and_then(|size| u64::try_from(size).ok());
                let number = part.part_number().filter(|number| last < *number);
                let (Some(size), Some(number)) = (size, number) else { return Ok(None) };
                if wanted <= sizes.len() {
                    return Ok(None);
                }
                sizes.push(size);
                last = number;
            }
            if sizes.len() == wanted {
                return Ok(Some(sizes));
            }
            marker = parts.next_part_number_marker().map(str::to_owned);
            if parts.parts().is_empty() || !parts.is_truncated().unwrap_or(false) || marker.is_none() {
                return Ok(None);
            }
        }
        Ok(None)
    }

    async fn attributes(
        &self,
        session: &Session,
        object: Uploaded<'_>,
        marker: Option<String>,
    ) -> Result<GetObjectAttributesOutput, Fault> {
        let _call = self.calls.acquire().await;
        let request = session.client().get_object_attributes().bucket(object.bucket).key(object.key);
        let request = request.object_attributes(ObjectAttributes::Etag);
        let request = request.object_attributes(ObjectAttributes::ObjectParts).max_parts(PAGE_PARTS);
        let request = request.set_version_id(object.version_id.map(str::to_owned)).set_part_number_marker(marker);
        let send = || async { request.clone().send().await.map_err(|error| Fault::of(&error)) };
        session.fresh(send).await
    }

    /// The offsets by part numbers: all of one size where a few of them say so, else each is asked.
    async fn by_number(&self, session: &Session, object: Uploaded<'_>) -> Result<Option<Arc<[u64]>>, Fault> {
        let Some(first) = self.part(session, object, 1).await? else { return Ok(None) };
        if let Some(sizes) = equal_sizes(first.bytes, object) {
            let mut samples = vec![object.parts / 2 + 1, object.parts];
            samples.dedup();
            let mut agree = true;
            for number in samples {
                let Some(part) = self.part(session, object, number).await? else { return Ok(None) };
                let start = u64::from(number - 1) * first.bytes;
                let size = usize::try_from(number - 1).ok().and_then(|index| sizes.get(index));
                agree &= size == Some(&part.bytes) && part.start.is_none_or(|said| said == start);
            }
            if agree {
                return Ok(ends_of(&sizes, object.size));
            }
        }
        if EACH_MAX < object.parts || !self.may_ask(object.parts) {
            tracing::debug!(
                key = object.key,
                parts = object.parts,
                "too many parts of different sizes to ask for each"
            );
            return Ok(None);
        }
        let each = (2..=object.parts).map(|number| self.part(session, object, number));
        let rest: Vec<Option<Part>> = futures::stream::iter(each).buffered(CALLS_MAX).try_collect().await?;
        let sizes = std::iter::once(Some(first)).chain(rest).map(|part| part.map(|part| part.bytes));
        Ok(sizes.collect::<Option<Vec<u64>>>().and_then(|sizes| ends_of(&sizes, object.size)))
    }

    fn may_ask(&self, parts: u32) -> bool {
        let take = |left: u32| left.checked_sub(parts);
        self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
    }

    /// One part; `None` when the store knows no parts, or this is not the object that was described.
    async fn part(&self, session: &Session, object: Uploaded<'_>, number: u32) -> Result<Option<Part>, Fault> {
        let Ok(part) = i32::try_from(number) else { return Ok(None) };
        let _call = self.calls.acquire().await;
        let request = session.client().head_object().bucket(object.bucket).key(object.key).part_number(part);
        let request = request.set_version_id(object.version_id.map(str::to_owned));
        let request = request.set_if_match(object.etag.map(str::to_owned));
        let send = || async { request.clone().send().await.map_err(|error| Fault::of(&error)) };
        session.fresh(send).await.map(|head| part_of(&head, object))
    }
}

/// Whether a store has said that it does not tell, rather than that it cannot just now.
fn says_no(fault: &Fault) -> bool {
    use FailureKind::{Expired, Throttled, Unavailable};
    fault.answered && !matches!(fault.failure.kind, Throttled { .. } | Unavailable { .. } | Expired)
}

/// Whether attributes are those of the object that was described.
fn is_of(page: &GetObjectAttributesOutput, object: Uploaded<'_>) -> bool {
    let bare = |etag: &str| etag.trim_matches('"').to_owned();
    match (page.e_tag(), object.etag) {
        (Some(said), Some(known)) => bare(said) == bare(known),
        _ => page.version_id().is_some() && page.version_id() == object.version_id,
    }
}

fn part_of(head: &HeadObjectOutput, object: Uploaded<'_>) -> Option<Part> {
    let bytes = u64::try_from(head.content_length()?).ok()?;
    let counted = head.parts_count().and_then(|count| u32::try_from(count).ok()) == Some(object.parts);
    let same = head.e_tag().zip(object.etag).is_none_or(|(said, known)| said == known);
    let range = head.content_range().map(check::content_range);
    let start = match range {
        None => None,
        Some(range) => {
            let range = range.filter(|range| range.size == Some(object.size))?.range?;
            (range.len() == bytes).then_some(Some(range.start))?
        }
    };
    (counted && same).then_some(Part { start, bytes })
}

/// The sizes when all parts but the last have `first` bytes, if they can.
fn equal_sizes(first: u64, object: Uploaded<'_>) -> Option<Vec<u64>> {
    let before = first.checked_mul(u64::from(object.parts) - 1)?;
    let last = object.size.checked_sub(before).filter(|last| (1..=first).contains(last))?;
    let mut sizes = vec![first; usize::try_from(object.parts).ok()?];
    *sizes.last_mut()? = last;
    Some(sizes)
}

/// The ends of parts of these sizes; `None` when they do not make up an object of `size` bytes.
fn ends_of(sizes: &[u64], size: u64) -> Option<Arc<[u64]>> {
    let mut end = 0_u64;
    let mut ends = Vec::with_capacity(sizes.len());
    for bytes in sizes {
        end = end.checked_add(*bytes).filter(|_| 0 < *bytes)?;
        ends.push(end);
    }
    (end == size).then(|| ends.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Failure;

    fn uploaded(size: u64, parts: u32) -> Uploaded<'static> {
        Uploaded { bucket: "b", key: "k", size, etag: Some("\"e-3\""), version_id: None, parts }
    }

    #[test]
    fn only_an_answer_that_will_stay_says_no() {
        let fault = |kind, answered| Fault { failure: Failure::new(kind, ""), code: None, region: None, answered };
        let later = Some(std::time::Duration::from_secs(1));
        for (kind, no) in [
            (FailureKind::Denied, true),
            (FailureKind::Missing, true),
            (FailureKind::Changed, true),
            (FailureKind::Expired, false),
            (FailureKind::Throttled { retry_after: later }, false),
            (FailureKind::Unavailable { retry_after: None }, false),
        ] {
            assert_eq!(says_no(&fault(kind, true)), no, "{kind:?}");
            assert!(!says_no(&fault(kind, false)), "{kind:?}");
        }
    }

    #[test]
    fn parts_of_one_size_are_told_by_the_first() {
        for (first, size, parts, last) in
            [(8, 24, 3, Some(8)), (8, 23, 3, Some(7)), (8, 17, 3, Some(1)), (8, 16, 3, None), (8, 25, 3, None)]
        {
            let sizes = equal_sizes(first, uploaded(size, parts));
            assert_eq!(sizes.as_ref().and_then(|sizes| sizes.last().copied()), last, "{first} {size}");
            assert!(sizes.is_none_or(|sizes| sizes.iter().sum::<u64>() == size));
        }
        assert_eq!(equal_sizes(u64::MAX, uploaded(7, 3)), None);
    }

    #[test]
    fn ends_make_up_the_object_or_are_none() {
        assert_eq!(ends_of(&[8, 5, 9], 22).as_deref(), Some(&[8, 13, 22][..]));
        for (sizes, size) in [(&[8, 5, 9][..], 23), (&[8, 0, 14], 22), (&[u64::MAX, 2], 1), (&[], 1)] {
            assert_eq!(ends_of(sizes, size), None, "{sizes:?}");
        }
    }

    #[test]
    fn a_part_counts_only_of_the_object_that_was_described() {
        let head = || HeadObjectOutput::builder().content_length(8).parts_count(3).e_tag("\"e-3\"");
        let seen = |head: HeadObjectOutput| part_of(&head, uploaded(24, 3));
        assert_eq!(seen(head().build()), Some(Part { start: None, bytes: 8 }));
        let range = |text: &str| head().content_range(text).build();
        assert_eq!(seen(range("bytes 8-15/24")), Some(Part { start: Some(8), bytes: 8 }));
        for head in [
            range("bytes 8-15/25"),
            range("bytes 8-14/24"),
            range("potato"),
            head().parts_count(4).build(),
            head().e_tag("\"other-3\"").build(),
            HeadObjectOutput::builder().content_length(24).e_tag("\"e-3\"").build(),
        ] {
            assert_eq!(seen(head.clone()), None, "{head:?}");
        }
    }
}
