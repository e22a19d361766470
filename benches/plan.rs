//! Plan of 100,000 files: name checks, collisions, ids. Bound by one core: parsing, hashing and two hash tables.

#[path = "loads/names.rs"]
mod names;

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use dray::manifest::{SafePath, collisions};
use dray::plan::{self, State};

const FILES: u64 = 100_000;

fn bench(criterion: &mut Criterion) {
    let names = names::names(FILES);
    let paths: Vec<SafePath> = names.iter().map(|name| SafePath::parse(name).expect("safe")).collect();
    let manifest = names::manifest(names::found(&names));
    let mut group = criterion.benchmark_group("plan");
    group.throughput(Throughput::Elements(FILES)).sample_size(20);
    group.bench_function("safe_path/100k", |bencher| {
        bencher.iter(|| assert!(names.iter().all(|name| SafePath::parse(black_box(name)).is_ok())));
    });
    group.bench_function("collisions/100k", |bencher| {
        bencher.iter(|| assert_eq!(collisions(black_box(&paths)), Ok(())));
    });
    group.bench_function("ids/100k", |bencher| {
        let expected = names::ids(&manifest);
        bencher.iter(|| assert_eq!(names::ids(black_box(&manifest)), expected));
    });
    group.bench_function("whole/100k", |bencher| {
        bencher.iter_batched(
            || names::found(&names),
            |found| {
                let plan = plan::plan(&names::manifest(found), None);
                assert_eq!((plan.state, plan.files), (State::Wanted, FILES));
            },
            criterion::BatchSize::LargeInput,
        );
    });
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
