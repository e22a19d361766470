//! Leasing and giving back slabs. Limited by: one mutex and one semaphore, a few tens of nanoseconds each.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use dray::disk::{SLAB_BYTES, SlabPool};

fn lease(c: &mut Criterion) {
    let pool = SlabPool::new(64 << 20).expect("64 MiB of address space");
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let mut group = c.benchmark_group("slab_pool");
    group.throughput(Throughput::Elements(1));
    group.bench_function("lease/one", |b| {
        b.iter(|| runtime.block_on(async { assert_eq!(black_box(pool.lease().await).len(), SLAB_BYTES) }));
    });
    group.bench_function("try_lease/one", |b| b.iter(|| assert!(black_box(pool.try_lease()).is_some())));
    group.throughput(Throughput::Elements(64));
    group.bench_function("try_lease/all", |b| {
        b.iter(|| {
            let slabs: Vec<_> = std::iter::from_fn(|| pool.try_lease()).collect();
            assert_eq!(black_box(slabs).len(), 64);
        });
    });
    group.finish();
    assert_eq!(pool.leased(), 0);
}

/// Four threads on a pool of two slabs: every lease waits for a return.
fn contended(c: &mut Criterion) {
    let mut group = c.benchmark_group("slab_pool");
    group.throughput(Throughput::Elements(400));
    group.sample_size(20);
    group.bench_function("contended/4x100", |b| {
        b.iter(|| {
            let pool = SlabPool::new(0).expect("2 MiB of address space");
            std::thread::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn(|| {
                        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
                        runtime.block_on(async {
                            for _ in 0..100 {
                                let slab = pool.lease().await;
                                tokio::task::yield_now().await;
                                drop(slab);
                            }
                        });
                    });
                }
            });
            assert_eq!(pool.leased(), 0);
        });
    });
    group.finish();
}

criterion_group!(benches, lease, contended);
criterion_main!(benches);
