//! Where a body's bytes lie between its framing: a state machine without I/O.
//!
//! The reader asks [`Body::want`], then either moves data straight to its place and says how much
//! ([`Body::took`]), or hands over framing bytes ([`Body::feed`]), or says that the peer closed.
//! Holds: data is never taken past what the framing promised; chunk lines and trailers are bounded.

use crate::error::{Failure, FailureKind};

/// How a body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// After this many bytes.
    Length(u64),
    /// By a last chunk.
    Chunked,
    /// When the peer closes.
    UntilClose,
}

/// What comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Want {
    /// Up to this many bytes of data.
    Data(u64),
    /// Framing, to be fed.
    Framing,
    /// Nothing: the body is complete.
    End,
}

/// Bytes of a chunk's size line.
const CHUNK_LINE_BYTES_MAX: usize = 4 << 10;

/// Bytes of all trailer lines.
const TRAILER_BYTES_MAX: usize = 16 << 10;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Sized { left: u64 },
    ChunkSize,
    ChunkData { left: u64 },
    ChunkEnd,
    Trailer { seen: usize },
    UntilClose,
    End,
}

/// The progress of one body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Body {
    state: State,
}

impl Body {
    /// A body of which nothing was read yet.
    pub fn new(framing: Framing) -> Self {
        let state = match framing {
            Framing::Length(0) => State::End,
            Framing::Length(left) => State::Sized { left },
            Framing::Chunked => State::ChunkSize,
            Framing::UntilClose => State::UntilClose,
        };
        Self { state }
    }

    /// What comes next.
    pub fn want(&self) -> Want {
        match self.state {
            State::Sized { left } | State::ChunkData { left } => Want::Data(left),
            State::UntilClose => Want::Data(u64::MAX),
            State::ChunkSize | State::ChunkEnd | State::Trailer { .. } => Want::Framing,
            State::End => Want::End,
        }
    }

    /// Notes that `bytes` of data were moved.
    ///
    /// # Panics
    /// When that is more than [`Body::want`] offered: the caller would have taken framing for data.
    pub fn took(&mut self, bytes: u64) {
        let rest = |left: u64| {
            assert!(bytes <= left, "{bytes} bytes taken where {left} were offered");
            left - bytes
        };
        self.state = match self.state {
            State::Sized { left } if rest(left) == 0 => State::End,
            State::Sized { left } => State::Sized { left: rest(left) },
            State::ChunkData { left } if rest(left) == 0 => State::ChunkEnd,
            State::ChunkData { left } => State::ChunkData { left: rest(left) },
            State::UntilClose => State::UntilClose,
            State::ChunkSize | State::ChunkEnd | State::Trailer { .. } | State::End => {
                assert!(bytes == 0, "{bytes} bytes taken where none were offered");
                self.state
            }
        };
    }

    /// Consumes framing from the front of `bytes`; 0 means that more must be read first.
    ///
    /// # Errors
    /// `BadReply` for chunk lines that are malformed or beyond their bounds.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<usize, Failure> {
        let bad = |detail: &str| Err(Failure::new(FailureKind::BadReply, detail));
        if self.state == State::ChunkEnd {
            return match bytes {
                [b'\r', b'\n', ..] => {
                    self.state = State::ChunkSize;
                    Ok(2)
                }
                [] | [b'\r'] => Ok(0),
                _ => bad("a chunk is longer than it said"),
            };
        }
        let limit = match self.state {
            State::Trailer { seen } => TRAILER_BYTES_MAX - seen,
            _ => CHUNK_LINE_BYTES_MAX,
        };
        let Some(end) = bytes.iter().take(limit).position(|byte| *byte == b'\n') else {
            return if limit <= bytes.len() { bad("the reply's chunk framing has no end") } else { Ok(0) };
        };
        let Some(line) = bytes[..end].strip_suffix(b"\r") else {
            return bad("the reply's chunk framing has a bare line feed");
        };
        self.state = match self.state {
            State::ChunkSize => match chunk_size(line) {
                Some(0) => State::Trailer { seen: 0 },
                Some(left) => State::ChunkData { left },
                None => return bad("the reply's chunk size is not a number"),
            },
            State::Trailer { .. } if line.is_empty() => State::End,
            State::Trailer { seen } => State::Trailer { seen: seen + end + 1 },
            State::Sized { .. } | State::ChunkData { .. } | State::ChunkEnd | State::UntilClose | State::End => {
                return Ok(0);
            }
        };
        Ok(end + 1)
    }

    /// Notes that the peer closed.
    ///
    /// # Errors
    /// `Broken` when the body had not ended.
    pub fn closed(&mut self) -> Result<(), Failure> {
        match self.state {
            State::UntilClose | State::End => {
                self.state = State::End;
                Ok(())
            }
            State::Sized { .. }
            | State::ChunkSize
            | State::ChunkData { .. }
            | State::ChunkEnd
            | State::Trailer { .. } => {
                Err(Failure::new(FailureKind::Broken, "the connection closed before the body ended"))
            }
        }
    }
}

