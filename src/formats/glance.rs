//! The first look: what a file is by the marks that formats begin with.

use std::io::{self, Read};

use super::cursor::{Cursor, Head};
use super::safetensors::{HEADER_BYTES_MAX, LENGTH_BYTES};
use super::{Content, Format, Input, numpy, pickle, protobuf, tail, text};
use crate::verify::wide;

/// Bytes looked at: more than any mark is behind.
pub(super) const HEAD_BYTES: usize = 64 << 10;

/// Memory to look into an xz: what `xz -9` needs, as for archives.
const XZ_MEMORY_KIB_MAX: u32 = 68 << 10;

const TAR_BYTES: usize = 512;
const HDF5: &[u8] = b"\x89HDF\r\n\x1a\n";

/// What `input` is taken for. Everything it may be named for is still to be checked in the whole file.
///
/// # Errors
/// The reader's.
pub(super) fn glance(input: &mut dyn Input) -> io::Result<Content> {
    let size = input.size();
    if size == 0 {
        return Ok(Content::Empty);
    }
    // Whatever else it is: to `pickle.load` it is a program.
    if pickle::is_pickle(&mut Cursor::new(input, 0), size)? {
        return Ok(Content::Pickle("a pickle"));
    }
    let head = tail::read(input, 0, HEAD_BYTES)?;
    if let Some(content) = marked(&head, size)? {
        return Ok(content);
    }
    if text::is_text(input, wide(HEAD_BYTES))? {
        return Ok(Content::Textual);
    }
    Ok(protobuf::format(input)?.map_or(Content::Other("of no format that is known here"), Content::Is))
}

/// What the marks in `head` say.
fn marked(head: &[u8], size: u64) -> io::Result<Option<Content>> {
    if is_safetensors(head, size) {
        return Ok(Some(Content::Is(Format::Safetensors)));
    }
    if let Some(packing) = Packing::of(head) {
        return Ok(Some(packed(packing, head)?));
    }
    let content = if head.starts_with(b"GGUF") {
        if is_gguf(head, size) { Content::Is(Format::Gguf) } else { Content::Other("a broken GGUF") }
    } else if head.starts_with(b"PK\x03\x04") || head.starts_with(b"PK\x05\x06") {
        // PyTorch's own file, by the name of its first member; any other with a pickle needs a look at all of them.
        let torch = first_name(head).is_some_and(|name| name.ends_with(b"data.pkl"));
        if torch { Content::Pickle("a PyTorch archive (a zip with a pickle)") } else { Content::Is(Format::Zip) }
    } else if head.starts_with(numpy::MAGIC) {
        let objects = numpy::may_hold_objects(head);
        let pickled = Content::Pickle("a NumPy array that may hold Python objects, which are pickled");
        if objects { pickled } else { Content::Is(Format::Numpy) }
    } else if [0, 512, 1024, 2048, 4096, 8192, 16384, 32768].iter().any(|at| starts_at(head, *at, HDF5)) {
        Content::Is(Format::Hdf5)
    } else if is_tar(head) {
        Content::Is(Format::Tar)
    } else if head.starts_with(b"7z\xbc\xaf\x27\x1c") || head.starts_with(b"Rar!") {
        Content::Other("an archive of a kind that is not known here")
    } else {
        return Ok(None);
    };
    Ok(Some(content))
}

/// How a file is packed as a stream.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Packing {
    Gzip,
    Zlib,
    Bzip2,
    Xz,
    Lz4,
    Zstd,
}

impl Packing {
    fn of(head: &[u8]) -> Option<Self> {
        Some(match head {
            [0x1f, 0x8b, ..] => Self::Gzip,
            // `x^` may begin a text; the stream behind it is none.
            [0x78, 0x01 | 0x5e | 0x9c | 0xda, ..] if std::str::from_utf8(head).is_err() => Self::Zlib,
            [b'B', b'Z', b'h', b'1'..=b'9', ..] => Self::Bzip2,
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Self::Xz,
            [0x04, 0x22, 0x4d, 0x18, ..] => Self::Lz4,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Self::Zstd,
            _ => return None,
        })
    }
}

/// What a packed file is taken for: a pickle, as joblib packs them, or what only packs.
fn packed(packing: Packing, head: &[u8]) -> io::Result<Content> {
    let inner = match packing {
        Packing::Gzip => unpacked(flate2::bufread::MultiGzDecoder::new(head)),
        Packing::Zlib => unpacked(flate2::bufread::ZlibDecoder::new(head)),
        Packing::Bzip2 => unpacked(bzip2::bufread::MultiBzDecoder::new(head)),
        Packing::Xz => unpacked(lzma_rust2::XzReader::new_mem_limit(head, true, XZ_MEMORY_KIB_MAX)),
        Packing::Lz4 | Packing::Zstd => Vec::new(),
    };
    let size = wide(inner.len());
    let mut inner = Head { bytes: &inner, size };
    if pickle::is_pickle(&mut Cursor::new(&mut inner, 0), size)? {
        return Ok(Content::Pickle("a pickle that is packed (as joblib does)"));
    }
    Ok(match packing {
        Packing::Gzip => Content::Is(Format::Gzip),
        Packing::Zlib => Content::Other("packed by zlib"),
        Packing::Bzip2 => Content::Other("packed by bzip2"),
        Packing::Xz => Content::Other("packed by xz"),
        Packing::Lz4 => Content::Other("packed by lz4"),
        Packing::Zstd => Content::Other("packed by zstd"),
    })
}

