//! What KServe 0.21 does with a ClusterStorageContainer: which one it takes for a URI, and the container it makes of it.

use regex::Regex;
use serde_json::{Value, json};

use crate::manifests::{documents, merged};
use crate::{CSC_DEFAULT, CSC_INIT, CSC_LOCAL, CSC_REGISTRY, container, planted};

/// The pod of an InferenceService with these storage URIs, as far as the storage initializer goes.
pub(crate) fn init_pod(csc: &Value, uris: &[&str]) -> Value {
    // The webhook's own container: from the configmap, the credentials of an S3 secret, and the pairs.
    let mounts =
        |number: usize| if uris.len() == 1 { "/mnt/models".to_owned() } else { format!("/mnt/models/{number}") };
    let pairs: Vec<String> = uris.iter().enumerate().flat_map(|(at, uri)| [(*uri).to_owned(), mounts(at)]).collect();
    let secret = |key: &str| json!({"name": key, "valueFrom": {"secretKeyRef": {"name": "s3", "key": key}}});
    let base = json!({
        "name": "storage-initializer",
        "image": "kserve/storage-initializer:v0.21.0",
        "args": pairs,
        "env": [
            secret("AWS_ACCESS_KEY_ID"),
            secret("AWS_SECRET_ACCESS_KEY"),
            {"name": "S3_USE_HTTPS", "value": "0"},
            {"name": "AWS_ENDPOINT_URL", "value": "http://minio.minio.svc.cluster.local:9000"},
            {"name": "S3_VERIFY_SSL", "value": "1"},
            {"name": "awsAnonymousCredential", "value": "false"},
            {"name": "AWS_DEFAULT_REGION", "value": "us-east-1"},
        ],
        "resources": {"requests": {"cpu": "100m", "memory": "100Mi"}, "limits": {"cpu": "2", "memory": "4Gi"}},
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [{"name": "kserve-provision-location", "mountPath": "/mnt/models"}],
    });
    let mut container = merged(&base, csc);
    // After the merge, where nothing of the kind is set: for every scheme.
    let tuning = [("HF_HUB_ENABLE_HF_TRANSFER", "1"), ("HF_XET_HIGH_PERFORMANCE", "1")];
    let added = tuning.map(|(name, value)| json!({"name": name, "value": value}));
    container["env"].as_array_mut().expect("variables").extend(added);
    let volumes = json!([{"name": "kserve-provision-location", "emptyDir": {}}]);
    json!({"apiVersion": "v1", "kind": "Pod", "spec": {"initContainers": [container], "volumes": volumes}})
}

/// The pod of a LocalModelCache's job: args and mounts are set, the rest is the container as it is.
pub(crate) fn job_pod(csc: &Value, uri: &str) -> Value {
    let mut container = csc.clone();
    container["args"] = json!([uri, "/mnt/models"]);
    container["volumeMounts"] =
        json!([{"name": "kserve-pvc-source", "mountPath": "/mnt/models", "subPath": "models/0"}]);
    let volumes = json!([{"name": "kserve-pvc-source", "persistentVolumeClaim": {"claimName": "iris"}}]);
    let context = json!({"fsGroup": 1000});
    json!({"apiVersion": "v1", "kind": "Pod", "spec":
        {"containers": [container], "volumes": volumes, "securityContext": context, "restartPolicy": "Never"}})
}

/// A container's variables; those of secrets from `secrets` (name/key and value), left out where it has none.
pub(crate) fn environment(container: &Value, secrets: &[(&str, &str)]) -> Vec<(String, String)> {
    let mut variables = Vec::new();
    for variable in container["env"].as_array().into_iter().flatten() {
        let name = variable["name"].as_str().expect("a name").to_owned();
        let from = &variable["valueFrom"]["secretKeyRef"];
        let key = format!("{}/{}", from["name"].as_str().unwrap_or(""), from["key"].as_str().unwrap_or(""));
        let secret = secrets.iter().find(|(stored, _)| *stored == key).map(|(_, value)| *value);
        if let Some(value) = variable["value"].as_str().or(secret) {
            variables.push((name, value.to_owned()));
        } else if secrets.is_empty() {
            // Only the names are asked for.
            variables.push((name, String::new()));
        }
    }
    variables
}

