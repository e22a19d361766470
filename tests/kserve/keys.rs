//! Which objects of a bucket land where.

use super::row::{Entry, Row};
use super::stores::{Stored, stored};
use crate::rig::oracle::Content;
use crate::rig::s3::Bucket;
use crate::rig::{moto, weed};

/// Three pages of a listing.
const MANY: u64 = 2_300;

pub(super) fn rows() -> Vec<Row> {
    let stored = stored();
    let mut rows = prefixes(stored);
    rows.extend(names(stored));
    rows.extend(sizes(stored));
    rows.extend(hostile());
    rows.extend(refused(stored));
    rows
}

fn prefixes(stored: &Stored) -> Vec<Row> {
    let uri = |path: &str| stored.bucket.uri(path);
    let whole = weed().bucket("kserve-whole");
    whole.put(&[
        ("models/weights.pt", &stored.deep),
        ("0002.h5", &stored.other),
        ("a/very/long/path/config.json", &stored.config),
    ]);
    let all = [
        ("models/weights.pt", &stored.deep),
        ("0002.h5", &stored.other),
        ("a/very/long/path/config.json", &stored.config),
    ];
    let model = [("weights.bin", &stored.weights)];
    let rows = vec![
        stored.takes_plain("keys/prefix"),
        Row::takes("keys/prefix-with-slash", uri("plain/"), &stored.plain()),
        Row::takes("keys/sibling-prefix", uri("model"), &model),
        Row::takes("keys/sibling-prefix-with-slash", uri("model/"), &model),
        Row::takes("keys/folder-within", uri("plain/sub"), &[("deep.bin", &stored.deep)]),
        Row::takes("keys/exact-object", uri("plain/sub/deep.bin"), &[("deep.bin", &stored.deep)]),
        Row::takes("keys/exact-object-at-root", whole.uri("0002.h5"), &[("0002.h5", &stored.other)]),
        Row::takes("keys/whole-bucket", "s3://kserve-whole", &all),
        Row::takes("keys/whole-bucket-with-slash", "s3://kserve-whole/", &all),
        Row::takes("keys/long-path", whole.uri("a"), &[("very/long/path/config.json", &stored.config)]),
        Row::fails("keys/part-of-a-segment", uri("plai"), 3, "`plai`"),
        Row::fails("keys/nothing-there", uri("absent/model"), 3, "`absent/model`"),
        Row::fails("keys/no-such-bucket", "s3://no-such-bucket/model", 3, "no-such-bucket"),
    ];
    rows.into_iter().map(|row| row.keyed(&stored.bucket.endpoint)).collect()
}

