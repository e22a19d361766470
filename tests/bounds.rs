//! What an origin's control replies may cost: listings without end, replies without end, replies that drip.
//!
//! Each server here makes its replies up as it sends them. Memory is the process's own peak, as the kernel counts it.

mod rig;

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use rig::dray::{Dray, Run};
use rig::folder;
use rig::oracle::{MIB, tree};

/// Resident bytes while a million objects are listed: an init container may have 1 GiB.
const LISTING_BYTES_MAX: u64 = 640 * MIB;

/// Resident bytes while a million files are described and refused: less than the 1 GiB of an init container.
const REFUSED_BYTES_MAX: u64 = 800 * MIB;

/// Resident bytes while the most files that a pull takes are planned.
const PLAN_BYTES_MAX: u64 = 256 * MIB;

/// Most files of one pull, as docs/operations.md says.
const FILES_MAX: u64 = 250_000;

/// Resident bytes while a reply without end is refused.
const REPLY_BYTES_MAX: u64 = 128 * MIB;

/// Objects of one page.
const PAGE: u64 = 1000;

/// Most objects of one listing, as docs/operations.md says.
const OBJECTS_MAX: u64 = 1_000_000;

const SHA1: &str = "0123456789abcdef0123456789abcdef01234567";

type Handler = dyn Fn(&str, &mut dyn Write) -> std::io::Result<()> + Send + Sync;

/// A server that lets a function write whatever it likes.
struct Server {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    requests: Arc<AtomicU64>,
    sent: Arc<AtomicU64>,
}

/// Counts what goes out.
struct Counted<'a> {
    stream: &'a TcpStream,
    sent: &'a AtomicU64,
}

impl Write for Counted<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let length = self.stream.write(bytes)?;
        self.sent.fetch_add(length as u64, Ordering::Relaxed);
        Ok(length)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.stream.flush()
    }
}

impl Server {
    fn start(handler: impl Fn(&str, &mut dyn Write) -> std::io::Result<()> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("a bound port");
        let server = Self { address, stop: Arc::default(), requests: Arc::default(), sent: Arc::default() };
        let (stop, requests, sent) = (server.stop.clone(), server.requests.clone(), server.sent.clone());
        let handler: Arc<Handler> = Arc::new(handler);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                let (handler, requests, sent) = (handler.clone(), requests.clone(), sent.clone());
                // A client that hangs up is what these tests want.
                thread::spawn(move || serve(&stream, &*handler, &requests, &sent).unwrap_or(()));
            }
        });
        server
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    fn asked(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        drop(TcpStream::connect(self.address));
    }
}

/// Answers requests on one connection until the handler ends it by an error.
fn serve(stream: &TcpStream, handler: &Handler, requests: &AtomicU64, sent: &AtomicU64) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    loop {
        let (mut target, mut length) = (String::new(), 0);
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            let line = line.trim_end();
            if target.is_empty() {
                target = line.split(' ').nth(1).unwrap_or_default().to_owned();
            }
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap_or(0);
            }
            if line.is_empty() {
                break;
            }
        }
        std::io::copy(&mut std::io::Read::take(&mut reader, length), &mut std::io::sink())?;
        requests.fetch_add(1, Ordering::Relaxed);
        handler(&target, &mut Counted { stream, sent })?;
    }
}

