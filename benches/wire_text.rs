//! Requests, heads and chunk lines. Limited by: CPU, a few hundred bytes of text each.
//!
//! One request and one head a span of 8 to 16 MiB: 50 µs for both are less than 1 % of what a span takes at 1 GiB/s.

#[path = "loads/http.rs"]
mod load;

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};

fn bench(criterion: &mut Criterion) {
    let (head, asked, (settings, url)) = (load::head(), load::asked(), load::signed());
    let mut group = criterion.benchmark_group("wire");
    group.throughput(Throughput::Elements(1));
    group.bench_function("request/signed", |bencher| {
        let expected = load::build_request(&settings, &url, &asked, &[]);
        bencher.iter(|| assert_eq!(load::build_request(&settings, black_box(&url), &asked, &[]), expected));
    });
    group.bench_function("head/s3", |bencher| {
        bencher.iter(|| assert_eq!(load::read_head(black_box(&head), &asked), 16 << 20));
    });
    let body = load::chunked(1024);
    group.throughput(Throughput::Bytes(1 << 20));
    group.bench_function("unframe/1MiB", |bencher| {
        bencher.iter(|| assert_eq!(load::unframe(black_box(&body)), 1 << 20));
    });
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