/// Whether a ClusterStorageContainer takes a URI: prefixes as text, regular expressions anywhere in it.
///
/// Go's expressions and Rust's are of one family (RE2): neither looks around, neither refers back.
fn supports(spec: &Value, uri: &str) -> bool {
    spec["supportedUriFormats"].as_array().expect("formats").iter().any(|format| match format["prefix"].as_str() {
        Some(prefix) => uri.starts_with(prefix),
        None => Regex::new(format["regex"].as_str().expect("a regex")).expect("it compiles").is_match(uri),
    })
}

#[test]
fn each_uri_is_taken_by_one_container_alone() {
    const NOBODY: &str = "";
    const KSERVE: &str = "narrow-default.yaml";
    let files = [CSC_DEFAULT, CSC_REGISTRY, KSERVE];
    for (uri, taken_by) in [
        ("s3://models/llama-70b", CSC_DEFAULT),
        ("s3://models", CSC_DEFAULT),
        ("https://host/weights.gguf", CSC_DEFAULT),
        ("http://host:8080/a/b?c=d", CSC_DEFAULT),
        ("model-registry://iris", CSC_REGISTRY),
        ("model-registry://iris/v1?namespace=team", CSC_REGISTRY),
        ("model-registry://host:8080/iris/v1", CSC_REGISTRY),
        ("models:/iris/1", CSC_REGISTRY),
        ("models:/iris@champion", CSC_REGISTRY),
        ("models://iris/latest", CSC_REGISTRY),
        ("mlflow://iris/1", CSC_REGISTRY),
        ("gs://bucket/model", CSC_DEFAULT),
        ("hf://owner/model", CSC_DEFAULT),
        ("hf://owner/model:v1.0", CSC_DEFAULT),
        ("modelscope://owner/model", KSERVE),
        ("hdfs://node/model", KSERVE),
        ("webhdfs://node/model", KSERVE),
        ("https://host", NOBODY),
        ("https:///path", NOBODY),
        ("pvc://claim/https://host/file", NOBODY),
        ("S3://models/llama", NOBODY),
        ("xs3://models/llama", NOBODY),
        ("models", NOBODY),
        ("pvc://claim/model", NOBODY),
        ("oci://registry/model", NOBODY),
    ] {
        let takers: Vec<&str> = files.into_iter().filter(|file| supports(&documents(file)[0]["spec"], uri)).collect();
        let expected: Vec<&str> = Some(taken_by).filter(|file| !file.is_empty()).into_iter().collect();
        assert_eq!(takers, expected, "{uri}");
        let local = supports(&documents(CSC_LOCAL)[0]["spec"], uri);
        assert_eq!(local, CSC_INIT.contains(&taken_by), "{uri}: the download job speaks what the initializers speak");
    }
    let loose = json!({"supportedUriFormats": [{"regex": "https?://(.+)/(.+)"}]});
    assert!(supports(&loose, "pvc://claim/https://host/file"), "without ^ it is searched for anywhere");
}

#[test]
fn kserves_pairs_name_and_mounts_survive_the_merge() {
    let uris = ["s3://models/iris", "https://host/adapter/weights"];
    let pairs = json!(["s3://models/iris", "/mnt/models/0", "https://host/adapter/weights", "/mnt/models/1"]);
    for file in CSC_INIT {
        let document = &documents(file)[0];
        let merged = &init_pod(container(document), &uris)["spec"]["initContainers"][0];
        assert_eq!((&merged["args"], &merged["command"]), (&pairs, &Value::Null), "{file}");
        assert_eq!((&merged["name"], &merged["image"]), (&"storage-initializer".into(), &"dray".into()), "{file}");
        assert_eq!(merged["volumeMounts"].as_array().map(Vec::len), Some(1), "{file}");
        let names: Vec<String> = environment(merged, &[]).into_iter().map(|(name, _)| name).collect();
        for name in ["AWS_ACCESS_KEY_ID", "AWS_ENDPOINT_URL", "DRAY_METRICS"] {
            assert_eq!(names.iter().filter(|other| *other == name).count(), 1, "{file}: {name}");
        }
        assert_eq!(document["spec"]["supportsMultiModelDownload"], true, "{file}: several URIs are refused without it");
        // What the rule is for: arguments of the manifest would take the pairs' place.
        let broken = planted(container(document), "/args", &json!(["--memory", "64MiB"]));
        assert_ne!(init_pod(&broken, &uris)["spec"]["initContainers"][0]["args"], pairs, "{file}");
    }
    for file in [CSC_DEFAULT, CSC_REGISTRY, CSC_LOCAL] {
        let container = container(&documents(file)[0]).clone();
        assert_eq!((&container["args"], &container["command"]), (&Value::Null, &Value::Null), "{file}");
    }
}
