//! What is read, what is refused, what is never shown.

use super::*;
use crate::secret::Secret;

fn s3(text: &str) -> S3Source {
    match Source::parse(text) {
        Ok(Source::S3(s3)) => s3,
        other => panic!("{text}: {other:?}"),
    }
}

fn http(text: &str) -> HttpSource {
    match Source::parse(text) {
        Ok(Source::Http(http)) => http,
        other => panic!("{text}: {other:?}"),
    }
}

#[test]
fn s3_paths_are_keys_as_they_stand() {
    for (text, bucket, key) in [
        ("s3://bucket", "bucket", ""),
        ("s3://bucket/", "bucket", ""),
        ("S3://bucket/a/b", "bucket", "a/b"),
        ("s3://my.old_Bucket-1/a/", "my.old_Bucket-1", "a/"),
        ("s3://bucket/a b+c%20d#e/ü", "bucket", "a b+c%20d#e/ü"),
        ("s3://bucket//a", "bucket", "/a"),
        (" s3://bucket/a\n", "bucket", "a"),
    ] {
        let source = s3(text);
        assert_eq!((source.bucket.as_str(), source.key.as_str()), (bucket, key), "{text}");
    }
}

#[test]
fn s3_parameters_are_endpoint_and_region() {
    let source = s3("s3://bucket/m?endpoint=http%3A%2F%2Fminio%3A9000%2F&defaultRegion=eu-west-1");
    assert_eq!(source.endpoint.as_deref(), Some("http://minio:9000"));
    assert_eq!(source.region.as_deref(), Some("eu-west-1"));
    assert_eq!(Source::S3(source).canonical(), "s3://bucket/m");
}

#[test]
fn bad_sources_are_usage_errors() {
    for text in [
        "",
        "bucket/key",
        "s3:",
        "s3:/bucket",
        "s3://",
        "s3:///key",
        "s3://ab/key",
        "s3://-ab/key",
        "s3://ab-/key",
        "s3://a..b/key",
        "s3://10.0.0.1/key",
        "s3://user@bucket/key",
        "s3://bucket:80/key",
        "s3://büro/key",
        "s3://bucket/../key",
        "s3://bucket/a/./b",
        "s3://bucket/a/..",
        "s3://bucket/a\u{0}b",
        "s3://bucket/k?versionId=1",
        "s3://bucket/k?endpoint=ftp://x",
        "s3://bucket/k?endpoint=http://u:p@x",
        "s3://bucket/k?endpoint=x:9000",
        "s3://bucket/k?defaultRegion=eu/west",
        "s3://bucket/k?defaultRegion=",
        "http://",
        "http:///file",
        "https://host",
        "https://host/",
        "https://host/folder/",
        "http://host/%ff",
        "http://us%0aer@host/f",
        "ftp://host/f",
        "gopher://x",
        "demo:",
        "demo://potato",
        "demo://1GiB?files=0",
        "demo://1GiB?files=99999",
        "demo://?shards=2",
        "demo://99TiB",
        "gs://b/k",
        "az://c/k",
        "hf:o/n",
        "hf://o",
        "file:///etc/passwd",
        "model-registry://m",
        "models:/m/1",
        "mlflow://x",
        "javascript:x",
    ] {
        assert!(matches!(Source::parse(text), Err(Error::Usage(_))), "{text:?}: {:?}", Source::parse(text));
    }
    let long = format!("s3://bucket/{}", "k".repeat(KEY_BYTES_MAX + 1));
    assert!(Source::parse(&long).is_err());
    assert!(Source::parse(&format!("https://h/{}", "k".repeat(URI_BYTES_MAX))).is_err());
}

#[test]
fn known_schemes_of_other_builds_are_named() {
    let Err(Error::Usage(text)) = Source::parse("az://account/container") else { panic!("accepted") };
    assert!(text.contains("does not speak az"), "{text}");
}

#[test]
fn http_names_come_decoded_from_the_last_segment() {
    for (text, name) in [
        ("https://host/model.safetensors", "model.safetensors"),
        ("HTTP://host:8080/a/b%20c%2Bd.bin?x=1#frag", "b c+d.bin"),
        ("https://host/a/%E6%A8%A1.bin", "模.bin"),
        ("https://host/a/..%2f..%2fetc", "../../etc"),
        ("https://host/a//file", "file"),
    ] {
        assert_eq!(http(text).file_name(), Ok(name.to_owned()), "{text}");
    }
}

#[test]
fn userinfo_and_query_never_show() {
    let source = Source::parse("https://us%65r:p%40ss@host/f?X-Amz-Signature=secretsig&token=abc").unwrap();
    for text in [source.canonical(), format!("{source:?}"), format!("{source}")] {
        assert!(text.starts_with("https://host/f?blake3="), "{text}");
        for secret in ["user", "p@ss", "p%40ss", "secretsig", "abc"] {
            assert!(!text.contains(secret), "{text}");
        }
    }
    let Source::Http(http) = source else { panic!("not http") };
    assert_eq!(http.userinfo().map(Secret::expose), Some("user:p@ss"));
    assert!(http.url().as_str().contains("token=abc") && !http.url().as_str().contains("p%40ss"));
    for bad in ["https://user:hunter2@host/", "hunter2://x", "https://host:hunter2/f?k=hunter2"] {
        assert!(!format!("{:?}", Source::parse(bad)).contains("hunter2"), "{bad}");
    }
}

#[test]
fn queries_tell_objects_apart_and_signatures_do_not() {
    let name = |text| Source::parse(text).unwrap().canonical();
    assert_ne!(name("https://h/f?id=1"), name("https://h/f?id=2"));
    assert_ne!(name("https://h/f?id=1"), name("https://h/f"));
    assert_eq!(name("https://h/f?X-Amz-Date=1&X-Amz-Signature=a"), name("https://h/f"));
    assert_eq!(name("https://h/f?id=1&Expires=5&Signature=a"), name("https://h/f?id=1&Expires=9&Signature=b"));
    assert_eq!(name("https://h/f?sv=1&se=2&sig=x"), name("https://h/f?sv=3&se=4&sig=y"));
    assert_ne!(name("https://h/f?sp=1"), name("https://h/f?sp=2"));
}

#[test]
fn demo_has_defaults_and_a_canonical_form() {
    let demo = |text| match Source::parse(text) {
        Ok(Source::Demo(demo)) => demo,
        other => panic!("{text}: {other:?}"),
    };
    assert_eq!(demo("demo://"), DemoSource { total_bytes: 1 << 30, files: 4, seed: 1 });
    assert_eq!(demo("demo://4GiB?files=8&seed=7"), DemoSource { total_bytes: 4 << 30, files: 8, seed: 7 });
    let canonical = Source::Demo(demo("demo://4GiB?files=8")).canonical();
    assert_eq!(demo(&canonical), demo("demo://4GiB?files=8"));
}
