//! Encoding and replay of journal records. Limiting resource: CPU (one BLAKE3 of 512 bytes a record); no file is touched.

#[path = "loads/journal.rs"]
mod load;

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use dray::journal::record::{self, Encoder};

const PIECES: u64 = 100_000;

fn journal_encode(criterion: &mut Criterion) {
    let records = load::records(PIECES);
    let mut group = criterion.benchmark_group("journal_encode");
    group.throughput(Throughput::Elements(PIECES));
    group.bench_function(BenchmarkId::new("pieces", "100000"), |bencher| {
        bencher.iter(|| {
            let encoded = Encoder::new([3; 16]).encode_batch(black_box(&records));
            assert_eq!(encoded.len(), records.len());
        });
    });
    group.finish();
}

fn journal_replay(criterion: &mut Criterion) {
    let mut encoder = Encoder::new([3; 16]);
    let mut journal = encoder.header().to_vec();
    journal.extend(encoder.encode_batch(&load::records(PIECES)).as_flattened());
    let mut group = criterion.benchmark_group("journal_replay");
    group.throughput(Throughput::Elements(PIECES));
    group.bench_function(BenchmarkId::new("pieces", "100000"), |bencher| {
        bencher.iter(|| {
            let replay = record::replay(black_box(&journal)).expect("what the encoder wrote");
            assert_eq!((replay.files[0].held.len(), &replay.encoder), (100_000, &encoder));
        });
    });
    group.finish();
}

criterion_group!(benches, journal_encode, journal_replay);
criterion_main!(benches);
