//! `model-registry://`: its forms, which version, which artifact, pages, versions of the API.

use super::*;

#[test]
fn every_form_of_a_name_leads_to_the_same_bytes() {
    let bucket = models("mr-forms", &[("iris", 1)]);
    let registry = registry();
    registry.add("iris", "v1", &bucket.uri("iris"));
    let (address, resolved) = (registry.address(), bucket.uri("iris"));
    let port = address.rsplit(':').next().expect("a port").to_owned();
    for (source, variables) in [
        ("model-registry://iris".to_owned(), vec![("MODEL_REGISTRY_BASE_URL", address.clone())]),
        ("model-registry://iris/v1".to_owned(), vec![("MODEL_REGISTRY_BASE_URL", format!("http://{address}/"))]),
        ("model-registry://iris/v1".to_owned(), vec![("MR_BASE_URL", address.clone())]),
        (format!("model-registry://{address}/iris"), vec![]),
        (format!("model-registry://{address}/iris/v1"), vec![("MODEL_REGISTRY_BASE_URL", "127.0.0.1:1".to_owned())]),
        (format!("model-registry://{address}/iris/v1?namespace=test"), vec![]),
        // `*.localhost` is this machine, so that a namespace's service can be.
        (
            "model-registry://iris/v1?namespace=test".to_owned(),
            vec![
                ("MODEL_REGISTRY_BASE_URL", format!("nowhere.example:{port}")),
                ("MODEL_REGISTRY_CLUSTER_DOMAIN", "localhost".to_owned()),
            ],
        ),
        (
            "model-registry://iris?namespace=kube-flow_1".to_owned(),
            vec![
                ("MODEL_REGISTRY_BASE_URL", format!("nowhere.example:{port}")),
                ("MODEL_REGISTRY_SERVICE_NAME", "registry".to_owned()),
                ("MODEL_REGISTRY_CLUSTER_DOMAIN", "svc.localhost".to_owned()),
            ],
        ),
    ] {
        let dest = folder();
        let run = variables
            .iter()
            .fold(Dray::pull(&source, dest.path()).s3(&weed().endpoint()), |dray, (name, value)| dray.env(name, value))
            .run();
        assert_is(&run, dest.path(), 1, &source, &resolved);
        let note = format!("{source} is version v1: {resolved}");
        assert!(run.stderr.contains(&note), "{note}: {}", run.stderr);
    }
}

#[test]
fn a_bare_name_is_never_tried_as_a_host() {
    let bucket = models("mr-bare", &[("m", 2)]);
    let registry = registry();
    registry.add("llama-3.1", "v1", &bucket.uri("m"));
    let dest = folder();
    let run = pull("model-registry://llama-3.1/v1", dest.path(), &registry).run();
    assert_is(&run, dest.path(), 2, "model-registry://llama-3.1/v1", &bucket.uri("m"));
    let targets: Vec<String> = registry.log().into_iter().map(|asked| asked.target).collect();
    assert_eq!(targets.len(), 3, "model, version, artifacts: {targets:?}");
    assert!(targets[0].starts_with("/api/model_registry/v1alpha3/registered_model?name=llama-3.1"), "{targets:?}");
}

#[test]
fn the_latest_version_is_the_live_one_made_last() {
    let bucket = models("mr-latest", &[("old", 1), ("new", 2), ("archived", 3), ("low", 4)]);
    let registry = registry();
    let model = registry.add_model("iris", "LIVE");
    // The highest number is not the latest, the latest by the clock is archived.
    for (name, created, state) in
        [("new", 300, "LIVE"), ("archived", 400, "ARCHIVED"), ("old", 200, "LIVE"), ("low", 1, "LIVE")]
    {
        let version = registry.add_version(&model, name, state, created);
        registry.add_artifact(&version, "model-artifact", &bucket.uri(name), "UNKNOWN", 1);
    }
    let dest = folder();
    let run = pull("model-registry://iris", dest.path(), &registry).run();
    assert_is(&run, dest.path(), 2, "model-registry://iris", &bucket.uri("new"));
    let pinned = folder();
    let run = pull("model-registry://iris/archived", pinned.path(), &registry).run();
    assert_is(&run, pinned.path(), 3, "model-registry://iris/archived", &bucket.uri("archived"));
    assert!(run.stderr.contains("version archived (archived)"), "{}", run.stderr);
}

