//! Plan of 100,000 files: name checks, collisions, ids. Bound by one core: parsing, hashing and two hash tables.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use dray::manifest::{Entry, Manifest, Ranges, SafePath, Version, collisions};
use dray::origin::Found;
use dray::plan::{self, State};
use dray::resolve::{Filter, entries};

const FILES: u64 = 100_000;

fn names() -> Vec<String> {
    (0..FILES)
        .map(|n| format!("layers/{:03}/experts/{:04}/model-{n:06}-of-100000.safetensors", n % 64, n % 1000))
        .collect()
}

fn found(names: &[String]) -> Vec<Found> {
    let found = |path: &String| Found {
        path: path.clone(),
        object: format!("models/large/{path}"),
        size: Some(4 << 20),
        version: Version { etag: Some(format!("\"{:032x}\"", path.len())), ..Version::default() },
        ranges: Ranges::Assumed,
        stated: Vec::new(),
    };
    names.iter().map(found).collect()
}

fn manifest(names: &[String]) -> Manifest {
    let entries = entries(found(names), &Filter::default()).expect("names are safe");
    Manifest { source: "s3://bucket/models/large".to_owned(), entries }
}

fn bench(criterion: &mut Criterion) {
    let names = names();
    let paths: Vec<SafePath> = names.iter().map(|name| SafePath::parse(name).expect("safe")).collect();
    let manifest = manifest(&names);
    let mut group = criterion.benchmark_group("plan");
    group.throughput(Throughput::Elements(FILES)).sample_size(20);
    group.bench_function("safe_path/100k", |bencher| {
        bencher.iter(|| assert!(names.iter().all(|name| SafePath::parse(black_box(name)).is_ok())));
    });
    group.bench_function("collisions/100k", |bencher| {
        bencher.iter(|| assert_eq!(collisions(black_box(&paths)), Ok(())));
    });
    group.bench_function("ids/100k", |bencher| {
        bencher.iter(|| {
            let id = |entry: &Entry| entry.id(black_box(&manifest.source)).0[0];
            assert!(manifest.entries.iter().map(id).fold(0_u64, |sum, byte| sum + u64::from(byte)) > 0);
        });
    });
    group.bench_function("whole/100k", |bencher| {
        bencher.iter_batched(
            || found(&names),
            |found| {
                let entries = entries(found, &Filter::default()).expect("names are safe");
                let manifest = Manifest { source: String::new(), entries };
                let plan = plan::plan(&manifest, None);
                assert_eq!((plan.state, plan.files), (State::Wanted, FILES));
            },
            criterion::BatchSize::LargeInput,
        );
    });
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
