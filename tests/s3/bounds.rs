//! Listings and documents without bounds: what dray takes of them, and what that costs.

use std::time::{Duration, Instant};

use crate::is_list;
use crate::rig::dray::{Dray, Run};
use crate::rig::fake::{Fake, Reply, reply};
use crate::rig::oracle::MIB;

const PAGE: u64 = 1000;

/// Resident bytes of the process for a listing that is refused at once.
const SMALL_MAX: u64 = 96 * MIB;

/// Resident bytes of the process for a million keys, of which one is wanted; `docs/origins.md` states what is usual.
const MILLION_MAX: u64 = 512 * MIB;

fn plan(server: &Fake, args: &[&str]) -> Run {
    let words = ["plan", "s3://bucket/m/", "--json"];
    let dray = Dray::new(words.iter().chain(args)).env("AWS_ENDPOINT_URL", server.url(""));
    dray.env("AWS_NO_SIGN_REQUEST", "true").within(Duration::from_secs(300)).run()
}

/// The page after `start` of a listing of `count` keys of `size` bytes.
fn page(start: u64, count: u64, size: u64) -> Reply {
    let end = (start + PAGE).min(count);
    let object = |n: u64| {
        format!(
            "<Contents><Key>m/folder-{:04}/shard-{n:08}.safetensors</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified>\
             <ETag>&quot;{n:032x}&quot;</ETag><Size>{size}</Size><StorageClass>STANDARD</StorageClass></Contents>",
            n / PAGE
        )
    };
    let listed: String = (start..end).map(object).collect();
    let next = if end < count {
        format!("<IsTruncated>true</IsTruncated><NextContinuationToken>{end}</NextContinuationToken>")
    } else {
        "<IsTruncated>false</IsTruncated>".to_owned()
    };
    reply(200, format!("<?xml version=\"1.0\"?><ListBucketResult>{next}{listed}</ListBucketResult>"))
}

fn listing_of(count: u64) -> Fake {
    Fake::start(move |asked| {
        if !is_list(asked) {
            return reply(200, "").header("Content-Length", "7").header("ETag", "\"e\"");
        }
        page(asked.parameter("continuation-token").map_or(0, |token| token.parse().expect("a token")), count, 7)
    })
}

#[test]
fn a_million_keys_are_listed_in_bounded_memory() {
    let server = listing_of(1_000_000);
    let started = Instant::now();
    let run = plan(&server, &["--allow", "folder-0777/shard-00777123.safetensors"]);
    run.assert_code(0);
    let plan: serde_json::Value = serde_json::from_str(&run.stdout).expect("JSON");
    assert_eq!(plan["files"].as_array().map(Vec::len), Some(1));
    assert_eq!((server.count(is_list), server.asked().len()), (1000, 1001));
    eprintln!("a million keys: {} MiB, {:?}", run.resident_max / MIB, started.elapsed());
    assert!(run.resident_max <= MILLION_MAX, "{} MiB resident", run.resident_max / MIB);
}

#[test]
fn a_plan_of_many_files_is_written_as_it_is_made() {
    // Empty files: nothing is asked of them.
    let server = Fake::start(|asked| {
        page(asked.parameter("continuation-token").map_or(0, |token| token.parse().expect("a token")), 100_000, 0)
    });
    let run = plan(&server, &[]);
    run.assert_code(0);
    let plan: serde_json::Value = serde_json::from_str(&run.stdout).expect("JSON");
    assert_eq!(plan["files"].as_array().map(Vec::len), Some(100_000));
    assert_eq!(plan["files"][99_999]["path"], "folder-0099/shard-00099999.safetensors");
    assert!(run.resident_max <= SMALL_MAX, "{} MiB resident", run.resident_max / MIB);
}

