//! Text and JSON.

use std::io::{self, BufReader, Read};

use serde::de::IgnoredAny;

use super::Input;
use super::cursor::Cursor;

/// Whether the first `bytes_max` bytes are UTF-8 without control characters other than those that lay text out.
///
/// # Errors
/// The reader's.
pub(super) fn is_text(input: &mut dyn Input, bytes_max: u64) -> io::Result<bool> {
    let mut end = input.size();
    let mut cursor = Cursor::new(input, 0);
    let mut kept: Vec<u8> = Vec::new();
    while cursor.at() < bytes_max {
        let ahead = cursor.ahead()?;
        if ahead.is_empty() {
            break;
        }
        kept.extend_from_slice(ahead);
        let len = u64::try_from(ahead.len()).map_err(io::Error::other)?;
        cursor.skip(len);
        let whole = match std::str::from_utf8(&kept) {
            Ok(text) => text.len(),
            // A character that the next bytes may complete.
            Err(error) if error.error_len().is_none() => error.valid_up_to(),
            Err(_) => return Ok(false),
        };
        if kept[..whole].iter().any(|byte| byte.is_ascii_control() && !b"\t\n\x0b\x0c\r\x1b".contains(byte)) {
            return Ok(false);
        }
        kept.drain(..whole);
    }
    // Only where there is more to come may a character be cut.
    end = end.min(bytes_max);
    Ok(kept.is_empty() || cursor.at() < end || bytes_max <= cursor.at())
}

/// Whether all of it is JSON: an object or a list, or several values in a row, as JSON lines are.
///
/// # Errors
/// The reader's.
pub(super) fn is_json(input: &mut dyn Input) -> io::Result<bool> {
    let first = begins(input)?;
    let shallow = Shallow { inner: Cursor::new(input, 0), depth: 0, text: false, escaped: false };
    let values = serde_json::Deserializer::from_reader(BufReader::new(shallow)).into_iter::<IgnoredAny>();
    if !matches!(first, Some(b'{' | b'[')) {
        return Ok(false);
    }
    for value in values {
        match value {
            Ok(_) => {}
            Err(error) if error.io_error_kind() == Some(io::ErrorKind::InvalidData) => return Ok(false),
            Err(error) if error.is_io() => return Err(error.into()),
            Err(_) => return Ok(false),
        }
    }
    Ok(true)
}

/// Levels of lists and objects in JSON that is taken for some: the parser remembers each that is open.
const DEPTH_MAX: u32 = 1024;

/// JSON on its way to the parser, refused where it nests too deep.
struct Shallow<R> {
    inner: R,
    depth: u32,
    /// Within a text, where brackets are none.
    text: bool,
    escaped: bool,
}

impl<R: Read> Read for Shallow<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        for byte in &buffer[..read] {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' if self.text => self.escaped = true,
                b'"' => self.text = !self.text,
                b'[' | b'{' if !self.text => self.depth += 1,
                b']' | b'}' if !self.text => self.depth = self.depth.saturating_sub(1),
                _ => {}
            }
            if DEPTH_MAX < self.depth {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "nested too deep"));
            }
        }
        Ok(read)
    }
}

/// The first byte that is no white space.
pub(super) fn begins(input: &mut dyn Input) -> io::Result<Option<u8>> {
    let mut cursor = Cursor::new(input, 0);
    loop {
        match cursor.byte()? {
            Some(b' ' | b'\t' | b'\r' | b'\n') => {}
            other => return Ok(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::cursor::Head;
    use crate::verify::wide;

    fn head(bytes: &[u8]) -> Head<'_> {
        Head { bytes, size: wide(bytes.len()) }
    }

    #[test]
    fn text_is_utf_8_without_control_characters() {
        let long = "ü".repeat(100_000);
        for (bytes, text) in [
            (&b"plain\r\n\ttext"[..], true),
            ("größe 大 🤗".as_bytes(), true),
            (long.as_bytes(), true),
            (&long.as_bytes()[..long.len() - 1], false),
            (b"a\0b", false),
            (b"a\x07b", false),
            (b"\x7f", false),
            (b"caf\xe9", false),
            (b"\xff\xfea\0", false),
        ] {
            assert_eq!(
                is_text(&mut head(bytes), u64::MAX).unwrap(),
                text,
                "{}",
                bytes[..bytes.len().min(20)].escape_ascii()
            );
        }
        let cut = Head { bytes: &long.as_bytes()[..99_999], size: 200_000 };
        assert!(is_text(&mut { cut }, 1 << 20).unwrap(), "the head of more to come");
    }

    #[test]
    fn json_is_read_to_its_end() {
        for (bytes, json) in [
            (&b"{\"a\": [1, 2.5, null]}\n"[..], true),
            (b"{\"a\": 1}\n{\"a\": 2}\n", true),
            (b"  []", true),
            (b"{\"a\": 1} trailing", false),
            (b"{\"a\": 1", false),
            (b"{% if x %}", false),
            (b"plain", false),
            (b"1", false),
            (b"", false),
        ] {
            assert_eq!(is_json(&mut head(bytes)).unwrap(), json, "{}", bytes.escape_ascii());
        }
        let deep = "[".repeat(1 << 20);
        assert!(!is_json(&mut head(deep.as_bytes())).unwrap());
    }

    #[test]
    fn json_may_nest_a_thousand_levels_and_not_without_end() {
        let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        let most = usize::try_from(DEPTH_MAX).unwrap();
        for (text, json) in [
            (nested(most), true),
            (nested(most + 1), false),
            (format!("[{}]", vec!["[]"; 5000].join(",")), true),
            (format!(r#"{{"a\"[": "{}"}}"#, "[".repeat(5000)), true),
        ] {
            assert_eq!(is_json(&mut head(text.as_bytes())).unwrap(), json, "{}", &text[..20]);
        }
    }
}
