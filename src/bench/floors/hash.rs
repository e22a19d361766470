//! Hashing alone: what a core can prove of bytes that are hot in its cache.
//!
//! In: bounds of time. Out: a row for each sum, of one core and of all. Holds: what is timed is what a lane calls of a
//! piece; every pass over the same piece comes to the same sum.

use std::hint::black_box;
use std::sync::mpsc;
use std::thread::Builder;
use std::time::{Duration, Instant};

use sha2::Digest as _;

use super::{FloorReport, fill_with_noise, row, thread_cpu};
use crate::bench::Stop;
use crate::bench::{Row, Sample, Work, machine::Machine};
use crate::disk::{Slab, SlabPool, place};
use crate::error::Error;
use crate::units::PIECE_BYTES;
use crate::verify::{self, Crc32, Sums};

/// Passes between two looks at the clock: a few milliseconds of the slowest sum.
const PASSES: u64 = 4;

/// How long and how often.
#[derive(Debug, Clone, Copy)]
pub struct HashWork {
    /// Runs of each row, in turn with the others.
    pub rounds: u32,
    /// Time of one run of one row.
    pub time: Duration,
}

/// A sum that is taken of a piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sum {
    Piece(Sums),
    Sha256,
    Md5,
    Sha1,
}

const NONE: Sums = Sums { crc64nvme: false, crc32: None };

const SUMS: [(&str, Sum); 6] = [
    ("blake3", Sum::Piece(NONE)),
    ("blake3 + crc64nvme", Sum::Piece(Sums { crc64nvme: true, ..NONE })),
    ("blake3 + crc32c", Sum::Piece(Sums { crc32: Some(Crc32::Castagnoli), ..NONE })),
    ("sha256", Sum::Sha256),
    ("md5", Sum::Md5),
    ("sha1", Sum::Sha1),
];

impl Sum {
    /// Takes the sum of one piece; two bytes of it, so that nobody may leave it out.
    fn pass(self, piece: &[u8]) -> [u8; 2] {
        let two = |bytes: &[u8]| [bytes[0], bytes[1]];
        match self {
            // As a lane does for a piece within a file.
            Self::Piece(sums) => {
                let proof = verify::prove_piece(None, 1, piece, sums);
                let crcs = proof.crc64nvme ^ u64::from(proof.crc32);
                [proof.cv[0], proof.cv[1] ^ crcs.to_le_bytes()[0]]
            }
            Self::Sha256 => two(&sha2::Sha256::digest(piece)),
            Self::Md5 => two(&md5::Md5::digest(piece)),
            Self::Sha1 => two(&sha1::Sha1::digest(piece)),
        }
    }
}

/// Measures each sum on one core, and on all where there are several.
///
/// # Errors
/// [`Error::Interrupted`] when asked to stop; [`Error::Internal`] when memory or threads cannot be had.
pub fn run(work: HashWork, stop: &Stop) -> Result<FloorReport, Error> {
    let machine = Machine::read(None);
    let cpus = place::cpus();
    let mut contenders: Vec<(usize, Sum, Row)> = Vec::new();
    for threads in if cpus == 1 { vec![1] } else { vec![1, cpus] } {
        for (name, sum) in SUMS {
            let name = format!("{name}, {threads} {}", if threads == 1 { "core" } else { "cores" });
            contenders.push((threads, sum, row(&name, "dray bench hash", name.split(',').next().unwrap_or(""))));
        }
    }
    for _ in 0..work.rounds {
        for (threads, sum, row) in &mut contenders {
            row.samples.push(on_threads(*threads, *sum, work.time, stop)?);
        }
    }
    let bytes = Work { bytes: PIECE_BYTES, cache: "warm".to_owned(), ..Work::default() };
    let rows = contenders.into_iter().map(|(_, _, row)| row).collect();
    Ok(FloorReport::new(machine, bytes, work.rounds, rows))
}

/// One run of one sum on `threads` threads that begin together, or not at all.
fn on_threads(threads: usize, sum: Sum, time: Duration, stop: &Stop) -> Result<Sample, Error> {
    let failed = |error: std::io::Error| Error::Internal(format!("memory to hash: {error}"));
    let pool = SlabPool::new(PIECE_BYTES * verify::wide(threads)).map_err(failed)?;
    let work = &|mut slab: Slab, seed: u64, ready: mpsc::SyncSender<()>, start: mpsc::Receiver<()>| {
        fill_with_noise(&mut slab, seed);
        // The other end hears of a thread that is ready, or lost, and then of nothing more.
        let _heard = ready.send(());
        drop(ready);
        // Nobody starts when one thread could not be had.
        start.recv().map_err(|_| Error::Internal("no start".to_owned()))?;
        passes(&slab, sum, time, stop)
    };
    let samples: Result<Vec<Sample>, Error> = std::thread::scope(|scope| {
        let slabs: Vec<Slab> = (0..threads).map_while(|_| pool.try_lease()).collect();
        let (ready, all) = mpsc::sync_channel(threads);
        let (mut spawned, mut starts) = (Vec::new(), Vec::new());
        for (slab, seed) in slabs.into_iter().zip(0..) {
            let ((start, begin), ready) = (mpsc::sync_channel(1), ready.clone());
            let thread = Builder::new().spawn_scoped(scope, move || work(slab, seed, ready, begin));
            spawned.push(thread.map_err(|error| Error::Internal(format!("no thread: {error}")))?);
            starts.push(start);
        }
        drop(ready);
        all.iter().take(threads).for_each(drop);
        for start in starts {
            let _heard = start.send(());
        }
        let panicked = |_| Err(Error::Internal("hashing panicked".to_owned()));
        spawned.into_iter().map(|thread| thread.join().unwrap_or_else(panicked)).collect()
    });
    let none = Sample { bytes: 0, seconds: 0.0, synced_seconds: 0.0, cpu_seconds: 0.0, rss_bytes_max: 0 };
    Ok(samples?.into_iter().fold(none, |sum, one| Sample {
        bytes: sum.bytes + one.bytes,
        seconds: sum.seconds.max(one.seconds),
        synced_seconds: sum.seconds.max(one.seconds),
        cpu_seconds: sum.cpu_seconds + one.cpu_seconds,
        rss_bytes_max: 0,
    }))
}

/// Hashes one piece again and again for `time`.
fn passes(piece: &Slab, sum: Sum, time: Duration, stop: &Stop) -> Result<Sample, Error> {
    // The first pass warms cache and clock, and says what each later one must come to.
    let expected = sum.pass(piece);
    let (began, cpu, mut bytes) = (Instant::now(), thread_cpu(), 0);
    loop {
        for _ in 0..PASSES {
            assert_eq!(sum.pass(black_box(piece)), expected, "two sums of one piece");
        }
        bytes += PASSES * PIECE_BYTES;
        stop.check()?;
        let seconds = began.elapsed();
        if time <= seconds {
            let cpu_seconds = (thread_cpu() - cpu).as_secs_f64();
            let seconds = seconds.as_secs_f64();
            return Ok(Sample { bytes, seconds, synced_seconds: seconds, cpu_seconds, rss_bytes_max: 0 });
        }
    }
}