#[test]
fn an_archived_model_has_no_latest_version_but_its_versions() {
    let bucket = models("mr-archived", &[("m", 1)]);
    let registry = registry();
    let model = registry.add_model("iris", "ARCHIVED");
    let version = registry.add_version(&model, "v1", "LIVE", 1);
    registry.add_artifact(&version, "model-artifact", &bucket.uri("m"), "LIVE", 1);
    let dest = folder();
    let line = pull("model-registry://iris", dest.path(), &registry).run().assert_fails(3).to_owned();
    assert!(line.contains("archived"), "{line}");
    let run = pull("model-registry://iris/v1", dest.path(), &registry).run();
    assert_is(&run, dest.path(), 1, "model-registry://iris/v1", &bucket.uri("m"));
}

#[test]
fn the_newest_model_artifact_counts_and_nothing_else() {
    let bucket = models("mr-artifacts", &[("right", 1), ("older", 2)]);
    let registry = registry();
    let model = registry.add_model("iris", "LIVE");
    let version = registry.add_version(&model, "v1", "LIVE", 1);
    for (kind, uri, state, created) in [
        ("model-artifact", bucket.uri("older"), "LIVE", 100),
        ("model-artifact", bucket.uri("right"), "UNKNOWN", 200),
        ("doc-artifact", "s3://docs/readme".to_owned(), "LIVE", 300),
        ("dataset-artifact", "s3://data/set".to_owned(), "LIVE", 400),
        ("metric", String::new(), "LIVE", 500),
        ("parameter", String::new(), "LIVE", 600),
        ("model-artifact", "s3://gone/a".to_owned(), "MARKED_FOR_DELETION", 700),
        ("model-artifact", "s3://gone/b".to_owned(), "DELETED", 800),
        ("model-artifact", "s3://gone/c".to_owned(), "ABANDONED", 900),
    ] {
        registry.add_artifact(&version, kind, &uri, state, created);
    }
    let dest = folder();
    let run = pull("model-registry://iris/v1", dest.path(), &registry).run();
    assert_is(&run, dest.path(), 1, "model-registry://iris/v1", &bucket.uri("right"));
}

#[test]
fn lists_are_read_to_their_end() {
    let bucket = models("mr-pages", &[("m", 1)]);
    let options = RegistryOptions { page_items_max: Some(7), ..RegistryOptions::default() };
    let registry = Registry::start(options).expect("a registry");
    let model = registry.add_model("iris", "LIVE");
    let version = registry.add_version(&model, "only-live", "LIVE", 1);
    registry.add_artifact(&version, "model-artifact", &bucket.uri("m"), "LIVE", 1);
    for number in 0..50 {
        registry.add_version(&model, &format!("v{number}"), "ARCHIVED", 100 + number);
        registry.add_artifact(&version, "metric", "", "LIVE", 100 + number);
    }
    let dest = folder();
    let run = pull("model-registry://iris", dest.path(), &registry).run();
    assert_is(&run, dest.path(), 1, "model-registry://iris", &bucket.uri("m"));
    assert_eq!(registry.log().len(), 1 + 8 + 8, "{:?}", registry.log());
}

#[test]
fn either_version_of_the_api_is_enough() {
    let bucket = models("mr-apis", &[("m", 1)]);
    for api in ["v1", "v1alpha3"] {
        let options = RegistryOptions { api: Some(api), ..RegistryOptions::default() };
        let registry = Registry::start(options).expect("a registry");
        registry.add("iris", "v1", &bucket.uri("m"));
        let dest = folder();
        let run = pull("model-registry://iris", dest.path(), &registry).run();
        assert_is(&run, dest.path(), 1, "model-registry://iris", &bucket.uri("m"));
        let absent = pull("model-registry://absent", dest.path(), &registry).run();
        let line = absent.assert_fails(3);
        assert!(line.contains("no model `absent`"), "{line}");
    }
}

