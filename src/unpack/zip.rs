//! The members of a zip: its directory first, then each file where the directory says, held against it.

use std::io::{BufReader, Read, Take};

use flate2::Crc;
use flate2::bufread::DeflateDecoder;

use super::caps::Caps;
use super::refusal::{damaged, refused_member};
use super::stream::{Stream, copy, read_some};
use super::zip_directory::{self, Member, Method, read_exact, u16_at, u32_at};
use super::{BUFFER_BYTES, Input, Sink};
use crate::error::Error;

/// Bytes of a local header without name and extra field.
const LOCAL_BYTES: u64 = 30;

/// Hands the members of the zip in `input` to `sink`.
pub(super) fn unpack(input: &mut dyn Input, caps: &mut Caps, sink: &mut dyn Sink) -> Result<(), Error> {
    let (members, directory) = zip_directory::read(input, caps)?;
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut free_from = 0;
    for (index, member) in members.iter().enumerate() {
        // Files that share bytes make a small archive large: each has to end before the next begins.
        let until = members.get(index + 1).map_or(directory, |next| next.offset);
        if member.offset < free_from {
            return Err(refused_member(&member.name, "lies over another"));
        }
        free_from = one(input, member, until, &mut buffer, sink)?;
    }
    Ok(())
}

/// Hands one member on; returns where it ends.
fn one(
    input: &mut dyn Input,
    member: &Member,
    until: u64,
    buffer: &mut [u8],
    sink: &mut dyn Sink,
) -> Result<u64, Error> {
    let start = data_start(input, member)?;
    let end = start.checked_add(member.packed).filter(|end| *end <= until);
    let end = end.ok_or_else(|| refused_member(&member.name, "lies over another"))?;
    sink.begin(member.path.clone(), member.size)?;
    let raw = BufReader::with_capacity(BUFFER_BYTES, Stream::new(input, start).take(member.packed));
    let mut checked = Checked { sink, crc: Crc::new() };
    match member.method {
        Method::Stored => copy(&mut { raw }, member.size, buffer, &mut checked)?,
        Method::Deflated => inflate(raw, member, buffer, &mut checked)?,
    }
    if checked.crc.sum() != member.crc {
        return Err(damaged(&format!("the checksum of `{}` is wrong", member.path)));
    }
    sink.end()?;
    Ok(end)
}

fn inflate(
    raw: BufReader<Take<Stream<'_>>>,
    member: &Member,
    buffer: &mut [u8],
    sink: &mut dyn Sink,
) -> Result<(), Error> {
    let mut decoder = DeflateDecoder::new(raw);
    copy(&mut decoder, member.size, buffer, sink)?;
    let over = read_some(&mut decoder, &mut buffer[..1])?;
    if over != 0 || decoder.total_in() != member.packed {
        return Err(damaged(&format!("`{}` has another size than the directory says", member.path)));
    }
    Ok(())
}

/// Where the bytes of `member` begin, once its own header says what the directory does.
fn data_start(input: &mut dyn Input, member: &Member) -> Result<u64, Error> {
    let mut head = [0; 30];
    read_exact(input, member.offset, &mut head)?;
    let lengths = [u16_at(&head, 26), u16_at(&head, 28)];
    let mut name = vec![0; usize::from(lengths[0])];
    read_exact(input, member.offset + LOCAL_BYTES, &mut name)?;
    let method = if member.method == Method::Stored { 0 } else { 8 };
    if u32_at(&head, 0) != u32::from_le_bytes(*b"PK\x03\x04") {
        return Err(damaged(&format!("`{}` is not where the directory says", member.path)));
    }
    if name != member.name || u16_at(&head, 8) != method {
        return Err(refused_member(&member.name, "says something else of itself than the directory"));
    }
    Ok(member.offset + LOCAL_BYTES + lengths.map(u64::from).iter().sum::<u64>())
}

/// A sink's bytes with their CRC-32.
struct Checked<'a> {
    sink: &'a mut dyn Sink,
    crc: Crc,
}

impl Sink for Checked<'_> {
    fn begin(&mut self, path: crate::manifest::SafePath, size: u64) -> Result<(), Error> {
        self.sink.begin(path, size)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.crc.update(bytes);
        self.sink.write(bytes)
    }

    fn end(&mut self) -> Result<(), Error> {
        self.sink.end()
    }
}