#[test]
fn more_than_a_million_keys_and_endless_listings_exit_7() {
    let over = listing_of(1_000_001);
    let line = plan(&over, &[]).assert_fails(7).to_owned();
    assert!(line.contains("has more than 1000000 keys"), "{line}");
    // Every page is new: it ends where a million keys are reached, as above; here pages are small.
    let circle = Fake::start(|asked| {
        let start = asked.parameter("continuation-token").map_or(0, |token| token.parse().expect("a token"));
        page(start % 3000, u64::MAX, 7)
    });
    let line = plan(&circle, &[]).assert_fails(7).to_owned();
    assert!(line.contains("does not end") || line.contains("shown before"), "{line}");
    assert!(circle.asked().len() <= 5, "{} requests", circle.asked().len());
    let empty = Fake::start(|asked| {
        let start: u64 = asked.parameter("continuation-token").map_or(0, |token| token.parse().expect("a token"));
        let next =
            format!("<IsTruncated>true</IsTruncated><NextContinuationToken>{}</NextContinuationToken>", start + 1);
        reply(200, format!("<ListBucketResult>{next}</ListBucketResult>"))
    });
    plan(&empty, &[]).assert_fails(7);
    assert!(empty.asked().len() <= 110, "{} requests", empty.asked().len());
}

/// Replies that are no listing: name, body, how often the body is repeated.
fn documents() -> Vec<(&'static str, Vec<u8>, u64)> {
    let open = "<?xml version=\"1.0\"?>";
    let entities: String =
        (1..12).map(|n| format!("<!ENTITY e{n} \"{}\">", format!("&e{};", n - 1).repeat(10))).collect();
    let bomb = format!(
        "{open}<!DOCTYPE b [<!ENTITY e0 \"boom\">{entities}]><ListBucketResult><Prefix>&e11;</Prefix><IsTruncated>false</IsTruncated></ListBucketResult>"
    );
    let outside = format!(
        "{open}<!DOCTYPE b [<!ENTITY x SYSTEM \"file:///etc/passwd\">]><ListBucketResult><Contents><Key>m/&x;</Key><Size>1</Size></Contents><IsTruncated>false</IsTruncated></ListBucketResult>"
    );
    let deep = format!("{open}<ListBucketResult>{}", "<a>".repeat(5_000_000));
    let closed =
        format!("{open}<ListBucketResult>{}{}</ListBucketResult>", "<a>".repeat(2_000_000), "</a>".repeat(2_000_000));
    let attributes: String = (0..500_000).map(|n| format!(" a{n}=\"\"")).collect();
    let flood = format!("{open}<ListBucketResult{attributes}><IsTruncated>true</IsTruncated></ListBucketResult>");
    let garbage = vec![0xff; 1 << 20];
    vec![
        ("a gibibyte", vec![b' '; 1 << 20], 1 << 10),
        ("a bomb of entities", bomb.into_bytes(), 1),
        ("an entity from outside", outside.into_bytes(), 1),
        ("deep nesting", deep.into_bytes(), 1),
        ("deep nesting that closes", closed.into_bytes(), 1),
        ("a flood of attributes", flood.into_bytes(), 1),
        ("no text at all", garbage, 1),
    ]
}

#[test]
fn documents_that_are_none_or_too_long_are_refused_in_little_memory_and_time() {
    for (name, body, times) in documents() {
        let server =
            Fake::start(move |_| reply(200, body.clone()).times(times).header("Content-Type", "application/xml"));
        let started = Instant::now();
        let run = plan(&server, &[]);
        let (code, took) = (run.code(), started.elapsed());
        eprintln!(
            "{name}: exit {code}, {} MiB, {took:?}, {} requests: {}",
            run.resident_max / MIB,
            server.asked().len(),
            run.last_line()
        );
        assert_eq!(code, 7, "{name}: {}", run.stderr);
        assert!(run.resident_max <= SMALL_MAX, "{name}: {} MiB resident", run.resident_max / MIB);
        assert!(took < Duration::from_secs(30), "{name}: {took:?}");
        assert!(!run.last_line().contains("root:"), "{}", run.last_line());
    }
}