#[test]
fn a_second_run_fetches_nothing_and_another_version_is_fetched() {
    let bucket = models("mr-again", &[("one", 1), ("two", 2)]);
    let registry = registry();
    let model = registry.add_model("iris", "LIVE");
    let first = registry.add_version(&model, "v1", "LIVE", 100);
    registry.add_artifact(&first, "model-artifact", &bucket.uri("one"), "LIVE", 100);
    let dest = folder();
    let asked = "model-registry://iris";
    assert_is(&pull(asked, dest.path(), &registry).run(), dest.path(), 1, asked, &bucket.uri("one"));
    let again = pull(asked, dest.path(), &registry).run();
    assert_is(&again, dest.path(), 1, asked, &bucket.uri("one"));
    assert_eq!((again.count("bytes.fetched"), again.count("requests.total")), (0, 0));
    let second = registry.add_version(&model, "v2", "LIVE", 200);
    registry.add_artifact(&second, "model-artifact", &bucket.uri("two"), "LIVE", 200);
    assert_is(&pull(asked, dest.path(), &registry).run(), dest.path(), 2, asked, &bucket.uri("two"));
}

#[test]
fn names_are_decoded_and_sent_encoded() {
    let bucket = models("mr-names", &[("m", 1)]);
    let registry = registry();
    registry.add("my model & Söhne", "v/1+é", &bucket.uri("m"));
    let dest = folder();
    let source = "model-registry://my%20model%20&%20S%C3%B6hne/v%2F1%2B%C3%A9";
    let run = pull(source, dest.path(), &registry).run();
    assert_is(&run, dest.path(), 1, source, &bucket.uri("m"));
}

#[test]
fn a_versions_name_forges_no_line_and_paints_no_terminal() {
    let name = format!("v1\nerror: forged\u{1b}[31m{}", "x".repeat(1 << 20));
    let bucket = models("mr-forged", &[("m", 1)]);
    let registry = registry();
    registry.add("iris", &name, &bucket.uri("m"));
    let bare = registry.add_model("bare", "LIVE");
    registry.add_version(&bare, &name, "LIVE", 1);
    for (model, code) in [("iris", 0), ("bare", 3)] {
        let around = folder();
        let audit = around.path().join("audit");
        let source = format!("model-registry://{model}");
        let run = pull(&source, &around.path().join("dest"), &registry).env("DRAY_AUDIT", &audit).run();
        run.assert_code(code);
        assert!(run.stderr.contains("v1 error: forged"), "{model}: the version is told: {}", run.stderr);
        assert!(!run.stderr.lines().any(|line| line.starts_with("error: forged")), "{model}: {}", run.stderr);
        assert!(!run.stderr.contains('\u{1b}') && run.stderr.len() < 8 << 10, "{model}: {}", run.stderr);
        let audit = std::fs::read_to_string(audit).expect("the audit log");
        assert!(!audit.contains("u001b") && audit.len() < 8 << 10, "{model}: {audit}");
    }
}

