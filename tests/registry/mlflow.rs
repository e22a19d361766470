//! `models:/` and `mlflow://` against a real MLflow server, which hands out its artifacts itself.

use std::fs;
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use super::client::{python, venv};
use super::*;
use crate::rig::server::{Server, wait_until};

const USER: &str = "tester";
const PASSWORD: &str = "CANARY-RIGHT";

/// Files of each version: one large enough for several pieces, one empty, one below a folder.
fn files(version: u64) -> [(&'static str, Content); 3] {
    [
        ("MLmodel", Content::new(version, 300)),
        ("data/weights.bin", Content::new(version + 10, (5 << 20) + 17)),
        ("data/empty", Content::new(version, 0)),
    ]
}

/// Its processes end with the server's.
const GUNICORN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/registry/gunicorn.py");

struct Mlflow {
    // Held for its drop.
    _server: Server,
    uri: String,
    bucket: Bucket,
    logged: String,
}

fn start() -> Mlflow {
    let (server, [port]) = Server::start("mlflow", |_, [port]: [u16; 1]| {
        let mut command = Command::new(venv("mlflow"));
        command
            .args(["server", "--host", "127.0.0.1", "--port", &port.to_string(), "--workers", "1"])
            // The small edition has no asynchronous server; this is the one of old.
            .args(["--gunicorn-opts", &format!("--threads 8 --no-control-socket -c {GUNICORN}")])
            .args(["--backend-store-uri", "sqlite:///mlflow.db", "--artifacts-destination", "./artifacts"])
            .env("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "false")
            .env("MLFLOW_DISABLE_TELEMETRY", "true");
        (command, vec![port])
    });
    let uri = format!("http://127.0.0.1:{port}");
    let ready = || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok();
    wait_until("mlflow answers", Duration::from_secs(60), ready);
    let around = folder();
    for version in [1, 2] {
        for (name, content) in files(version) {
            let path = around.path().join(version.to_string()).join(name);
            fs::create_dir_all(path.parent().expect("a folder")).expect("folder");
            content.write_to(&mut fs::File::create(path).expect("file"));
        }
    }
    let bucket = models("mlflow", &[("stored", 5)]);
    let arguments = [uri.as_str(), around.path().to_str().expect("UTF-8"), &bucket.uri("stored")];
    let environment = [("MLFLOW_DISABLE_TELEMETRY", "true"), ("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")];
    let said = python("register_mlflow.py", &arguments, &environment);
    let logged = said.lines().last().expect("the id").trim().to_owned();
    Mlflow { _server: server, uri, bucket, logged }
}

/// The one MLflow of this test binary.
fn mlflow() -> &'static Mlflow {
    static MLFLOW: OnceLock<Mlflow> = OnceLock::new();
    MLFLOW.get_or_init(start)
}

fn pull(source: &str, dest: &Path, mlflow: &Mlflow) -> Dray {
    Dray::pull(source, dest).env("MLFLOW_TRACKING_URI", &mlflow.uri)
}

fn assert_version(run: &Run, dest: &Path, version: u64) {
    run.assert_sealed();
    let names: Vec<String> = files(version).iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(tree(dest), names.into_iter().collect());
    for (name, content) in files(version) {
        assert_eq!(hash_file(&dest.join(name)), content.blake3, "{name}");
    }
}

#[test]
fn every_name_of_a_version_leads_to_its_files() {
    let mlflow = mlflow();
    for (source, version) in [
        ("models:/iris%20model/1".to_owned(), 1),
        ("models:/iris%20model/2".to_owned(), 2),
        ("models:/iris%20model/latest".to_owned(), 2),
        ("models:/iris%20model@champion".to_owned(), 1),
        ("models:/iris%20model/Production".to_owned(), 1),
        ("models://iris%20model/1".to_owned(), 1),
        ("mlflow://iris%20model/1".to_owned(), 1),
        ("mlflow://iris%20model/Latest".to_owned(), 2),
        ("mlflow://iris%20model@champion".to_owned(), 1),
        ("models:/copied/1".to_owned(), 2),
        (format!("models:/{}", mlflow.logged), 2),
    ] {
        let dest = folder();
        let run = pull(&source, dest.path(), mlflow).run();
        assert_version(&run, dest.path(), version);
        let report = run.report();
        assert_eq!(report["source"], source.replace("mlflow://", "models:/").replace("models://", "models:/"));
        assert!(report["resolved"].as_str().expect("text").starts_with("mlflow-artifacts:/"), "{report}");
        let again = pull(&source, dest.path(), mlflow).run();
        again.assert_sealed();
        assert_eq!((again.count("bytes.fetched"), again.count("requests.total")), (0, 0), "{source}");
    }
}

#[test]
fn parts_of_a_model_and_models_elsewhere_are_found() {
    let mlflow = mlflow();
    let [(_, model), (_, weights), _] = files(1);
    for (source, name, content) in [
        ("models:/iris%20model/1/MLmodel", "MLmodel", model),
        ("models:/iris%20model@champion/data/weights.bin", "weights.bin", weights),
    ] {
        let dest = folder();
        pull(source, dest.path(), mlflow).run().assert_sealed();
        assert_eq!(tree(dest.path()).into_iter().collect::<Vec<_>>(), [name]);
        assert_eq!(hash_file(&dest.path().join(name)), content.blake3, "{source}");
    }
    let dest = folder();
    let run = pull("models:/stored/1", dest.path(), mlflow)
        .env("MLFLOW_S3_ENDPOINT_URL", weed().endpoint())
        .env("AWS_ACCESS_KEY_ID", rig::s3::ACCESS_KEY)
        .env("AWS_SECRET_ACCESS_KEY", rig::s3::SECRET_KEY)
        .run();
    assert_is(&run, dest.path(), 5, "models:/stored/1", &mlflow.bucket.uri("stored"));
}

#[test]
fn what_mlflow_does_not_know_is_not_found() {
    for source in [
        "models:/iris%20model/9",
        "models:/iris%20model@nobody",
        "models:/iris%20model/Staging",
        "models:/absent/latest",
        "models:/m-00000000000000000000000000000000",
        "models:/iris%20model/1/absent",
    ] {
        let dest = folder();
        pull(source, dest.path(), mlflow()).run().assert_fails(3);
    }
    let dest = folder();
    let line = Dray::pull("models:/iris/1", dest.path()).run().assert_fails(2).to_owned();
    assert!(line.contains("MLFLOW_TRACKING_URI"), "{line}");
}

#[test]
fn damage_is_repaired_from_the_server() {
    let dest = folder();
    let mlflow = mlflow();
    pull("models:/iris%20model/1", dest.path(), mlflow).run().assert_sealed();
    rig::oracle::flip_bit(&dest.path().join("data/weights.bin"), 4 << 20);
    let dir = dest.path().as_os_str();
    let run = Dray::new(["verify".as_ref(), dir, "--repair".as_ref()]).env("MLFLOW_TRACKING_URI", &mlflow.uri).run();
    run.assert_code(0);
    let [_, (name, weights), _] = files(1);
    assert_eq!(hash_file(&dest.path().join(name)), weights.blake3);
}

/// nginx before `upstream`, asking for a login.
fn guarded(upstream: &str) -> (Server, String) {
    let (server, [port]) = Server::start("nginx-login", |state, [port]: [u16; 1]| {
        fs::write(state.join("logins"), format!("{USER}:{{PLAIN}}{PASSWORD}\n")).expect("write the logins");
        let config = format!(
            "daemon off; master_process off; error_log stderr; pid nginx.pid; events {{ }}\n\
             http {{ access_log off; proxy_temp_path tmp; client_body_temp_path tmp; fastcgi_temp_path tmp;\n\
             uwsgi_temp_path tmp; scgi_temp_path tmp; server {{ listen 127.0.0.1:{port}; auth_basic models;\n\
             auth_basic_user_file logins; location / {{ proxy_pass {upstream}; proxy_buffering off; }} }} }}"
        );
        fs::write(state.join("nginx.conf"), config).expect("write nginx.conf");
        let mut command = Command::new("nginx");
        command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/sbin:/usr/local/bin");
        command.args(["-p", state.to_str().expect("UTF-8"), "-c", "nginx.conf", "-e", "stderr"]);
        (command, vec![port])
    });
    (server, format!("http://127.0.0.1:{port}"))
}

#[test]
fn a_login_opens_a_guarded_server_and_is_never_shown() {
    let (_server, uri) = guarded(&mlflow().uri);
    let source = "models:/iris%20model/1";
    let dest = folder();
    let pull = || Dray::pull(source, dest.path()).env("MLFLOW_TRACKING_URI", &uri).env("RUST_LOG", "trace");
    let login = |password: &str| pull().env("MLFLOW_TRACKING_USERNAME", USER).env("MLFLOW_TRACKING_PASSWORD", password);
    let nobody = pull().run();
    assert!(nobody.assert_fails(4).contains("anonymous"), "{}", nobody.last_line());
    let wrong = login("CANARY-PASSWORD").run();
    assert!(wrong.assert_fails(4).contains("basic login"), "{}", wrong.last_line());
    let encoded = "dGVzdGVyO";
    assert_without(&wrong, dest.path(), &["CANARY", encoded]);
    let right = login(PASSWORD).run();
    assert_version(&right, dest.path(), 1);
    assert_without(&right, dest.path(), &[PASSWORD, encoded]);
}
