//! The manifests of `deploy/`, held to the Kubernetes schema, to Pod Security `restricted`, to what KServe makes of them
//! and to what `dray` itself says when it is run as they would run it.
//!
//! `scripts/deploy-deps.sh` installs the schemas. Every check is first shown to fail on an offender planted for it.

mod rig;

#[path = "deploy/guide.rs"]
mod guide;
#[path = "deploy/kserve.rs"]
mod kserve;
#[path = "deploy/manifests.rs"]
mod manifests;
#[path = "deploy/policy.rs"]
mod policy;
#[path = "deploy/prefetch.rs"]
mod prefetch;
#[path = "deploy/run.rs"]
mod run;
#[path = "deploy/schema.rs"]
mod schema;

use serde_json::{Value, json};

use manifests::documents;

const CSC_DEFAULT: &str = "clusterstoragecontainer-default.yaml";
const CSC_REGISTRY: &str = "clusterstoragecontainer-model-registry.yaml";
const CSC_LOCAL: &str = "clusterstoragecontainer-localmodel.yaml";
const POD: &str = "init-container.yaml";
const JOB: &str = "job.yaml";
const DAEMONS: &str = "daemonset.yaml";

/// The ClusterStorageContainers whose containers KServe merges into its own.
const CSC_INIT: [&str; 2] = [CSC_DEFAULT, CSC_REGISTRY];

/// The pods that come of each manifest with a container in it: as written, or as KServe 0.21 builds them.
fn pods() -> Vec<(&'static str, Value)> {
    let uri = "s3://models/iris";
    let mut pods: Vec<(&str, Value)> =
        CSC_INIT.iter().map(|file| (*file, kserve::init_pod(container(&documents(file)[0]), &[uri]))).collect();
    pods.push((CSC_LOCAL, kserve::job_pod(container(&documents(CSC_LOCAL)[0]), uri)));
    pods.push((POD, documents(POD)[0].clone()));
    for file in [JOB, DAEMONS] {
        pods.push((file, documents(file)[0]["spec"]["template"].clone()));
    }
    pods
}

fn container(document: &Value) -> &Value {
    &document["spec"]["container"]
}

/// dray's container in the pod of a file.
fn container_of(file: &str) -> Value {
    dray_containers().into_iter().find(|(name, _)| *name == file).expect("a pod").1
}

/// dray's container in each pod: (file, container).
fn dray_containers() -> Vec<(&'static str, Value)> {
    let ours = |pod: &Value| {
        let all = policy::containers(pod);
        all.into_iter().find(|container| container["image"] == "dray").cloned()
    };
    pods().into_iter().map(|(file, pod)| (file, ours(&pod).unwrap_or_else(|| panic!("{file}: no dray")))).collect()
}

/// `document` with the value at `pointer` replaced, or taken away by null.
fn planted(document: &Value, pointer: &str, value: &Value) -> Value {
    let mut document = document.clone();
    let (parent, name) = pointer.rsplit_once('/').expect("a pointer");
    let parent = document.pointer_mut(parent).unwrap_or_else(|| panic!("{pointer} has no parent"));
    match parent {
        Value::Object(fields) if value.is_null() => {
            fields.remove(name);
        }
        Value::Object(fields) => {
            fields.insert(name.into(), value.clone());
        }
        Value::Array(items) => items[name.parse::<usize>().expect("an index")] = value.clone(),
        _ => panic!("{pointer}: its parent holds nothing"),
    }
    document
}

#[test]
fn resources_messages_and_ports_are_the_same_everywhere() {
    let resources = json!({"requests": {"cpu": "100m", "memory": "100Mi"}, "limits": {"cpu": "1", "memory": "1Gi"}});
    for (file, container) in dray_containers() {
        assert_eq!(container["resources"], resources, "{file}");
        assert_eq!(container["terminationMessagePolicy"], "FallbackToLogsOnError", "{file}");
        assert_eq!(container["imagePullPolicy"], "IfNotPresent", "{file}: an image of this machine needs no registry");
        let environment = kserve::environment(&container, &[]);
        let address = environment.iter().find(|(name, _)| name == "DRAY_METRICS").map(|(_, value)| value.as_str());
        let port = container["ports"][0]["containerPort"].as_u64().expect("a port");
        assert_eq!(
            address,
            Some(format!(":{port}").as_str()),
            "{file}: the port that is declared is the one that listens"
        );
    }
}

#[test]
fn the_image_is_named_in_one_place() {
    let kustomization = &documents("kustomization.yaml")[0];
    assert_eq!(kustomization["images"].as_array().map(Vec::len), Some(1));
    assert_eq!(kustomization["images"][0]["name"], "dray");
    let fields = &documents("image-fields.yaml")[0]["images"];
    assert_eq!(*fields, json!([{"path": "spec/container/image", "kind": "ClusterStorageContainer"}]));
    let mut resources: Vec<&str> = CSC_INIT.to_vec();
    resources.push(CSC_LOCAL);
    assert_eq!(kustomization["resources"], json!(resources));
    for file in resources {
        assert_eq!(documents(file)[0].pointer("/spec/container/image"), Some(&"dray".into()), "{file}");
    }
}

#[test]
fn monitoring_rights_and_egress_name_what_is_there() {
    let monitor = &documents("podmonitor.yaml")[0];
    let port = &monitor["spec"]["podMetricsEndpoints"][0]["port"];
    for (file, container) in dray_containers() {
        assert_eq!(container["ports"][0]["name"], *port, "{file}");
    }
    let [account, role, binding] = &documents("rbac.yaml")[..] else { panic!("three documents") };
    let subject = &binding["subjects"][0];
    assert_eq!(
        (&subject["name"], &subject["namespace"]),
        (&account["metadata"]["name"], &account["metadata"]["namespace"])
    );
    assert_eq!(binding["roleRef"]["name"], role["metadata"]["name"]);
    assert_eq!(binding["metadata"]["namespace"], role["metadata"]["namespace"]);
    let service = "model-registry-service";
    let rules = json!([{"apiGroups": [""], "resources": ["services"], "resourceNames": [service], "verbs": ["get"]}]);
    assert_eq!(role["rules"], rules, "one service, to be looked at");
    let registry = kserve::environment(container(&documents(CSC_REGISTRY)[0]), &[]);
    let base = &registry.iter().find(|(name, _)| name == "MODEL_REGISTRY_BASE_URL").expect("a registry").1;
    let namespace = role["metadata"]["namespace"].as_str().expect("a namespace");
    assert_eq!(*base, format!("{service}.{namespace}.svc.cluster.local:8080"));
    let policy = &documents("networkpolicy.yaml")[0]["spec"];
    assert_eq!(policy["policyTypes"], json!(["Egress"]));
    let open = |rule: &&Value| rule["to"].as_array().is_none_or(Vec::is_empty) || rule["ports"].is_null();
    assert_eq!(
        policy["egress"].as_array().expect("rules").iter().find(open),
        None,
        "every rule names a peer and a port"
    );
}

#[test]
fn variables_are_ones_that_the_documentation_explains() {
    let docs: String = manifests::folder("docs").iter().map(|(_, text)| text.as_str()).collect();
    let explained = |name: &str| docs.contains(&format!("`{name}`")) || docs.contains(&format!("`{name}="));
    assert!(!explained("DRAY_TURBO"));
    for (file, container) in dray_containers() {
        for (name, _) in kserve::environment(&container, &[]) {
            // What KServe itself sets is explained as `HF_*`.
            assert!(explained(&name) || name.starts_with("HF_"), "{file}: {name}");
        }
    }
}
