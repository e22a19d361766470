//! Python's pickle, by walking its machine: protocol 0 and 1 have no mark at their start, so only the walk can tell.
//!
//! In: bytes. Out: whether `pickle.load` would take them for a program. Holds: nothing is built or called; the model
//! knows how many values are on the stack, which turns text into no pickle within a few bytes.
//! Opcodes: CPython `Lib/pickletools.py`, protocols 0 to 5.

use std::io;

use super::cursor::Cursor;

/// Opcodes walked before it is a pickle all the same: so many valid ones are no accident.
const OPS_MAX: u32 = 1 << 20;

/// Valid opcodes after the mark of protocol 2 and later that suffice: the head of a longer one may be all there is.
const OPS_MARKED: u32 = 3;

/// What follows an opcode.
#[derive(Clone, Copy)]
enum Arg {
    None,
    /// So many bytes.
    Fixed(u64),
    /// A length of so many bytes (little-endian), then as many bytes.
    Counted(usize),
    /// A line of any text.
    Line,
    /// A line of a quoted text.
    Quoted,
    /// A line of a number.
    Number,
    /// So many lines, each a dotted name.
    Names(u8),
}

/// What an opcode does to the stack.
#[derive(Clone, Copy)]
enum Does {
    /// Takes so many values and leaves so many.
    Swap(u64, u64),
    /// Takes a value, or the last mark where no value is above it: CPython's C machine keeps marks beside the stack.
    Pop,
    /// Opens a mark.
    Mark,
    /// Takes everything down to the mark, then as in `Swap`.
    Unmark(u64, u64),
    /// As in `Swap`, and calls something on the way.
    Call(u64, u64),
    /// As in `Unmark`, and calls something on the way.
    CallMarked(u64, u64),
    /// The end, with a value.
    Stop,
}

/// Whether the bytes at the start of `cursor` are a pickle; what follows them does not matter to `pickle.load`.
///
/// # Errors
/// The reader's.
pub(super) fn is_pickle(cursor: &mut Cursor<'_>, size: u64) -> io::Result<bool> {
    let mut machine = Machine::default();
    let (mut marked, mut structured) = (false, false);
    // Opcodes of the present pickle: loaders read a row of them, so the walk goes on behind one that says nothing.
    let mut ops = 0;
    for _ in 0..OPS_MAX {
        // Without a mark and without a call, what breaks off here is text that happened to begin like one.
        let harmless = marked && OPS_MARKED < ops;
        let Some(op) = cursor.byte()? else { return Ok(harmless) };
        marked |= ops == 0 && op == 0x80;
        ops += 1;
        structured |= matches!(op, b'(' | b']' | b'}');
        let Some((arg, does)) = meaning(op) else { return Ok(harmless) };
        let version_fits = op != 0x80 || cursor.ahead()?.first().is_some_and(|version| *version <= 5);
        if !version_fits || !taken(cursor, arg)? || !machine.step(does) {
            return Ok(harmless);
        }
        match does {
            Does::Call(..) | Does::CallMarked(..) => return Ok(true),
            Does::Stop if marked || (structured && cursor.at() == size) => return Ok(true),
            Does::Stop if cursor.at() == size => return Ok(false),
            Does::Stop => (machine, ops) = (Machine::default(), 0),
            Does::Swap(..) | Does::Pop | Does::Mark | Does::Unmark(..) => {}
        }
    }
    Ok(true)
}

/// How many values are above the last mark, and how many below each.
#[derive(Default)]
struct Machine {
    above: u64,
    below: Vec<u64>,
}

impl Machine {
    /// Whether the stack allows it.
    fn step(&mut self, does: Does) -> bool {
        let (takes, leaves) = match does {
            Does::Swap(takes, leaves) | Does::Call(takes, leaves) => (takes, leaves),
            Does::Unmark(takes, leaves) | Does::CallMarked(takes, leaves) => {
                let Some(below) = self.below.pop() else { return false };
                self.above = below;
                (takes, leaves)
            }
            Does::Mark => {
                self.below.push(std::mem::take(&mut self.above));
                (0, 0)
            }
            Does::Pop if self.above == 0 => {
                let Some(below) = self.below.pop() else { return false };
                self.above = below;
                (0, 0)
            }
            Does::Pop | Does::Stop => (1, 0),
        };
        let Some(left) = self.above.checked_sub(takes) else { return false };
        self.above = left + leaves;
        true
    }
}

