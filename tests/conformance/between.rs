//! A server in the middle: passes requests on to a real one, writes each down, and breaks the answers it is told to.
//!
//! In: the address behind it and a judge. Out: an address of its own, a log of everything asked.
//! Holds: what is passed on has the bytes that came, the `Connection` header aside, so that signatures stay good; one
//! request a connection; no wait outlasts [`PATIENCE`].

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// The end of every wait.
const PATIENCE: Duration = Duration::from_secs(30);

/// How much later a late answer comes: long enough for others to want the same.
const LATE: Duration = Duration::from_millis(400);

/// Longest body of a request.
const ASKED_BYTES_MAX: u64 = 1 << 20;

/// A request as it came.
#[derive(Clone, Debug, Default)]
pub(crate) struct Asked {
    pub(crate) method: String,
    /// Path and query; all of the URL where a proxy is asked.
    pub(crate) target: String,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Asked {
    /// The header of this name in lower case, empty when there is none.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(found, _)| found == name).map_or("", |(_, value)| value)
    }

    /// Path and query, percent-encoding undone.
    pub(crate) fn decoded(&self) -> String {
        percent_encoding::percent_decode_str(&self.target).decode_utf8_lossy().into_owned()
    }

    /// Whether bytes of an object are asked for, more than the one that tells a size.
    pub(crate) fn wants_bytes(&self) -> bool {
        self.method == "GET" && !matches!(self.header("range"), "" | "bytes=0-0")
    }

    /// All that was sent, as text.
    pub(crate) fn everything(&self) -> String {
        format!("{} {} {:?} {}", self.method, self.decoded(), self.headers, self.body)
    }
}

/// What becomes of a request instead of an honest answer.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// This answer.
    Answer { status: u16, headers: Vec<(&'static str, String)>, body: String },
    /// The answer comes [`LATE`] later: the honest one, or this.
    Late(Option<Box<Fault>>),
    /// So many bytes of the body, then an orderly end.
    Cut { after: usize },
    /// So many bytes of the body, then silence.
    Stall { after: usize },
    /// The lowest bit of one byte of the body is wrong.
    Flip { at: usize },
}

impl Fault {
    /// A refusal with a body.
    pub(crate) fn status(status: u16, body: &str) -> Self {
        Self::Answer { status, headers: Vec::new(), body: body.to_owned() }
    }

    /// A refusal that asks to wait.
    pub(crate) fn busy(status: u16, seconds: u32) -> Self {
        Self::Answer { status, headers: vec![("Retry-After", seconds.to_string())], body: String::new() }
    }

    pub(crate) fn redirect(location: &str) -> Self {
        Self::Answer { status: 302, headers: vec![("Location", location.to_owned())], body: String::new() }
    }
}

type Judge = Box<dyn FnMut(&Asked) -> Option<Fault> + Send>;
type Rewrite = fn(&str) -> String;

struct Shared {
    behind: String,
    rewrite: Rewrite,
    judge: Mutex<Judge>,
    log: Mutex<Vec<Asked>>,
    stop: AtomicBool,
}

/// A running server; it stops when dropped.
pub(crate) struct Between {
    address: SocketAddr,
    shared: Arc<Shared>,
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Between {
    /// Stands before `behind`, a host and port.
    pub(crate) fn before(behind: &str) -> Self {
        Self::rewriting(behind, str::to_owned)
    }

    /// Stands before `behind` and asks it for other targets than it is asked for.
    pub(crate) fn rewriting(behind: &str, rewrite: Rewrite) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("a bound port");
        let shared = Arc::new(Shared {
            behind: behind.trim_start_matches("http://").to_owned(),
            rewrite,
            judge: Mutex::new(Box::new(|_| None)),
            log: Mutex::default(),
            stop: AtomicBool::new(false),
        });
        let serving = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming() {
                if serving.stop.load(Ordering::Relaxed) {
                    return;
                }
                let shared = Arc::clone(&serving);
                // A peer that goes away in the middle is the client's right.
                thread::spawn(move || stream.and_then(|stream| serve(&shared, &stream)).unwrap_or(()));
            }
        });
        Self { address, shared }
    }

    /// A server that answers everything by `judge`, or with 404.
    pub(crate) fn alone(judge: impl FnMut(&Asked) -> Option<Fault> + Send + 'static) -> Self {
        let this = Self::before("");
        this.judge(judge);
        this
    }

    /// Host and port.
    pub(crate) fn host(&self) -> String {
        self.address.to_string()
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Decides on every request from now on.
    pub(crate) fn judge(&self, judge: impl FnMut(&Asked) -> Option<Fault> + Send + 'static) {
        *held(&self.shared.judge) = Box::new(judge);
    }

    /// Everything asked so far.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        held(&self.shared.log).clone()
    }
}

