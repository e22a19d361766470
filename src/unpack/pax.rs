//! Extended headers of a tar (pax): `length key=value` records, of which a few matter.

use super::refusal::{damaged, refused};
use crate::error::Error;

/// What a pax header says that matters here.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Pax {
    /// The member's name.
    pub(super) path: Option<Vec<u8>>,
    /// Its size in bytes.
    pub(super) size: Option<u64>,
}

/// Reads the records of one extended header.
///
/// # Errors
/// [`Error::Integrity`] for records that are none, [`Error::Policy`] for a sparse file or a key given twice.
pub(super) fn parse(mut rest: &[u8]) -> Result<Pax, Error> {
    let mut pax = Pax::default();
    while !rest.is_empty() {
        let (key, value, after) = record(rest).ok_or_else(|| damaged("an extended header is none"))?;
        rest = after;
        let twice = match key {
            b"path" => pax.path.replace(value.to_owned()).is_some(),
            b"size" => {
                let size = number(value).ok_or_else(|| damaged("an extended header's size is no number"))?;
                pax.size.replace(size).is_some()
            }
            key if key.starts_with(b"GNU.sparse.") => return Err(refused("it has a sparse file")),
            _ => false,
        };
        if twice {
            return Err(refused("an extended header says something twice"));
        }
    }
    Ok(pax)
}

/// Key and value of the first record, and what follows it.
fn record(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = bytes.iter().take(20).position(|byte| *byte == b' ')?;
    let len = usize::try_from(number(&bytes[..space])?).ok()?;
    let (whole, after) = bytes.split_at_checked(len)?;
    let record = whole.get(space + 1..)?.strip_suffix(b"\n")?;
    let equals = record.iter().position(|byte| *byte == b'=')?;
    let (key, value) = record.split_at(equals);
    (!key.is_empty()).then_some((key, &value[1..], after))
}

/// Decimal digits and nothing else, below 2^63.
fn number(text: &[u8]) -> Option<u64> {
    let digits = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    let text = std::str::from_utf8(text).ok().filter(|_| digits)?;
    text.parse().ok().filter(|number| *number < 1 << 63)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_that_matter_are_read_and_others_passed_over() {
        let pax = parse(b"30 mtime=1350244992.023960108\n13 path=ab=c\n19 size=8589934592\n6 x=1\n").unwrap();
        assert_eq!(pax, Pax { path: Some(b"ab=c".to_vec()), size: Some(8_589_934_592) });
        assert_eq!(parse(b"").unwrap(), Pax::default());
    }

    #[test]
    fn records_that_are_none_are_damage_or_refused() {
        for bad in [
            &b"x"[..],
            b"5 a=b",
            b"999999999999999999999999 a=b\n",
            b"0 a=b\n",
            b"3 \n",
            b"5 =b\n",
            b"6 abc\n",
            b"-6 a=b\n",
            b"9 size=x\n",
            b"10 size=-1\n",
            b"28 size=9223372036854775808\n",
            b"7 a=b",
            b"8 path=a\n",
        ] {
            assert!(matches!(parse(bad), Err(Error::Integrity(_))), "{}", bad.escape_ascii());
        }
        for bad in [&b"10 path=a\n10 path=b\n"[..], b"22 GNU.sparse.major=1\n", b"10 size=1\n10 size=1\n"] {
            assert!(matches!(parse(bad), Err(Error::Policy(_))), "{}", bad.escape_ascii());
        }
    }
}