fn json(out: &mut dyn Write, headers: &str, body: &str) -> std::io::Result<()> {
    let length = body.len();
    write!(out, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n{headers}\r\n{body}")
}

/// The number after `name` in a query; 0 without one.
fn number(target: &str, name: &str) -> u64 {
    let rest = target.split_once(name).map(|(_, rest)| rest).unwrap_or_default();
    rest.split(|c: char| !c.is_ascii_digit()).next().and_then(|digits| digits.parse().ok()).unwrap_or(0)
}

/// A GCS bucket of `objects` small objects, made up page by page.
fn gcs(objects: u64) -> Server {
    Server::start(move |target, out| {
        if !target.contains("/o?") {
            return write!(out, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
        }
        let from = number(target, "pageToken=");
        let end = objects.min(from + PAGE);
        let mut body = "{\"items\":[".to_owned();
        for at in from..end {
            let comma = if at == from { "" } else { "," };
            let name = format!("m/shard-{at:09}.safetensors");
            write!(body, "{comma}{{\"name\":\"{name}\",\"size\":\"7\",\"generation\":\"1700000000000000\",\"crc32c\":\"4waSgw==\"}}")
                .expect("text");
        }
        let more = if end < objects { format!(",\"nextPageToken\":\"{end}\"") } else { String::new() };
        json(out, "", &format!("{body}]{more}}}"))
    })
}

/// A repository of `files` small files.
fn hub(files: u64) -> Server {
    Server::start(move |target, out| {
        if target.contains("/revision/") {
            return json(out, "", &format!("{{\"sha\":\"{SHA1}\"}}"));
        }
        if !target.contains("/tree/") {
            return write!(out, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
        }
        let from = number(target, "cursor=");
        let end = files.min(from + PAGE);
        let mut body = "[".to_owned();
        for at in from..end {
            let comma = if at == from { "" } else { "," };
            write!(
                body,
                "{comma}{{\"type\":\"file\",\"oid\":\"{SHA1}\",\"size\":7,\"path\":\"shard-{at:09}.safetensors\"}}"
            )
            .expect("text");
        }
        let next = format!("Link: <http://x/y?cursor={end}>; rel=\"next\"\r\n");
        json(out, if end < files { &next } else { "" }, &format!("{body}]"))
    })
}

fn in_gcs(server: &Server, dray: Dray) -> Dray {
    dray.env("STORAGE_EMULATOR_HOST", server.url(""))
}

fn in_hub(server: &Server, dray: Dray) -> Dray {
    dray.env("HF_ENDPOINT", server.url(""))
}

fn in_mlflow(server: &Server, dray: Dray) -> Dray {
    dray.env("MLFLOW_TRACKING_URI", server.url(""))
}

fn in_registry(server: &Server, dray: Dray) -> Dray {
    dray.env("MODEL_REGISTRY_BASE_URL", server.url(""))
}

fn assert_small(run: &Run, bytes_max: u64, what: &str) {
    eprintln!("{what}: {} MiB resident at most, {:.1} s", run.resident_max / MIB, run.seconds);
    assert!(0 < run.resident_max && run.resident_max <= bytes_max, "{what}: {} bytes resident", run.resident_max);
}

#[test]
fn a_million_objects_are_listed_in_bounded_memory_and_one_more_exits_7() {
    type Site = (&'static str, fn(u64) -> Server, fn(&Server, Dray) -> Dray, &'static str);
    let sites: [Site; 2] = [("gs", gcs, in_gcs, "gs://bucket/m"), ("hf", hub, in_hub, "hf://org/model")];
    for (name, server, env, source) in sites {
        // All of it is listed and one file of it wanted.
        let million = server(OBJECTS_MAX);
        let plan = Dray::new(["plan", source, "--allow", "shard-000777777*"]);
        let run = env(&million, plan).within(Duration::from_secs(100)).run();
        run.assert_code(0);
        assert!(run.stdout.contains("shard-000777777.safetensors"), "{}", run.stdout);
        assert_small(&run, LISTING_BYTES_MAX, name);
        assert!(OBJECTS_MAX / PAGE <= million.asked(), "{} requests", million.asked());
        // Tokens and names that are always new: it ends where the bound is.
        let endless = server(u64::MAX);
        let run = env(&endless, Dray::new(["plan", source])).within(Duration::from_secs(100)).run();
        let line = run.assert_fails(7);
        assert!(line.contains("more than 1000000"), "the bound is named: {line}");
        assert_small(&run, LISTING_BYTES_MAX, name);
        assert!(endless.asked() <= OBJECTS_MAX / PAGE + 5, "{} requests", endless.asked());
    }
}

#[test]
fn a_pull_of_more_files_than_one_takes_exits_6_and_a_plan_of_many_stays_small() {
    let (million, dest) = (gcs(OBJECTS_MAX), folder());
    let run = in_gcs(&million, Dray::pull("gs://bucket/m", dest.path())).within(Duration::from_secs(100)).run();
    let line = run.assert_fails(6);
    assert!(line.contains("1000000 files") && line.contains("250000") && line.contains("--allow"), "{line}");
    assert_small(&run, REFUSED_BYTES_MAX, "pull of a million");
    assert_eq!(run.report()["outcome"], "policy", "{}", run.report()["outcome"]);
    assert!(tree(dest.path()).is_empty());
    let many = gcs(FILES_MAX);
    let command = format!("exec {} plan --json gs://bucket/m > /dev/null", env!("CARGO_BIN_EXE_dray"));
    let run = in_gcs(&many, Dray::program("/bin/sh", ["-c", &command])).within(Duration::from_secs(100)).run();
    run.assert_code(0);
    assert_small(&run, PLAN_BYTES_MAX, "plan --json");
}

/// Sources whose first control reply is a JSON document, and what leads dray to a server.
type Asked = (&'static str, fn(&Server, Dray) -> Dray);

const DOCUMENTS: [Asked; 5] = [
    ("gs://bucket/m", in_gcs),
    ("hf://org/model", in_hub),
    ("models:/iris/1", in_mlflow),
    ("mlflow-artifacts:/1/m", in_mlflow),
    ("model-registry://iris/1", in_registry),
];

/// Pulls each source from a server of `handler`; the last line of each run, which published nothing.
fn each(
    documents: &[Asked],
    handler: impl Fn(&str, &mut dyn Write) -> std::io::Result<()> + Send + Sync + Copy + 'static,
    check: impl Fn(&str, &Run, &Server) + Sync,
) {
    thread::scope(|scope| {
        for (source, env) in documents {
            let check = &check;
            scope.spawn(move || {
                let (server, dest) = (Server::start(handler), folder());
                let dray = Dray::pull(source, dest.path()).args(["--stall-timeout", "1s"]);
                let run = env(&server, dray).within(Duration::from_secs(60)).run();
                check(source, &run, &server);
                assert!(tree(dest.path()).is_empty(), "{source}");
            });
        }
    });
}

#[test]
fn a_reply_of_a_gibibyte_is_refused_after_a_few_mebibytes() {
    let gibibyte = |_: &str, out: &mut dyn Write| {
        write!(out, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n[", 1_u64 << 30)?;
        let block = vec![b' '; 1 << 20];
        (0..1024).try_for_each(|_| out.write_all(&block))
    };
    each(&DOCUMENTS, gibibyte, |source, run, server| {
        run.assert_fails(7);
        assert!(run.last_line().contains("more than"), "the bound is named: {}", run.last_line());
        assert_small(run, REPLY_BYTES_MAX, source);
        let sent = server.sent.load(Ordering::Relaxed);
        assert!(sent <= 256 * MIB, "{source}: {sent} bytes were sent before dray hung up");
    });
}

#[test]
fn json_that_is_nested_without_end_is_no_answer() {
    let nested = |_: &str, out: &mut dyn Write| json(out, "", &"[{\"items\":".repeat(200_000));
    each(&DOCUMENTS, nested, |source, run, _| {
        run.assert_fails(7);
        assert_small(run, REPLY_BYTES_MAX, source);
    });
    let inside = |_: &str, out: &mut dyn Write| {
        let deep = "[".repeat(500_000);
        json(out, "", &format!("{{\"items\":{deep},\"sha\":{deep},\"files\":{deep},\"model_version\":{deep}}}"))
    };
    each(&DOCUMENTS, inside, |source, run, _| {
        run.assert_fails(7);
        assert_small(run, REPLY_BYTES_MAX, source);
    });
}

#[test]
fn a_reply_that_drips_is_a_stall() {
    let dripping = |_: &str, out: &mut dyn Write| {
        write!(out, "HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")?;
        loop {
            out.write_all(b" ")?;
            out.flush()?;
            thread::sleep(Duration::from_millis(200));
        }
    };
    each(&DOCUMENTS, dripping, |source, run, server| {
        run.assert_fails(7);
        assert!(run.seconds < 40.0, "{source}: {} s", run.seconds);
        assert!(server.asked() <= 8, "{source}: {} requests", server.asked());
    });
    // The deadline comes before the tries are used up.
    let (server, dest) = (Server::start(dripping), folder());
    let run = in_gcs(&server, Dray::pull("gs://bucket/m", dest.path()).args(["--deadline", "1500ms"])).run();
    assert!(run.assert_fails(7).contains("deadline"), "{}", run.last_line());
    assert!(run.seconds < 4.0, "{} s", run.seconds);
}

#[test]
fn a_web_servers_heads_and_refusals_are_bounded() {
    let dest = folder();
    let headers = Server::start(|_, out| {
        write!(out, "HTTP/1.1 200 OK\r\n")?;
        let line = format!("X-Filler: {}\r\n", "f".repeat(1 << 16));
        (0..1 << 14).try_for_each(|_| out.write_all(line.as_bytes()))
    });
    let run = Dray::pull(&headers.url("/weights"), dest.path()).run();
    run.assert_fails(7);
    assert_small(&run, REPLY_BYTES_MAX, "headers without end");
    let refusal = Server::start(|_, out| {
        write!(out, "HTTP/1.1 403 Forbidden\r\nContent-Length: {}\r\n\r\n", 1_u64 << 30)?;
        let block = vec![b'n'; 1 << 20];
        (0..1024).try_for_each(|_| out.write_all(&block))
    });
    let run = Dray::pull(&refusal.url("/weights"), dest.path()).run();
    run.assert_fails(4);
    assert_small(&run, REPLY_BYTES_MAX, "a refusal without end");
    assert!(refusal.sent.load(Ordering::Relaxed) <= 256 * MIB, "{}", refusal.sent.load(Ordering::Relaxed));
}

#[test]
fn folders_without_end_exit_7() {
    // Every folder has new folders in it.
    let server = Server::start(|target, out| {
        let path = target.split("path=").nth(1).unwrap_or_default().len();
        let folders: Vec<String> =
            (0..400).map(|at| format!("{{\"path\":\"d{path}-{at}\",\"is_dir\":true}}")).collect();
        json(out, "", &format!("{{\"files\":[{}]}}", folders.join(",")))
    });
    let dest = folder();
    let run = in_mlflow(&server, Dray::pull("mlflow-artifacts:/1/m", dest.path())).run();
    assert!(run.assert_fails(7).contains("folders without end"), "{}", run.last_line());
    assert!(server.asked() <= 100, "{} requests", server.asked());
}
