//! Azurite, Microsoft's emulator, filled over its own API with requests that the rig signs itself.
//!
//! Requests are signed by Shared Key and signatures for dray are account SAS: the two forms that dray does not make.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use hmac::{Hmac, KeyInit, Mac};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use sha2::Sha256;

use super::dray::Dray;
use super::oracle::Content;
use super::server::Server;

/// The account that Azurite serves.
pub(crate) const ACCOUNT: &str = "drayrig";

/// Its key: 64 bytes in base64.
pub(crate) const KEY: &str = "Y2FuYXJ5LWFjY291bnQta2V5LW9mLXRoZS1yaWctMDEyMzQ1Njc4OWFiY2RlZmdoaWprbG1ub3BxcnN0dXZ3eA==";

const VERSION: &str = "2021-12-02";
const DATE: &str = "Sun, 22 Nov 2026 12:00:00 GMT";

/// A running Azurite.
pub(crate) struct Azurite {
    // Held for its drop.
    _server: Server,
    port: u16,
}

/// A container of it.
pub(crate) struct Container {
    port: u16,
    name: String,
}

/// What a signature of the rig allows.
pub(crate) struct Grant {
    /// Letters of Azure: `rl` reads and lists.
    pub(crate) permissions: &'static str,
    /// The end, as `2030-01-01T00:00:00Z`.
    pub(crate) expiry: &'static str,
}

impl Azurite {
    pub(crate) fn start() -> Self {
        let (server, [port]) = Server::start("azurite", |state, [port]: [u16; 1]| {
            let mut command = Command::new("node");
            let port_text = port.to_string();
            command
                .env("PATH", std::env::var_os("PATH").unwrap_or_default())
                .env("AZURITE_ACCOUNTS", format!("{ACCOUNT}:{KEY}"))
                .arg(program())
                .args(["--silent", "--disableTelemetry", "--skipApiVersionCheck", "--blobHost", "127.0.0.1"])
                .args(["--blobPort", &port_text, "--location", state.to_str().expect("UTF-8")]);
            (command, vec![port])
        });
        Self { _server: server, port }
    }

    /// Makes a container of this name; each test takes its own.
    pub(crate) fn container(&self, name: &str) -> Container {
        self.made(name, &[])
    }

    /// Makes a container that anybody may list and read.
    pub(crate) fn public(&self, name: &str) -> Container {
        self.made(name, &[("x-ms-blob-public-access", "container")])
    }

    fn made(&self, name: &str, headers: &[(&str, &str)]) -> Container {
        let container = Container { port: self.port, name: name.to_owned() };
        container.put("", &[("restype", "container")], headers, 0, |_| {});
        container
    }
}

fn program() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or(root.join("target"), |dir| root.join(dir));
    let place = std::env::var_os("DRAY_AZURITE").map_or(target.join("azurite"), PathBuf::from);
    let path = place.join("node_modules/azurite/dist/src/blob/main.js");
    assert!(path.exists(), "{} is missing: run scripts/azure-deps.sh", path.display());
    path
}

impl Container {
    /// `az://account/container/path`.
    pub(crate) fn uri(&self, path: &str) -> String {
        format!("az://{ACCOUNT}/{}/{path}", self.name)
    }

