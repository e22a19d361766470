//! nginx as an HTTP and HTTPS origin that counts, without ranges, slowed, and in front of an S3 server.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use serde_json::Value;

use super::server::{Server, wait_until};

const SETTLED_MAX: Duration = Duration::from_secs(20);

/// What differs between one nginx and the next.
pub(crate) struct Options {
    /// Bytes a second and connection on the slow ports, as nginx writes it: `4m`.
    pub(crate) limit_rate: &'static str,
    /// Host and port of an S3 server to stand before; signatures stay valid, as Host is passed on.
    pub(crate) upstream: Option<String>,
}

/// A running nginx that serves a folder. It starts in a tenth of a second: each test has its own, so
/// that nothing else is in its log.
pub(crate) struct Nginx {
    server: Server,
    root: PathBuf,
    ports: [u16; 8],
}

/// One line of the access log.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) port: u16,
    /// The number of the connection that it came on.
    pub(crate) connection: u64,
    pub(crate) method: String,
    pub(crate) uri: String,
    pub(crate) status: u16,
    /// Body bytes handed to the socket.
    pub(crate) bytes: u64,
    pub(crate) range: String,
    pub(crate) if_match: String,
}

const COMMON: &str = r#"
daemon off; master_process off; worker_rlimit_nofile 4096;
error_log stderr warn; pid nginx.pid;
events { worker_connections 1024; }
http {
  default_type application/octet-stream; sendfile on; tcp_nopush on; keepalive_requests 100000;
  client_body_temp_path tmp; proxy_temp_path tmp; fastcgi_temp_path tmp; uwsgi_temp_path tmp; scgi_temp_path tmp;
  log_format rig escape=json '{"port":$server_port,"connection":$connection,"method":"$request_method","uri":"$request_uri","status":$status,'
    '"bytes":$body_bytes_sent,"range":"$http_range","if_match":"$http_if_match"}';
  access_log access.log rig;
"#;

/// Places of the plain HTTP port that answer otherwise.
const ODD_PLACES: &str = "
  absolute_redirect off;
  location /denied/401 { return 401; }
  location /denied/403 { return 403; }
  location /failing/500 { return 500; }
  location /failing/503 { return 503; }
  location /moved/ { return 302 /stored/blob-17; }
  location /loop/ { return 302 $request_uri; }
  location /guarded/ { if ($http_x_token != let-me-in) { return 403; } }
  location /to-file/ { return 302 file:///etc/passwd; }
  location /typed/json/ { default_type application/json; }
  location /typed/html/ { default_type text/html; }
  location /typed/tar/ { default_type application/x-tar; }
  location /typed/zip/ { default_type application/zip; }
  location /stating/ { add_header Repr-Digest $arg_repr; add_header Content-MD5 $arg_md5; add_header x-goog-hash $arg_goog; }
";

impl Nginx {
    pub(crate) fn start(options: &Options) -> Self {
        certificates();
        let (server, ports) = Server::start("nginx", |state, ports: [u16; 8]| {
            fs::create_dir(state.join("tmp")).expect("create folder");
            fs::create_dir(state.join("root")).expect("create folder");
            fs::write(state.join("access.log"), "").expect("create log");
            for (name, bytes) in certificates() {
                fs::write(state.join(name), bytes).expect("write a certificate");
            }
            let config = configuration(options, &state.join("root"), ports);
            fs::write(state.join("nginx.conf"), config).expect("write nginx.conf");
            let mut command = Command::new("nginx");
            command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/sbin:/usr/local/bin").args([
                "-p",
                state.to_str().expect("UTF-8"),
                "-c",
                "nginx.conf",
                "-e",
                "stderr",
            ]);
            (command, vec![ports[0]])
        });
        let root = server.state().join("root");
        Self { server, root, ports }
    }

    /// The folder whose files are served.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn http(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}/{path}", self.ports[0])
    }

    pub(crate) fn https(&self, path: &str) -> String {
        format!("https://127.0.0.1:{}/{path}", self.ports[1])
    }

    /// A port that answers each ranged GET with 200 and the whole file.
    pub(crate) fn no_range(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}/{path}", self.ports[2])
    }

    /// A port that sends each connection no more than `Options::limit_rate`.
    pub(crate) fn slow(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}/{path}", self.ports[3])
    }

    /// The S3 endpoint behind this nginx.
    pub(crate) fn s3(&self) -> String {
        format!("http://127.0.0.1:{}", self.ports[4])
    }

    /// The S3 endpoint behind this nginx, with the certificate of [`Nginx::https`].
    pub(crate) fn s3_tls(&self) -> String {
        format!("https://127.0.0.1:{}", self.ports[7])
    }

    /// The S3 endpoint behind this nginx, slowed.
    pub(crate) fn slow_s3(&self) -> String {
        format!("http://127.0.0.1:{}", self.ports[5])
    }

    /// The private CA that signed the certificate of [`Nginx::https`].
    pub(crate) fn ca(&self) -> PathBuf {
        self.server.state().join("ca.pem")
    }

    /// The log so far of requests whose path and query contain `part`. Waits until every reply has
    /// ended: nginx logs a request when its connection is done with it.
    pub(crate) fn requests(&self, part: &str) -> Vec<Request> {
        wait_until("nginx is done with its clients", SETTLED_MAX, || self.busy() <= 1);
        self.logged(part)
    }

    /// The log so far, without waiting for replies under way.
    pub(crate) fn logged(&self, part: &str) -> Vec<Request> {
        self.logged_since(0, part)
    }

    /// The length of the log now, for [`Nginx::logged_since`].
    pub(crate) fn mark(&self) -> u64 {
        self.log().metadata().expect("metadata").len()
    }

    /// What was logged after `mark`, so that a test that polls need not read everything again.
    pub(crate) fn logged_since(&self, mark: u64, part: &str) -> Vec<Request> {
        let mut log = self.log();
        log.seek(SeekFrom::Start(mark)).expect("seek");
        let text = std::io::read_to_string(log).expect("access.log");
        let whole = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
        whole.map(request).filter(|request| request.uri.contains(part)).collect()
    }

    fn log(&self) -> File {
        File::open(self.server.state().join("access.log")).expect("access.log")
    }

    /// Body bytes of the GETs whose path and query contain `part`.
    pub(crate) fn bytes_sent(&self, part: &str) -> u64 {
        let sent = self.requests(part);
        sent.iter().filter(|request| request.method == "GET").map(|request| request.bytes).sum()
    }

    /// Connections with a request under way, the one that asks included.
    fn busy(&self) -> u64 {
        let output = Command::new("curl")
            .args(["-sS", &format!("http://127.0.0.1:{}/", self.ports[6])])
            .output()
            .expect("run curl");
        let text = String::from_utf8_lossy(&output.stdout);
        let mut words = text.split_whitespace();
        let mut after = |name: &str| words.by_ref().skip_while(|word| *word != name).nth(1)?.parse().ok();
        let counts: Option<(u64, u64)> = after("Reading:").zip(after("Writing:"));
        let (reading, writing) = counts.unwrap_or_else(|| panic!("nginx status: {text}"));
        reading + writing
    }
}

