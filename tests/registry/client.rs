//! Kubeflow's own Python client registers a model, and dray finds it: the test registry is shaped as the client expects.

use std::process::Command;

use super::*;

/// A program of the venv that `scripts/registry-deps.sh` made.
pub(super) fn venv(program: &str) -> std::path::PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or(root.join("target"), |dir| root.join(dir));
    let venv = std::env::var_os("DRAY_REGISTRY_VENV").map_or(target.join("registry-venv"), std::path::PathBuf::from);
    let path = venv.join("bin").join(program);
    assert!(path.exists(), "{} is missing: run scripts/registry-deps.sh", path.display());
    path
}

/// Runs a Python program of tests/registry in that venv.
pub(super) fn python(script: &str, args: &[&str], environment: &[(&str, &str)]) -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/registry").join(script);
    let mut command = Command::new(venv("python"));
    command.arg(script).args(args).env_remove("MLFLOW_TRACKING_URI").envs(environment.iter().copied());
    let output = command.output().expect("start python");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{args:?}:\n{stderr}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

#[test]
fn a_model_that_kubeflows_client_registered_is_found() {
    const TOKEN: &str = "CANARY-CLIENT-TOKEN";
    let bucket = models("mr-client", &[("one", 1), ("two", 2)]);
    let options = RegistryOptions { token: Some(TOKEN.to_owned()), ..RegistryOptions::default() };
    let registry = Registry::start(options).expect("a registry");
    let (address, endpoint) = (registry.address(), weed().endpoint());
    let said = python("register_kubeflow.py", &[&address, TOKEN, &bucket.name, &endpoint], &[]);
    assert_eq!(said.trim(), "v1 v2 archived", "what the client reads back");
    for (source, seed, place) in [
        ("model-registry://iris/v1", 1, "one"),
        ("model-registry://iris/v2", 2, "two"),
        // The client has archived v2.
        ("model-registry://iris", 1, "one"),
    ] {
        let dest = folder();
        let run = Dray::pull(source, dest.path())
            .env("MODEL_REGISTRY_BASE_URL", &address)
            .env("MODEL_REGISTRY_TOKEN", TOKEN)
            .env("AWS_ACCESS_KEY_ID", rig::s3::ACCESS_KEY)
            .env("AWS_SECRET_ACCESS_KEY", rig::s3::SECRET_KEY)
            .run();
        assert_is(&run, dest.path(), seed, source, &bucket.uri(place));
    }
}
