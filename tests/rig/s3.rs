//! S3 servers, and the uploads that fill them (by boto3, in `s3put.py`).

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use serde_json::{Value, json};

use super::oracle::Content;
use super::server::{Server, holds_within, venv};

pub(crate) const ACCESS_KEY: &str = "test-access-key";
pub(crate) const SECRET_KEY: &str = "test-secret-key";

const STARTS_MAX: u32 = 3;
const WEED_READY_MAX: Duration = Duration::from_secs(60);

/// SeaweedFS with one identity; it enforces SigV4.
pub(crate) struct Weed {
    // Held for its drop.
    server: Server,
    port: u16,
}

impl Weed {
    /// Starts until one takes an object: between the choice of a port and its use another process may take it, and
    /// then the gateway answers while a part behind it is somebody else's.
    pub(crate) fn start() -> Self {
        let mut log = String::new();
        for _ in 0..STARTS_MAX {
            let (server, ports) = Server::start("weed", plan_weed);
            let weed = Self { server, port: ports[0] };
            if holds_within(WEED_READY_MAX, || weed.takes_an_object()) {
                return weed;
            }
            log = weed.server.log();
        }
        panic!("weed takes no object; its log:\n{log}");
    }

    /// The gateway accepts a little before its volumes do.
    fn takes_an_object(&self) -> bool {
        let bucket = Bucket { endpoint: self.endpoint(), name: "ready".into() };
        // It is there from the second time on.
        bucket.try_ask("bucket", json!({})).ok();
        bucket.try_put(&[("probe", &Content::new(0, 1))], json!({})).is_ok()
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.address())
    }

    /// Host and port of the S3 endpoint.
    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Makes a bucket of this name; each test takes its own.
    pub(crate) fn bucket(&self, name: &str) -> Bucket {
        Bucket::create(&self.endpoint(), name, json!({}))
    }

    /// Makes a bucket that keeps old versions.
    pub(crate) fn versioned_bucket(&self, name: &str) -> Bucket {
        Bucket::create(&self.endpoint(), name, json!({"versioned": true}))
    }
}

fn plan_weed(state: &Path, ports: [u16; 10]) -> (Command, Vec<u16>) {
    let identities = json!({"identities": [{
        "name": "test",
        "credentials": [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}],
        "actions": ["Admin", "Read", "Write", "List", "Tagging"],
    }]});
    fs::write(state.join("identities.json"), identities.to_string()).expect("write identities");
    let [s3, s3_grpc, master, master_grpc, volume, volume_grpc, filer, filer_grpc, _, _] = ports;
    let mut command = Command::new(venv("weed"));
    command
        .arg("server")
        .arg(format!("-dir={}", state.display()))
        .args(["-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-filer", "-s3", "-s3.port.iceberg=0", "-s3.port.lance=0"])
        .args(["-volume.max=4000", "-master.volumeSizeLimitMB=512", "-volume.preStopSeconds=0"])
        .arg(format!("-master.port={master}"))
        .arg(format!("-master.port.grpc={master_grpc}"))
        .arg(format!("-volume.port={volume}"))
        .arg(format!("-volume.port.grpc={volume_grpc}"))
        .arg(format!("-filer.port={filer}"))
        .arg(format!("-filer.port.grpc={filer_grpc}"))
        .arg(format!("-s3.port={s3}"))
        .arg(format!("-s3.port.grpc={s3_grpc}"))
        .arg(format!("-s3.config={}", state.join("identities.json").display()));
    (command, vec![s3, master, volume, filer])
}

/// moto's S3: it checks no signature and gets some checksums wrong, so a second opinion only.
pub(crate) struct Moto {
    // Held for its drop.
    server: Server,
    port: u16,
}

impl Moto {
    pub(crate) fn start() -> Self {
        let (server, ports) = Server::start("moto", |_, [port]: [u16; 1]| {
            let mut command = Command::new(venv("moto_server"));
            command.args(["-H", "127.0.0.1", "-p", &port.to_string()]);
            (command, vec![port])
        });
        Self { server, port: ports[0] }
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub(crate) fn bucket(&self, name: &str) -> Bucket {
        Bucket::create(&self.endpoint(), name, json!({}))
    }
}

/// A bucket at one endpoint.
pub(crate) struct Bucket {
    pub(crate) endpoint: String,
    pub(crate) name: String,
}

impl Bucket {
    fn create(endpoint: &str, name: &str, extra: Value) -> Self {
        let bucket = Self { endpoint: endpoint.into(), name: name.into() };
        bucket.ask("bucket", extra);
        bucket
    }

    /// Puts the file at `path`, with a checksum of this algorithm over all of it.
    pub(crate) fn put_file(&self, key: &str, path: &Path, algorithm: &str) {
        let length = fs::metadata(path).expect("metadata").len();
        let object = json!({"key": key, "file": path, "offset": 0, "length": length});
        let put = self.try_ask("put", json!({"objects": [object], "checksum": algorithm}));
        put.unwrap_or_else(|error| panic!("put: {error}"));
    }

    /// `s3://bucket/path`.
    pub(crate) fn uri(&self, path: &str) -> String {
        format!("s3://{}/{path}", self.name)
    }

    /// Puts each object in one request, without a checksum of the client's.
    pub(crate) fn put(&self, objects: &[(&str, &Content)]) {
        self.try_put(objects, json!({})).unwrap_or_else(|error| panic!("put: {error}"));
    }

