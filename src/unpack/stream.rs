//! Reading: an input as a stream, whole buffers of it, and what its errors mean.

use std::io::{self, Read};

use super::caps::Caps;
use super::decode::XZ_MEMORY_KIB_MAX;
use super::refusal::{damaged, refused, truncated};
use super::{BUFFER_BYTES, Input, Sink};
use crate::error::{Error, storage};
use crate::manifest::path::shown;
use crate::verify::wide;

/// An [`Input`] read from one end to the other.
pub(super) struct Stream<'a> {
    input: &'a mut dyn Input,
    offset: u64,
}

impl<'a> Stream<'a> {
    /// Begins at `offset`.
    pub(super) fn new(input: &'a mut dyn Input, offset: u64) -> Self {
        Self { input, offset }
    }
}

impl Read for Stream<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.input.read_at(self.offset, buffer)?;
        self.offset += wide(read);
        Ok(read)
    }
}

/// Reads `size` bytes and hands them on.
pub(super) fn copy(from: &mut dyn Read, size: u64, buffer: &mut [u8], sink: &mut dyn Sink) -> Result<(), Error> {
    let mut left = size;
    while 0 < left {
        let want = usize::try_from(left).map_or(buffer.len(), |left| left.min(buffer.len()));
        match read_some(from, &mut buffer[..want])? {
            0 => return Err(truncated()),
            read => {
                sink.write(&buffer[..read])?;
                left -= wide(read);
            }
        }
    }
    Ok(())
}

/// Reads what follows the archive's end; it counts as unpacked.
pub(super) fn drain(from: &mut dyn Read, caps: &mut Caps) -> Result<(), Error> {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        match read_some(from, &mut buffer)? {
            0 => return Ok(()),
            read => caps.bytes(wide(read))?,
        }
    }
}

pub(super) fn read_some(from: &mut dyn Read, buffer: &mut [u8]) -> Result<usize, Error> {
    loop {
        match from.read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            ended => return ended.map_err(|error| read_error(&error)),
        }
    }
}

/// Fills `buffer`; fewer bytes only at the end.
pub(super) fn read_full(from: &mut dyn Read, buffer: &mut [u8]) -> Result<usize, Error> {
    let mut filled = 0;
    while filled < buffer.len() {
        match read_some(from, &mut buffer[filled..])? {
            0 => break,
            read => filled += read,
        }
    }
    Ok(filled)
}

/// What an error of a decoder, or of the input beneath it, means.
pub(super) fn read_error(error: &io::Error) -> Error {
    if error.raw_os_error().is_some() {
        return storage("read the archive", error);
    }
    match error.kind() {
        io::ErrorKind::UnexpectedEof => truncated(),
        io::ErrorKind::OutOfMemory => {
            refused(&format!("it takes more than {} MiB of memory to unpack", XZ_MEMORY_KIB_MAX >> 10))
        }
        // A filter or check that the decoder does not have.
        io::ErrorKind::Unsupported => refused("it is packed in a way that is not supported"),
        _ => damaged(&shown(&error.to_string())),
    }
}
