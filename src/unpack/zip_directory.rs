//! The central directory of a zip: what is in it and where, bounded before any of it is kept.

use super::caps::Caps;
use super::refusal::{Folder, Place, damaged, place, refused, refused_member, truncated};
use super::stream::read_error;
use super::{ENTRIES_MAX, Input};
use crate::error::Error;
use crate::manifest::SafePath;
use crate::verify::wide;

/// Bytes of the directory: twice what [`ENTRIES_MAX`] entries with names and the usual extra fields take.
const DIRECTORY_BYTES_MAX: u64 = 16 << 20;

/// Bytes of the end record without its comment, and of the longest comment.
const END_BYTES: usize = 22;
const COMMENT_BYTES_MAX: usize = 65_535;
const END64_BYTES: u64 = 56;
const LOCATOR_BYTES: u64 = 20;
const ENTRY_BYTES: usize = 46;

/// One regular file.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) path: SafePath,
    /// As the directory writes it.
    pub(super) name: Vec<u8>,
    pub(super) method: Method,
    pub(super) crc: u32,
    pub(super) packed: u64,
    pub(super) size: u64,
    /// Where its local header begins.
    pub(super) offset: u64,
}

/// How a member is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Method {
    Stored,
    Deflated,
}

/// The files of the archive, in the order in which they lie in it, and where the directory begins: nothing of a file may reach beyond.
pub(super) fn read(input: &mut dyn Input, caps: &mut Caps) -> Result<(Vec<Member>, u64), Error> {
    let end = find_end(input)?;
    if ENTRIES_MAX < end.entries {
        return Err(refused(&format!("it has over {ENTRIES_MAX} entries")));
    }
    if DIRECTORY_BYTES_MAX < end.bytes {
        return Err(refused(&format!("its directory is longer than {DIRECTORY_BYTES_MAX} bytes")));
    }
    let mut bytes = vec![0; usize::try_from(end.bytes).map_err(|_| truncated())?];
    read_exact(input, end.start, &mut bytes)?;
    let mut rest = bytes.as_slice();
    let mut members = Vec::new();
    for _ in 0..end.entries {
        let (member, after) = entry(rest, caps)?;
        members.extend(member);
        rest = after;
    }
    if !rest.is_empty() {
        return Err(damaged("its directory has more entries than it says"));
    }
    members.sort_by_key(|member| member.offset);
    Ok((members, end.start))
}

/// Reads exactly `buffer`.
pub(super) fn read_exact(input: &mut dyn Input, offset: u64, mut buffer: &mut [u8]) -> Result<(), Error> {
    let mut at = offset;
    while !buffer.is_empty() {
        match input.read_at(at, buffer).map_err(|error| read_error(&error))? {
            0 => return Err(truncated()),
            read => {
                at += wide(read);
                buffer = &mut buffer[read..];
            }
        }
    }
    Ok(())
}

/// Where the directory is.
struct End {
    entries: u64,
    start: u64,
    bytes: u64,
}

/// Finds the end record, which nothing but its own comment may follow.
fn find_end(input: &mut dyn Input) -> Result<End, Error> {
    let none = || damaged("it has no directory: not a whole zip");
    let size = input.size();
    let tail = usize::try_from(size).map_or(usize::MAX, |size| size).min(END_BYTES + COMMENT_BYTES_MAX);
    let mut bytes = vec![0; tail];
    read_exact(input, size - wide(tail), &mut bytes)?;
    let last = tail.checked_sub(END_BYTES).ok_or_else(none)?;
    let is_end = |at: &usize| {
        let record = &bytes[*at..];
        record.starts_with(b"PK\x05\x06") && END_BYTES + usize::from(u16_at(record, 20)) == record.len()
    };
    let at = (0..=last).rev().find(is_end).ok_or_else(none)?;
    let record = &bytes[at..];
    let position = size - wide(tail) + wide(at);
    let (disk, start_disk) = (u16_at(record, 4), u16_at(record, 6));
    let (here, entries) = (u16_at(record, 8), u16_at(record, 10));
    let (length, start) = (u32_at(record, 12), u32_at(record, 16));
    let wide_one = entries == u16::MAX || length == u32::MAX || start == u32::MAX;
    match position.checked_sub(LOCATOR_BYTES).filter(|_| wide_one) {
        Some(locator) => find_end64(input, locator),
        None if disk != 0 || start_disk != 0 || here != entries => Err(refused("it is one of several disks")),
        None => End::checked((entries.into(), start.into(), length.into(), position)),
    }
}

impl End {
    /// The directory ends where the end record begins.
    fn checked((entries, start, bytes, until): (u64, u64, u64, u64)) -> Result<Self, Error> {
        if start.checked_add(bytes) != Some(until) || bytes / wide(ENTRY_BYTES) < entries {
            return Err(damaged("its directory is not where it says"));
        }
        Ok(Self { entries, start, bytes })
    }
}