    /// Puts each object so that anybody may read it.
    pub(crate) fn put_public(&self, objects: &[(&str, &Content)]) {
        self.try_put(objects, json!({"acl": "public-read"})).unwrap_or_else(|error| panic!("put: {error}"));
    }

    /// Puts each object in one request that states a checksum (`CRC64NVME`, `SHA256`, …).
    pub(crate) fn put_stating(&self, algorithm: &str, objects: &[(&str, &Content)]) {
        let extra = json!({"checksum": algorithm});
        self.try_put(objects, extra).unwrap_or_else(|error| panic!("put: {error}"));
    }

    fn try_put(&self, objects: &[(&str, &Content)], extra: Value) -> Result<Value, String> {
        let staged = Staged::new(objects);
        let listed: Vec<Value> = objects
            .iter()
            .zip(&staged.offsets)
            .map(|((key, content), offset)| {
                json!({"key": key, "file": staged.file, "offset": offset, "length": content.size})
            })
            .collect();
        self.try_ask("put", merged(json!({"objects": listed}), extra))
    }

    /// Puts one object in parts of `part` bytes. `sums` is the algorithm and its type, as
    /// `("CRC64NVME", "FULL_OBJECT")`; `None` states nothing.
    pub(crate) fn put_multipart(&self, key: &str, content: &Content, part: u64, sums: Option<(&str, &str)>) {
        let staged = Staged::new(&[(key, content)]);
        let ask = json!({"key": key, "file": staged.file, "length": content.size, "part": part});
        let extra = sums.map_or(json!({}), |(algorithm, kind)| json!({"algorithm": algorithm, "type": kind}));
        self.ask("multipart", merged(ask, extra));
    }

    /// Puts one object in parts of these sizes, which make it up; `sums` as in [`Bucket::put_multipart`].
    pub(crate) fn put_parts(&self, key: &str, content: &Content, sizes: &[u64], sums: (&str, &str)) {
        let staged = Staged::new(&[(key, content)]);
        let ask = json!({"key": key, "file": staged.file, "length": content.size, "parts": sizes});
        self.ask("multipart", merged(ask, json!({"algorithm": sums.0, "type": sums.1})));
    }

    pub(crate) fn delete(&self, key: &str) {
        self.ask("delete", json!({"key": key}));
    }

    /// What HEAD says of an object, with its checksums.
    pub(crate) fn head(&self, key: &str) -> Value {
        self.ask("head", json!({"key": key}))["head"].take()
    }

    /// Every key, as the server lists it to boto3.
    pub(crate) fn keys(&self) -> Vec<String> {
        let reply = self.ask("keys", json!({}));
        let keys = reply["keys"].as_array().expect("keys");
        keys.iter().map(|key| key.as_str().expect("a key").to_owned()).collect()
    }

    /// A URL that is signed for GET alone.
    pub(crate) fn presigned_get(&self, key: &str) -> String {
        let reply = self.ask("presign", json!({"key": key}));
        reply["url"].as_str().expect("a URL").into()
    }

    fn ask(&self, op: &str, ask: Value) -> Value {
        self.try_ask(op, ask).unwrap_or_else(|error| panic!("{op} in {}: {error}", self.name))
    }

    fn try_ask(&self, op: &str, ask: Value) -> Result<Value, String> {
        let identity = json!({
            "op": op, "endpoint": self.endpoint, "bucket": self.name,
            "access": ACCESS_KEY, "secret": SECRET_KEY,
        });
        Uploader::ask(&merged(identity, ask))
    }
}

fn merged(mut into: Value, from: Value) -> Value {
    let (Value::Object(map), Value::Object(more)) = (&mut into, from) else {
        panic!("both are objects");
    };
    map.extend(more);
    into
}

/// The bytes of several objects, in one file for the uploader to read.
struct Staged {
    _folder: tempfile::TempDir,
    file: PathBuf,
    offsets: Vec<u64>,
}

impl Staged {
    fn new(objects: &[(&str, &Content)]) -> Self {
        let folder = tempfile::tempdir().expect("temporary folder");
        let file = folder.path().join("objects");
        let mut out = fs::File::create(&file).expect("create the staging file");
        let mut offsets = Vec::with_capacity(objects.len());
        let mut end = 0;
        for (_, content) in objects {
            offsets.push(end);
            content.write_to(&mut out);
            end += content.size;
        }
        Self { _folder: folder, file, offsets }
    }
}

/// The Python process that uploads; it ends when this process does, as its input ends then.
struct Uploader {
    _child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Uploader {
    fn ask(request: &Value) -> Result<Value, String> {
        static UPLOADER: OnceLock<Mutex<Uploader>> = OnceLock::new();
        let uploader = UPLOADER.get_or_init(|| Mutex::new(Self::start()));
        // A test that failed while it held the lock left a whole line behind, or none.
        let mut uploader = uploader.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        writeln!(uploader.input, "{request}").expect("write to the uploader");
        let mut line = String::new();
        uploader.output.read_line(&mut line).expect("read from the uploader");
        let reply: Value = serde_json::from_str(&line).expect("the uploader answers in JSON");
        match reply["error"].as_str() {
            Some(error) => Err(error.into()),
            None => Ok(reply),
        }
    }

    fn start() -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/rig/s3put.py");
        let mut child = Command::new(venv("python"))
            .arg(script)
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .env_remove("AWS_PROFILE")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("start the uploader");
        let input = child.stdin.take().expect("piped");
        let output = BufReader::new(child.stdout.take().expect("piped"));
        Self { _child: child, input, output }
    }
}
