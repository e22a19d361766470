//! An HTTP/1.1 origin on a plain socket, so that it can break what a library would keep whole.
//!
//! In: objects by path, a [`Script`], [`Options`]. Out: URLs, a log of requests, counters.
//! Holds: the log and every buffer are bounded; no wait outlasts [`Options::stall_max`].

mod reply;
mod request;
mod send;

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

use self::reply::{Connection, Reply};
pub use self::request::Seen;
pub(crate) use self::request::{Verdict, Wanted};
use self::send::Sending;
use crate::content::Content;
use crate::fault::{Asked, Fault, Script};
use crate::pool::Pool;
use crate::serve::Server;

/// Requests the log holds; later ones are counted and served, not kept.
const LOG_MAX: usize = 65_536;

/// A request head larger than this ends its connection.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// What the origin is able to do when nothing goes wrong.
#[derive(Clone, Debug)]
pub struct Options {
    /// Whether ranges are served.
    pub ranges: Ranges,
    /// Which validators replies carry.
    pub validators: Validators,
    /// Whether HEAD is answered.
    pub head: Head,
    /// Further headers of every 200, 206 and 304, as they stand: stated digests, for example.
    pub headers: Vec<(String, String)>,
    /// The end of every wait: an idle connection, a silence on purpose, a client that does not read.
    pub stall_max: Duration,
}

/// What becomes of a Range header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ranges {
    /// 206.
    Served,
    /// 200 and the whole object, without Accept-Ranges.
    Ignored,
}

/// The validators an origin knows. Conditions on others are ignored, as such servers do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Validators {
    /// A strong ETag and Last-Modified.
    Strong,
    /// A weak ETag and Last-Modified.
    Weak,
    /// Last-Modified alone.
    ModifiedOnly,
    /// None.
    None,
}

/// What becomes of a HEAD.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Head {
    /// Answered as a GET would be, without the body.
    Served,
    /// 403, as presigned GET links give.
    Refused403,
    /// 405.
    Refused405,
}

/// A running origin; dropping it stops it.
pub struct FaultOrigin {
    server: Server,
    shared: Arc<Shared>,
}

/// What the connections of one origin share.
struct Shared {
    options: Options,
    pool: Pool,
    state: Mutex<State>,
    connections: AtomicU64,
    requests: AtomicU64,
    sent: AtomicU64,
}

struct State {
    objects: HashMap<String, Content>,
    script: Script,
    log: Vec<Seen>,
}

impl Default for Options {
    /// A good origin; two minutes outlast every timeout a client should have.
    fn default() -> Self {
        Self {
            ranges: Ranges::Served,
            validators: Validators::Strong,
            head: Head::Served,
            headers: Vec::new(),
            stall_max: Duration::from_secs(120),
        }
    }
}

impl Validators {
    fn etag(self, content: &Content) -> Option<String> {
        match self {
            Self::Strong => Some(format!("\"{}\"", content.etag())),
            Self::Weak => Some(format!("W/\"{}\"", content.etag())),
            Self::ModifiedOnly | Self::None => None,
        }
    }

    fn modified(self, content: &Content) -> Option<SystemTime> {
        match self {
            Self::Strong | Self::Weak | Self::ModifiedOnly => Some(content.modified()),
            Self::None => None,
        }
    }
}

impl FaultOrigin {
    /// Serves `objects` by path (`/a/b`, or with a query to answer that query alone).
    ///
    /// # Errors
    /// Whatever binding the port or starting the thread gave.
    pub fn start(objects: Vec<(String, Content)>, script: Script) -> io::Result<Self> {
        Self::start_with(objects, script, Options::default())
    }

    /// [`FaultOrigin::start`] for an origin of other abilities.
    ///
    /// # Errors
    /// Whatever binding the port or starting the thread gave.
    pub fn start_with(objects: Vec<(String, Content)>, script: Script, options: Options) -> io::Result<Self> {
        let state = State { objects: objects.into_iter().collect(), script, log: Vec::new() };
        let shared = Arc::new(Shared {
            options,
            pool: Pool::default(),
            state: Mutex::new(state),
            connections: AtomicU64::new(0),
            requests: AtomicU64::new(0),
            sent: AtomicU64::new(0),
        });
        let serving = Arc::clone(&shared);
        let server = Server::start("arena-http", move |stream| connection(Arc::clone(&serving), stream))?;
        Ok(Self { server, shared })
    }

