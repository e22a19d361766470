//! One lane writing 256 MiB over and over, four writes at once. Limited by: the disk (set `DRAY_BENCH_DIR` to choose it).
//!
//! Compare rungs and sizes within one run; absolute figures are the machine's. A rung this place refuses is left out aloud.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use dray::disk::{self, Dest, IoWish, PartFile, Probe, SLAB_BYTES, SlabPool, run_lane};
use dray::manifest::FileId;
use futures::stream::{self, StreamExt, TryStreamExt};

const FILE_BYTES: u64 = 256 << 20;
const WRITES_AT_ONCE: usize = 4;

fn disk_write(c: &mut Criterion) {
    let around = std::env::var_os("DRAY_BENCH_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
    let folder = tempfile::tempdir_in(around).expect("a folder to write in");
    let dest = Dest::open(folder.path()).expect("the folder just made");
    let mut group = c.benchmark_group("disk_write");
    group.sample_size(10).measurement_time(Duration::from_secs(3)).warm_up_time(Duration::from_millis(500));
    for wish in [IoWish::Uring, IoWish::Threads, IoWish::Buffered] {
        let probe = match disk::probe(&dest, wish) {
            Ok(probe) => probe,
            Err(error) => {
                eprintln!("left out: {error}");
                continue;
            }
        };
        for slabs in [1, 4] {
            let bytes = u64::try_from(slabs * SLAB_BYTES).expect("a few MiB");
            group.throughput(Throughput::Bytes(bytes));
            let name = format!("{}/{slabs}MiB", probe.rung.word());
            group.bench_function(name, |b| b.iter_custom(|writes| write(&dest, &probe, slabs, bytes, writes)));
        }
    }
    group.finish();
}

/// The time of `writes` writes of `slabs` slabs each, without opening and reserving.
fn write(dest: &Dest, probe: &Probe, slabs: usize, bytes: u64, writes: u64) -> Duration {
    let id = FileId([1; 16]);
    let part = Arc::new(dest.part_open(&id, Some(FILE_BYTES), probe).expect("256 MiB of space"));
    let pool = warm_pool(slabs);
    let elapsed = run_lane(probe.rung, |disk| {
        let (disk, part, pool) = (disk.clone(), Arc::clone(&part), pool.clone());
        async move {
            let one = |number: u64| {
                let (disk, part, pool) = (&disk, &part, &pool);
                async move {
                    let mut batch = Vec::with_capacity(slabs);
                    for _ in 0..slabs {
                        batch.push((pool.lease().await, SLAB_BYTES));
                    }
                    disk.write(part, number * bytes % FILE_BYTES, batch).await
                }
            };
            let started = Instant::now();
            let all = stream::iter(0..writes).map(one).buffer_unordered(WRITES_AT_ONCE);
            all.try_collect::<()>().await.expect("every write succeeds");
            started.elapsed()
        }
    });
    finish(dest, &part, &pool);
    elapsed.expect("the rung was probed")
}

/// Slabs that are resident already: a run touches each for the first time once.
fn warm_pool(slabs: usize) -> SlabPool {
    let bytes = u64::try_from(WRITES_AT_ONCE * slabs * SLAB_BYTES).expect("a few MiB");
    let pool = SlabPool::new(bytes).expect("16 MiB of address space");
    let mut all: Vec<_> = std::iter::from_fn(|| pool.try_lease()).collect();
    all.iter_mut().for_each(|slab| slab.fill(7));
    pool
}

fn finish(dest: &Dest, part: &PartFile, pool: &SlabPool) {
    part.sync_data().expect("no write failed");
    assert_eq!(pool.leased(), 0);
    dest.part_remove(&part.id()).expect("our own part");
}

criterion_group!(benches, disk_write);
criterion_main!(benches);
