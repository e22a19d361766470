//! Reads archives: which names are archives, their members one after the other, every bound on them.
//!
//! In: an archive's bytes through an [`Input`]. Out: regular files to a [`Sink`], each with its size before its bytes.
//! Holds: pure; memory is bounded whatever the archive says of itself; a member's name is a [`SafePath`]; nothing but
//! regular files comes out, and what is refused is refused before its bytes are read.

mod caps;
mod decode;
mod kind;
mod pax;
mod refusal;
mod stream;
mod tar;
mod zip;
mod zip_directory;

use std::io::{self, BufReader};

use crate::error::Error;
use crate::manifest::SafePath;

pub use caps::{BYTES_MAX, ENTRIES_MAX, RATIO_FLOOR_BYTES, RATIO_MAX};
pub use kind::Kind;

use caps::Caps;
use stream::Stream;

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
            let mut reader = decode::decoder(BufReader::with_capacity(BUFFER_BYTES, Stream::new(input, 0)))?;
            tar::unpack(reader.as_mut(), &mut caps, sink)?;
            // To the end: only there a packing says whether what it held was whole.
            stream::drain(reader.as_mut(), &mut caps)
        }
    }
}

#[cfg(test)]
mod tests;
