//! A whole pull over loopback, origin and client on the same CPUs: resolve, fetch, hash, write, sync, publish.
//!
//! Limiting resource: CPU (two processes' worth on one machine), then the disk of the temporary folder.
//! Ratios between the rungs in one run mean something; absolute figures do not travel.

use std::sync::Arc;
use std::time::Instant;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use dray::disk::IoWish;
use dray::engine::{Pull, Require, Unobserved, pull};
use dray::limits::Limits;
use dray::origin::Environment;
use dray::resolve::{Filter, Settings, resolve};
use dray::uri::Source;
use dray::wire;
use dray_arena::{Content, FaultOrigin, Script};

const MIB: u64 = 1 << 20;

fn fetch(c: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
    let wire = Arc::new(wire::Settings::new(Arc::new(wire::tls::client_config(&[]).expect("roots"))));
    let mut group = c.benchmark_group("fetch_loopback");
    group.sample_size(10);
    for size in [8 * MIB, 128 * MIB] {
        let origin = FaultOrigin::start(vec![("/weights".to_owned(), Content::generated(1, size))], Script::calm())
            .expect("origin");
        let source = Source::parse(&origin.url("/weights")).expect("source");
        let expected =
            blake3::hash(&Content::generated(1, size).range(0, usize::try_from(size).expect("fits"))).to_string();
        group.throughput(Throughput::Bytes(size));
        for (name, io) in [("uring", IoWish::Uring), ("threads", IoWish::Threads), ("buffered", IoWish::Buffered)] {
            group.bench_function(BenchmarkId::new(name, format!("{}MiB", size / MIB)), |b| {
                b.iter_with_large_drop(|| {
                    let dest = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("folder");
                    let outcome = runtime.block_on(async {
                        let settings = Settings {
                            environment: Environment::default(),
                            wire: wire.clone(),
                            filter: Filter::default(),
                            audit: Default::default(),
                        };
                        let (manifest, origin) = resolve(&source, &settings).await.expect("resolve");
                        let limits = Limits { lanes: dray::disk::place::cpus(), ..Limits::default() };
                        let run = Pull {
                            names: None,
                            unpack: None,
                            asked: manifest.source.clone(),
                            manifest,
                            origin,
                            dest: dest.path().to_owned(),
                            limits,
                            io,
                            wire: wire.clone(),
                            require: Require::None,
                            pin: None,
                            sealed: None,
                            formats: None,
                            seed: 1,
                            audit: Default::default(),
                            crew: None,
                            started: Instant::now(),
                        };
                        pull(run, &mut Unobserved).await
                    });
                    outcome.result.expect("sealed");
                    assert_eq!(outcome.report.files[0].blake3.as_deref(), Some(expected.as_str()));
                    dest
                });
            });
        }
    }
    group.finish();
}

criterion_group!(benches, fetch);
criterion_main!(benches);
