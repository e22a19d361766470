//! fake-gcs-server and gcp-storage-emulator in memory, filled over their own upload API.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::dray::Dray;
use super::oracle::Content;
use super::server::Server;

/// A running emulator.
pub(crate) struct Emulator {
    // Held for its drop.
    _server: Server,
    port: u16,
}

/// A bucket of it.
pub(crate) struct Bucket {
    port: u16,
    name: String,
}

impl Emulator {
    /// fake-gcs-server.
    pub(crate) fn start() -> Self {
        let (server, [port]) = Server::start("fake-gcs", |_, [port]: [u16; 1]| {
            let mut command = Command::new(program("fake-gcs-server"));
            command
                .args(["-backend", "memory", "-scheme", "http", "-host", "127.0.0.1", "-port", &port.to_string()])
                .args(["-public-host", &format!("127.0.0.1:{port}")])
                .args(["-external-url", &format!("http://127.0.0.1:{port}")]);
            (command, vec![port])
        });
        Self { _server: server, port }
    }

    /// gcp-storage-emulator, which has no pages and serves one request at a time.
    pub(crate) fn start_weaker() -> Self {
        let (server, [port]) = Server::start("gcp-storage", |_, [port]: [u16; 1]| {
            let mut command = Command::new(program("gcp-storage-emulator"));
            command.args(["start", "--host", "127.0.0.1", "--port", &port.to_string(), "--in-memory", "--quiet"]);
            (command, vec![port])
        });
        Self { _server: server, port }
    }

    /// Makes a bucket of this name; each test takes its own.
    pub(crate) fn bucket(&self, name: &str) -> Bucket {
        let bucket = Bucket { port: self.port, name: name.to_owned() };
        let body = format!("{{\"name\": \"{name}\"}}");
        let answer = bucket.post("/storage/v1/b?project=test", "application/json", body.len(), |stream| {
            stream.write_all(body.as_bytes()).expect("send");
        });
        assert!(answer.contains(" 200 "), "{answer}");
        bucket
    }
}

fn program(name: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or(root.join("target"), |dir| root.join(dir));
    let venv = std::env::var_os("DRAY_GCS_VENV").map_or(target.join("gcs-venv"), PathBuf::from);
    let path = venv.join("bin").join(name);
    assert!(path.exists(), "{} is missing: run scripts/gcs-deps.sh", path.display());
    path
}

impl Bucket {
    /// `gs://bucket/path`.
    pub(crate) fn uri(&self, path: &str) -> String {
        format!("gs://{}/{path}", self.name)
    }

    /// `dray pull SRC DEST` with this server as the environment's emulator.
    pub(crate) fn pull(&self, path: &str, dest: &Path) -> Dray {
        self.here(Dray::pull(&self.uri(path), dest))
    }

    /// The run with this server as the environment's emulator.
    pub(crate) fn here(&self, dray: Dray) -> Dray {
        dray.env("STORAGE_EMULATOR_HOST", self.host())
    }

    /// Host and port of the server.
    pub(crate) fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub(crate) fn put(&self, objects: &[(&str, &Content)]) {
        for (name, content) in objects {
            self.put_with(name, content, "");
        }
    }

    /// Puts an object that says of itself that it is gzip.
    pub(crate) fn put_as_gzip(&self, name: &str, content: &Content) {
        self.put_with(name, content, "&contentEncoding=gzip");
    }

    /// Puts a file of this machine.
    pub(crate) fn put_file(&self, name: &str, path: &Path) {
        let bytes = fs::read(path).expect("read");
        self.upload(name, "", bytes.len(), |stream| stream.write_all(&bytes).expect("send"));
    }

    fn put_with(&self, name: &str, content: &Content, parameters: &str) {
        let size = usize::try_from(content.size).expect("a size");
        self.upload(name, parameters, size, |stream| content.write_to(stream));
    }

    fn upload(&self, name: &str, parameters: &str, size: usize, send: impl FnOnce(&mut TcpStream)) {
        let name = utf8_percent_encode(name, NON_ALPHANUMERIC);
        let target = format!("/upload/storage/v1/b/{}/o?uploadType=media&name={name}{parameters}", self.name);
        let answer = self.post(&target, "application/octet-stream", size, send);
        assert!(answer.contains(" 200 "), "{answer}");
    }

    fn post(&self, target: &str, kind: &str, length: usize, send: impl FnOnce(&mut TcpStream)) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).expect("connect");
        let head = format!(
            "POST {target} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nConnection: close\r\nContent-Type: {kind}\r\n\
             Content-Length: {length}\r\n\r\n",
            self.port
        );
        stream.write_all(head.as_bytes()).expect("send");
        send(&mut stream);
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        answer
    }
}
