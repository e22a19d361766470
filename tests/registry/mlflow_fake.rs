//! What a real MLflow server cannot be made to say: signed links, odd states, hostile locations.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::*;

/// A server that answers each path as told, by hanging up for status 0, and writes down the heads of requests.
struct Fake {
    address: String,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Fake {
    fn start(answer: impl Fn(&str) -> (u16, Value) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let heads: Arc<Mutex<Vec<String>>> = Arc::default();
        let (seen, answer) = (heads.clone(), Arc::new(answer));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (seen, answer) = (seen.clone(), answer.clone());
                // A client that hangs up has what it wanted.
                std::thread::spawn(move || serve(&stream, &seen, &*answer).unwrap_or_default());
            }
        });
        Self { address, heads }
    }

    /// A server whose registered model `iris` has one version at `location`.
    fn locating(location: &str) -> Self {
        let location = location.to_owned();
        Self::start(move |path| version_at(path, &location))
    }

    fn heads(&self) -> Vec<String> {
        self.heads.lock().expect("the heads").clone()
    }

    fn pull(&self, dest: &Path) -> Dray {
        Dray::pull("models:/iris/1", dest).env("MLFLOW_TRACKING_URI", format!("http://{}/base/", self.address))
    }
}

fn serve(stream: &TcpStream, seen: &Mutex<Vec<String>>, answer: &dyn Fn(&str) -> (u16, Value)) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if reader.read_line(&mut head)? == 0 {
                return Ok(());
            }
        }
        let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
        seen.lock().expect("the heads").push(head);
        let (status, body) = answer(path.strip_prefix("/base/api/2.0/").unwrap_or("outside"));
        if status == 0 {
            return Ok(());
        }
        let body = body.to_string();
        let length = body.len();
        let mut stream = stream;
        write!(
            stream,
            "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
        )?;
    }
}

fn version_at(path: &str, location: &str) -> (u16, Value) {
    if path.starts_with("mlflow/model-versions/get-download-uri?name=iris&version=1") {
        (200, json!({"artifact_uri": location}))
    } else if path.starts_with("mlflow/model-versions/get?name=iris&version=1") {
        (200, json!({"model_version": {"name": "iris", "version": "1", "status": "READY"}}))
    } else {
        absent()
    }
}

