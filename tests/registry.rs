//! Registries, black box: a name in, a sealed directory or one error line out.
//!
//! The Kubeflow registry is the arena's, shaped as its Python client expects (`client` holds that); MLflow's is the
//! real server. Bytes are SeaweedFS's; what must be on disk comes from `rig::oracle`.

mod rig;

#[path = "registry/client.rs"]
mod client;
#[path = "registry/faults.rs"]
mod faults;
#[path = "registry/kubeflow.rs"]
mod kubeflow;
#[path = "registry/mlflow.rs"]
mod mlflow;
#[path = "registry/mlflow_fake.rs"]
mod mlflow_fake;
#[path = "registry/policy.rs"]
mod policy;
#[path = "registry/tokens.rs"]
mod tokens;

use std::path::Path;

use dray_arena::{Mode, Registry, RegistryOptions};
use rig::dray::{Dray, Run};
use rig::oracle::{Content, hash_file, tree};
use rig::s3::Bucket;
use rig::{folder, weed};

/// A registry that nothing is wrong with.
fn registry() -> Registry {
    Registry::start(RegistryOptions::default()).expect("a registry")
}

fn registry_with(mode: Mode) -> Registry {
    Registry::start(RegistryOptions { mode, ..RegistryOptions::default() }).expect("a registry")
}

/// `dray pull` with the registry as the configured one and weed's S3.
fn pull(source: &str, dest: &Path, registry: &Registry) -> Dray {
    Dray::pull(source, dest).s3(&weed().endpoint()).env("MODEL_REGISTRY_BASE_URL", registry.address())
}

/// A bucket with one object below each folder; its content tells the folders apart.
fn models(bucket: &str, folders: &[(&str, u64)]) -> Bucket {
    let bucket = weed().bucket(bucket);
    for (folder, seed) in folders {
        bucket.put(&[(&format!("{folder}/weights.bin"), &content(*seed))]);
    }
    bucket
}

fn content(seed: u64) -> Content {
    Content::new(seed, 3 << 20)
}

/// The run sealed the model whose content has `seed`, and says where it was asked and found.
fn assert_is(run: &Run, dest: &Path, seed: u64, asked: &str, resolved: &str) {
    let report = run.assert_sealed();
    assert_eq!((report["source"].as_str(), report["resolved"].as_str()), (Some(asked), Some(resolved)), "{report}");
    assert_eq!(tree(dest).into_iter().collect::<Vec<_>>(), ["weights.bin"]);
    assert_eq!(hash_file(&dest.join("weights.bin")), content(seed).blake3, "bytes of {asked}");
}

/// Everything that a run said or left behind is without these words.
fn assert_without(run: &Run, dest: &Path, canaries: &[&str]) {
    let mut said = format!("{}{}", run.stdout, run.stderr);
    said.push_str(&run.report.as_ref().map_or_else(String::new, ToString::to_string));
    for file in tree(&dest.join(".dray")) {
        said.push_str(&String::from_utf8_lossy(&std::fs::read(dest.join(".dray").join(file)).expect("state")));
    }
    for canary in canaries {
        assert!(!said.contains(canary), "{canary} is in: {said}");
    }
}