/// The first bytes that come out of `decoder`; what breaks off is what there is.
pub(super) fn unpacked(mut decoder: impl Read) -> Vec<u8> {
    let mut bytes = vec![0; HEAD_BYTES];
    let mut done = 0;
    while done < bytes.len() {
        match decoder.read(&mut bytes[done..]) {
            Ok(0) | Err(_) => break,
            Ok(read) => done += read,
        }
    }
    bytes.truncate(done);
    bytes
}

fn is_safetensors(head: &[u8], size: u64) -> bool {
    let Some((length, rest)) = head.split_first_chunk::<8>() else { return false };
    let length = u64::from_le_bytes(*length);
    rest.first() == Some(&b'{') && length <= HEADER_BYTES_MAX && LENGTH_BYTES + length <= size
}

/// A version that exists, and no more tensors and keys than the file has room for.
fn is_gguf(head: &[u8], size: u64) -> bool {
    const KEY_BYTES_MIN: u64 = 8 + 4 + 1;
    const TENSOR_BYTES_MIN: u64 = 8 + 4 + 4 + 8;
    let Some(fields) = head.get(4..24) else { return false };
    let word = |at: usize| fields[at..at + 4].try_into().map(u32::from_le_bytes).unwrap_or(u32::MAX);
    let long = |at: usize| fields[at..at + 8].try_into().unwrap_or([0xff; 8]);
    // The version tells the order of bytes: nobody writes the ten-millionth.
    let (version, tensors, keys) = match word(0) {
        1 => (1, u64::from(word(4)), u64::from(word(8))),
        version @ 2..=3 => (version, u64::from_le_bytes(long(4)), u64::from_le_bytes(long(12))),
        version => (version.swap_bytes(), u64::from_be_bytes(long(4)), u64::from_be_bytes(long(12))),
    };
    let bytes = tensors.checked_mul(TENSOR_BYTES_MIN).zip(keys.checked_mul(KEY_BYTES_MIN));
    (1..=3).contains(&version) && bytes.and_then(|(one, two)| one.checked_add(two)).is_some_and(|bytes| bytes <= size)
}

/// The first header's own sum (POSIX ustar; the older forms have it too), as readers take it: of bytes with or without
/// a sign, written in octal digits or, in GNU's form, in binary behind a byte 0x80.
pub(super) fn is_tar(head: &[u8]) -> bool {
    let Some(header) = head.get(..TAR_BYTES).filter(|header| header[0] != 0) else { return false };
    let stated = match &header[148..156] {
        [0x80, binary @ ..] => {
            binary.iter().try_fold(0_i64, |sum, byte| sum.checked_mul(256)?.checked_add((*byte).into()))
        }
        octal => {
            let digits: Vec<u8> = octal.iter().copied().filter(u8::is_ascii_digit).collect();
            std::str::from_utf8(&digits).ok().and_then(|digits| i64::from_str_radix(digits, 8).ok())
        }
    };
    let spaces = 8 * i64::from(b' ');
    let bytes = || header[..148].iter().chain(&header[156..]);
    let unsigned = bytes().map(|byte| i64::from(*byte)).sum::<i64>() + spaces;
    let signed = bytes().map(|byte| i64::from(byte.cast_signed())).sum::<i64>() + spaces;
    stated.is_some_and(|stated| stated == unsigned || stated == signed)
}

fn starts_at(head: &[u8], at: usize, mark: &[u8]) -> bool {
    head.get(at..).is_some_and(|rest| rest.starts_with(mark))
}

/// The name of a zip's first member (APPNOTE 4.3.7).
fn first_name(head: &[u8]) -> Option<&[u8]> {
    let length = usize::from(u16::from_le_bytes(head.get(26..28)?.try_into().ok()?));
    head.get(30..30 + length)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A header of a tar whose name is `name`, with its sum written by `write`.
    fn header(name: &[u8], signed: bool, write: fn(i64) -> Vec<u8>) -> Vec<u8> {
        let mut header = vec![0; TAR_BYTES];
        header[..name.len()].copy_from_slice(name);
        header[148..156].fill(b' ');
        let value = |byte: &u8| if signed { i64::from(byte.cast_signed()) } else { i64::from(*byte) };
        let sum = write(header.iter().map(value).sum());
        header[148..148 + sum.len()].copy_from_slice(&sum);
        header
    }

    #[test]
    fn a_tar_is_known_by_every_form_of_its_sum() {
        let octal: fn(i64) -> Vec<u8> = |sum| format!("{sum:06o}\0 ").into_bytes();
        let binary: fn(i64) -> Vec<u8> = |sum| {
            let mut bytes = sum.to_be_bytes().to_vec();
            bytes[0] = 0x80;
            bytes
        };
        for (name, signed, write) in [
            (&b"pickle"[..], false, octal),
            ("schl\u{fc}ssel".as_bytes(), false, octal),
            ("schl\u{fc}ssel".as_bytes(), true, octal),
            (b"pickle", false, binary),
        ] {
            let mut header = header(name, signed, write);
            assert!(is_tar(&header), "{name:?}");
            header[0] ^= 1;
            assert!(!is_tar(&header), "{name:?}");
        }
        assert!(!is_tar(&[b'a'; TAR_BYTES]) && !is_tar(b"short"));
    }
}
