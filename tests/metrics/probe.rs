//! A client of the metrics as an outsider writes one: sockets and text. And a FIFO that holds a report back.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{CWD, FileType, Mode, mknodat};
use serde_json::Value;

use crate::page::Page;
use crate::rig::dray::Running;
use crate::rig::folder;
use crate::rig::server::wait_until;

const PATIENCE: Duration = Duration::from_secs(20);

/// The server of one run.
pub(crate) struct Probe {
    pub(crate) address: SocketAddr,
}

/// One reply.
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Probe {
    /// The server of `running`, at the address that it says on stderr.
    pub(crate) fn of(running: &Running) -> Self {
        let mut found = None;
        wait_until("the run says where its metrics are", PATIENCE, || {
            let shown = running.stderr_so_far();
            let rest = shown.split_once("metrics at http://").map(|(_, rest)| rest);
            found = rest.and_then(|rest| rest.split_once("/metrics")).map(|(address, _)| address.to_owned());
            found.is_some()
        });
        Self { address: found.expect("found").parse().expect("an address") }
    }

    pub(crate) fn get(&self, path: &str) -> Reply {
        ask(self.address, &format!("GET {path} HTTP/1.1\r\nHost: probe\r\n\r\n"))
    }

    pub(crate) fn status(&self, path: &str) -> u16 {
        self.get(path).status
    }

    pub(crate) fn page(&self) -> Page {
        let reply = self.get("/metrics");
        assert_eq!(reply.status, 200);
        Page::parse(&reply.body)
    }
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("connect to the metrics");
    stream.set_read_timeout(Some(PATIENCE)).expect("set a timeout");
    stream
}

/// Sends `request` and reads until the server closes.
pub(crate) fn ask(address: SocketAddr, request: &str) -> Reply {
    let mut stream = connect(address);
    stream.write_all(request.as_bytes()).expect("send");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("read the reply");
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no reply to {request:?}: {text:?}"));
    let status = head.split(' ').nth(1).and_then(|word| word.parse().ok()).expect("a status");
    Reply { status, head: head.to_ascii_lowercase(), body: body.to_owned() }
}

/// The status, or `None` when the server cuts the connection instead.
pub(crate) fn try_ask(address: SocketAddr, request: &str) -> Option<u16> {
    let mut stream = connect(address);
    // It may close before it has read everything.
    stream.write_all(request.as_bytes()).ok();
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).ok();
    let text = String::from_utf8_lossy(&bytes);
    text.split(' ').nth(1).and_then(|word| word.parse().ok())
}

/// Clients that begin a request and never end it.
pub(crate) fn silent_clients(address: SocketAddr, count: usize) -> Vec<TcpStream> {
    let client = |_| {
        let mut stream = connect(address);
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost:").expect("send");
        stream
    };
    (0..count).map(client).collect()
}

/// Each connection ends by itself within its read timeout.
pub(crate) fn assert_all_dropped(clients: Vec<TcpStream>) {
    for mut client in clients {
        let mut rest = Vec::new();
        if let Err(error) = client.read_to_end(&mut rest) {
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "a client is kept waiting");
        }
    }
}

/// A report goes in here, and the run waits until it is read.
pub(crate) struct Fifo {
    _folder: tempfile::TempDir,
    path: PathBuf,
}

impl Fifo {
    pub(crate) fn new() -> Self {
        let folder = folder();
        let path = folder.path().join("report");
        mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).expect("make a FIFO");
        Self { _folder: folder, path }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The report; waits until the run writes it.
    pub(crate) fn read(&self) -> Value {
        let file = File::open(&self.path).expect("open the FIFO");
        serde_json::from_reader(file).expect("the report is JSON")
    }
}
