//! What a registry's answer may not do.

use super::*;

#[test]
fn locations_that_are_no_store_are_refused_by_name() {
    let registry = registry();
    for (number, (uri, code, why)) in [
        ("file:///etc/passwd", 6, "file:"),
        ("http://127.0.0.1:1/m", 6, "http:"),
        ("model-registry://other", 6, "model-registry:"),
        ("models:/other/1", 6, "models:"),
        ("mlflow-artifacts:/1/m", 6, "mlflow-artifacts:"),
        ("oci://registry/m:1", 6, "oci:"),
        ("pvc://claim/m", 6, "pvc:"),
        ("demo://", 6, "demo:"),
        ("/etc/passwd", 6, "no scheme"),
        ("s3://bucket/../other", 6, "no source"),
        ("s3://bucket/m?endpoint=file:///etc", 6, "no source"),
        ("gs://bucket/../m", 6, "no source"),
        ("hf://name", 6, "no source"),
        ("az://container/m", 6, "no source"),
        ("wasbs://container/m", 6, "no source"),
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("model{number}");
        registry.add(&name, "v1", uri);
        let dest = folder();
        let run = pull(&format!("model-registry://{name}"), dest.path(), &registry).run();
        let line = run.assert_fails(code);
        assert!(line.contains(why), "{uri}: {line}");
        assert!(tree(dest.path()).is_empty(), "{uri} left files");
    }
}

#[test]
fn metadata_services_are_refused_before_anything_is_asked_there() {
    let registry = registry();
    for (number, uri) in [
        "https://169.254.169.254/latest/meta-data/iam",
        "https://metadata.google.internal/computeMetadata/v1/token",
        "https://[fd00:ec2::254]/latest/x",
        "https://2852039166/latest/x",
        "s3://bucket/m?endpoint=http://169.254.169.254",
        "s3://bucket/m?endpoint=http://metadata.google.internal:80",
        "s3://bucket/m?endpoint=http://[::ffff:169.254.169.254]",
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("model{number}");
        registry.add(&name, "v1", uri);
        let dest = folder();
        let run = Dray::pull(&format!("model-registry://{name}"), dest.path())
            .env("MODEL_REGISTRY_BASE_URL", registry.address())
            .env("AWS_ACCESS_KEY_ID", "key")
            .env("AWS_SECRET_ACCESS_KEY", "secret-key-of-test")
            .run();
        let line = run.assert_fails(6);
        assert!(line.contains("refused"), "{uri}: {line}");
        assert!(run.seconds < 10.0, "{uri} took {} s", run.seconds);
    }
}

#[test]
fn a_session_token_is_not_sent_to_an_endpoint_that_a_registry_named() {
    let listening = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let registry = registry();
    let uri = format!("s3://bucket/m?endpoint=http://{}", listening.local_addr().expect("an address"));
    registry.add("iris", "v1", &uri);
    let dest = folder();
    let run = Dray::pull("model-registry://iris", dest.path())
        .env("MODEL_REGISTRY_BASE_URL", registry.address())
        .env("AWS_ACCESS_KEY_ID", "key")
        .env("AWS_SECRET_ACCESS_KEY", "secret-key-of-test")
        .env("AWS_SESSION_TOKEN", "CANARY-SESSION")
        .run();
    let line = run.assert_fails(6);
    assert!(line.contains("session token"), "{line}");
    assert_without(&run, dest.path(), &["CANARY"]);
    listening.set_nonblocking(true).expect("nonblocking");
    assert!(listening.accept().is_err(), "somebody connected to the named endpoint");
}

#[test]
fn a_redirecting_registry_is_refused() {
    let registry = registry_with(Mode::Always(307, String::new()));
    let dest = folder();
    let run = pull("model-registry://iris", dest.path(), &registry).run();
    assert!(run.assert_fails(6).contains("redirects"), "{}", run.last_line());
}
