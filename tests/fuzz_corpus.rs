//! Every fuzz target as a plain test: over its corpus and over seeded mutations of it.

#[path = "../fuzz/bodies.rs"]
mod bodies;

use std::path::Path;

const MUTATIONS: u64 = 3000;
const INPUT_BYTES_MAX: usize = 64 << 10;

/// The input under test, shown if the body panics on it.
struct Shown<'a>(&'a [u8]);

impl Drop for Shown<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("on the input b\"{}\"", self.0.escape_ascii());
        }
    }
}

/// A small generator (xorshift64*): the same seed gives the same mutations everywhere.
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }

    /// A number below `bound`, which is not 0.
    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next()).unwrap() % bound
    }

    fn byte(&mut self) -> u8 {
        const TELLING: [u8; 16] = *b"\0\x01\x7f\x80\xff/.%:?@\r\n\" 9";
        let telling = TELLING[self.below(TELLING.len())];
        if self.next().is_multiple_of(2) { telling } else { self.next().to_le_bytes()[0] }
    }

    /// A range within `len`, short more often than long.
    fn range(&mut self, len: usize) -> std::ops::Range<usize> {
        let start = self.below(len + 1);
        let longest = (len - start).min(1 << self.below(10));
        start..start + self.below(longest + 1)
    }
}

/// One to four small changes of `input`; `other` lends its bytes to some.
fn mutate(rng: &mut Rng, input: &[u8], other: &[u8]) -> Vec<u8> {
    let mut bytes = input.to_vec();
    for _ in 0..=rng.below(4) {
        let range = rng.range(bytes.len());
        match rng.below(6) {
            0 => bytes.drain(range).for_each(drop),
            1 => bytes.truncate(range.start),
            2 => {
                let copy = bytes[range].to_vec();
                let at = rng.below(bytes.len() + 1);
                bytes.splice(at..at, copy);
            }
            3 => {
                let lent = other[rng.range(other.len())].to_vec();
                bytes.splice(range, lent);
            }
            4 => bytes.insert(range.start, rng.byte()),
            _ if bytes.is_empty() => {}
            _ => {
                let at = rng.below(bytes.len());
                bytes[at] = rng.byte();
            }
        }
        bytes.truncate(INPUT_BYTES_MAX);
    }
    bytes
}

fn corpus(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut paths: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| std::fs::read(path).unwrap()).collect()
}

fn check(target: &str, body: fn(&[u8])) {
    let seeds = corpus(target);
    assert!(!seeds.is_empty(), "no corpus for {target}");
    let run = |input: &[u8]| {
        let _shown = Shown(input);
        body(input);
    };
    seeds.iter().for_each(|seed| run(seed));
    let mut rng = Rng(0x0064_7261_7921);
    for _ in 0..MUTATIONS {
        let (input, other) = (rng.below(seeds.len()), rng.below(seeds.len()));
        run(&mutate(&mut rng, &seeds[input], &seeds[other]));
    }
}

#[test]
fn sources_show_and_refuse_in_one_line() {
    check("source_uri_parse", bodies::source_uri_parse);
}

#[test]
fn safe_paths_stay_beneath_their_root() {
    check("safe_path_parse", bodies::safe_path_parse);
}

#[test]
fn accepted_replies_bring_what_was_asked() {
    check("range_reply_check", bodies::range_reply_check);
}

#[test]
fn replayed_journals_can_be_continued() {
    check("journal_replay", bodies::journal_replay);
}

#[test]
fn lists_of_written_pieces_read_back_as_written() {
    check("written_decode", bodies::written_decode);
}

#[test]
fn receipts_read_back_as_written() {
    check("receipt_parse", bodies::receipt_parse);
}

#[test]
fn members_of_a_tar_are_what_was_said() {
    check("tar_unpack", bodies::tar_unpack);
}

#[test]
fn members_of_a_zip_are_what_was_said() {
    check("zip_unpack", bodies::zip_unpack);
}

#[test]
fn formats_that_are_admitted_are_what_they_are_taken_for() {
    check("formats_admit", bodies::formats_admit);
}

#[test]
fn trees_have_one_form() {
    check("tree_decode", bodies::tree_decode);
}

#[test]
fn pages_of_listings_say_the_same_below_a_prefix() {
    check("listing_read", bodies::listing_read);
}
