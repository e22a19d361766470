//! Hashing of pieces and the merge to a file's digest. Limiting resource: CPU (SIMD lanes); the slab stays in L2.

#[path = "loads/proofs.rs"]
mod load;

use std::hint::black_box;

use crc_fast::CrcAlgorithm;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use dray::manifest::Stated;
use dray::units::PIECE_BYTES;
use dray::verify::{self, Crc32, PieceProof, Serial, Sums};

const SIZE: Option<u64> = Some(8 * PIECE_BYTES);
const PIECES: u64 = 100_000;

fn slab() -> Vec<u8> {
    (0..1 << 20).map(|i: u32| i.wrapping_mul(2_654_435_761).to_le_bytes()[3]).collect()
}

fn piece_hash(criterion: &mut Criterion) {
    let slab = slab();
    let mut group = criterion.benchmark_group("piece_hash");
    group.throughput(Throughput::Bytes(PIECE_BYTES));
    let variants = [
        ("blake3", Sums::default()),
        ("blake3_crc32c", Sums { crc64nvme: false, crc32: Some(Crc32::Castagnoli) }),
        ("blake3_crc64nvme", Sums { crc64nvme: true, crc32: None }),
    ];
    for (name, sums) in variants {
        let expected = verify::prove_piece(SIZE, 5, &slab, sums);
        group.bench_function(BenchmarkId::new(name, "1MiB"), |bencher| {
            bencher.iter(|| assert_eq!(verify::prove_piece(SIZE, 5, black_box(&slab), sums), expected));
        });
    }
    // The yardstick: one plain hash of the same bytes.
    let expected = blake3::hash(&slab);
    group.bench_function(BenchmarkId::new("plain_hash", "1MiB"), |bencher| {
        bencher.iter(|| assert_eq!(blake3::hash(black_box(&slab)), expected));
    });
    group.finish();
}

fn tree_merge(criterion: &mut Criterion) {
    let (size, proofs) = (PIECES * PIECE_BYTES, load::proofs(PIECES));
    let mut group = criterion.benchmark_group("tree_merge");
    group.throughput(Throughput::Elements(PIECES));
    let expected = verify::root(size, &proofs);
    group.bench_function(BenchmarkId::new("root", "100000"), |bencher| {
        bencher.iter(|| assert_eq!(verify::root(size, black_box(&proofs)), expected));
    });
    group.finish();
}

fn crc_fold(criterion: &mut Criterion) {
    let pieces = 1000;
    let proofs = &load::proofs(pieces);
    let mut group = criterion.benchmark_group("crc_fold");
    group.throughput(Throughput::Elements(pieces));
    let combine = |sum, proof: &PieceProof| {
        crc_fast::checksum_combine(CrcAlgorithm::Crc64Nvme, sum, proof.crc64nvme, PIECE_BYTES)
    };
    let expected = proofs.iter().fold(0, combine);
    let stated = [Stated::Crc64Nvme(expected)];
    group.bench_function(BenchmarkId::new("checks", "1000"), |bencher| {
        bencher.iter(|| assert!(verify::checks(pieces * PIECE_BYTES, black_box(proofs), &stated, &[])[0].matches));
    });
    // The yardstick: the library's own combine, which builds its matrices anew for every piece.
    group.bench_function(BenchmarkId::new("checksum_combine", "1000"), |bencher| {
        bencher.iter(|| assert_eq!(black_box(proofs).iter().fold(0, combine), expected));
    });
    group.finish();
}

/// What a statement that needs the bytes in order adds to the hash of each piece.
fn serial_hash(criterion: &mut Criterion) {
    let slab = slab();
    let mut group = criterion.benchmark_group("serial_hash");
    group.throughput(Throughput::Bytes(PIECE_BYTES));
    let variants =
        [("sha256", Stated::Sha256([0; 32])), ("sha1", Stated::Sha1([0; 20])), ("md5", Stated::Md5([0; 16]))];
    for (name, stated) in variants {
        group.bench_function(BenchmarkId::new(name, "1MiB"), |bencher| {
            let mut serial = Serial::new(None, std::slice::from_ref(&stated)).expect("it needs an order");
            let mut offset = 0;
            bencher.iter(|| {
                serial.feed(offset, black_box(&slab));
                offset += PIECE_BYTES;
                assert_eq!(serial.wanted().map(|range| range.start), Some(offset));
            });
        });
    }
    group.finish();
}

criterion_group!(benches, piece_hash, serial_hash, tree_merge, crc_fold);
criterion_main!(benches);