impl Drop for Between {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        drop(TcpStream::connect(self.address));
    }
}

fn serve(shared: &Shared, stream: &TcpStream) -> std::io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut reader = BufReader::new(stream);
    let Some(asked) = read_request(&mut reader)? else { return Ok(()) };
    held(&shared.log).push(asked.clone());
    let fault = (held(&shared.judge))(&asked);
    let fault = match fault {
        Some(Fault::Late(fault)) => {
            thread::sleep(LATE);
            fault.map(|fault| *fault)
        }
        fault => fault,
    };
    let fault = match fault {
        None if shared.behind.is_empty() && !asked.target.starts_with("http://") => Some(Fault::status(404, "")),
        fault => fault,
    };
    let mut writer = stream;
    if let Some(Fault::Answer { status, headers, body }) = fault {
        let mut head = format!("HTTP/1.1 {status} X\r\nConnection: close\r\nContent-Length: {}\r\n", body.len());
        headers.iter().for_each(|(name, value)| head.push_str(&format!("{name}: {value}\r\n")));
        writer.write_all(format!("{head}\r\n").as_bytes())?;
        if asked.method != "HEAD" {
            writer.write_all(body.as_bytes())?;
        }
        return finish(stream, reader);
    }
    let mut reply = BufReader::new(pass_on(shared, &asked)?);
    writer.write_all(&reply_head(&mut reply)?)?;
    relay(reply, writer, fault.as_ref())?;
    if matches!(fault, Some(Fault::Stall { .. })) {
        // Silent until the client has had enough.
        return std::io::copy(&mut reader, &mut std::io::sink()).map(drop);
    }
    finish(stream, reader)
}

/// Ends in order: until the client has closed, a reset could swallow the answer.
fn finish(stream: &TcpStream, reader: BufReader<&TcpStream>) -> std::io::Result<()> {
    stream.shutdown(Shutdown::Write)?;
    std::io::copy(&mut reader.take(ASKED_BYTES_MAX), &mut std::io::sink()).map(drop)
}

fn read_request(reader: &mut impl BufRead) -> std::io::Result<Option<Asked>> {
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut words = line.split_whitespace();
    let (Some(method), Some(target)) = (words.next(), words.next()) else { return Ok(None) };
    let mut asked = Asked { method: method.to_owned(), target: target.to_owned(), ..Asked::default() };
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        asked.headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let length: u64 = asked.header("content-length").parse().unwrap_or(0);
    let mut body = Vec::new();
    reader.take(length.min(ASKED_BYTES_MAX)).read_to_end(&mut body)?;
    asked.body = String::from_utf8_lossy(&body).into_owned();
    Ok(Some(asked))
}

/// Sends the request on, to the host of its URL where a proxy was asked.
fn pass_on(shared: &Shared, asked: &Asked) -> std::io::Result<TcpStream> {
    let whole = asked.target.strip_prefix("http://").and_then(|rest| rest.split_once('/'));
    let (host, target) = match whole {
        Some((host, path)) => (host, format!("/{path}")),
        None => (shared.behind.as_str(), (shared.rewrite)(&asked.target)),
    };
    let mut stream = TcpStream::connect(host)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut head = format!("{} {target} HTTP/1.1\r\n", asked.method);
    let own = |name: &str| matches!(name, "connection" | "proxy-authorization" | "proxy-connection");
    for (name, value) in asked.headers.iter().filter(|(name, _)| !own(name)) {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    stream.write_all(format!("{head}connection: close\r\n\r\n{}", asked.body).as_bytes())?;
    Ok(stream)
}

fn reply_head(reply: &mut impl BufRead) -> std::io::Result<Vec<u8>> {
    let mut head = Vec::new();
    loop {
        let mut line = Vec::new();
        if reply.read_until(b'\n', &mut line)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        if line == b"\r\n" {
            head.extend_from_slice(b"Connection: close\r\n\r\n");
            return Ok(head);
        }
        if !line.to_ascii_lowercase().starts_with(b"connection:") {
            head.extend_from_slice(&line);
        }
    }
}

fn relay(mut reply: impl Read, mut writer: &TcpStream, fault: Option<&Fault>) -> std::io::Result<()> {
    let limit = match fault {
        Some(Fault::Cut { after } | Fault::Stall { after }) => *after,
        _ => usize::MAX,
    };
    let mut block = vec![0; 64 << 10];
    let mut passed = 0;
    while passed < limit {
        let room = block.len().min(limit - passed);
        let length = reply.read(&mut block[..room])?;
        if length == 0 {
            break;
        }
        if let Some(Fault::Flip { at }) = fault
            && (passed..passed + length).contains(at)
        {
            block[at - passed] ^= 1;
        }
        writer.write_all(&block[..length])?;
        passed += length;
    }
    Ok(())
}
