//! The members of a tar: ustar, GNU and pax headers, one block at a time.
//!
//! Holds: at most one long name and one extended header are in memory, each bounded; a header that says one thing in
//! two ways is refused, so that no two readers see two archives.

use std::io::Read;

use super::caps::Caps;
use super::pax::{self, Pax};
use super::refusal::{Folder, Place, damaged, place, refused, refused_member, truncated};
use super::stream::{copy, read_full};
use super::{BUFFER_BYTES, Sink};
use crate::error::Error;
use crate::verify::wide;

/// Bytes of a block: headers are one, data is padded to whole ones.
const BLOCK_BYTES: usize = 512;

/// Bytes of one extended header or long name: names end at 1,024, the rest is for attributes nobody reads.
const EXTENSION_BYTES_MAX: u64 = 64 << 10;

/// Extended headers before one member: a long name, a long link name, a pax header and a global one.
const EXTENSIONS_MAX: u32 = 4;

/// The largest size that eleven octal digits hold.
const OCTAL_SIZE_MAX: u64 = (1 << 33) - 1;

/// The fields of a header that matter here.
struct Header {
    kind: u8,
    size: u64,
    name: Vec<u8>,
}

/// What extended headers said of the member that follows.
#[derive(Default)]
struct Extended {
    pax: Option<Pax>,
    long_name: Option<Vec<u8>>,
    count: u32,
}

/// Hands the members of the tar in `from` to `sink`, up to its end mark.
pub(super) fn unpack(from: &mut dyn Read, caps: &mut Caps, sink: &mut dyn Sink) -> Result<(), Error> {
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut extended = Extended::default();
    loop {
        let mut block = [0; BLOCK_BYTES];
        if read_full(from, &mut block)? != BLOCK_BYTES {
            // Every writer ends with blocks of zeros: without them something is missing.
            return Err(truncated());
        }
        if block == [0; BLOCK_BYTES] {
            return if extended.count == 0 { Ok(()) } else { Err(truncated()) };
        }
        let header = parse(&block)?;
        match header.kind {
            b'x' | b'g' | b'L' | b'K' => extended.take(&header, from, caps)?,
            _ => member(header, std::mem::take(&mut extended), from, &mut buffer, caps, sink)?,
        }
    }
}

fn member(
    header: Header,
    extended: Extended,
    from: &mut dyn Read,
    buffer: &mut [u8],
    caps: &mut Caps,
    sink: &mut dyn Sink,
) -> Result<(), Error> {
    let kind = header.kind;
    let (name, size) = extended.apply(header)?;
    caps.entry(name.len())?;
    match kind {
        // Before POSIX a slash at the end was all that told a folder.
        b'0' | b'\0' | b'7' if !name.ends_with(b"/") => {
            let Place::Below(path) = place(&name, Folder::No)? else { return Err(damaged("a file has no name")) };
            caps.bytes(size)?;
            sink.begin(path, size)?;
            copy(from, size, buffer, sink)?;
            sink.end()?;
            skip_padding(from, size)
        }
        b'0' | b'\0' | b'5' if size == 0 => place(&name, Folder::Yes).map(drop),
        b'0' | b'\0' | b'7' | b'5' => Err(refused_member(&name, "is a folder with content")),
        b'1' | b'2' => Err(refused_member(&name, "is a link")),
        b'3' | b'4' => Err(refused_member(&name, "is a device")),
        b'6' => Err(refused_member(&name, "is a FIFO")),
        b'S' => Err(refused_member(&name, "is a sparse file")),
        _ => Err(refused_member(&name, "is neither a file nor a folder")),
    }
}

