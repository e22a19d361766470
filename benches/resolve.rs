//! A listing of 1,000 objects read into a manifest. Limited by: CPU, text and allocation.
//!
//! `page` is the parser alone, `listed` a whole question over loopback by the store's own client: their difference is
//! what the client costs. `manifest` checks and sorts the names that came.

#[path = "loads/pages.rs"]
mod pages;

use std::hint::black_box;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use dray::origin::pages::{self as parse, Store};
use dray::origin::{Environment, Gcs, Origin, S3};
use dray::resolve::{Filter, entries};
use dray::uri::Source;
use dray::wire::{Policy, Settings, tls};

const KEYS: u64 = 1000;

fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("resolve");
    group.throughput(Throughput::Elements(KEYS)).sample_size(20);
    for (name, store) in [("gcs", Store::Gcs), ("azure", Store::Azure), ("hub", Store::Hub)] {
        let page = pages::page(store, KEYS);
        group.bench_function(format!("page_{name}/1000"), |bencher| {
            bencher.iter(|| assert_eq!(parse::read(store, black_box(&page), "m/").expect("a page").len(), 1000));
        });
    }
    let found = parse::read(Store::Gcs, &pages::page(Store::Gcs, KEYS), "m/").expect("a page");
    group.bench_function("manifest/1000", |bencher| {
        let make = |found| assert_eq!(entries(found, &Filter::default()).expect("names are safe").len(), 1000);
        bencher.iter_batched(|| found.clone(), make, BatchSize::SmallInput);
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let origins =
        [("gcs", gcs(serve(pages::page(Store::Gcs, KEYS)), &runtime)), ("s3", s3(serve(s3_page()), &runtime))];
    for (name, origin) in origins {
        group.bench_function(format!("listed_{name}/1000"), |bencher| {
            bencher.iter(|| assert_eq!(runtime.block_on(origin.list()).expect("a listing").len(), 1000));
        });
    }
    group.finish();
}

fn wire() -> Arc<Settings> {
    Arc::new(Settings::new(Arc::new(tls::client_config(&[]).expect("built-in roots"))))
}

fn environment(variables: &[(&str, String)]) -> Environment {
    Environment::new(variables.iter().map(|(name, value)| ((*name).to_owned(), value.clone())))
}

fn gcs(server: SocketAddr, runtime: &tokio::runtime::Runtime) -> Box<dyn Origin> {
    let Ok(Source::Gcs(source)) = Source::parse("gs://bucket/m/") else { unreachable!("a gs:// source") };
    let environment = environment(&[("STORAGE_EMULATOR_HOST", format!("http://{server}"))]);
    Box::new(runtime.block_on(Gcs::connect(&source, &environment, wire())).expect("an emulator's address"))
}

fn s3(server: SocketAddr, runtime: &tokio::runtime::Runtime) -> Box<dyn Origin> {
    let Ok(Source::S3(source)) = Source::parse("s3://bucket/m/") else { unreachable!("an s3:// source") };
    let endpoint = ("AWS_ENDPOINT_URL", format!("http://{server}"));
    let variables = [endpoint, ("AWS_REGION", "us-east-1".to_owned()), ("AWS_NO_SIGN_REQUEST", "true".to_owned())];
    let (environment, wire) = (environment(&variables), wire());
    let connect = S3::connect(&source, &environment, &wire, Policy::Configured);
    Box::new(runtime.block_on(connect).expect("an endpoint"))
}

/// ListObjectsV2 as S3 answers it.
fn s3_page() -> Vec<u8> {
    let object = |n: u64| {
        format!(
            "<Contents><Key>m/shard-{:02}/model-{n:05}.safetensors</Key><LastModified>2026-11-22T09:08:07.000Z\
             </LastModified><ETag>&quot;{n:032x}&quot;</ETag><Size>4096</Size><StorageClass>STANDARD</StorageClass></Contents>",
            n % 32
        )
    };
    let objects: String = (0..KEYS).map(object).collect();
    format!("<ListBucketResult><Name>bucket</Name><IsTruncated>false</IsTruncated>{objects}</ListBucketResult>").into()
}

/// A server that answers every request with this body, one thread a connection, until the process ends.
fn serve(body: Vec<u8>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
    let reply: Arc<[u8]> = [head.as_bytes(), &body].concat().into();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let reply = Arc::clone(&reply);
            std::thread::spawn(move || answer(&stream, &reply));
        }
    });
    address
}

/// Ends with the client's connection.
fn answer(stream: &TcpStream, reply: &[u8]) -> Option<()> {
    let mut lines = BufReader::new(stream).lines();
    loop {
        while !lines.next()?.ok()?.is_empty() {}
        (&mut &*stream).write_all(reply).ok()?;
    }
}

criterion_group!(benches, bench);
criterion_main!(benches);
