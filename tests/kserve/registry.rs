//! `model-registry://`: names of the arena's Kubeflow registry, and what they lead to. Upstream has no such scheme.

use std::sync::OnceLock;

use dray_arena::{Registry, RegistryOptions};

use super::hub::served;
use super::packed::packed;
use super::row::Row;
use super::stores::{site, stored};

const SCHEME: &str = "upstream's initializer knows no registry";

/// The models and what their versions lead to.
fn registry() -> &'static Registry {
    static REGISTRY: OnceLock<Registry> = OnceLock::new();
    REGISTRY.get_or_init(|| {
        let registry = Registry::start(RegistryOptions::default()).expect("a registry");
        let stored = stored();
        let model = registry.add_model("iris", "LIVE");
        for (version, folder, created) in [("v1", "plain", 1000), ("v2", "model", 2000)] {
            let version = registry.add_version(&model, version, "LIVE", created);
            registry.add_artifact(&version, "model-artifact", &stored.bucket.uri(folder), "UNKNOWN", created);
        }
        let endpoint = &stored.bucket.endpoint;
        registry.add("own-endpoint", "v1", &format!("s3://kserve/plain?endpoint={endpoint}&defaultRegion=us-east-1"));
        registry.add("packed", "v1", &stored.bucket.uri("one"));
        registry.add("hub", "v1", "hf://org/model:v1.0");
        registry.add("packed-hub", "v1", "hf://org/packed");
        registry.add("web", "v1", &site().nginx.http("weights"));
        registry.add("gone", "v1", &stored.bucket.uri("absent"));
        registry.add("azure", "v1", "abfs://container/model");
        registry.add_model("hollow", "LIVE");
        registry
    })
}

pub(super) fn rows() -> Vec<Row> {
    let (registry, stored, served) = (registry(), stored(), served());
    let address = registry.address();
    let port = address.rsplit(':').next().expect("a port");
    let model = [("weights.bin", &stored.weights)];
    let plain = stored.plain();
    let older = served.older();
    let zip = [("m.zip", &served.zip)];
    let files: Vec<_> = packed().files.iter().map(|(name, content)| (*name, content)).collect();
    let takes = |name, source: &str, files| Row::takes(name, format!("model-registry://{source}"), files);
    let fails = |name, source: &str, exit, last| Row::fails(name, format!("model-registry://{source}"), exit, last);
    let second = stored.bucket.uri("model/");
    let pairs = ["model-registry://iris/v1", "{0}", second.as_str(), "{1}"];
    let rows = vec![
        takes("registry/version", "iris/v1", &plain),
        takes("registry/newest-version", "iris", &model),
        takes("registry/at-a-host", &format!("{address}/iris/v1"), &plain),
        takes("registry/newest-at-a-host", &format!("{address}/iris"), &model),
        takes("registry/archive", "packed", &files),
        takes("registry/patterns", "iris/v1", &plain[..1]).env("STORAGE_ALLOW_PATTERNS", "*.json"),
        Row::of("registry/before-s3", &pairs).dest(&plain).dest(&model),
        takes("registry/repository-of-the-hub", "hub", &older).env("HF_ENDPOINT", served.hub.endpoint()),
        takes("registry/archive-of-the-hub-stays-packed", "packed-hub", &zip).env("HF_ENDPOINT", served.hub.endpoint()),
        fails("registry/web-server-without-tls", "web/v1", 6, "http: location"),
        fails("registry/no-such-model", "tulip", 3, "tulip"),
        fails("registry/no-such-version", "iris/v9", 3, "v9"),
        fails("registry/no-versions", "hollow", 3, "hollow"),
        fails("registry/artifact-that-is-gone", "gone/v1", 3, "`absent`"),
    ];
    let own_endpoint = takes("registry/endpoint-of-the-artifact", "own-endpoint", &plain);
    // `*.localhost` is this machine, so that a namespace's service can be.
    let namespace = takes("registry/in-a-namespace", "iris/v1?namespace=test", &plain)
        .env("MODEL_REGISTRY_BASE_URL", format!("nowhere.example:{port}"))
        .env("MODEL_REGISTRY_CLUSTER_DOMAIN", "localhost");
    let here = |row: Row| row.env("MODEL_REGISTRY_BASE_URL", &address);
    let mut rows: Vec<Row> = rows.into_iter().map(|row| here(row).keyed(&stored.bucket.endpoint)).collect();
    rows.push(here(own_endpoint).keyed(&stored.bucket.endpoint).env("AWS_ENDPOINT_URL", ""));
    rows.push(namespace.keyed(&stored.bucket.endpoint));
    rows.push(here(fails("registry/artifact-of-azure-without-an-account", "azure/v1", 6, "abfs")));
    rows.into_iter().map(|row| row.dray_only(SCHEME)).collect()
}