    /// The blob's URL as Azure itself would have it.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("https://{ACCOUNT}.blob.core.windows.net/{}/{path}", self.name)
    }

    /// `dray pull SRC DEST` at this server, with the account's key.
    pub(crate) fn pull(&self, path: &str, dest: &Path) -> Dray {
        self.here(Dray::pull(&self.uri(path), dest))
    }

    /// The run at this server, with the account's key.
    pub(crate) fn here(&self, dray: Dray) -> Dray {
        self.at(dray).env("AZURE_STORAGE_ACCESS_KEY", KEY)
    }

    /// The run at this server, with nobody's credentials.
    pub(crate) fn at(&self, dray: Dray) -> Dray {
        dray.env("AZURE_STORAGE_ENDPOINT", self.endpoint())
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}/{ACCOUNT}", self.host())
    }

    /// Host and port of the server.
    pub(crate) fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub(crate) fn put_all(&self, blobs: &[(&str, &Content)]) {
        for (name, content) in blobs {
            self.put_with(name, content, &[]);
        }
    }

    /// Puts a blob with more headers: `x-ms-meta-…`, `x-ms-blob-content-encoding`.
    pub(crate) fn put_with(&self, name: &str, content: &Content, headers: &[(&str, &str)]) {
        let size = usize::try_from(content.size).expect("a size");
        let kind = [&[("x-ms-blob-type", "BlockBlob")], headers].concat();
        self.put(name, &[], &kind, size, |stream| content.write_to(stream));
    }

    /// Puts a file of this machine.
    pub(crate) fn put_file(&self, name: &str, path: &Path) {
        let bytes = fs::read(path).expect("read");
        let kind = [("x-ms-blob-type", "BlockBlob")];
        self.put(name, &[], &kind, bytes.len(), |stream| stream.write_all(&bytes).expect("send"));
    }

    /// Lets a blob state another MD5 than its own, as its owner may.
    pub(crate) fn restate(&self, name: &str, md5: &str) {
        self.put(name, &[("comp", "properties")], &[("x-ms-blob-content-md5", md5)], 0, |_| {});
    }

    fn put(
        &self,
        name: &str,
        parameters: &[(&str, &str)],
        headers: &[(&str, &str)],
        length: usize,
        send: impl FnOnce(&mut TcpStream),
    ) {
        let mut path = format!("/{ACCOUNT}/{}", self.name);
        for part in name.split('/').filter(|_| !name.is_empty()) {
            path.push('/');
            path.push_str(&utf8_percent_encode(part, NON_ALPHANUMERIC).to_string());
        }
        let mut headers = [headers, &[("x-ms-date", DATE), ("x-ms-version", VERSION)]].concat();
        headers.sort_unstable();
        let authorization = shared_key("PUT", length, &headers, &path, parameters);
        let query: Vec<String> = parameters.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let mut head = format!(
            "PUT {path}?{} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Length: {length}\r\n",
            query.join("&"),
            self.host()
        );
        for (name, value) in &headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str(&format!("Authorization: SharedKey {ACCOUNT}:{authorization}\r\n\r\n"));
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).expect("connect");
        stream.write_all(head.as_bytes()).expect("send");
        send(&mut stream);
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        assert!(answer.starts_with("HTTP/1.1 20"), "{name}: {answer}");
    }
}

/// The signature of a request by Shared Key ("Authorize with Shared Key", version 2015-02-21 and later).
fn shared_key(method: &str, length: usize, headers: &[(&str, &str)], path: &str, query: &[(&str, &str)]) -> String {
    let length = if length == 0 { String::new() } else { length.to_string() };
    let mut text = format!("{method}\n\n\n{length}\n\n\n\n\n\n\n\n\n");
    for (name, value) in headers {
        text.push_str(&format!("{name}:{value}\n"));
    }
    text.push_str(&format!("/{ACCOUNT}{path}"));
    let mut query = query.to_vec();
    query.sort_unstable();
    for (name, value) in query {
        text.push_str(&format!("\n{name}:{value}"));
    }
    signed(&text)
}

/// An account SAS for blobs ("Create an account SAS").
pub(crate) fn account_signature(grant: &Grant) -> String {
    let Grant { permissions, expiry } = grant;
    let text = format!("{ACCOUNT}\n{permissions}\nb\nsco\n\n{expiry}\n\nhttps,http\n{VERSION}\n\n");
    let encoded = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
    format!(
        "sv={VERSION}&ss=b&srt=sco&sp={permissions}&se={}&spr=https%2Chttp&sig={}",
        encoded(expiry),
        encoded(&signed(&text))
    )
}

fn signed(text: &str) -> String {
    let key = aws_smithy_types::base64::decode(KEY).expect("base64");
    let mut hmac = Hmac::<Sha256>::new_from_slice(&key).expect("a key of any length");
    hmac.update(text.as_bytes());
    aws_smithy_types::base64::encode(hmac.finalize().into_bytes())
}
