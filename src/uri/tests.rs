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
        "az://c/k",
        "hf:o/n",
        "hf://o",
        "file://host/etc/passwd",
        "javascript:x",
        "model-registry:iris",
        "model-registry://",
        "model-registry:///iris",
        "model-registry:///",
        "model-registry://iris//v1/",
        "model-registry://host:8080//v1",
        "model-registry://user:pw@host:8080/iris",
        "model-registry://host:port/iris",
        "model-registry://iris?namespace=",
        "model-registry://iris?namespace=a.b",
        "model-registry://iris?namespace=a&namespace=b",
        "model-registry://iris?version=1",
        "model-registry://iris#v1",
        "model-registry://%ff",
        "model-registry://a%00b",
        "models:iris/1",
        "models:////iris/1",
        "models:/",
        "models:/iris",
        "models:/iris@",
        "models:/@champion",
        "models:/iris//x",
        "models:/iris/1/../2",
        "models:/iris/1/%2e%2e/2",
        "models:/iris/1?x=y",
        "mlflow:iris/1",
        "mlflow://iris",
        "mlflow-artifacts:x",
        "mlflow-artifacts:/",
        "mlflow-artifacts:/a/../b",
        "mlflow-artifacts://ho st/a",
        "mlflow-artifacts://user@host/a",
    ] {
        assert!(matches!(Source::parse(text), Err(Error::Usage(_))), "{text:?}: {:?}", Source::parse(text));
    }
    let long = format!("s3://bucket/{}", "k".repeat(KEY_BYTES_MAX + 1));
    assert!(Source::parse(&long).is_err());
    assert!(Source::parse(&format!("https://h/{}", "k".repeat(URI_BYTES_MAX))).is_err());
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

#[test]
fn registry_sources_are_read_by_their_form_alone() {
    let host = |text| (Some(text), "iris", Some("v1"));
    for (text, (server, model, version), namespace) in [
        ("model-registry://iris", (None, "iris", None), None),
        ("model-registry://iris/", (None, "iris", None), None),
        ("Model-Registry://iris/v1", (None, "iris", Some("v1")), None),
        ("model-registry://iris/v1?namespace=test", (None, "iris", Some("v1")), Some("test")),
        ("model-registry://iris?namespace=a-B_9", (None, "iris", None), Some("a-B_9")),
        ("model-registry://host:8080/iris", (Some("host:8080"), "iris", None), None),
        ("model-registry://mr.kubeflow.svc/iris", (Some("mr.kubeflow.svc"), "iris", None), None),
        ("model-registry://10.0.0.1/iris", (Some("10.0.0.1"), "iris", None), None),
        ("model-registry://localhost/iris", (Some("localhost"), "iris", None), None),
        ("model-registry://[::1]:8080/iris", (Some("[::1]:8080"), "iris", None), None),
        ("model-registry://mr/iris/v1", host("mr"), None),
        ("model-registry://mr.example.com:443/iris/v1", host("mr.example.com:443"), None),
        ("model-registry://mr:1/iris/v1?namespace=n", host("mr:1"), Some("n")),
        ("model-registry://mr:1/iris/v/1", (Some("mr:1"), "iris", Some("v/1")), None),
        // Names of models have dots and digits, too.
        ("model-registry://llama-3.1/v1", (None, "llama-3.1", Some("v1")), None),
        ("model-registry://Qwen2.5-7B/1.0", (None, "Qwen2.5-7B", Some("1.0")), None),
        ("model-registry://llama%2Etiny/v1", (None, "llama.tiny", Some("v1")), None),
        ("model-registry://my%20model/a%2Fb", (None, "my model", Some("a/b")), None),
    ] {
        let Ok(Source::Registry(source)) = Source::parse(text) else { panic!("{text}: {:?}", Source::parse(text)) };
        let found = (source.host.as_deref(), source.model.as_str(), source.version.as_deref());
        assert_eq!((found, source.namespace.as_deref()), ((server, model, version), namespace), "{text}");
        let canonical = Source::Registry(source.clone()).canonical();
        assert_eq!(Source::parse(&canonical), Ok(Source::Registry(source)), "{text} {canonical}");
    }
}

