//! Just enough of PNG (RFC 2083) to see what a browser painted: 8 bits a channel, not interlaced.

use std::collections::BTreeSet;
use std::io::Read;

/// A painted page.
pub(crate) struct Picture {
    pub(crate) width: usize,
    pub(crate) height: usize,
    channels: usize,
    bytes: Vec<u8>,
}

impl Picture {
    pub(crate) fn read(png: &[u8]) -> Self {
        assert_eq!(png[..8], *b"\x89PNG\r\n\x1a\n", "a PNG");
        let number = |at: usize| u32::from_be_bytes(png[at..at + 4].try_into().expect("four bytes")) as usize;
        let (width, height) = (number(16), number(20));
        let channels = match (png[24], png[25], png[28]) {
            (8, 2, 0) => 3,
            (8, 6, 0) => 4,
            other => panic!("an unusual PNG: {other:?}"),
        };
        let (mut at, mut packed) = (8, Vec::new());
        while at + 12 <= png.len() {
            let length = number(at);
            if png[at + 4..at + 8] == *b"IDAT" {
                packed.extend_from_slice(&png[at + 8..at + 8 + length]);
            }
            at += 12 + length;
        }
        let mut filtered = Vec::new();
        flate2::read::ZlibDecoder::new(packed.as_slice()).read_to_end(&mut filtered).expect("inflate");
        Self { width, height, channels, bytes: unfiltered(&filtered, width * channels, channels) }
    }

    pub(crate) fn pixel(&self, x: usize, y: usize) -> [u8; 3] {
        let at = (y * self.width + x) * self.channels;
        self.bytes[at..at + 3].try_into().expect("three bytes")
    }

    /// How many colours are in it, counted up to a hundred.
    pub(crate) fn colours(&self) -> usize {
        let mut seen = BTreeSet::new();
        for pixel in self.bytes.chunks_exact(self.channels) {
            seen.insert(&pixel[..3]);
            if 100 <= seen.len() {
                break;
            }
        }
        seen.len()
    }
}

fn unfiltered(filtered: &[u8], row: usize, step: usize) -> Vec<u8> {
    let mut bytes: Vec<u8> = Vec::with_capacity(filtered.len());
    for line in filtered.chunks_exact(row + 1) {
        let begin = bytes.len();
        for (place, value) in line[1..].iter().enumerate() {
            let left = if step <= place { bytes[begin + place - step] } else { 0 };
            let up = if row <= begin { bytes[begin + place - row] } else { 0 };
            let corner = if step <= place && row <= begin { bytes[begin + place - row - step] } else { 0 };
            let guess = match line[0] {
                0 => 0,
                1 => left,
                2 => up,
                3 => u8::midpoint(left, up),
                4 => paeth(left, up, corner),
                other => panic!("filter {other}"),
            };
            bytes.push(value.wrapping_add(guess));
        }
    }
    bytes
}

fn paeth(left: u8, up: u8, corner: u8) -> u8 {
    let guess = i16::from(left) + i16::from(up) - i16::from(corner);
    let apart = |other: u8| (guess - i16::from(other)).abs();
    if apart(left) <= apart(up) && apart(left) <= apart(corner) {
        left
    } else if apart(up) <= apart(corner) {
        up
    } else {
        corner
    }
}