fn absent() -> (u16, Value) {
    (404, json!({"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "not found"}))
}

#[test]
fn locations_that_are_no_store_are_refused_by_name() {
    for (location, code, why) in [
        ("file:///etc", 6, "file:"),
        ("/var/mlruns/1", 6, "no scheme"),
        ("dbfs:/models/x", 6, "dbfs:"),
        ("hdfs://namenode/x", 6, "hdfs:"),
        ("http://127.0.0.1:1/x", 6, "http:"),
        ("runs:/1/x", 6, "runs:"),
        ("model-registry://x", 6, "model-registry:"),
        ("models:/iris/1", 6, "another model's name"),
        ("mlflow-artifacts:/a/../b", 6, "no source"),
        ("mlflow-artifacts://169.254.169.254/a", 6, "refused"),
        ("https://169.254.169.254/a", 6, "refused"),
        ("wasbs://c@a.blob.core.windows.net/x", 6, "no source"),
        ("gs://bucket/../x", 6, "no source"),
    ] {
        let dest = folder();
        let run = Fake::locating(location).pull(dest.path()).run();
        let line = run.assert_fails(code);
        assert!(line.contains(why), "{location}: {line}");
    }
}

#[test]
fn only_a_ready_version_is_taken() {
    for (status, code) in [("PENDING_REGISTRATION", 7), ("FAILED_REGISTRATION", 3), ("DELETED", 3)] {
        let server = Fake::start(move |path| match path {
            path if path.starts_with("mlflow/model-versions/get?") => {
                (200, json!({"model_version": {"version": "1", "status": status, "status_message": "because"}}))
            }
            _ => absent(),
        });
        let dest = folder();
        let run = server.pull(dest.path()).run();
        assert!(run.assert_fails(code).contains(status), "{}", run.last_line());
    }
}

#[test]
fn a_models_other_name_is_followed_once() {
    let bucket = models("mlflow-follow", &[("m", 1)]);
    let uri = bucket.uri("m");
    let server = Fake::start(move |path| match path {
        "mlflow/logged-models/m-1" => {
            (200, json!({"model": {"info": {"artifact_uri": uri, "status": "LOGGED_MODEL_READY"}}}))
        }
        path => version_at(path, "models:/m-1"),
    });
    let dest = folder();
    let run = server.pull(dest.path()).s3(&weed().endpoint()).run();
    assert_is(&run, dest.path(), 1, "models:/iris/1", &bucket.uri("m"));
}

#[test]
fn signed_links_are_used_without_the_servers_login() {
    const TOKEN: &str = "CANARY-MLFLOW-TOKEN";
    let bucket = models("mlflow-signed", &[("m", 1)]);
    let link = bucket.presigned_get("m/weights.bin");
    let store = bucket.uri("m");
    let server = Fake::start(move |path| match path {
        "mlflow-artifacts/artifacts?path=1%2Fm" => {
            (200, json!({"files": [{"path": "weights.bin", "is_dir": false, "file_size": "3145728"}]}))
        }
        "mlflow-artifacts/presigned/1/m/weights.bin" => (
            200,
            json!({"url": link, "headers": {
                "Range": "bytes=0-1", "x-of-the-store": "yes", "Content-Length": "9", "Transfer-Encoding": "chunked",
                "Connection": "close", "Expect": "100-continue", "TE": "trailers", "Upgrade": "h2c",
            }, "file_size": 3_145_728}),
        ),
        path => version_at(path, "mlflow-artifacts:/1/m"),
    });
    let dest = folder();
    let run = server.pull(dest.path()).env("MLFLOW_TRACKING_TOKEN", TOKEN).env("MLFLOW_WORKSPACE", "team-a").run();
    assert_is(&run, dest.path(), 1, "models:/iris/1", "mlflow-artifacts:/1/m");
    assert!(!store.is_empty());
    assert_without(&run, dest.path(), &[TOKEN, "X-Amz-Signature"]);
    for head in server.heads() {
        let head = head.to_ascii_lowercase();
        assert!(
            head.contains("authorization: bearer canary-mlflow-token") && head.contains("x-mlflow-workspace: team-a"),
            "{head}"
        );
        assert!(!head.contains("artifacts/artifacts/1/m"), "the server was asked for bytes: {head}");
    }
}

#[test]
fn a_signed_link_may_not_lead_to_a_metadata_service() {
    let server = Fake::start(|path| match path {
        "mlflow-artifacts/artifacts?path=1%2Fm" => {
            (200, json!({"files": [{"path": "w", "is_dir": false, "file_size": 9}]}))
        }
        "mlflow-artifacts/presigned/1/m/w" => (200, json!({"url": "http://169.254.169.254/latest", "headers": {}})),
        path => version_at(path, "mlflow-artifacts:/1/m"),
    });
    let dest = folder();
    let run = server.pull(dest.path()).run();
    assert!(run.assert_fails(6).contains("refused"), "{}", run.last_line());
}

#[test]
fn artifacts_on_another_host_are_asked_for_without_the_login() {
    let other = Fake::start(|_| (401, json!({"error_code": "UNAUTHENTICATED", "message": "who are you"})));
    let server = Fake::locating(&format!("mlflow-artifacts://{}/1/m", other.address));
    let dest = folder();
    let run = server.pull(dest.path()).env("MLFLOW_TRACKING_TOKEN", "CANARY-TOKEN").run();
    run.assert_fails(4);
    assert!(!other.heads().is_empty());
    for head in other.heads() {
        assert!(!head.to_ascii_lowercase().contains("authorization"), "{head}");
    }
}

#[test]
fn a_broken_connection_is_tried_again() {
    let bucket = models("mlflow-broken", &[("m", 1)]);
    let uri = bucket.uri("m");
    let seen = Mutex::new(std::collections::HashSet::new());
    let server = Fake::start(move |path| match seen.lock().expect("the paths").insert(path.to_owned()) {
        true => (0, Value::Null),
        false => version_at(path, &uri),
    });
    let dest = folder();
    let run = server.pull(dest.path()).s3(&weed().endpoint()).run();
    assert_is(&run, dest.path(), 1, "models:/iris/1", &bucket.uri("m"));
    assert_eq!(server.heads().len(), 4, "each of two requests was made twice");
    let server = Fake::start(|_| (0, Value::Null));
    let dest = folder();
    assert!(server.pull(dest.path()).run().assert_fails(7).contains("broke the connection"));
    assert_eq!(server.heads().len(), 3);
}

#[test]
fn two_dots_within_a_folders_name_are_no_way_up() {
    let bucket = models("mlflow-dots", &[("m", 1)]);
    let link = bucket.presigned_get("m/weights.bin");
    let server = Fake::start(move |path| match path {
        "mlflow-artifacts/artifacts?path=1%2Fm" => (200, json!({"files": [{"path": "v1..2", "is_dir": true}]})),
        "mlflow-artifacts/artifacts?path=1%2Fm%2Fv1..2" => {
            (200, json!({"files": [{"path": "weights.bin", "is_dir": false, "file_size": 3_145_728}]}))
        }
        "mlflow-artifacts/presigned/1/m/v1..2/weights.bin" => (200, json!({"url": link, "headers": {}})),
        path => version_at(path, "mlflow-artifacts:/1/m"),
    });
    let dest = folder();
    server.pull(dest.path()).run().assert_sealed();
    assert_eq!(hash_file(&dest.path().join("v1..2/weights.bin")), content(1).blake3);
}

#[test]
fn listings_without_end_and_names_that_escape_are_refused() {
    for (path, code) in [("deeper", 7), ("..", 6), (".", 6), ("a//b", 6), ("a/../../b", 6)] {
        let server = Fake::start(move |asked| match asked {
            asked if asked.starts_with("mlflow-artifacts/artifacts?") => {
                (200, json!({"files": [{"path": path, "is_dir": true}]}))
            }
            asked => version_at(asked, "mlflow-artifacts:/1/m"),
        });
        let dest = folder();
        let run = server.pull(dest.path()).run();
        run.assert_fails(code);
        assert!(server.heads().len() < 50, "{path}: {} requests", server.heads().len());
    }
    for (path, code) in [("../../etc/passwd", 6), ("/etc/passwd", 6), ("a\\b", 6)] {
        let server = Fake::start(move |asked| match asked {
            asked if asked.starts_with("mlflow-artifacts/artifacts?") => {
                (200, json!({"files": [{"path": path, "is_dir": false, "file_size": 1}]}))
            }
            asked => version_at(asked, "mlflow-artifacts:/1/m"),
        });
        let dest = folder();
        server.pull(dest.path()).run().assert_fails(code);
    }
}
