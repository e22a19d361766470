//! Registries that are down, broken, slow or endless.

use super::*;

#[test]
fn a_registry_that_answers_badly_is_a_network_failure() {
    let garbage = "<html>welcome to the captive portal</html>";
    for (mode, why) in [
        (Mode::Always(500, r#"{"message": "database is gone"}"#.to_owned()), "database is gone"),
        (Mode::Always(200, garbage.to_owned()), "answers with something else"),
        (Mode::Always(200, String::new()), "answers with something else"),
        (Mode::Always(200, "[]".to_owned()), "answers with something else"),
        (Mode::Always(200, "{}".to_owned()), "without an id"),
        (Mode::Always(418, "teapot".to_owned()), "418"),
        (Mode::Huge, "more than"),
    ] {
        let shown = format!("{mode:?}");
        let registry = registry_with(mode);
        let dest = folder();
        let run = pull("model-registry://iris", dest.path(), &registry).run();
        let line = run.assert_fails(7);
        assert!(line.contains(why), "{shown}: {line}");
        assert!(run.seconds < 20.0, "{shown} took {} s", run.seconds);
        assert!(registry.log().len() <= 3, "{shown}: {} requests", registry.log().len());
    }
}

#[test]
fn lists_without_end_are_given_up() {
    for mode in [Mode::EndlessPages, Mode::LoopingPages] {
        let registry = registry_with(mode.clone());
        registry.add("iris", "v1", "s3://bucket/m");
        let dest = folder();
        let run = pull("model-registry://iris", dest.path(), &registry).run();
        assert!(run.assert_fails(7).contains("without end"), "{mode:?}: {}", run.last_line());
        assert!(registry.log().len() <= 102, "{mode:?}: {} requests", registry.log().len());
    }
}

#[test]
fn refusals_are_denials_at_once() {
    for status in [401, 403] {
        let registry = registry_with(Mode::Always(status, r#"{"message": "who are you"}"#.to_owned()));
        let dest = folder();
        let run = pull("model-registry://iris", dest.path(), &registry).run();
        let line = run.assert_fails(4);
        assert!(line.contains("who are you") && line.contains("no token is configured"), "{line}");
        assert_eq!(registry.log().len(), 1);
    }
}

#[test]
fn an_api_that_is_not_there_is_told_as_such() {
    let registry = registry_with(Mode::Always(404, "404 page not found".to_owned()));
    let dest = folder();
    let run = pull("model-registry://iris", dest.path(), &registry).run();
    assert!(run.assert_fails(3).contains("no model registry API"), "{}", run.last_line());
    assert_eq!(registry.log().len(), 2, "{:?}", registry.log());
}

#[test]
fn nobody_there_is_told_within_twenty_seconds() {
    for base in ["127.0.0.1:1", "registry.invalid:8080"] {
        let dest = folder();
        let run = Dray::pull("model-registry://iris", dest.path()).env("MODEL_REGISTRY_BASE_URL", base).run();
        let line = run.assert_fails(7);
        assert!(line.contains(base.split(':').next().expect("a host")), "{line}");
        assert!(run.seconds < 20.0, "{base} took {} s", run.seconds);
    }
}

#[test]
fn a_silent_registry_is_given_up_after_the_stall_timeout() {
    let registry = registry_with(Mode::Silent);
    let dest = folder();
    let run = pull("model-registry://iris", dest.path(), &registry).args(["--stall-timeout", "1s"]).run();
    let line = run.assert_fails(7);
    assert!(line.contains("does not answer"), "{line}");
    assert!(run.seconds < 10.0, "took {} s", run.seconds);
}

#[test]
fn settings_that_cannot_be_used_are_usage_errors() {
    for (name, value, why) in [
        ("MODEL_REGISTRY_BASE_URL", "ftp://host", "MODEL_REGISTRY_BASE_URL"),
        ("MODEL_REGISTRY_BASE_URL", "http://user:CANARY@host", "MODEL_REGISTRY_BASE_URL"),
        ("MODEL_REGISTRY_SCHEME", "gopher", "MODEL_REGISTRY_SCHEME"),
        ("MODEL_REGISTRY_TOKEN_FILE", "/nonexistent/token", "/nonexistent/token"),
        ("KF_PIPELINES_SA_TOKEN_PATH", "/nonexistent/token", "/nonexistent/token"),
        ("MODEL_REGISTRY_CA_FILE", "/nonexistent/ca", "/nonexistent/ca"),
    ] {
        let dest = folder();
        let run = Dray::pull("model-registry://iris", dest.path()).env(name, value).run();
        let line = run.assert_fails(2);
        assert!(line.contains(why), "{name}: {line}");
        assert_without(&run, dest.path(), &["CANARY"]);
    }
}