/// The end record of 64 bits, which a locator right before the other one names.
fn find_end64(input: &mut dyn Input, locator_at: u64) -> Result<End, Error> {
    let wrong = || damaged("its 64-bit directory is not where it says");
    let mut locator = [0; 20];
    read_exact(input, locator_at, &mut locator)?;
    let at = u64_at(&locator, 8);
    if !locator.starts_with(b"PK\x06\x07") || at.checked_add(END64_BYTES).is_none_or(|end| locator_at < end) {
        return Err(wrong());
    }
    let mut record = [0; 56];
    read_exact(input, at, &mut record)?;
    let length = u64_at(&record, 4).checked_add(12).and_then(|length| at.checked_add(length));
    if !record.starts_with(b"PK\x06\x06") || length != Some(locator_at) {
        return Err(wrong());
    }
    if u32_at(&record, 16) != 0 || u32_at(&record, 20) != 0 || u64_at(&record, 24) != u64_at(&record, 32) {
        return Err(refused("it is one of several disks"));
    }
    End::checked((u64_at(&record, 32), u64_at(&record, 48), u64_at(&record, 40), at))
}

/// Reads one entry; `None` for a folder.
fn entry<'a>(bytes: &'a [u8], caps: &mut Caps) -> Result<(Option<Member>, &'a [u8]), Error> {
    let broken = || damaged("an entry of its directory is none");
    let (head, rest) =
        bytes.split_at_checked(ENTRY_BYTES).filter(|(head, _)| head.starts_with(b"PK\x01\x02")).ok_or_else(broken)?;
    let length = |at| usize::from(u16_at(head, at));
    let (name, rest) = rest.split_at_checked(length(28)).ok_or_else(broken)?;
    let (extra, rest) = rest.split_at_checked(length(30)).ok_or_else(broken)?;
    let (_, rest) = rest.split_at_checked(length(32)).ok_or_else(broken)?;
    caps.entry(name.len())?;
    let method = check(head, name)?;
    let mut sizes = [u32_at(head, 24), u32_at(head, 20), u32_at(head, 42)].map(u64::from);
    widen(&mut sizes, extra).ok_or_else(broken)?;
    let [size, packed, offset] = sizes;
    if name.ends_with(b"/") {
        let empty = if size == 0 { Ok(None) } else { Err(refused_member(name, "is a folder with content")) };
        return place(name, Folder::Yes).and(empty).map(|none| (none, rest));
    }
    let Place::Below(path) = place(name, Folder::No)? else { return Err(broken()) };
    caps.bytes(size)?;
    if method == Method::Stored && packed != size {
        return Err(damaged("a stored member has two sizes"));
    }
    Ok((Some(Member { path, name: name.to_owned(), method, crc: u32_at(head, 16), packed, size, offset }), rest))
}

/// Refuses what is no plain file or cannot be unpacked.
fn check(head: &[u8], name: &[u8]) -> Result<Method, Error> {
    const ENCRYPTED: u16 = 1 | 1 << 6 | 1 << 13;
    const PATCH: u16 = 1 << 5;
    const UTF8: u16 = 1 << 11;
    let flags = u16_at(head, 8);
    if flags & ENCRYPTED != 0 {
        return Err(refused_member(name, "is encrypted"));
    }
    if flags & PATCH != 0 {
        return Err(refused_member(name, "is a patch"));
    }
    if flags & UTF8 == 0 && !name.is_ascii() {
        return Err(refused_member(name, "has a name in an encoding that is not stated"));
    }
    if u16_at(head, 34) != 0 {
        return Err(refused("it is one of several disks"));
    }
    // Unix and macOS leave the file's mode in the upper half of the attributes.
    let mode = if matches!(head[5], 3 | 19) { u32_at(head, 38) >> 16 & 0o170_000 } else { 0 };
    match mode {
        0 | 0o100_000 => {}
        0o040_000 if name.ends_with(b"/") => {}
        0o120_000 => return Err(refused_member(name, "is a link")),
        _ => return Err(refused_member(name, "is neither a file nor a folder")),
    }
    match u16_at(head, 10) {
        0 => Ok(Method::Stored),
        8 => Ok(Method::Deflated),
        other => Err(refused_member(name, &format!("is packed by method {other}, which is not supported"))),
    }
}

/// Takes from the 64-bit extra field what did not fit: size, packed size and offset, in that order.
fn widen(values: &mut [u64; 3], mut extra: &[u8]) -> Option<()> {
    let mut wide_ones: &[u8] = &[];
    while let Some((head, rest)) = extra.split_at_checked(4) {
        let (field, rest) = rest.split_at_checked(usize::from(u16_at(head, 2)))?;
        if u16_at(head, 0) == 1 {
            wide_ones = field;
        }
        extra = rest;
    }
    for value in values.iter_mut().filter(|value| **value == u64::from(u32::MAX)) {
        let (first, rest) = wide_ones.split_first_chunk()?;
        (*value, wide_ones) = (u64::from_le_bytes(*first), rest);
    }
    Some(())
}

/// Little-endian numbers at fixed places of records whose length was checked.
pub(super) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(array_at(bytes, at))
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(array_at(bytes, at))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(array_at(bytes, at))
}

fn array_at<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut array = [0; N];
    array.copy_from_slice(&bytes[at..at + N]);
    array
}
