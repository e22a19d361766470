//! Who gets the registry's token, and that nobody reads it.

use super::*;

const TOKEN: &str = "CANARY-REGISTRY-TOKEN";

fn guarded() -> Registry {
    let options = RegistryOptions { token: Some(TOKEN.to_owned()), ..RegistryOptions::default() };
    Registry::start(options).expect("a registry")
}

#[test]
fn the_token_opens_the_registry_and_is_never_shown() {
    let bucket = models("mr-token", &[("m", 1)]);
    let registry = guarded();
    registry.add("iris", "v1", &bucket.uri("m"));
    let around = folder();
    let file = around.path().join("token");
    std::fs::write(&file, format!("{TOKEN}\n")).expect("token");
    let file = file.to_str().expect("UTF-8");
    for (name, value) in
        [("MODEL_REGISTRY_TOKEN", TOKEN), ("MODEL_REGISTRY_TOKEN_FILE", file), ("KF_PIPELINES_SA_TOKEN_PATH", file)]
    {
        let dest = folder();
        let audit = around.path().join(name);
        let run = pull("model-registry://iris", dest.path(), &registry)
            .env(name, value)
            .env("RUST_LOG", "trace")
            .env("DRAY_AUDIT", &audit)
            .run();
        assert_is(&run, dest.path(), 1, "model-registry://iris", &bucket.uri("m"));
        assert_without(&run, dest.path(), &[TOKEN]);
        let audit = std::fs::read_to_string(audit).expect("the audit log");
        assert!(audit.contains("token\"") && !audit.contains(TOKEN), "{audit}");
    }
    let seen = registry.log();
    assert!(
        seen.iter().all(|asked| asked.authorization.as_deref() == Some("Bearer CANARY-REGISTRY-TOKEN")),
        "{seen:?}"
    );
}

#[test]
fn an_answer_that_echoes_the_token_as_another_type_is_not_repeated() {
    for body in [r#""Bearer CANARY-REGISTRY-TOKEN""#, r#"{"id": ["x"], "name": "CANARY-REGISTRY-TOKEN"}"#] {
        let registry = registry_with(Mode::Always(200, body.to_owned()));
        let dest = folder();
        let run = pull("model-registry://iris", dest.path(), &registry).env("MODEL_REGISTRY_TOKEN", TOKEN).run();
        assert!(run.assert_fails(7).contains("at line 1 column"), "{}", run.last_line());
        assert_without(&run, dest.path(), &[TOKEN]);
    }
}

#[test]
fn a_refused_token_is_not_repeated() {
    let registry = guarded();
    let dest = folder();
    let run =
        pull("model-registry://iris", dest.path(), &registry).env("MODEL_REGISTRY_TOKEN", "CANARY-OF-SOMEBODY").run();
    assert!(run.assert_fails(4).contains("bearer token"), "{}", run.last_line());
    assert_without(&run, dest.path(), &["CANARY"]);
    // A registry that echoes it makes no difference.
    let echo = registry_with(Mode::Always(403, format!(r#"{{"message": "bad token {TOKEN}"}}"#)));
    let run = pull("model-registry://iris", dest.path(), &echo).env("MODEL_REGISTRY_TOKEN", TOKEN).run();
    run.assert_fails(4);
    assert_without(&run, dest.path(), &["CANARY"]);
}

#[test]
fn a_host_that_only_the_source_names_gets_no_token() {
    let bucket = models("mr-foreign", &[("m", 1)]);
    let (own, foreign, closed) = (registry(), registry(), guarded());
    foreign.add("iris", "v1", &bucket.uri("m"));
    let dest = folder();
    let source = format!("model-registry://{}/iris/v1", foreign.address());
    let run = pull(&source, dest.path(), &own).env("MODEL_REGISTRY_TOKEN", TOKEN).run();
    assert_is(&run, dest.path(), 1, &source, &bucket.uri("m"));
    assert!(own.log().is_empty(), "{:?}", own.log());
    let seen = foreign.log();
    assert!(!seen.is_empty() && seen.iter().all(|asked| asked.authorization.is_none()), "{seen:?}");
    let source = format!("model-registry://{}/iris/v1", closed.address());
    let run = pull(&source, dest.path(), &own).env("MODEL_REGISTRY_TOKEN", TOKEN).run();
    let line = run.assert_fails(4);
    assert!(line.contains("set MODEL_REGISTRY_BASE_URL"), "{line}");
    assert!(closed.log().iter().all(|asked| asked.authorization.is_none()), "{:?}", closed.log());
    // The same host, configured: the token is for it.
    closed.add("iris", "v1", &bucket.uri("m"));
    let run = pull(&source, dest.path(), &closed).env("MODEL_REGISTRY_TOKEN", TOKEN).run();
    assert_is(&run, dest.path(), 1, &source, &bucket.uri("m"));
}

#[test]
fn the_token_stays_out_of_requests_to_the_store() {
    // The store is another registry, which writes down whatever it is asked.
    let (registry, store) = (guarded(), registry_with(Mode::Always(404, String::new())));
    registry.add("iris", "v1", &format!("s3://bucket/m?endpoint=http://{}", store.address()));
    let dest = folder();
    let run = Dray::pull("model-registry://iris", dest.path())
        .env("MODEL_REGISTRY_BASE_URL", registry.address())
        .env("MODEL_REGISTRY_TOKEN", TOKEN)
        .env("AWS_NO_SIGN_REQUEST", "true")
        .run();
    run.assert_fails(3);
    let seen = store.log();
    assert!(!seen.is_empty() && seen.iter().all(|asked| asked.authorization.is_none()), "{seen:?}");
}
