//! Sizes, ranges and durations: the units every other module speaks, and their text forms.

use std::time::Duration;

/// One mebibyte, in bytes.
pub const MIB: u64 = 1 << 20;

/// Bytes of a piece, the unit of buffer, hash, write, journal and repair.
///
/// A power of two of BLAKE3 chunks, so that every whole piece is a complete subtree.
pub const PIECE_BYTES: u64 = MIB;

/// A half-open byte range `[start, end)`. Never empty when it names a span.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ByteRange {
    /// First byte.
    pub start: u64,
    /// One past the last byte.
    pub end: u64,
}

impl ByteRange {
    /// A range from `start` to `end`; an inverted pair becomes empty at `start`.
    pub fn new(start: u64, end: u64) -> Self {
        Self { start, end: end.max(start) }
    }

    /// Length in bytes.
    pub fn len(&self) -> u64 {
        self.end - self.start
    }

    /// Whether no byte is in the range.
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }
}

impl std::fmt::Display for ByteRange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.start, self.end.saturating_sub(1))
    }
}

/// How many pieces a file of `size` bytes has; an empty file has none.
pub fn piece_count(size: u64) -> u64 {
    size.div_ceil(PIECE_BYTES)
}

/// The bytes of piece `index` in a file of `size` bytes.
pub fn piece_range(size: u64, index: u64) -> ByteRange {
    let start = index * PIECE_BYTES;
    ByteRange::new(start.min(size), (start + PIECE_BYTES).min(size))
}

/// Why a size or a duration could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a {expected}")]
pub struct UnitError {
    text: String,
    expected: &'static str,
}

const SIZE_UNITS: [(&str, u64); 14] = [
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("kB", 1_000),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("Ki", 1 << 10),
    ("Mi", 1 << 20),
    ("Gi", 1 << 30),
    ("Ti", 1 << 40),
    ("B", 1),
];

/// Reads `64MiB`, `1.5GiB`, `200MB`, `100Mi` or plain bytes.
///
/// # Errors
/// [`UnitError`] for anything else, and for sizes of 2^63 bytes or more.
pub fn parse_size(text: &str) -> Result<u64, UnitError> {
    let fail = || UnitError { text: text.to_owned(), expected: "size (such as 64MiB or 1GB)" };
    let trimmed = text.trim();
    let (number, scale) = SIZE_UNITS
        .iter()
        .find_map(|(unit, scale)| trimmed.strip_suffix(unit).map(|n| (n.trim_end(), *scale)))
        .unwrap_or((trimmed, 1));
    scaled(number, scale).filter(|n| *n < 1 << 63).ok_or_else(fail)
}

/// `number` (digits with at most one decimal point) times `scale`, without floating point.
fn scaled(number: &str, scale: u64) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(fraction) || fraction.len() > 9 {
        return None;
    }
    let whole = whole.parse::<u64>().ok()?.checked_mul(scale)?;
    let fraction_value: u128 = if fraction.is_empty() { 0 } else { fraction.parse().ok()? };
    let unit = 10u128.pow(u32::try_from(fraction.len()).ok()?);
    let part = u64::try_from(fraction_value * u128::from(scale) / unit).ok()?;
    whole.checked_add(part)
}

/// Reads `500ms`, `10s`, `2m`, `1h`, `1.5s`; a bare number is seconds.
///
/// # Errors
/// [`UnitError`] for anything else, and for more than a year.
pub fn parse_duration(text: &str) -> Result<Duration, UnitError> {
    let fail = || UnitError { text: text.to_owned(), expected: "duration (such as 500ms, 10s or 2m)" };
    let trimmed = text.trim();
    let (number, nanos) = [("ms", 1_000_000), ("s", 1_000_000_000), ("m", 60_000_000_000), ("h", 3_600_000_000_000)]
        .iter()
        .find_map(|(unit, nanos)| trimmed.strip_suffix(unit).map(|n| (n.trim_end(), *nanos)))
        .unwrap_or((trimmed, 1_000_000_000));
    let nanos = scaled(number, nanos).ok_or_else(fail)?;
    let duration = Duration::from_nanos(nanos);
    if duration > Duration::from_secs(366 * 24 * 3600) {
        return Err(fail());
    }
    Ok(duration)
}

/// A size for people: `0 B`, `1023 B`, `64.0 MiB`, `1.50 GiB`.
pub fn show_size(bytes: u64) -> String {
    const STEPS: [(&str, u64); 4] = [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    for (unit, scale) in STEPS {
        if scale <= bytes {
            let hundredths = u128::from(bytes) * 100 / u128::from(scale);
            let (whole, rest) = (hundredths / 100, hundredths % 100);
            return if whole < 10 {
                format!("{whole}.{rest:02} {unit}")
            } else {
                format!("{whole}.{} {unit}", rest / 10)
            };
        }
    }
    format!("{bytes} B")
}

/// A duration for people: `0.42 s`, `12.3 s`, `4 m 07 s`, `2 h 05 m`.
pub fn show_duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    if seconds < 10 {
        format!("{:.2} s", duration.as_secs_f64())
    } else if seconds < 60 {
        format!("{:.1} s", duration.as_secs_f64())
    } else if seconds < 3600 {
        format!("{} m {:02} s", seconds / 60, seconds % 60)
    } else {
        format!("{} h {:02} m", seconds / 3600, seconds % 3600 / 60)
    }
}

/// A rate for people, per second: `812.0 MiB/s`. Zero time shows as `-`.
pub fn show_rate(bytes: u64, elapsed: Duration) -> String {
    let micros = elapsed.as_micros();
    if micros == 0 {
        return "-".to_owned();
    }
    let rate = u128::from(bytes) * 1_000_000 / micros;
    format!("{}/s", show_size(u64::try_from(rate).unwrap_or(u64::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_in_binary_and_decimal_units() {
        for (text, bytes) in [
            ("0", 0),
            ("64MiB", 64 << 20),
            ("1.5GiB", 3 << 29),
            ("200MB", 200_000_000),
            ("100Mi", 100 << 20),
            ("7 B", 7),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for text in ["", "MiB", "-1", "1.2.3MiB", "1e9", "9999999TiB", "0x10", "1 potato"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn durations_read_with_and_without_a_unit() {
        for (text, millis) in [("500ms", 500), ("10s", 10_000), ("2m", 120_000), ("1.5s", 1500), ("3", 3000)] {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "s", "1d", "99999h", "-1s"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn shown_sizes_keep_three_digits() {
        for (bytes, text) in [(0, "0 B"), (1023, "1023 B"), (64 << 20, "64.0 MiB"), (3 << 29, "1.50 GiB")] {
            assert_eq!(show_size(bytes), text);
        }
    }
}