impl Extended {
    /// Reads what an extended header says.
    fn take(&mut self, header: &Header, from: &mut dyn Read, caps: &mut Caps) -> Result<(), Error> {
        self.count += 1;
        if EXTENSIONS_MAX < self.count {
            return Err(refused(&format!("a member has over {EXTENSIONS_MAX} extended headers")));
        }
        if EXTENSION_BYTES_MAX < header.size {
            return Err(refused(&format!("an extended header is longer than {EXTENSION_BYTES_MAX} bytes")));
        }
        caps.bytes(header.size)?;
        let mut content = vec![0; usize::try_from(header.size).map_err(|_| truncated())?];
        if read_full(from, &mut content)? != content.len() {
            return Err(truncated());
        }
        skip_padding(from, header.size)?;
        let twice = match header.kind {
            b'x' => self.pax.replace(pax::parse(&content)?).is_some(),
            b'L' => self.long_name.replace(until_nul(&content).to_owned()).is_some(),
            // What holds for every member may be a comment (git archive), not a name or a size.
            b'g' if pax::parse(&content)? != Pax::default() => {
                return Err(refused("a global header names or sizes every member"));
            }
            _ => false,
        };
        if twice { Err(refused("a member has two extended headers of one kind")) } else { Ok(()) }
    }

    /// Name and size of the member, all headers taken together.
    fn apply(self, header: Header) -> Result<(Vec<u8>, u64), Error> {
        let Pax { path, size } = self.pax.unwrap_or_default();
        let name = match (path, self.long_name) {
            (Some(path), Some(long)) if path != long => {
                return Err(refused_member(&path, "has two names"));
            }
            (Some(name), _) | (None, Some(name)) => name,
            (None, None) => header.name,
        };
        match size {
            // Writers leave 0 or the largest number where the true size does not fit.
            Some(size) if header.size != size && !matches!(header.size, 0 | OCTAL_SIZE_MAX) => {
                Err(refused_member(&name, "has two sizes"))
            }
            Some(size) => Ok((name, size)),
            None => Ok((name, header.size)),
        }
    }
}

/// Reads a header block.
fn parse(block: &[u8; BLOCK_BYTES]) -> Result<Header, Error> {
    let stated = number(&block[148..156]).ok_or_else(|| damaged("a header's checksum is no number"))?;
    if stated != checksum(block) {
        return Err(damaged("a header's checksum is wrong"));
    }
    let size = number(&block[124..136]).ok_or_else(|| damaged("a header's size is no number"))?;
    let mut name = until_nul(&block[..100]).to_owned();
    // GNU's own format has other things where POSIX has the front of a long name.
    if &block[257..263] == b"ustar\0" && block[345] != 0 {
        name = [until_nul(&block[345..500]), b"/", &name].concat();
    }
    Ok(Header { kind: block[156], size, name })
}

/// The sum of all bytes, those of the sum itself as spaces.
fn checksum(block: &[u8; BLOCK_BYTES]) -> u64 {
    let sum = |bytes: &[u8]| bytes.iter().map(|byte| u64::from(*byte)).sum::<u64>();
    sum(&block[..148]) + 8 * u64::from(b' ') + sum(&block[156..])
}

/// Octal digits between blanks, or GNU's binary form; below 2^63.
fn number(field: &[u8]) -> Option<u64> {
    if field.first()? & 0x80 != 0 {
        // The first bit marks the form, the second would be the sign.
        let first = field.first().filter(|byte| **byte & 0x40 == 0)? & 0x3f;
        let rest = field
            .iter()
            .skip(1)
            .try_fold(u64::from(first), |value, byte| (value < 1 << 55).then(|| value << 8 | u64::from(*byte)));
        return rest.filter(|number| *number < 1 << 63);
    }
    let text = until_nul(field).trim_ascii();
    let digit = |value: u64, byte: &u8| matches!(byte, b'0'..=b'7').then(|| value << 3 | u64::from(byte - b'0'));
    text.iter().try_fold(0, digit)
}

fn until_nul(bytes: &[u8]) -> &[u8] {
    bytes.split(|byte| *byte == 0).next().unwrap_or(bytes)
}

/// Reads up to the next block.
fn skip_padding(from: &mut dyn Read, size: u64) -> Result<(), Error> {
    let block = wide(BLOCK_BYTES);
    let padding = usize::try_from(size.next_multiple_of(block) - size).map_err(|_| truncated())?;
    let mut rest = [0; BLOCK_BYTES];
    if read_full(from, &mut rest[..padding])? == padding { Ok(()) } else { Err(truncated()) }
}
