//! Pod Security `restricted`, of the Kubernetes page "Pod Security Standards" (1.34), and the project's own on top:
//! a read-only root, the runtime's seccomp profile and none other, and a user by number.

use std::fs;

use serde_json::{Value, json};

use crate::{CSC_DEFAULT, CSC_LOCAL, DAEMONS, JOB, POD, manifests, planted, pods};

const VOLUMES: [&str; 8] =
    ["configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"];
const SYSCTLS: [&str; 9] = [
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.ping_group_range",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
];

/// All containers of a pod, init containers first.
pub(crate) fn containers(pod: &Value) -> Vec<&Value> {
    let of = |name: &str| pod["spec"][name].as_array().into_iter().flatten();
    ["initContainers", "containers", "ephemeralContainers"].into_iter().flat_map(of).collect()
}

/// What `restricted`, and this project, would not admit.
fn violations(pod: &Value) -> Vec<String> {
    let spec = &pod["spec"];
    let mut found = Vec::new();
    let mut rule = |holds: bool, what: String| {
        if !holds {
            found.push(what);
        }
    };
    for name in ["hostNetwork", "hostPID", "hostIPC"] {
        rule(spec[name] != true, name.into());
    }
    for volume in spec["volumes"].as_array().into_iter().flatten() {
        let kinds = volume.as_object().expect("a volume").keys().filter(|key| *key != "name");
        kinds.for_each(|kind| rule(VOLUMES.contains(&kind.as_str()), format!("volume {kind}")));
    }
    for sysctl in spec["securityContext"]["sysctls"].as_array().into_iter().flatten() {
        rule(SYSCTLS.iter().any(|name| sysctl["name"] == *name), format!("sysctl {}", sysctl["name"]));
    }
    context(&spec["securityContext"], "pod", &mut rule);
    assert!(!containers(pod).is_empty(), "a pod has containers");
    for container in containers(pod) {
        let name = container["name"].as_str().unwrap_or("a container");
        context(&container["securityContext"], name, &mut rule);
        of_container(container, &spec["securityContext"], name, &mut rule);
    }
    found
}

/// Fields that a pod and a container have both, and that may say nothing dangerous in either.
fn context(context: &Value, who: &str, rule: &mut impl FnMut(bool, String)) {
    rule(context["windowsOptions"]["hostProcess"] != true, format!("{who}: hostProcess"));
    let profile = &context["appArmorProfile"]["type"];
    rule(profile.is_null() || *profile == "RuntimeDefault" || *profile == "Localhost", format!("{who}: appArmor"));
    let linux = &context["seLinuxOptions"];
    let types = ["", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"];
    rule(types.contains(&linux["type"].as_str().unwrap_or("")), format!("{who}: SELinux type"));
    rule(linux["user"].is_null() && linux["role"].is_null(), format!("{who}: SELinux user or role"));
    rule(context["runAsUser"] != 0, format!("{who}: runAsUser 0"));
    rule(context["runAsNonRoot"] != false, format!("{who}: runAsNonRoot false"));
    let profile = &context["seccompProfile"]["type"];
    rule(profile.is_null() || *profile == "RuntimeDefault", format!("{who}: seccomp"));
}

/// What each container must say itself, or its pod for it.
fn of_container(container: &Value, pod: &Value, who: &str, rule: &mut impl FnMut(bool, String)) {
    let own = &container["securityContext"];
    let effective = |name: &str| if own[name].is_null() { &pod[name] } else { &own[name] };
    rule(own["privileged"] != true, format!("{who}: privileged"));
    rule(own["allowPrivilegeEscalation"] == false, format!("{who}: allowPrivilegeEscalation"));
    rule(effective("runAsNonRoot") == true, format!("{who}: runAsNonRoot"));
    rule(effective("seccompProfile")["type"] == "RuntimeDefault", format!("{who}: no seccomp profile"));
    let mount = &own["procMount"];
    rule(mount.is_null() || *mount == "Default", format!("{who}: procMount"));
    let listed = |name: &str| own["capabilities"][name].as_array().cloned().unwrap_or_default();
    rule(listed("drop").contains(&"ALL".into()), format!("{who}: capabilities not dropped"));
    rule(listed("add").iter().all(|name| name == "NET_BIND_SERVICE"), format!("{who}: capabilities added"));
    for port in container["ports"].as_array().into_iter().flatten() {
        rule(port["hostPort"].as_u64().unwrap_or(0) == 0, format!("{who}: hostPort"));
    }
    for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
        let host = |kind: &str| !container[probe][kind]["host"].is_null();
        rule(!host("httpGet") && !host("tcpSocket"), format!("{who}: host of a {probe}"));
    }
    rule(own["readOnlyRootFilesystem"] == true, format!("{who}: root is writable"));
    // A name cannot be checked against runAsNonRoot: without runAsUser the image must have a number.
    let by_number = effective("runAsUser").is_u64() || container["image"] == "dray";
    rule(by_number, format!("{who}: no numeric user"));
}