/// Moves over an argument; whether there is one that fits.
fn taken(cursor: &mut Cursor<'_>, arg: Arg) -> io::Result<bool> {
    match arg {
        Arg::None => Ok(true),
        Arg::Fixed(count) => Ok(cursor.skip(count)),
        Arg::Counted(bytes) => {
            let mut count = 0;
            for place in 0..bytes {
                let Some(byte) = cursor.byte()? else { return Ok(false) };
                count |= u64::from(byte) << (8 * place);
            }
            Ok(cursor.skip(count))
        }
        Arg::Line => line(cursor, |_, _| true),
        Arg::Quoted => line(cursor, |at, byte| at != 0 || matches!(byte, b'"' | b'\'')),
        Arg::Number => {
            // C reads a number: white space before it, and nothing behind a zero byte.
            let mut ended = false;
            line(cursor, |_, byte| {
                ended |= byte == 0;
                ended || byte.is_ascii_alphanumeric() || b"+-._ \t\x0b\x0c\r".contains(&byte)
            })
        }
        Arg::Names(count) => {
            let letter = |byte: u8| byte.is_ascii_alphanumeric() || b"._<>\r".contains(&byte) || 0x80 <= byte;
            for _ in 0..count {
                if !line(cursor, |_, byte| letter(byte))? {
                    return Ok(false);
                }
            }
            Ok(true)
        }
    }
}

/// Moves behind the next line feed; whether there is one, something stands before it, and all of it `fits`.
fn line(cursor: &mut Cursor<'_>, mut fits: impl FnMut(u64, u8) -> bool) -> io::Result<bool> {
    let mut len = 0;
    loop {
        match cursor.byte()? {
            None => return Ok(false),
            // An empty text is one; everything else needs a character.
            Some(b'\n') => return Ok(0 < len || fits(0, b'\n')),
            Some(byte) if !fits(len, byte) => return Ok(false),
            Some(_) => len += 1,
        }
    }
}

