//! Two formats without a mark: ONNX and SentencePiece models are bare protobuf messages, known by their fields alone.
//!
//! Holds: every field of the outermost message is looked at, up to the last byte of the file.

use std::io;

use super::cursor::Cursor;
use super::{Format, Input};

/// Fields of one message looked at: the largest vocabularies have 300,000 pieces, one field each.
const FIELDS_MAX: u32 = 1 << 21;

/// What is known of the fields of one kind of message.
struct Shape {
    format: Format,
    /// Field numbers that hold a number.
    numbers: &'static [u64],
    /// Field numbers that hold bytes: texts and messages.
    bytes: &'static [u64],
    /// Fields of which all must be there.
    needs: &'static [u64],
}

/// `onnx.ModelProto` (`onnx/onnx.proto`): `ir_version` and `graph` at least.
const ONNX: Shape =
    Shape { format: Format::Onnx, numbers: &[1, 5], bytes: &[2, 3, 4, 6, 7, 8, 14, 20, 25, 26], needs: &[1, 7] };

/// `sentencepiece.ModelProto` (`sentencepiece_model.proto`): pieces and the trainer's settings at least.
const SENTENCEPIECE: Shape =
    Shape { format: Format::Sentencepiece, numbers: &[], bytes: &[1, 2, 3, 4, 5], needs: &[1, 2] };

/// Which of the two `input` is.
///
/// # Errors
/// The reader's.
pub(super) fn format(input: &mut dyn Input) -> io::Result<Option<Format>> {
    for shape in [ONNX, SENTENCEPIECE] {
        if fits(input, &shape)? {
            return Ok(Some(shape.format));
        }
    }
    Ok(None)
}

fn fits(input: &mut dyn Input, shape: &Shape) -> io::Result<bool> {
    let size = input.size();
    let mut cursor = Cursor::new(input, 0);
    let mut seen = [false; 32];
    for _ in 0..FIELDS_MAX {
        if cursor.at() == size {
            return Ok(shape.needs.iter().all(|field| usize::try_from(*field).is_ok_and(|field| seen[field])));
        }
        let Some(key) = varint(&mut cursor)? else { return Ok(false) };
        let (field, kind) = (key >> 3, key & 7);
        let read = match kind {
            0 if shape.numbers.contains(&field) => varint(&mut cursor)?.is_some(),
            2 if shape.bytes.contains(&field) => match varint(&mut cursor)? {
                Some(length) => cursor.skip(length),
                None => false,
            },
            _ => false,
        };
        if !read {
            return Ok(false);
        }
        if let Some(place) = usize::try_from(field).ok().and_then(|field| seen.get_mut(field)) {
            *place = true;
        }
    }
    Ok(false)
}

/// A number in groups of seven bits; `None` for one that is cut or too long.
fn varint(cursor: &mut Cursor<'_>) -> io::Result<Option<u64>> {
    let mut value = 0;
    for place in 0..10 {
        let Some(byte) = cursor.byte()? else { return Ok(None) };
        value |= u64::from(byte & 0x7f).checked_shl(7 * place).unwrap_or(0);
        if byte & 0x80 == 0 {
            return Ok(Some(value));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::cursor::Head;
    use crate::verify::wide;

    fn check(bytes: &[u8]) -> Option<Format> {
        format(&mut Head { bytes, size: wide(bytes.len()) }).unwrap()
    }

    #[test]
    fn messages_are_known_by_their_fields() {
        let onnx = b"\x08\x08\x12\x07pytorch\x3a\x03\x0a\x01x\x42\x04\x0a\x00\x10\x11";
        let pieces = b"\x0a\x0e\x0a\x05<unk>\x15\x00\x00\x00\x00\x18\x02\x0a\x03\x0a\x01a\x12\x02\x18\x01\x1a\x00";
        assert_eq!(check(onnx), Some(Format::Onnx));
        assert_eq!(check(pieces), Some(Format::Sentencepiece));
        for other in [
            &onnx[..onnx.len() - 1],
            &pieces[..pieces.len() - 1],
            &[&onnx[..], b"\x80\x02}."].concat(),
            b"\x08\x08\x12\x07pytorch",
            b"\x0a\x01a",
            b"\x08",
            b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
            b"",
        ] {
            assert_eq!(check(other), None, "{}", other.escape_ascii());
        }
    }
}
