//! A zip is read from its end: whatever a file begins with, one that ends as a zip is a zip to whoever opens it as one.

use std::io;

use super::Input;
use crate::verify::wide;

/// Bytes of the record that ends a zip, and of the longest comment behind it (APPNOTE 4.3.16).
const END_BYTES: usize = 22;
const COMMENT_BYTES_MAX: usize = 0xffff;

const END: &[u8] = b"PK\x05\x06";
const ENTRY: [u8; 4] = *b"PK\x01\x02";
const LOCATOR: [u8; 4] = *b"PK\x06\x07";

/// Ends that are looked behind. Each costs a few reads far apart; an honest file has one, and a text about zips a few.
const ENDS_MAX: usize = 64;

/// Bytes of the locator of a zip64's end, which stands right before the end.
const LOCATOR_BYTES: u64 = 20;

/// Whether the end of `input` leads to members of a zip.
///
/// # Errors
/// The reader's.
pub(super) fn ends_as_zip(input: &mut dyn Input) -> io::Result<bool> {
    let size = input.size();
    let start = size.saturating_sub(wide(END_BYTES + COMMENT_BYTES_MAX));
    let tail = read(input, start, usize::try_from(size - start).map_err(io::Error::other)?)?;
    let ends = (0..tail.len().saturating_sub(END_BYTES - 1)).filter(|at| tail[*at..].starts_with(END));
    for (number, at) in ends.enumerate() {
        if ENDS_MAX <= number {
            // So many are no accident.
            return Ok(true);
        }
        let number = |from: usize| {
            let bytes = tail[at + from..at + from + 4].try_into().unwrap_or([0; 4]);
            u64::from(u32::from_le_bytes(bytes))
        };
        let (directory_bytes, directory_at) = (number(12), number(16));
        let end = start + wide(at);
        let before = |back: u64| end.checked_sub(back);
        // Where readers look: as far before the end as it is long, or where it says that it is.
        let places = [before(directory_bytes).filter(|_| 0 < directory_bytes), Some(directory_at)];
        for place in places.into_iter().flatten() {
            if has(input, place, &ENTRY)? {
                return Ok(true);
            }
        }
        if let Some(place) = before(LOCATOR_BYTES)
            && has(input, place, &LOCATOR)?
        {
            return Ok(true);
        }
    }
    Ok(false)
}

fn has(input: &mut dyn Input, at: u64, mark: &[u8; 4]) -> io::Result<bool> {
    Ok(read(input, at, mark.len())? == mark)
}

/// `len` bytes at `at`, or fewer at the end.
pub(super) fn read(input: &mut dyn Input, at: u64, len: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; len];
    let mut done = 0;
    while done < len {
        let read = input.read_at(at.saturating_add(wide(done)), &mut bytes[done..])?;
        if read == 0 {
            break;
        }
        done += read;
    }
    bytes.truncate(done);
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::cursor::Head;

    /// An end that leads nowhere: its directory would be far behind it.
    const FALSE_END: &[u8; END_BYTES] = b"PK\x05\x06\0\0\0\0\0\0\0\0\xff\xff\xff\x7f\xff\xff\xff\x7f\0\0";

    #[test]
    fn a_few_false_ends_are_chance_and_many_are_none() {
        for (count, zip) in [(0, false), (1, false), (ENDS_MAX, false), (ENDS_MAX + 1, true)] {
            let bytes = FALSE_END.repeat(count);
            let mut head = Head { bytes: &bytes, size: wide(bytes.len()) };
            assert_eq!(ends_as_zip(&mut head).unwrap(), zip, "{count} ends");
        }
    }
}
