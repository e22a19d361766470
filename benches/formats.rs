//! The header of a safetensors file of 10,000 tensors held to the format's rules. Limited by: CPU, JSON and one short
//! hash a name.

#[path = "loads/safetensors.rs"]
mod load;

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use dray::formats;

fn bench(criterion: &mut Criterion) {
    let header = load::header(10_000);
    let mut group = criterion.benchmark_group("formats");
    group.throughput(Throughput::Elements(10_000)).sample_size(20);
    group.bench_function("safetensors/10000", |bencher| {
        bencher.iter(|| assert_eq!(formats::check_safetensors(&mut black_box(&header)), Ok(())));
    });
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
