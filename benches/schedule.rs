//! A whole plan driven to its end by instant answers: actions per second. Limited by: CPU, one core's ordered maps.
//!
//! 100 GiB take about 6,400 requests: at 10 GiB/s the scheduler has ten seconds for what this measures in a fraction.

#[path = "loads/schedule.rs"]
mod load;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use dray::schedule::FilePlan;

fn bench(criterion: &mut Criterion) {
    let limits = load::limits();
    let mut group = criterion.benchmark_group("schedule");
    group.sample_size(10);
    for (name, size, files) in
        [("one_file", "100GiB", load::model(1, 100 << 30)), ("small_files", "10000", load::model(10_000, 4096))]
    {
        let actions = load::drive(&limits, files.clone());
        group.throughput(Throughput::Elements(actions));
        group.bench_function(BenchmarkId::new(name, size), |bencher| {
            let run = |files: Vec<FilePlan>| assert_eq!(load::drive(&limits, files), actions);
            bencher.iter_batched(|| files.clone(), run, BatchSize::LargeInput);
        });
    }
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