    /// The URL of a path that begins with a slash; the origin itself for an empty one.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.server.address())
    }

    /// Every request so far, the first 65,536 at least; those under way show what they sent by now.
    pub fn log(&self) -> Vec<Seen> {
        self.shared.state().log.clone()
    }

    /// Number of requests so far.
    pub fn requests(&self) -> u64 {
        self.shared.requests.load(Ordering::Relaxed)
    }

    /// Number of connections accepted so far.
    pub fn connections(&self) -> u64 {
        self.shared.connections.load(Ordering::Relaxed)
    }

    /// Body bytes written to sockets so far, error texts included.
    pub fn body_bytes_sent(&self) -> u64 {
        self.shared.sent.load(Ordering::Relaxed)
    }

    /// Body bytes written for one path, as far as the log reaches.
    pub fn body_bytes_sent_for(&self, path: &str) -> u64 {
        self.shared.state().log.iter().filter(|seen| seen.path() == path).map(|seen| seen.sent).sum()
    }

    /// Puts an object, or another version of it, while serving.
    pub fn put(&self, path: &str, content: Content) {
        self.shared.state().objects.insert(path.to_owned(), content);
    }

    /// Takes an object away while serving.
    pub fn remove(&self, path: &str) {
        self.shared.state().objects.remove(path);
    }

    /// Goes on by another script, with counts from the start.
    pub fn set_script(&self, script: Script) {
        self.shared.state().script = script;
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Logs the request and decides on its reply.
    fn decide(&self, seen: Seen) -> (Option<usize>, Reply) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        let mut state = self.state();
        let known = [seen.target.as_str(), seen.path()].into_iter().find(|key| state.objects.contains_key(*key));
        let key = known.unwrap_or(seen.path()).to_owned();
        let size = state.objects.get(&key).map_or(0, Content::size);
        let span = match seen.wanted(size) {
            Wanted::Whole => (0, size),
            Wanted::Span(start, end) => (start, end),
            Wanted::Unsatisfiable => (size, size),
        };
        let asked = Asked { head: seen.method == "HEAD", path: seen.path(), span };
        let faults = state.script.faults(asked);
        for fault in &faults {
            match fault {
                Fault::VersionChange(content) => {
                    state.objects.insert(key.clone(), content.clone());
                }
                Fault::Vanish => {
                    state.objects.remove(&key);
                }
                _ => {}
            }
        }
        let content = state.objects.get(&key);
        let mut reply = Reply::good(&seen, content, &self.options);
        for fault in &faults {
            reply.apply(fault);
        }
        if !seen.keeps_alive() || (seen.method != "GET" && seen.method != "HEAD") {
            // A method we do not know may bring a body we do not read.
            reply.connection = Connection::Close;
        }
        let entry = (state.log.len() < LOG_MAX).then_some(state.log.len());
        if entry.is_some() {
            state.log.push(seen);
        }
        (entry, reply)
    }

    fn answered(&self, entry: Option<usize>, status: u16) {
        if let Some(entry) = entry
            && let Some(seen) = self.state().log.get_mut(entry)
        {
            seen.status = Some(status);
        }
    }

    fn charge(&self, entry: Option<usize>, bytes: u64) {
        self.sent.fetch_add(bytes, Ordering::Relaxed);
        if let Some(entry) = entry
            && let Some(seen) = self.state().log.get_mut(entry)
        {
            seen.sent += bytes;
        }
    }
}

/// Answers request after request until either side has had enough.
async fn connection(shared: Arc<Shared>, mut stream: TcpStream) {
    let number = shared.connections.fetch_add(1, Ordering::Relaxed);
    let mut held = Vec::new();
    while let Some(head) = read_head(&mut stream, &mut held, shared.options.stall_max).await {
        let Some(seen) = Seen::parse(&head, number) else { return };
        let head_only = seen.method == "HEAD";
        let (entry, reply) = shared.decide(seen);
        let mut sending = Sending { stream: &mut stream, shared: &shared, entry };
        match sending.send(&reply, head_only).await {
            Ok(Connection::Keep) => {}
            // A client that hung up has said all there is to say.
            Ok(Connection::Close) | Err(_) => return,
        }
    }
}

/// The next request head without its empty line; what follows it stays in `held`.
async fn read_head(stream: &mut TcpStream, held: &mut Vec<u8>, idle_max: Duration) -> Option<Vec<u8>> {
    let mut buf = [0; 4096];
    loop {
        if let Some(end) = held.windows(4).position(|window| window == b"\r\n\r\n") {
            let rest = held.split_off(end + 4);
            let mut head = std::mem::replace(held, rest);
            head.truncate(end);
            return Some(head);
        }
        if HEAD_BYTES_MAX <= held.len() {
            return None;
        }
        match timeout(idle_max, stream.read(&mut buf)).await {
            Ok(Ok(read @ 1..)) => held.extend_from_slice(&buf[..read]),
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests;
