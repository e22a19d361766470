//! `deploy/prefetch/`: the list in the ConfigMap, the Job and the DaemonSet that keep it, and the page about them.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::manifests::{self, documents};
use crate::rig::oracle::{Content, Expected, MIB};
use crate::rig::{folder, weed};
use crate::run::started;
use crate::{DAEMONS, JOB, container_of, planted};

const LIST: &str = "models.yaml";

/// The pod of a Job or a DaemonSet.
fn pod(file: &str) -> Value {
    documents(file)[0]["spec"]["template"].clone()
}

#[test]
fn both_read_the_list_of_the_config_map_that_they_mount() {
    let map = &documents(LIST)[0];
    for file in [JOB, DAEMONS] {
        let document = &documents(file)[0];
        assert_eq!(document["metadata"]["namespace"], map["metadata"]["namespace"], "{file}");
        let (pod, container) = (pod(file), container_of(file));
        let volumes = pod["spec"]["volumes"].as_array().expect("volumes");
        let list = volumes.iter().find(|volume| !volume["configMap"].is_null()).expect("a list");
        assert_eq!(list["configMap"]["name"], map["metadata"]["name"], "{file}");
        let mounts = container["volumeMounts"].as_array().expect("mounts");
        let mounted = mounts.iter().find(|mount| mount["name"] == list["name"]).expect("the list is mounted");
        let key = map["data"].as_object().expect("data").keys().next().expect("a key");
        let path = format!("{}/{key}", mounted["mountPath"].as_str().expect("a path"));
        assert_eq!(container["args"], json!(["prefetch", path, "--into", "/mnt/models"]), "{file}");
    }
    let labels = &pod(DAEMONS)["metadata"]["labels"];
    assert_eq!(documents(DAEMONS)[0]["spec"]["selector"]["matchLabels"], *labels);
}

/// `container` with its list as a file of this machine.
fn with_list(container: &Value, folder: &Path) -> Value {
    let text = documents(LIST)[0]["data"]["models.yaml"].as_str().expect("a list").to_owned();
    let path = folder.join("models.yaml");
    fs::write(&path, text).expect("write");
    planted(container, "/args/1", &path.to_str().expect("UTF-8").into())
}

#[test]
fn the_containers_fetch_what_the_list_names_and_nothing_twice() {
    let [config, weights, small] = [(1, 700), (2, 5 * MIB), (3, MIB + 9)].map(|(seed, size)| Content::new(seed, size));
    weed().bucket("weights").put(&[
        ("llama-70b/config.json", &config),
        ("llama-70b/model.safetensors", &weights),
        ("llama-70b/old.bin", &small),
        ("bge-small/model.safetensors", &small),
    ]);
    for file in [JOB, DAEMONS] {
        let (lists, node) = (folder(), folder());
        // The rate of the DaemonSet is far above what loopback needs for these few bytes.
        let container = with_list(&container_of(file), lists.path());
        let run = started(&container, node.path(), &weed().endpoint());
        run.assert_code(0);
        let llama = [("config.json", &config), ("model.safetensors", &weights)];
        Expected::of(llama).assert_sealed(&node.path().join("llama-70b"));
        Expected::of([("model.safetensors", &small)]).assert_sealed(&node.path().join("embeddings/bge-small"));
        let again = started(&container, node.path(), &weed().endpoint());
        again.assert_code(0);
        assert!(again.stdout.contains("all         sealed"), "{}", again.stdout);
        assert!(again.stderr.contains("nothing to fetch"), "{}", again.stderr);
    }
}

#[test]
fn the_page_names_every_file_and_shows_a_list_that_can_be_read() {
    let page = fs::read_to_string(manifests::root().join("docs/prefetch.md")).expect("docs/prefetch.md");
    for (path, _) in manifests::folder("deploy/prefetch") {
        let name = path.file_name().and_then(|name| name.to_str()).expect("a name");
        assert!(page.contains(&format!("deploy/prefetch/{name}")), "{name} is not in docs/prefetch.md");
    }
    let lists: Vec<&str> = page.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert!(!lists.is_empty());
    for list in lists {
        let folder = folder();
        let path = folder.path().join("list");
        // What it names is not here: that it is asked for at all shows that the list was read.
        fs::write(&path, list.replace("pin: ", "# pin: ")).expect("write");
        let run = crate::rig::dray::Dray::new([Path::new("prefetch"), &path, Path::new("--into"), folder.path()])
            .env("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
            .env("HF_ENDPOINT", "http://127.0.0.1:9")
            .env("MODEL_REGISTRY_BASE_URL", "127.0.0.1:9")
            .args(["--deadline", "1s"])
            .run();
        assert_ne!(run.code(), 2, "{list}\n{}", run.stderr);
    }
}