#[test]
fn the_audit_log_names_a_registrys_default_port() {
    for (source, name) in
        [("model-registry://iris", "MODEL_REGISTRY_BASE_URL"), ("models:/iris/1", "MLFLOW_TRACKING_URI")]
    {
        let around = folder();
        let audit = around.path().join("audit");
        let run = Dray::pull(source, &around.path().join("dest"))
            .env(name, "http://registry.invalid")
            .env("DRAY_AUDIT", &audit)
            .run();
        run.assert_fails(7);
        let audit = std::fs::read_to_string(audit).expect("the audit log");
        assert!(audit.contains(r#""origin":"http://registry.invalid:80""#), "{audit}");
    }
}

#[test]
fn what_is_not_there_is_not_found() {
    let registry = registry();
    registry.add("iris", "v1", "s3://bucket/m");
    registry.add_model("unversioned", "LIVE");
    let bare = registry.add_model("bare", "LIVE");
    registry.add_version(&bare, "v1", "LIVE", 1);
    let empty = registry.add_model("empty", "LIVE");
    let empty = registry.add_version(&empty, "v1", "LIVE", 1);
    registry.add_artifact(&empty, "model-artifact", "", "LIVE", 1);
    for (source, why) in [
        ("model-registry://absent", "no model `absent`"),
        ("model-registry://iris/v9", "no version `v9`"),
        ("model-registry://unversioned", "no live version"),
        ("model-registry://bare/v1", "no model artifact"),
        ("model-registry://empty", "without a URI"),
    ] {
        let dest = folder();
        let run = pull(source, dest.path(), &registry).run();
        let line = run.assert_fails(3);
        assert!(line.contains(why), "{source}: {line}");
        assert_eq!(run.report()["source"], source);
    }
}

#[test]
fn the_artifacts_endpoint_is_a_default_below_the_environments() {
    let bucket = models("mr-endpoint", &[("m", 1)]);
    let registry = registry();
    let good = format!("{}?endpoint={}&defaultRegion=us-east-1", bucket.uri("m"), weed().endpoint());
    let bad = format!("{}?endpoint=http://127.0.0.1:1", bucket.uri("m"));
    registry.add("by-uri", "v1", &good);
    registry.add("overruled", "v1", &bad);
    let dest = folder();
    let run = Dray::pull("model-registry://by-uri", dest.path())
        .env("MODEL_REGISTRY_BASE_URL", registry.address())
        .env("AWS_ACCESS_KEY_ID", rig::s3::ACCESS_KEY)
        .env("AWS_SECRET_ACCESS_KEY", rig::s3::SECRET_KEY)
        .run();
    assert_is(&run, dest.path(), 1, "model-registry://by-uri", &bucket.uri("m"));
    let dest = folder();
    let run = pull("model-registry://overruled", dest.path(), &registry).run();
    assert_is(&run, dest.path(), 1, "model-registry://overruled", &bucket.uri("m"));
}

#[test]
fn plans_and_pairs_and_repairs_go_through_the_registry() {
    let bucket = models("mr-commands", &[("m", 1)]);
    let registry = registry();
    registry.add("iris", "v1", &bucket.uri("m"));
    let with = |dray: Dray| dray.s3(&weed().endpoint()).env("MODEL_REGISTRY_BASE_URL", registry.address());
    let plan = with(Dray::new(["plan", "model-registry://iris", "--json"])).run();
    plan.assert_code(0);
    let plan: serde_json::Value = serde_json::from_str(&plan.stdout).expect("JSON");
    assert_eq!((plan["source"].as_str(), plan["bytes"].as_u64()), (Some(bucket.uri("m").as_str()), Some(3 << 20)));
    let dest = folder();
    let audit = dest.path().join("audit");
    let model = dest.path().join("model");
    let words = ["model-registry://iris/v1".as_ref(), model.as_os_str()];
    let run = with(Dray::new(words)).env("DRAY_AUDIT", &audit).run();
    run.assert_code(0);
    assert_eq!(hash_file(&model.join("weights.bin")), content(1).blake3);
    let audit = std::fs::read_to_string(audit).expect("the audit log");
    let acts: Vec<serde_json::Value> = audit.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let answered = acts.iter().find(|act| act["act"] == "registry").expect("an answer");
    assert_eq!(answered["asked"], "model-registry://iris/v1");
    assert_eq!(
        (answered["version"].as_str(), answered["answered"].as_str()),
        (Some("v1"), Some(bucket.uri("m").as_str()))
    );
    rig::oracle::flip_bit(&model.join("weights.bin"), 1 << 20);
    let repair = |dray: Dray| with(dray).args(["--repair"]).run();
    repair(Dray::new(["verify".as_ref(), model.as_os_str()])).assert_code(0);
    assert_eq!(hash_file(&model.join("weights.bin")), content(1).blake3);
}
