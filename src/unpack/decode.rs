//! What a tar is packed by: found by its first bytes, undone as a stream.

use std::io::{self, BufRead, BufReader, Read};

use bzip2::bufread::MultiBzDecoder;
use flate2::bufread::GzDecoder;
use lzma_rust2::XzReader;

use super::stream::{Stream, read_error};
use crate::error::Error;

/// Memory of an xz decoder: `xz -9` needs 65 MiB. More would not fit beside the rest into the 96 MiB of a small pod.
pub(super) const XZ_MEMORY_KIB_MAX: u32 = 68 << 10;

/// A packed stream as this module reads it.
type Packed<'a> = BufReader<Stream<'a>>;

/// The tar inside `packed`.
pub(super) fn decoder(mut packed: Packed<'_>) -> Result<Box<dyn Read + '_>, Error> {
    let head = packed.fill_buf().map_err(|error| read_error(&error))?;
    Ok(match head {
        [0x1f, 0x8b, ..] => Box::new(Gzip { member: Some(GzDecoder::new(packed)) }),
        [b'B', b'Z', b'h', b'1'..=b'9', ..] => Box::new(MultiBzDecoder::new(packed)),
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Box::new(XzReader::new_mem_limit(packed, true, XZ_MEMORY_KIB_MAX)),
        _ => Box::new(packed),
    })
}

/// A gzip of any number of members, with zeros behind the last as tapes leave them. Anything else there is damage.
struct Gzip<'a> {
    /// `None` behind the last.
    member: Option<GzDecoder<Packed<'a>>>,
}

impl Read for Gzip<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while let Some(mut member) = self.member.take() {
            let read = member.read(buffer)?;
            if 0 < read || buffer.is_empty() {
                self.member = Some(member);
                return Ok(read);
            }
            let mut rest = member.into_inner();
            if skip_zeros(&mut rest)? == Rest::Something {
                self.member = Some(GzDecoder::new(rest));
            }
        }
        Ok(0)
    }
}

#[derive(PartialEq, Eq)]
enum Rest {
    Nothing,
    Something,
}

fn skip_zeros(from: &mut impl BufRead) -> io::Result<Rest> {
    loop {
        let buffer = from.fill_buf()?;
        if buffer.is_empty() {
            return Ok(Rest::Nothing);
        }
        let zeros = buffer.iter().take_while(|byte| **byte == 0).count();
        let more = zeros < buffer.len();
        from.consume(zeros);
        if more {
            return Ok(Rest::Something);
        }
    }
}
