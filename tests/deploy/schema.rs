//! Every document against the Kubernetes schema, or the fields of its CRD.

use serde_json::{Value, json};

use crate::manifests::{all, complaints, documents};
use crate::{CSC_DEFAULT, CSC_LOCAL, CSC_REGISTRY, DAEMONS, JOB, POD, planted};

/// Files that are no document of a cluster: kustomize's list of image fields, and a patch.
const NO_DOCUMENTS: [&str; 2] = ["image-fields.yaml", "narrow-default.yaml"];

#[test]
fn every_document_is_what_its_schema_allows() {
    let listed: Vec<&(String, Value)> =
        all().iter().filter(|(file, _)| !NO_DOCUMENTS.contains(&file.as_str())).collect();
    assert_eq!(listed.len() + NO_DOCUMENTS.len(), all().len(), "each of the others is one");
    assert!(11 <= listed.len(), "{} documents", listed.len());
    let judged = complaints(&listed.iter().map(|(_, document)| document.clone()).collect::<Vec<_>>());
    for ((file, _), found) in listed.iter().zip(judged) {
        assert_eq!(found, [""; 0], "{file}");
    }
}

#[test]
fn the_patch_leaves_kserves_default_what_its_schema_allows() {
    let patch = documents("narrow-default.yaml").remove(0);
    let spec = patch["spec"].as_object().expect("a spec");
    assert_eq!(spec.keys().collect::<Vec<_>>(), ["supportedUriFormats"]);
    // A merge patch replaces lists whole.
    let formats = &patch["spec"]["supportedUriFormats"];
    let patched = planted(&documents(CSC_DEFAULT)[0], "/spec/supportedUriFormats", formats);
    assert_eq!(complaints(&[patched]), [[""; 0]]);
}

#[test]
fn a_planted_offender_is_complained_of() {
    let rows = [
        (CSC_DEFAULT, 0, "/spec/supportsMultiModelDownloads", json!(true)),
        (CSC_DEFAULT, 0, "/spec/disabled", json!(true)),
        (CSC_DEFAULT, 0, "/spec/workloadType", json!("initcontainer")),
        (CSC_DEFAULT, 0, "/spec/container/name", Value::Null),
        (CSC_REGISTRY, 0, "/spec/container/env/3/valueFrom/secretKeyRef/key", Value::Null),
        (CSC_REGISTRY, 0, "/spec/container/env/0/val", json!("x")),
        (CSC_LOCAL, 0, "/spec/container/securityContext/seccompProfile/kind", json!("RuntimeDefault")),
        (CSC_LOCAL, 0, "/spec/supportedUriFormats", Value::Null),
        (POD, 0, "/spec/initContainer", json!([])),
        (POD, 0, "/spec/volumes/0/name", Value::Null),
        (POD, 0, "/spec/initContainers/0/ports/0/containerPort", json!("9090")),
        ("localmodelcache.yaml", 0, "/spec/modelSize", json!("150 GB")),
        ("localmodelcache.yaml", 0, "/spec/nodeGroup", json!("gpu")),
        ("podmonitor.yaml", 0, "/spec/endpoints", json!([])),
        ("podmonitor.yaml", 0, "/spec/podMetricsEndpoints/0/interval", json!("15 s")),
        ("podmonitor.yaml", 0, "/spec/podMetricsEndpoints/0/relabelings/0/action", json!("retain")),
        ("rbac.yaml", 1, "/rules/0/verb", json!(["get"])),
        ("rbac.yaml", 2, "/roleRef", Value::Null),
        ("networkpolicy.yaml", 0, "/spec/egress/0/port", json!(53)),
        ("kustomization.yaml", 0, "/images/0/tag", json!("latest")),
        (JOB, 0, "/spec/podFailurePolicy/rules/0/onExitCodes/values", json!(["2"])),
        (JOB, 0, "/spec/template/spec/volumes/0/configMap", json!("dray-models")),
        (DAEMONS, 0, "/spec/selector", Value::Null),
        (DAEMONS, 0, "/spec/template/spec/tolerations/0/operator", json!(true)),
        ("models.yaml", 0, "/data/models.yaml", json!([])),
    ];
    let broken: Vec<Value> =
        rows.iter().map(|(file, at, pointer, value)| planted(&documents(file)[*at], pointer, value)).collect();
    for ((file, _, pointer, value), found) in rows.iter().zip(complaints(&broken)) {
        assert!(!found.is_empty(), "{file}: {pointer} = {value} went through");
    }
}
