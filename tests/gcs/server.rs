//! A small server that can be the store, the metadata service and an issuer of tokens, each as a test wants it.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::{Value, json};

/// A request as the server saw it.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) method: String,
    /// Path, decoded once a segment, and parameters.
    pub(crate) path: String,
    pub(crate) parameters: BTreeMap<String, String>,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: String,
}

impl Asked {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    pub(crate) fn parameter(&self, name: &str) -> &str {
        self.parameters.get(name).map_or("", String::as_str)
    }

    pub(crate) fn is_media(&self) -> bool {
        self.parameter("alt") == "media"
    }
}

/// One reply.
pub(crate) struct Reply {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
}

pub(crate) fn reply(status: u16, body: impl Into<Vec<u8>>) -> Reply {
    Reply { status, headers: Vec::new(), body: body.into() }
}

/// A refusal as the JSON API words it.
pub(crate) fn refusal(status: u16, message: &str) -> Reply {
    let error = json!({"error": {"code": status, "message": message, "errors": [{"reason": "test"}]}});
    reply(status, error.to_string())
}

impl Reply {
    pub(crate) fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

/// A running server; it answers each request by its handler.
pub(crate) struct Fake {
    address: SocketAddr,
    log: Arc<Mutex<Vec<Asked>>>,
    stop: Arc<AtomicBool>,
}

impl Fake {
    pub(crate) fn start(handler: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("a bound port");
        let (log, stop) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let (seen, stopped, handler) = (Arc::clone(&log), Arc::clone(&stop), Arc::new(handler));
        thread::spawn(move || {
            for stream in listener.incoming() {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                let (seen, handler) = (Arc::clone(&seen), Arc::clone(&handler));
                // A peer that goes away in the middle is the client's right.
                thread::spawn(move || serve(&stream.expect("a connection"), &seen, &*handler).unwrap_or(()));
            }
        });
        Self { address, log, stop }
    }

    /// Host and port.
    pub(crate) fn host(&self) -> String {
        self.address.to_string()
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.log.lock().expect("the log").clone()
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        drop(TcpStream::connect(self.address));
    }
}

fn serve(stream: &TcpStream, log: &Mutex<Vec<Asked>>, handler: &dyn Fn(&Asked) -> Reply) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut words = line.split_whitespace();
    let (Some(method), Some(target)) = (words.next(), words.next()) else { return Ok(()) };
    let method = method.to_owned();
    let url = url::Url::parse(&format!("http://x{target}")).expect("a target");
    let path = percent_encoding::percent_decode_str(url.path()).decode_utf8().expect("UTF-8").into_owned();
    let parameters = url.query_pairs().into_owned().collect();
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let length: usize = headers.get("content-length").map_or(0, |length| length.parse().expect("a length"));
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let body = String::from_utf8(body).expect("UTF-8");
    let asked = Asked { method, path, parameters, headers, body };
    log.lock().expect("the log").push(asked.clone());
    let Reply { status, headers, body } = handler(&asked);
    let mut head = format!("HTTP/1.1 {status} X\r\nConnection: close\r\nContent-Length: {}\r\n", body.len());
    for (name, value) in &headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    let mut stream = stream;
    stream.write_all(format!("{head}\r\n").as_bytes())?;
    if asked.method != "HEAD" {
        stream.write_all(&body)?;
    }
    stream.shutdown(std::net::Shutdown::Write)?;
    // Until the client has closed, or a reset could swallow the reply.
    std::io::copy(&mut reader.take(1 << 20), &mut std::io::sink()).map(drop)
}

/// The one bucket of a store.
pub(crate) const BUCKET: &str = "bucket";

/// What a store keeps in [`BUCKET`], every object as one generation: 17 unless another is named.
#[derive(Clone)]
pub(crate) struct Shelf {
    objects: BTreeMap<String, Vec<u8>>,
    generation: &'static str,
}

impl Shelf {
    pub(crate) fn of(objects: &[(&str, &[u8])]) -> Self {
        let objects = objects.iter().map(|(name, bytes)| ((*name).to_owned(), bytes.to_vec())).collect();
        Self { objects, generation: "17" }
    }

    /// The same names and bytes as another generation.
    pub(crate) fn at(self, generation: &'static str) -> Self {
        Self { generation, ..self }
    }

    /// The JSON API's answer: a page of everything, a description, or a range of one object's bytes.
    pub(crate) fn answer(&self, asked: &Asked) -> Reply {
        let objects = format!("/storage/v1/b/{BUCKET}/o");
        let Some(name) = asked.path.strip_prefix(&objects) else { return refusal(404, "no such bucket") };
        if name.is_empty() {
            let below = self.objects.iter().filter(|(name, _)| name.starts_with(asked.parameter("prefix")));
            let items: Vec<Value> = below.map(|(name, bytes)| self.described(name, bytes)).collect();
            return reply(200, json!({"items": items}).to_string());
        }
        let Some((name, bytes)) = self.objects.get_key_value(&name[1..]) else { return refusal(404, "no such object") };
        if !asked.is_media() {
            return reply(200, self.described(name, bytes).to_string());
        }
        if asked.parameter("generation") != self.generation {
            return refusal(404, "no such generation");
        }
        let range = asked.header("range").strip_prefix("bytes=").and_then(|range| range.split_once('-'));
        let Some((first, last)) = range else {
            return reply(200, bytes.clone()).header("x-goog-generation", self.generation);
        };
        let (first, last): (usize, usize) = (first.parse().expect("a number"), last.parse().expect("a number"));
        reply(206, &bytes[first..=last])
            .header("Content-Range", format!("bytes {first}-{last}/{}", bytes.len()))
            .header("x-goog-generation", self.generation)
    }

    fn described(&self, name: &str, bytes: &[u8]) -> Value {
        let sum = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, bytes);
        let sum = u32::try_from(sum).expect("32 bits").to_be_bytes();
        let sum = aws_smithy_types::base64::encode(sum);
        json!({"name": name, "size": bytes.len().to_string(), "generation": self.generation, "crc32c": sum})
    }
}
