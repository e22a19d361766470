//! A report of 10,000 files to JSON. Limited by: CPU, formatting and one growing buffer.

use std::hint::black_box;
use std::path::Path;
use std::time::Instant;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use dray::report::{Assurance, CheckReport, FileReport, Report};

const FILES: u64 = 10_000;

fn file(n: u64) -> FileReport {
    FileReport {
        path: format!("layers/{:03}/model-{n:05}-of-10000.safetensors", n % 64),
        size: Some(4 << 20),
        blake3: Some(format!("{n:064x}")),
        assurance: Assurance::Origin,
        checks: vec![CheckReport { name: "crc64nvme", stated: format!("{n:011}="), result: "matched" }],
    }
}

fn bench(criterion: &mut Criterion) {
    let files = (0..FILES).map(file).collect();
    let report = Report::of_files("s3://bucket/m", Path::new("/models"), files, None, Instant::now());
    let mut group = criterion.benchmark_group("report");
    group.throughput(Throughput::Elements(FILES)).sample_size(20);
    group.bench_function("json/10000", |bencher| {
        bencher.iter(|| {
            let text = serde_json::to_vec_pretty(black_box(&report)).expect("names and numbers");
            assert!(10_000 * 200 < text.len());
        });
    });
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
