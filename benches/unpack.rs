//! One large member out of a tar in memory. Limited by: memory bandwidth for the plain one (a copy in, a copy out), CPU for
//! `gzip`, whose stored blocks leave only its checksum and the copies.
//!
//! Hashing and writing the member come on top of it in a pull.

use std::hint::black_box;
use std::io::{self, Write};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use dray::Error;
use dray::manifest::SafePath;
use dray::unpack::{self, Input, Kind, Sink};

const MEMBER_BYTES: usize = 64 << 20;

/// An archive in memory.
struct Bytes<'a>(&'a [u8]);

impl Input for Bytes<'_> {
    fn size(&self) -> u64 {
        self.0.len() as u64
    }

    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let rest = self.0.get(usize::try_from(offset).expect("64 bits")..).unwrap_or_default();
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }
}

/// Counts what comes.
#[derive(Default)]
struct Seen {
    begun: u32,
    ended: u32,
    bytes: usize,
}

impl Sink for Seen {
    fn begin(&mut self, _: SafePath, size: u64) -> Result<(), Error> {
        assert_eq!(size, MEMBER_BYTES as u64);
        self.begun += 1;
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.bytes += black_box(bytes).len();
        Ok(())
    }

    fn end(&mut self) -> Result<(), Error> {
        self.ended += 1;
        Ok(())
    }
}

fn tar() -> Vec<u8> {
    let mut block = vec![0; 512];
    block[..12].copy_from_slice(b"model.weight");
    block[124..135].copy_from_slice(format!("{MEMBER_BYTES:011o}").as_bytes());
    block[156] = b'0';
    block[257..265].copy_from_slice(b"ustar\x0000");
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block.resize(512 + MEMBER_BYTES, 7);
    block.resize(block.len() + 1024, 0);
    block
}

fn bench(criterion: &mut Criterion) {
    let plain = tar();
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::none());
    packed.write_all(&plain).expect("memory");
    let packed = packed.finish().expect("memory");
    let mut group = criterion.benchmark_group("unpack");
    group.throughput(Throughput::Bytes(MEMBER_BYTES as u64)).sample_size(10);
    for (name, archive) in [("tar", &plain), ("tar_gzip_stored", &packed)] {
        group.bench_function(BenchmarkId::new(name, "64MiB"), |bencher| {
            bencher.iter(|| {
                let mut seen = Seen::default();
                unpack::unpack(Kind::Tar, &mut Bytes(archive), &mut seen).expect("a good archive");
                assert_eq!((seen.begun, seen.ended, seen.bytes), (1, 1, MEMBER_BYTES));
            });
        });
    }
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
