//! Reads archives: which names are archives, their members one after the other, every bound on them.
//!
//! In: an archive's bytes through an [`Input`]. Out: regular files to a [`Sink`], each with its size before its bytes.
//! Holds: pure; memory is bounded whatever the archive says of itself; a member's name is a [`SafePath`]; nothing but
//! regular files comes out, and what is refused is refused before its bytes are read.

mod caps;
mod decode;
mod kind;
mod pax;
mod tar;
mod zip;
mod zip_directory;

use std::io::{self, BufReader, Read};

use crate::error::{Error, storage};
use crate::manifest::SafePath;
use crate::manifest::path::shown;
use crate::verify::wide;

pub use caps::{BYTES_MAX, ENTRIES_MAX, RATIO_FLOOR_BYTES, RATIO_MAX};
pub use kind::Kind;

use caps::Caps;

/// Bytes read from the archive at once, and handed to the sink at once.
const BUFFER_BYTES: usize = 256 << 10;

/// The bytes of an archive, from any place.
pub trait Input {
    /// How many bytes there are.
    fn size(&self) -> u64;

    /// Reads some bytes at `offset` into `buffer`; 0 only at the end or for an empty buffer.
    ///
    /// # Errors
    /// The kernel's, or the reader's own reason to stop: it must remember that one.
    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<usize>;
}

/// Where members go: for each `begin`, then `write` until `size` bytes have come, then `end`.
pub trait Sink {
    /// A file of `size` bytes follows.
    ///
    /// # Errors
    /// The sink's; it ends the reading.
    fn begin(&mut self, path: SafePath, size: u64) -> Result<(), Error>;

    /// The next bytes of the file.
    ///
    /// # Errors
    /// The sink's; it ends the reading.
    fn write(&mut self, bytes: &[u8]) -> Result<(), Error>;

    /// The file is whole.
    ///
    /// # Errors
    /// The sink's; it ends the reading.
    fn end(&mut self) -> Result<(), Error>;
}

/// Hands every regular file of an archive to `sink`, in the order in which their bytes lie. Folders are checked and left out.
///
/// A tar may be packed by gzip, bzip2 or xz, whatever its name says: its first bytes tell.
/// The sink has to check that no two paths collide: only it holds them all.
///
/// # Errors
/// [`Error::Integrity`] for a damaged or truncated archive; [`Error::Policy`] for an unsafe name, a link, a device, a
/// packing that is not supported and a bound exceeded; [`Error::Storage`] when `input` fails; else the sink's.
pub fn unpack(kind: Kind, input: &mut dyn Input, sink: &mut dyn Sink) -> Result<(), Error> {
    let mut caps = Caps::new(input.size());
    match kind {
        Kind::Zip => zip::unpack(input, &mut caps, sink),
        Kind::Tar => {
            let mut reader = decode::decoder(BufReader::with_capacity(BUFFER_BYTES, Stream { input, offset: 0 }))?;
            tar::unpack(reader.as_mut(), &mut caps, sink)?;
            // To the end: only there a packing says whether what it held was whole.
            drain(reader.as_mut(), &mut caps)
        }
    }
}

/// An [`Input`] read from one end to the other.
struct Stream<'a> {
    input: &'a mut dyn Input,
    offset: u64,
}

impl Read for Stream<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.input.read_at(self.offset, buffer)?;
        self.offset += wide(read);
        Ok(read)
    }
}

/// Reads `size` bytes and hands them on.
fn copy(from: &mut dyn Read, size: u64, buffer: &mut [u8], sink: &mut dyn Sink) -> Result<(), Error> {
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
fn drain(from: &mut dyn Read, caps: &mut Caps) -> Result<(), Error> {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        match read_some(from, &mut buffer)? {
            0 => return Ok(()),
            read => caps.bytes(wide(read))?,
        }
    }
}

fn read_some(from: &mut dyn Read, buffer: &mut [u8]) -> Result<usize, Error> {
    loop {
        match from.read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            ended => return ended.map_err(|error| read_error(&error)),
        }
    }
}

/// Fills `buffer`; fewer bytes only at the end.
fn read_full(from: &mut dyn Read, buffer: &mut [u8]) -> Result<usize, Error> {
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
fn read_error(error: &io::Error) -> Error {
    if error.raw_os_error().is_some() {
        return storage("read the archive", error);
    }
    match error.kind() {
        io::ErrorKind::UnexpectedEof => truncated(),
        io::ErrorKind::OutOfMemory => {
            refused(&format!("it takes more than {} MiB of memory to unpack", decode::XZ_MEMORY_KIB_MAX >> 10))
        }
        // A filter or check that the decoder does not have.
        io::ErrorKind::Unsupported => refused("it is packed in a way that is not supported"),
        _ => damaged(&shown(&error.to_string())),
    }
}

fn truncated() -> Error {
    damaged("it ends too early")
}

fn damaged(why: &str) -> Error {
    Error::Integrity(format!("the archive is damaged: {why}"))
}

fn refused(why: &str) -> Error {
    Error::Policy(format!("the archive is refused: {why}"))
}

/// Refuses one member and names it.
fn refused_member(name: &[u8], why: &str) -> Error {
    refused(&format!("`{}` {why}", shown(&String::from_utf8_lossy(name))))
}

/// What a member's name leads to.
#[derive(Debug, PartialEq, Eq)]
enum Place {
    /// DEST itself (`./`).
    Root,
    /// A path below it.
    Below(SafePath),
}

/// Reads a member's name; `./` at its front means nothing, and so does `/` at the end of a folder's.
fn place(name: &[u8], folder: Folder) -> Result<Place, Error> {
    let text = std::str::from_utf8(name).map_err(|_| refused_member(name, "has a name that is not UTF-8"))?;
    let mut text = text;
    while let Some(rest) = text.strip_prefix("./") {
        text = rest;
    }
    if folder == Folder::Yes {
        text = text.strip_suffix('/').unwrap_or(text);
        if matches!(text, "" | ".") {
            return Ok(Place::Root);
        }
    }
    SafePath::parse(text).map(Place::Below).map_err(|error| refused(&error.to_string()))
}

/// Whether a member is a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Folder {
    Yes,
    No,
}

#[cfg(test)]
mod tests;