#[test]
fn mlflow_sources_name_a_version_an_alias_or_a_logged_model() {
    let registered = |name: &str, choice| MlflowModel::Registered { name: name.to_owned(), choice };
    let version = |number: &str| registered("iris", Choice::Version(number.to_owned()));
    for (text, model, below) in [
        ("models:/iris/1", version("1"), ""),
        ("models://iris/1", version("1"), ""),
        ("models:///iris/1/", version("1"), ""),
        ("mlflow://iris/1", version("1"), ""),
        ("models:/iris/latest", registered("iris", Choice::Latest), ""),
        ("mlflow://iris/LATEST", registered("iris", Choice::Latest), ""),
        ("models:/iris/Production", registered("iris", Choice::Stage("Production".to_owned())), ""),
        ("models:/iris@champion", registered("iris", Choice::Alias("champion".to_owned())), ""),
        ("models:/a@b@champion/data", registered("a@b", Choice::Alias("champion".to_owned())), "data"),
        ("models:/iris/1/data/model.bin", version("1"), "data/model.bin"),
        ("models:/my%20model/1", registered("my model", Choice::Version("1".to_owned())), ""),
        ("models:/m-0123456789abcdef", MlflowModel::Logged { id: "m-0123456789abcdef".to_owned() }, ""),
        ("models:/m-x/1", registered("m-x", Choice::Version("1".to_owned())), ""),
    ] {
        let Ok(Source::Mlflow(source)) = Source::parse(text) else { panic!("{text}: {:?}", Source::parse(text)) };
        assert_eq!((&source.model, source.below.as_str()), (&model, below), "{text}");
        let canonical = Source::Mlflow(source.clone()).canonical();
        assert!(canonical.starts_with("models:/") && !canonical.starts_with("models://"), "{canonical}");
        assert_eq!(Source::parse(&canonical), Ok(Source::Mlflow(source)), "{text} {canonical}");
    }
}

#[test]
fn mlflow_artifacts_have_a_path_and_perhaps_a_host() {
    for (text, host, path, canonical) in [
        ("mlflow-artifacts:/1/x/artifacts", None, "1/x/artifacts", "mlflow-artifacts:/1/x/artifacts"),
        ("mlflow-artifacts:///1/x/", None, "1/x", "mlflow-artifacts:/1/x"),
        ("mlflow-artifacts://h:5000/1/x", Some("h:5000"), "1/x", "mlflow-artifacts://h:5000/1/x"),
        ("mlflow-artifacts:/a%20b%25/c%3F", None, "a b%/c?", "mlflow-artifacts:/a b%25/c%3F"),
    ] {
        let Ok(Source::Artifacts(source)) = Source::parse(text) else { panic!("{text}: {:?}", Source::parse(text)) };
        assert_eq!((source.host.as_deref(), source.path.as_str()), (host, path), "{text}");
        assert_eq!(Source::Artifacts(source.clone()).canonical(), canonical);
        assert_eq!(Source::parse(canonical), Ok(Source::Artifacts(source)), "{canonical}");
    }
}

#[test]
fn a_registry_may_name_stores_and_nothing_else() {
    let ok = Source::named_by_registry("s3://bucket/m?endpoint=http://minio:9000&defaultRegion=eu-west-1");
    assert!(matches!(ok, Ok(Source::S3(_))), "{ok:?}");
    assert!(matches!(Source::named_by_registry(" HTTPS://host/m.bin "), Ok(Source::Http(_))));
    assert!(matches!(Source::named_by_registry("gs://bucket/m"), Ok(Source::Gcs(_))));
    assert!(matches!(Source::named_by_registry("hf://o/n:v1"), Ok(Source::Hub(_))));
    for azure in [
        "az://acc/models/m",
        "wasbs://models@acc.blob.core.windows.net/m",
        "https://acc.blob.core.windows.net/models/m",
    ] {
        assert!(matches!(Source::named_by_registry(azure), Ok(Source::Azure(_))), "{azure}");
    }
    for (refused, scheme) in [
        ("file:///etc/passwd", "file:"),
        ("FILE:/etc/passwd", "file:"),
        ("http://host/m", "http:"),
        ("model-registry://m", "model-registry:"),
        ("models:/m/1", "models:"),
        ("mlflow-artifacts:/m", "mlflow-artifacts:"),
        ("demo://", "demo:"),
        ("oci://r/m", "oci:"),
        ("dbfs:/m", "dbfs:"),
        ("/etc/passwd", "no scheme"),
        ("", "no scheme"),
        ("s3://", "no source"),
        ("abfss://c@a/m", "no source"),
        ("s3://bucket/../x", "no source"),
        ("https://host/", "no source"),
    ] {
        let Err(Error::Policy(text)) = Source::named_by_registry(refused) else { panic!("{refused}") };
        assert!(text.contains(scheme), "{refused}: {text}");
    }
}