fn request(line: &str) -> Request {
    let fields: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    let text = |name: &str| fields[name].as_str().expect("text").to_owned();
    let number = |name: &str| fields[name].as_u64().expect("a number");
    Request {
        port: u16::try_from(number("port")).expect("a port"),
        connection: number("connection"),
        method: text("method"),
        uri: text("uri"),
        status: u16::try_from(number("status")).expect("a status"),
        bytes: number("bytes"),
        range: text("range"),
        if_match: text("if_match"),
    }
}

fn configuration(options: &Options, root: &Path, ports: [u16; 8]) -> String {
    let [http, https, no_range, slow, s3, slow_s3, status, s3_tls] = ports;
    let root = root.display();
    // Small socket buffers and writes, so that what is counted was nearly all received.
    let paced = format!("limit_rate {}; sendfile_max_chunk 128k;", options.limit_rate);
    let mut text = COMMON.to_owned();
    write!(
        text,
        "server {{ listen 127.0.0.1:{http}; root {root}; {ODD_PLACES}
           location /away/ {{ return 302 http://127.0.0.1:{no_range}/guarded/weights; }} }}
         server {{ listen 127.0.0.1:{https} ssl http2; root {root}; ssl_certificate server.pem; ssl_certificate_key server.key;
           location /downgrade/ {{ return 302 http://127.0.0.1:{http}/weights; }} }}
         server {{ listen 127.0.0.1:{no_range}; root {root}; max_ranges 0;
           location /guarded/ {{ if ($http_x_token != let-me-in) {{ return 403; }} }} }}
         server {{ listen 127.0.0.1:{slow} sndbuf=256k; root {root}; {paced} }}
         server {{ listen 127.0.0.1:{status}; access_log off; keepalive_timeout 0; location / {{ stub_status; }} }}\n"
    )
    .expect("write to a string");
    let tls = "ssl_certificate server.pem; ssl_certificate_key server.key;";
    for (port, pace) in [(s3.to_string(), ""), (slow_s3.to_string(), paced.as_str()), (format!("{s3_tls} ssl"), tls)] {
        let Some(upstream) = &options.upstream else {
            break;
        };
        write!(
            text,
            "server {{ listen 127.0.0.1:{port} sndbuf=256k; {pace} location / {{
               proxy_pass http://{upstream}; proxy_set_header Host $http_host; proxy_http_version 1.1;
               proxy_set_header Connection \"\"; proxy_max_temp_file_size 0; proxy_ignore_client_abort off;
               proxy_force_ranges off; client_max_body_size 0; }} }}\n"
        )
        .expect("write to a string");
    }
    text.push_str("}\n");
    text
}

/// A private CA (`ca.pem`) and a certificate of 127.0.0.1 and localhost that it signed. Made once: between the choice of
/// its ports and its start a server has no time to lose.
fn certificates() -> &'static [(&'static str, Vec<u8>)] {
    static MADE: OnceLock<Vec<(&str, Vec<u8>)>> = OnceLock::new();
    MADE.get_or_init(|| {
        let place = tempfile::tempdir().expect("a folder");
        make_certificates(place.path());
        let read = |name| (name, fs::read(place.path().join(name)).expect("read a certificate"));
        ["ca.pem", "server.pem", "server.key"].map(read).into()
    })
}

fn make_certificates(state: &Path) {
    let script = "set -e
        new='-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes'
        openssl req -x509 $new -keyout ca.key -out ca.pem -days 30 -subj '/CN=private test CA'
        openssl req $new -keyout server.key -out server.csr -subj '/CN=localhost'
        printf 'subjectAltName=IP:127.0.0.1,DNS:localhost\nbasicConstraints=CA:FALSE\n' >ext
        openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 30 -extfile ext -out server.pem";
    let made = Command::new("/bin/sh").args(["-c", script]).current_dir(state).output().expect("run openssl");
    assert!(made.status.success(), "openssl: {}", String::from_utf8_lossy(&made.stderr));
}
