//! The header of a `.npy` file: an array of objects is a pickle behind it.

/// What every one begins with.
pub(super) const MAGIC: &[u8] = b"\x93NUMPY";

/// Whether the array at the start of `head` may hold Python objects. What cannot be read counts as if it does.
///
/// The header is a Python literal, in which one type can be spelt in many ways: `'|O'`, `'object'`, `'O,f4'`, with
/// escapes, in pieces. No type of numbers has a capital O, `object` or a backslash, so any of them suffices.
pub(super) fn may_hold_objects(head: &[u8]) -> bool {
    let length = match head.get(6) {
        Some(1) => head.get(8..10).map(|bytes| usize::from(u16::from_le_bytes([bytes[0], bytes[1]])) + 10),
        Some(2 | 3) => head
            .get(8..12)
            .and_then(|bytes| usize::try_from(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])).ok())
            .and_then(|length| length.checked_add(12)),
        _ => None,
    };
    let Some(header) = length.and_then(|end| head.get(10..end)) else { return true };
    let spelt = |word: &[u8]| header.windows(word.len()).any(|there| there.eq_ignore_ascii_case(word));
    header.contains(&b'O') || header.contains(&b'\\') || spelt(b"object")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn array(major: u8, descr: &str) -> Vec<u8> {
        let header = format!("{{'descr': {descr}, 'fortran_order': False, 'shape': (3,), }}\n");
        let mut bytes = [MAGIC, &[major, 0]].concat();
        match major {
            1 => bytes.extend_from_slice(&u16::try_from(header.len()).unwrap().to_le_bytes()),
            _ => bytes.extend_from_slice(&u32::try_from(header.len()).unwrap().to_le_bytes()),
        }
        [bytes, header.into_bytes()].concat()
    }

    #[test]
    fn only_arrays_of_plain_numbers_hold_no_objects() {
        for (descr, objects) in [
            ("'<f4'", false),
            ("'|S10'", false),
            ("[('a', '<i8'), ('b', '|u1')]", false),
            ("'|O'", true),
            ("'O'", true),
            ("\"|O8\"", true),
            ("'|' 'O'", true),
            ("'\\x4f'", true),
            ("'object'", true),
            ("[('a', '<i8'), ('b', '|O')]", true),
        ] {
            for major in [1, 2, 3] {
                assert_eq!(may_hold_objects(&array(major, descr)), objects, "{descr} {major}");
            }
        }
        for bytes in
            [MAGIC, b"\x93NUMPY\x09\x00\x10\x00", &array(1, "'<f4'")[..30], b"\x93NUMPY\x02\x00\xff\xff\xff\xff"]
        {
            assert!(may_hold_objects(bytes));
        }
    }
}
