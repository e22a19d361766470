//! The real binary, run with the arguments and the variables of each manifest's container against real servers.

use std::path::Path;

use serde_json::Value;

use crate::kserve::{environment, init_pod, job_pod};
use crate::manifests::documents;
use crate::rig::dray::{Dray, Run};
use crate::rig::nginx::Nginx;
use crate::rig::oracle::{Content, Expected, MIB};
use crate::rig::s3::{ACCESS_KEY, SECRET_KEY};
use crate::rig::server::free_ports;
use crate::rig::{folder, nginx, weed};
use crate::{CSC_INIT, CSC_LOCAL, CSC_REGISTRY, POD, container};

/// The secrets of KServe's service account and of the plain pod, by name and key.
const SECRETS: [(&str, &str); 4] = [
    ("s3/AWS_ACCESS_KEY_ID", ACCESS_KEY),
    ("s3/AWS_SECRET_ACCESS_KEY", SECRET_KEY),
    ("models-s3/AWS_ACCESS_KEY_ID", ACCESS_KEY),
    ("models-s3/AWS_SECRET_ACCESS_KEY", SECRET_KEY),
];

/// `dray` as the container would run it, `/mnt/models` being the folder `models`.
///
/// What differs from a cluster: the object store is `store`, and metrics listen on a free port of loopback.
pub(crate) fn started(container: &Value, models: &Path, store: &str) -> Run {
    let texts = container["args"].as_array().expect("args").iter().map(|word| word.as_str().expect("text"));
    let here = |word: &str| match word.strip_prefix("/mnt/models") {
        Some(below) => format!("{}{below}", models.display()),
        None => word.to_owned(),
    };
    let variables = environment(container, &SECRETS);
    assert!(variables.iter().any(|(name, _)| name == "DRAY_METRICS"));
    let dray = Dray::new(texts.map(here));
    let dray = variables.iter().fold(dray, |dray, (name, value)| match name.as_str() {
        "DRAY_METRICS" => dray.env(name, "127.0.0.1:0"),
        "AWS_ENDPOINT_URL" => dray.env(name, store),
        _ => dray.env(name, value),
    });
    dray.run()
}

fn served(path: &str) -> (Nginx, Content) {
    let nginx = nginx();
    let content = Content::new(7, 3 * MIB);
    content.write_file(&nginx.root().join(path));
    (nginx, content)
}

#[test]
fn an_initializer_fetches_the_pairs_that_kserve_passes() {
    let (nginx, adapter) = served("adapter/weights");
    let model = Content::new(8, 2 * MIB);
    for (number, file) in CSC_INIT.into_iter().enumerate() {
        let bucket = weed().bucket(&format!("deploy-{number}"));
        bucket.put(&[("iris/model.bin", &model)]);
        let csc = &documents(file)[0];
        let uris = [bucket.uri("iris"), nginx.http("adapter/weights")];
        let pod = init_pod(container(csc), &uris.each_ref().map(String::as_str));
        let models = folder();
        started(&pod["spec"]["initContainers"][0], models.path(), &weed().endpoint()).assert_code(0);
        Expected::of([("model.bin", &model)]).assert_sealed(&models.path().join("0"));
        Expected::of([("weights", &adapter)]).assert_sealed(&models.path().join("1"));
    }
}

#[test]
fn a_registry_that_does_not_answer_is_a_failure_to_try_again() {
    let [closed] = free_ports();
    for source in ["model-registry://iris", "model-registry://iris/v1", "models:/iris/1", "mlflow://iris/1"] {
        let registry = container(&documents(CSC_REGISTRY)[0]).clone();
        let local = container(&documents(CSC_LOCAL)[0]).clone();
        let pod = init_pod(&at_port(&registry, closed), &[source]);
        let job = job_pod(&at_port(&local, closed), source);
        for container in [&pod["spec"]["initContainers"][0], &job["spec"]["containers"][0]] {
            let models = folder();
            let run = started(container, models.path(), "");
            // Exit 2 would say that the variables, or the source, are not understood.
            let line = run.assert_fails(7);
            assert!(line.contains(&closed.to_string()), "{source}: the registry of the manifest is asked: {line}");
        }
    }
}

/// A container whose registries are at a port of this machine.
fn at_port(container: &Value, port: u16) -> Value {
    let mut container = container.clone();
    for variable in container["env"].as_array_mut().expect("variables") {
        match variable["name"].as_str() {
            Some("MODEL_REGISTRY_BASE_URL") => variable["value"] = format!("127.0.0.1:{port}").into(),
            Some("MLFLOW_TRACKING_URI") => variable["value"] = format!("http://127.0.0.1:{port}").into(),
            _ => {}
        }
    }
    container
}

#[test]
fn a_download_job_started_again_fetches_nothing_again() {
    let (nginx, content) = served("iris/model.bin");
    let job = job_pod(container(&documents(CSC_LOCAL)[0]), &nginx.http("iris/model.bin"));
    let volume = folder();
    started(&job["spec"]["containers"][0], volume.path(), "").assert_code(0);
    Expected::of([("model.bin", &content)]).assert_sealed(volume.path());
    let mark = nginx.mark();
    started(&job["spec"]["containers"][0], volume.path(), "").assert_code(0);
    assert!(nginx.logged_since(mark, "iris").iter().all(|request| request.method == "HEAD"), "no data request");
}

#[test]
fn the_plain_pod_fetches_the_model_it_names() {
    let files = [("config.json", Content::new(1, 700)), ("model.safetensors", Content::new(2, 5 * MIB))];
    let keys = files.each_ref().map(|(name, content)| (format!("llama-70b/{name}"), content));
    weed().bucket("models").put(&keys.each_ref().map(|(key, content)| (key.as_str(), *content)));
    let pod = &documents(POD)[0];
    let models = folder();
    started(&pod["spec"]["initContainers"][0], models.path(), &weed().endpoint()).assert_code(0);
    Expected::of(files.each_ref().map(|(name, content)| (*name, content))).assert_sealed(models.path());
    // The server sees the same volume at the same place, and may not write there.
    let mount = |list: &str| pod["spec"][list][0]["volumeMounts"][0].clone();
    let (fills, reads) = (mount("initContainers"), mount("containers"));
    assert_eq!((&fills["name"], &fills["mountPath"]), (&reads["name"], &reads["mountPath"]));
    assert_eq!((&fills["readOnly"], &reads["readOnly"]), (&Value::Null, &true.into()));
}