/// An opcode's argument and effect; `None` for a byte that is no opcode.
fn meaning(op: u8) -> Option<(Arg, Does)> {
    use Arg::{Counted, Fixed, Line, Names, None as Bare, Number, Quoted};
    use Does::{Call, CallMarked, Mark, Pop, Stop, Swap, Unmark};
    let push = Swap(0, 1);
    Some(match op {
        b'(' => (Bare, Mark),
        b'.' => (Bare, Stop),
        b'0' => (Bare, Pop),
        b'1' => (Bare, Unmark(0, 0)),
        b'2' => (Bare, Swap(1, 2)),
        // Numbers and constants.
        b'I' | b'L' | b'F' => (Number, push),
        b'J' => (Fixed(4), push),
        b'K' => (Fixed(1), push),
        b'M' => (Fixed(2), push),
        b'G' => (Fixed(8), push),
        b'N' | b']' | b'}' | b')' | 0x88 | 0x89 | 0x8f | 0x97 => (Bare, push),
        // Texts and bytes, after their length or to the end of the line.
        b'S' => (Quoted, push),
        b'V' => (Line, push),
        b'T' | b'X' | b'B' | 0x8b => (Counted(4), push),
        b'U' | b'C' | 0x8a | 0x8c => (Counted(1), push),
        0x8d | 0x8e | 0x96 => (Counted(8), push),
        // Lists, dicts, tuples, sets.
        b'a' => (Bare, Swap(2, 1)),
        b's' => (Bare, Swap(3, 1)),
        b'e' | b'u' | 0x90 => (Bare, Unmark(1, 1)),
        b'd' | b'l' | b't' | 0x91 => (Bare, Unmark(0, 1)),
        0x85 => (Bare, Swap(1, 1)),
        0x86 => (Bare, Swap(2, 1)),
        0x87 => (Bare, Swap(3, 1)),
        // The memo.
        b'g' => (Number, push),
        b'h' => (Fixed(1), push),
        b'j' => (Fixed(4), push),
        b'p' => (Number, Swap(1, 1)),
        b'q' => (Fixed(1), Swap(1, 1)),
        b'r' => (Fixed(4), Swap(1, 1)),
        0x94 | 0x98 => (Bare, Swap(1, 1)),
        // Names of code, and calls of it.
        b'c' => (Names(2), push),
        0x93 => (Bare, Swap(2, 1)),
        b'P' => (Line, push),
        b'Q' => (Bare, Swap(1, 1)),
        0x82 => (Fixed(1), push),
        0x83 => (Fixed(2), push),
        0x84 => (Fixed(4), push),
        b'R' | b'b' | 0x81 => (Bare, Call(2, 1)),
        0x92 => (Bare, Call(3, 1)),
        b'i' => (Names(2), CallMarked(0, 1)),
        b'o' => (Bare, CallMarked(0, 1)),
        // Framing.
        0x80 => (Fixed(1), Swap(0, 0)),
        0x95 => (Fixed(8), Swap(0, 0)),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::cursor::Head;
    use crate::verify::wide;

    fn check(bytes: &[u8]) -> bool {
        let mut head = Head { bytes, size: wide(bytes.len()) };
        is_pickle(&mut Cursor::new(&mut head, 0), wide(bytes.len())).unwrap()
    }

    #[test]
    fn programs_are_pickles_of_any_protocol_and_whatever_follows() {
        for bytes in [
            &b"cos\nsystem\n(S'id'\ntR."[..],
            b"cos\nsystem\n(S'id'\ntRtrailing text",
            b"(S'id'\nios\nsystem\n.",
            b"(cos\nsystem\nS'id'\no.",
            b"\x80\x02cposix\nsystem\nq\x00X\x02\x00\x00\x00idq\x01\x85q\x02Rq\x03.",
            b"\x80\x04\x95\x1d\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x94\x8c\x06system\x94\x93",
            b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.",
            b"\x80\x05}\x94.",
            b"\x80\x02K\x01.",
            b"(dp0\nS'a'\np1\nI1\ns.",
            b"(lp0\nI1\naI2\na.",
            b"]q\x00(K\x01K\x02e.",
            b"V\\u0063\n0cos\nsystem\n(Vid\ntR.",
            b"(0cos\nsystem\n(S'id'\ntR.",
            b"I\t1\n0cos\nsystem\n(S'id'\ntR.",
            b"I1\0\0\0\0\0\0{\"a\":1}\ncos\nsystem\n(S'id'\ntR.",
            b"I1\n.cos\nsystem\n(S'id'\ntR.",
            b"I1\n.\x80\x02K\x01.",
        ] {
            assert!(check(bytes), "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn text_and_other_binaries_are_no_pickles() {
        for bytes in [
            &b""[..],
            b".",
            b"N.",
            b"I am a model card.\n",
            b"cat\ndog\nelephant\n",
            b"(c) 2026 The authors\n",
            b"Vocabulary\nVersion 2\n.",
            b"I1\n.\nI2\n.\n",
            b"0",
            b"Some license text.\n\nThe end.",
            b"K1. Introduction\n",
            b"{\"a\": 1}",
            b"[1, 2]",
            b"GGUF\x03\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00",
            b"\x80\x02\x00\x00\x00\x00\x00\x00{\"a\":",
            b"\x80\x02}\x00\x00\x00\x00\x00{\"a\":",
            b"\x80\x06N.",
            b"X\x03\x00\x00\x00\x00\x00\x00{\"a\":{}}",
            b"PK\x03\x04",
            b"\x08\x07\x12\x07pytorch",
        ] {
            assert!(!check(bytes), "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn a_jump_over_much_data_leads_to_what_is_behind_it() {
        let mut bytes = b"X\x00\x00\x10\x00".to_vec();
        bytes.resize(5 + (1 << 20), b'{');
        bytes.extend_from_slice(b"0cos\nsystem\n(Vid\ntR.");
        assert!(check(&bytes));
        assert!(!check(&bytes[..1 << 20]));
    }
}