#[test]
fn every_pod_is_admitted_by_restricted() {
    for (file, pod) in pods() {
        // A node's own folder is what the DaemonSet is for, and its comment says what that asks of the namespace.
        let beyond: &[&str] = if file == DAEMONS { &["volume hostPath"] } else { &[] };
        assert_eq!(violations(&pod), beyond, "{file}");
    }
    let dockerfile = fs::read_to_string(manifests::root().join("Dockerfile")).expect("Dockerfile");
    let user = dockerfile.lines().rfind(|line| line.starts_with("USER ")).expect("a user");
    let ids: Vec<u32> = user["USER ".len()..].split(':').map(|id| id.parse().expect("a number")).collect();
    assert!(ids.iter().all(|id| 0 < *id), "{user}");
}

#[test]
fn a_planted_offender_is_not_admitted() {
    let container = "/spec/initContainers/0/securityContext";
    let job = "/spec/containers/0/securityContext";
    let rows = [
        (CSC_DEFAULT, format!("{container}/runAsNonRoot"), Value::Null),
        (CSC_DEFAULT, format!("{container}/runAsNonRoot"), json!(false)),
        (CSC_DEFAULT, format!("{container}/runAsUser"), json!(0)),
        (CSC_DEFAULT, format!("{container}/allowPrivilegeEscalation"), Value::Null),
        (CSC_DEFAULT, format!("{container}/readOnlyRootFilesystem"), Value::Null),
        (CSC_DEFAULT, format!("{container}/seccompProfile"), Value::Null),
        (CSC_DEFAULT, format!("{container}/seccompProfile/type"), json!("Unconfined")),
        (CSC_DEFAULT, format!("{container}/capabilities"), Value::Null),
        (CSC_DEFAULT, format!("{container}/capabilities/drop"), json!(["NET_RAW"])),
        (CSC_DEFAULT, format!("{container}/capabilities/add"), json!(["SYS_ADMIN"])),
        (CSC_DEFAULT, format!("{container}/privileged"), json!(true)),
        (CSC_DEFAULT, format!("{container}/procMount"), json!("Unmasked")),
        (CSC_DEFAULT, "/spec/initContainers/0/ports/0/hostPort".into(), json!(9090)),
        (CSC_LOCAL, format!("{job}/seccompProfile"), Value::Null),
        (CSC_LOCAL, format!("{job}/runAsNonRoot"), Value::Null),
        (JOB, "/spec/securityContext/runAsNonRoot".into(), Value::Null),
        (JOB, format!("{job}/readOnlyRootFilesystem"), Value::Null),
        (POD, "/spec/hostNetwork".into(), json!(true)),
        (POD, "/spec/securityContext/runAsNonRoot".into(), Value::Null),
        (POD, "/spec/securityContext/runAsUser".into(), Value::Null),
        (POD, "/spec/securityContext/seccompProfile".into(), Value::Null),
        (POD, "/spec/securityContext/sysctls".into(), json!([{"name": "kernel.msgmax", "value": "1"}])),
        (POD, "/spec/volumes/0".into(), json!({"name": "models", "hostPath": {"path": "/models"}})),
        (POD, "/spec/containers/0/securityContext/capabilities".into(), Value::Null),
    ];
    for (file, pointer, value) in rows {
        let pod = pods().into_iter().find(|(name, _)| *name == file).expect("a pod").1;
        assert_ne!(violations(&planted(&pod, &pointer, &value)), [""; 0], "{file}: {pointer} = {value}");
    }
}
