//! A small file from its bytes to its final name: part file, write, sync, mode, rename, folders. Limited by: the disk's
//! flushes, four a file (set `DRAY_BENCH_DIR` to choose the disk).
//!
//! Compare rungs within one run. It does one file after another, and opens a lane for each; a pull has many under way.

use std::path::PathBuf;
use std::sync::Arc;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use dray::disk::{self, Dest, IoWish, Probe, SlabPool, run_lane};
use dray::manifest::{FileId, SafePath};
use dray::schedule::FILE_SEAL;

const FILE_BYTES: usize = 4096;

fn bench(criterion: &mut Criterion) {
    let around = std::env::var_os("DRAY_BENCH_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
    let folder = tempfile::tempdir_in(around).expect("a folder to write in");
    let dest = Dest::open(folder.path()).expect("the folder just made");
    let pool = SlabPool::new(0).expect("2 MiB of address space");
    let mut group = criterion.benchmark_group("publish");
    group.sample_size(20).throughput(Throughput::Elements(1));
    for wish in [IoWish::Uring, IoWish::Threads, IoWish::Buffered] {
        match disk::probe(&dest, wish) {
            Ok(probe) => {
                let mut number = 0;
                group.bench_function(BenchmarkId::new(probe.rung.word(), "4KiB"), |bencher| {
                    bencher.iter(|| {
                        number += 1;
                        publish(&dest, &probe, &pool, number);
                    });
                });
            }
            Err(error) => eprintln!("left out: {error}"),
        }
    }
    group.finish();
}

fn publish(dest: &Dest, probe: &Probe, pool: &SlabPool, number: u32) {
    let mut id = [0; 16];
    id[..4].copy_from_slice(&number.to_le_bytes());
    let size = FILE_BYTES as u64;
    let part = Arc::new(dest.part_open(&FileId(id), Some(size), probe).expect("room for a small file"));
    let written = run_lane(probe.rung, |disk| {
        let (disk, part, pool) = (disk.clone(), Arc::clone(&part), pool.clone());
        async move {
            let mut slab = pool.lease().await;
            slab[..FILE_BYTES].fill(7);
            disk.write(&part, 0, vec![(slab, FILE_BYTES)]).await
        }
    });
    written.expect("the rung was probed").expect("a write of 4 KiB");
    part.sync_data().expect("the write was good");
    let path = SafePath::parse(&format!("folder/file-{}", number % 100)).expect("a safe name");
    for step in FILE_SEAL {
        dest.seal_step(step, &part, &path, size).expect("every step succeeds");
    }
    dest.sync_folders(std::iter::once(&path)).expect("folders can be synced");
    assert_eq!(dest.file_size(&path).expect("it is there"), Some(size));
}

criterion_group!(benches, bench);
criterion_main!(benches);