/// The number before a chunk's extensions: up to 15 hexadecimal digits.
fn chunk_size(line: &[u8]) -> Option<u64> {
    let number = line.split(|byte| *byte == b';').next()?.trim_ascii();
    if number.is_empty() || 15 < number.len() || !number.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    u64::from_str_radix(std::str::from_utf8(number).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads `wire` arriving in steps of `step` bytes; the data, or the failure's kind.
    fn read(framing: Framing, wire: &[u8], step: usize) -> Result<Vec<u8>, FailureKind> {
        let mut body = Body::new(framing);
        let (mut data, mut at, mut arrived) = (Vec::new(), 0, 0);
        loop {
            let more = match body.want() {
                Want::End => return Ok(data),
                Want::Framing => {
                    let used = body.feed(&wire[at..arrived]).map_err(|failure| failure.kind)?;
                    at += used;
                    used == 0
                }
                Want::Data(left) => {
                    let ready = (arrived - at).min(usize::try_from(left).unwrap_or(usize::MAX));
                    data.extend_from_slice(&wire[at..at + ready]);
                    body.took(u64::try_from(ready).unwrap());
                    at += ready;
                    ready == 0
                }
            };
            if more && arrived == wire.len() {
                body.closed().map_err(|failure| failure.kind)?;
            } else if more {
                arrived = (arrived + step).min(wire.len());
            }
        }
    }

    fn check(framing: Framing, wire: &str, want: Result<&str, FailureKind>) {
        for step in [1, 2, 3, 7, 1 << 20] {
            let got = read(framing, wire.as_bytes(), step);
            assert_eq!(got, want.map(|text| text.as_bytes().to_vec()), "{framing:?} {wire:.60?} by {step}");
        }
    }

    #[test]
    fn bodies_end_where_their_framing_says() {
        check(Framing::Length(5), "helloEXTRA", Ok("hello"));
        check(Framing::Length(0), "EXTRA", Ok(""));
        check(Framing::UntilClose, "hello", Ok("hello"));
        check(Framing::Chunked, "5\r\nhello\r\n0\r\n\r\n", Ok("hello"));
        check(Framing::Chunked, "2;x=\"y\"\r\nhe\r\n003 \r\nllo\r\n0\r\nT: 1\r\nU: 2\r\n\r\nEXTRA", Ok("hello"));
        check(Framing::Chunked, "A\r\n0123456789\r\n0\r\n\r\n", Ok("0123456789"));
    }

    #[test]
    fn early_ends_are_broken() {
        for (framing, wire) in [
            (Framing::Length(5), "hell"),
            (Framing::Length(5), ""),
            (Framing::Chunked, ""),
            (Framing::Chunked, "5"),
            (Framing::Chunked, "5\r\nhell"),
            (Framing::Chunked, "5\r\nhello"),
            (Framing::Chunked, "5\r\nhello\r\n"),
            (Framing::Chunked, "5\r\nhello\r\n0\r\n"),
        ] {
            check(framing, wire, Err(FailureKind::Broken));
        }
    }

    #[test]
    fn malformed_and_endless_chunk_framing_is_bad() {
        let endless_line = format!("5;{}", "x".repeat(CHUNK_LINE_BYTES_MAX));
        let endless_trailer = format!("0\r\n{}", "X: y\r\n".repeat(TRAILER_BYTES_MAX / 6 + 1));
        for wire in [
            "5\nhello\r\n",
            "\r\n",
            "-5\r\n",
            "+5\r\n",
            "0x5\r\n",
            "fffffffffffffffff\r\n",
            "g\r\n",
            "5\r\nhelloX\r\n0\r\n\r\n",
            &endless_line,
            &endless_trailer,
        ] {
            check(Framing::Chunked, wire, Err(FailureKind::BadReply));
        }
    }
}