fn names(stored: &Stored) -> Vec<Row> {
    let bucket = weed().bucket("kserve-names");
    let (some, other) = (&stored.deep, &stored.other);
    let odd = [
        "with space",
        "plus+sign",
        "percent%20twenty",
        "日本/モデル",
        "question?mark=1",
        "hash#tag",
        "brackets[1]",
        ".hidden",
        "-dash",
    ];
    let odd_keys: Vec<String> = odd.iter().map(|name| format!("odd/{name}")).collect();
    let deep = format!("deep/{}", "d/".repeat(30));
    let nested = ["model.pkl", "a/model.pkl", "conda.yaml"];
    let nested_keys: Vec<String> = nested.iter().map(|name| format!("test/artifacts/model/{name}")).collect();
    let mut objects = vec![
        ("star/*.bin", other),
        ("star/x.bin", some),
        ("bare/churn-pickle", some),
        ("bare/churn-pickle-logs", other),
        ("bare/churn-pickle-report", other),
        ("one/MLmodel", some),
        ("again/model/model/x", some),
        ("again/model/y", other),
        ("both/m", some),
        ("both/m-2/x", other),
    ];
    let end = format!("{deep}x");
    objects.push((&end, some));
    objects.extend(odd_keys.iter().chain(&nested_keys).map(|key| (key.as_str(), some)));
    bucket.put(&objects);
    let each = |names: &[&'static str]| names.iter().map(|name| (*name, some)).collect::<Vec<_>>();
    let rows = vec![
        Row::takes("keys/odd-names", bucket.uri("odd"), &each(&odd)),
        Row::takes("keys/space-in-the-uri", bucket.uri("odd/with space"), &[("with space", some)]),
        Row::takes("keys/percent-is-not-decoded", bucket.uri("odd/percent%20twenty"), &[("percent%20twenty", some)]),
        Row::takes("keys/letters-of-any-script", bucket.uri("odd/日本"), &[("モデル", some)]),
        Row::takes("keys/deep-path", bucket.uri("deep"), &[(&end[5..], some)]),
        Row::takes("keys/star-is-a-character", bucket.uri("star/*.bin"), &[("*.bin", other)]),
        Row::takes("keys/no-extension-exact", bucket.uri("bare/churn-pickle"), &[("churn-pickle", some)]),
        Row::takes(
            "keys/no-extension-prefix",
            bucket.uri("bare"),
            &[("churn-pickle", some), ("churn-pickle-logs", other), ("churn-pickle-report", other)],
        ),
        Row::takes("keys/one-file-of-a-prefix", bucket.uri("one"), &[("MLmodel", some)]),
        Row::takes("keys/names-like-the-parent", bucket.uri("test/artifacts/model"), &each(&nested)),
        Row::takes("keys/folder-named-as-its-parent", bucket.uri("again/model"), &[("model/x", some), ("y", other)]),
        Row::takes("keys/object-before-its-siblings", bucket.uri("both/m"), &[("m", some)]),
    ];
    rows.into_iter().map(|row| row.keyed(&bucket.endpoint)).collect()
}

fn sizes(stored: &Stored) -> Vec<Row> {
    let uri = |path: &str| stored.bucket.uri(path);
    let folders = weed().bucket("kserve-folders");
    folders.put(&[
        ("m/", &stored.empty),
        ("m/sub/", &stored.empty),
        ("m/none/", &stored.empty),
        ("m/sub/a", &stored.deep),
        ("hollow/", &stored.empty),
    ]);
    let many = weed().bucket("kserve-many");
    let tiny = Content::new(6, 10);
    let names: Vec<String> = (0..MANY).map(|i| format!("part-{:02}/file-{i:04}", i % 13)).collect();
    let keys: Vec<String> = names.iter().map(|name| format!("m/{name}")).collect();
    many.put(&keys.iter().map(|key| (key.as_str(), &tiny)).collect::<Vec<_>>());
    let all: Vec<_> = names.iter().map(|name| (name.as_str(), &tiny)).collect();
    let one = [("file-2299", &tiny)];
    let last_page: Vec<_> = names.iter().filter_map(|name| Some((name.strip_prefix("part-12/")?, &tiny))).collect();
    let zero = [("__init__.py", &stored.empty), ("weights.bin", &stored.weights)];
    let rows = vec![
        Row::takes("keys/zero-bytes", uri("zero"), &zero),
        Row::takes("keys/zero-bytes-exact", uri("zero/__init__.py"), &zero[..1]),
        Row::takes("keys/zero-bytes-alone", uri("zeroes"), &[("a/b", &stored.empty)]),
        Row::takes("keys/folder-markers", folders.uri("m"), &[("sub/a", &stored.deep)]),
        Row::fails("keys/folder-marker-alone", folders.uri("hollow"), 3, "`hollow`"),
        Row::takes("keys/three-pages", many.uri("m"), &all),
        Row::takes("keys/folder-among-pages", many.uri("m/part-12"), &last_page),
        Row::takes("keys/exact-among-pages", many.uri("m/part-11/file-2299"), &one),
    ];
    rows.into_iter().map(|row| row.keyed(&stored.bucket.endpoint)).collect()
}

/// Keys that no folder can hold, or that would leave it. SeaweedFS takes none of them: moto does.
fn hostile() -> Vec<Row> {
    let some = Content::new(8, 10);
    let bucket = |name: &str, keys: &[&str]| -> Bucket {
        let bucket = moto().bucket(name);
        bucket.put(&keys.iter().map(|key| (*key, &some)).collect::<Vec<_>>());
        bucket
    };
    let climbs = bucket("kserve-climbs", &["m/good", "m/../evil"]);
    let row = |name, bucket: &Bucket| Row::fails(name, bucket.uri("m"), 6, "error: ").keyed(&bucket.endpoint);
    vec![
        row("keys/climbs-out", &climbs),
        row("keys/climbs-within", &bucket("kserve-climbs-within", &["m/good", "m/a/../b"])),
        row("keys/climbs-to-itself", &bucket("kserve-climbs-to", &["m/good", "m/.."])),
        row("keys/backslash", &bucket("kserve-backslash", &["m/bad\\name", "m/good"])),
        row("keys/file-and-folder", &bucket("kserve-both", &["m/a", "m/a/b"])),
        row("keys/state-folder", &bucket("kserve-state", &["m/good", "m/.dray/receipt.json"])),
    ]
}

fn refused(stored: &Stored) -> Vec<Row> {
    let endpoint = &stored.bucket.endpoint;
    let source = format!("s3://kserve/plain?endpoint={endpoint}&defaultRegion=us-east-1");
    vec![
        Row::refuses("keys/unknown-parameter", &["s3://kserve/plain?x=1", "{0}"], 2, "parameters").keyed(endpoint),
        Row::refuses("keys/no-bucket", &["s3:///model", "{0}"], 2, "bucket").keyed(endpoint),
        Row::refuses("keys/bad-bucket", &["s3://b/model", "{0}"], 2, "bucket").keyed(endpoint),
        Row::refuses("keys/climbing-source", &["s3://kserve/plain/../model", "{0}"], 2, "`..`").keyed(endpoint),
        Row::takes("keys/endpoint-in-the-uri", source, &stored.plain()).keyed(endpoint).env("AWS_ENDPOINT_URL", ""),
        Row::takes("keys/into-a-folder-with-files", stored.bucket.uri("model/"), &[("weights.bin", &stored.weights)])
            .keyed(endpoint)
            .placed("0/notes.txt", Entry::Text("mine".to_owned()))
            .holds("notes.txt", Entry::Text("mine".to_owned())),
        Row::takes("keys/over-an-older-file", stored.bucket.uri("model/"), &[("weights.bin", &stored.weights)])
            .keyed(endpoint)
            .placed("0/weights.bin", Entry::Text("older".to_owned())),
    ]
}
