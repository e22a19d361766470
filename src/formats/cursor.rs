//! A place in an [`Input`] that moves forward: bytes, lines, jumps.
//!
//! Holds: one buffer of a fixed size; a jump costs nothing.

use std::io::{self, Read};

use super::Input;

/// Bytes read at once.
const BUFFER_BYTES: usize = 64 << 10;

/// Reads an input from some place on.
pub(super) struct Cursor<'a> {
    input: &'a mut dyn Input,
    at: u64,
    buffer: Vec<u8>,
    /// What of the input is in the buffer begins here.
    start: u64,
    len: usize,
}

impl<'a> Cursor<'a> {
    /// A cursor at byte `at`.
    pub(super) fn new(input: &'a mut dyn Input, at: u64) -> Self {
        Self { input, at, buffer: vec![0; BUFFER_BYTES], start: 0, len: 0 }
    }

    /// Where it is, in bytes from the start.
    pub(super) fn at(&self) -> u64 {
        self.at
    }

    /// The bytes from here on that need no further read; empty at the end.
    pub(super) fn ahead(&mut self) -> io::Result<&[u8]> {
        let inside = self.at.checked_sub(self.start).and_then(|skip| usize::try_from(skip).ok());
        let skip = match inside.filter(|skip| *skip < self.len) {
            Some(skip) => skip,
            None => {
                (self.start, self.len) = (self.at, 0);
                self.len = self.input.read_at(self.at, &mut self.buffer)?;
                0
            }
        };
        Ok(&self.buffer[skip..self.len])
    }

    /// The next byte; `None` at the end.
    pub(super) fn byte(&mut self) -> io::Result<Option<u8>> {
        let byte = self.ahead()?.first().copied();
        self.at += u64::from(byte.is_some());
        Ok(byte)
    }

    /// The next `N` bytes; `None` when fewer are left.
    pub(super) fn array<const N: usize>(&mut self) -> io::Result<Option<[u8; N]>> {
        let mut bytes = [0; N];
        for place in &mut bytes {
            let Some(byte) = self.byte()? else { return Ok(None) };
            *place = byte;
        }
        Ok(Some(bytes))
    }

    /// Moves `count` bytes on; whether that is not beyond the end.
    pub(super) fn skip(&mut self, count: u64) -> bool {
        self.at = self.at.saturating_add(count);
        self.at <= self.input.size()
    }
}

impl Read for Cursor<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let ahead = self.ahead()?;
        let count = ahead.len().min(buffer.len());
        buffer[..count].copy_from_slice(&ahead[..count]);
        self.at += u64::try_from(count).map_err(io::Error::other)?;
        Ok(count)
    }
}

/// The first bytes of something longer, or all of something short.
pub(super) struct Head<'a> {
    pub(super) bytes: &'a [u8],
    /// How long the whole is said to be.
    pub(super) size: u64,
}

impl Input for Head<'_> {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let from = usize::try_from(offset).map_or(self.bytes.len(), |from| from.min(self.bytes.len()));
        let count = buffer.len().min(self.bytes.len() - from);
        buffer[..count].copy_from_slice(&self.bytes[from..from + count]);
        Ok(count)
    }
}
