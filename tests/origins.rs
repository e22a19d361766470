//! Origins against small servers that misbehave on purpose: listings, refusals, redirects, secrets.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use dray::error::Error;
use dray::manifest::{Manifest, Ranges, Stated};
use dray::origin::{Environment, Origin};
use dray::resolve::{self, Filter};
use dray::uri::Source;
use dray::wire;

/// A request as the server saw it.
#[derive(Debug, Clone)]
struct Asked {
    method: String,
    target: String,
    headers: Vec<(String, String)>,
}

impl Asked {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    fn parameter(&self, name: &str) -> Option<String> {
        let url = url::Url::parse(&format!("http://x{}", self.target)).unwrap();
        url.query_pairs().find(|(known, _)| known == name).map(|(_, value)| value.into_owned())
    }

    fn is_list(&self) -> bool {
        self.parameter("list-type").is_some()
    }
}

/// One reply; the body is left out for HEAD.
struct Reply {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
}

fn reply(status: u16) -> Reply {
    Reply { status, headers: Vec::new(), body: Vec::new() }
}

impl Reply {
    fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }
}

/// A server that answers each request by `handler(number, request)`; `None` hangs up.
struct Server {
    address: SocketAddr,
    log: Arc<Mutex<Vec<Asked>>>,
    stop: Arc<AtomicBool>,
}

impl Server {
    fn start(handler: impl Fn(usize, &Asked) -> Option<Reply> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (log, stop) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let (seen, stopped, handler) = (log.clone(), stop.clone(), Arc::new(handler));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                let (seen, handler) = (seen.clone(), handler.clone());
                // A peer that goes away in the middle is the client's right.
                std::thread::spawn(move || serve(&stream.unwrap(), &seen, &*handler).unwrap_or(()));
            }
        });
        Self { address, log, stop }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    fn log(&self) -> Vec<Asked> {
        self.log.lock().unwrap().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        drop(TcpStream::connect(self.address));
    }
}

fn serve(
    stream: &TcpStream,
    log: &Mutex<Vec<Asked>>,
    handler: &dyn Fn(usize, &Asked) -> Option<Reply>,
) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut words = line.split_whitespace().map(str::to_owned);
    let (Some(method), Some(target)) = (words.next(), words.next()) else { return Ok(()) };
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.push((name.to_owned(), value.trim().to_owned()));
    }
    let asked = Asked { method, target, headers };
    let number = {
        let mut log = log.lock().unwrap();
        log.push(asked.clone());
        log.len() - 1
    };
    let Some(Reply { status, headers, body }) = handler(number, &asked) else { return Ok(()) };
    let mut stream = stream;
    let mut head = format!("HTTP/1.1 {status} X\r\nConnection: close\r\n");
    for (name, value) in &headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    if !headers.iter().any(|(name, _)| matches!(*name, "Content-Length" | "Transfer-Encoding")) {
        head.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    stream.write_all(format!("{head}\r\n").as_bytes())?;
    if asked.method != "HEAD" {
        stream.write_all(&body)?;
    }
    stream.shutdown(std::net::Shutdown::Write)?;
    // Until the client has closed, or a reset could swallow the reply.
    std::io::copy(&mut reader.take(1 << 20), &mut std::io::sink()).map(drop)
}

type Resolved = Result<(Manifest, Arc<dyn Origin>), Error>;

fn resolve_with(source: &str, variables: &[(&str, &str)], stall: Duration) -> Resolved {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut wire = wire::Settings::new(Arc::new(wire::tls::client_config(&[]).unwrap()));
    wire.stall_timeout = stall;
    let environment = Environment::new(variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    let settings = resolve::Settings {
        environment,
        wire: Arc::new(wire),
        filter: Filter::default(),
        audit: dray::audit::Audit::default(),
    };
    runtime.block_on(async { resolve::resolve(&Source::parse(source)?, &settings).await })
}

fn resolve(source: &str) -> Resolved {
    resolve_with(source, &[], Duration::from_secs(5))
}

/// Resolves an S3 source at `server`, unsigned.
fn resolve_s3(server: &Server, source: &str) -> Resolved {
    let endpoint = server.url("");
    resolve_with(source, &[("AWS_ENDPOINT_URL", &endpoint), ("AWS_NO_SIGN_REQUEST", "true")], Duration::from_secs(5))
}

fn error(resolved: Resolved) -> Error {
    match resolved {
        Ok((manifest, _)) => panic!("resolved {manifest:?}"),
        Err(error) => error,
    }
}

fn paths(manifest: &Manifest) -> Vec<&str> {
    manifest.entries.iter().map(|entry| entry.path.as_str()).collect()
}

/// A ListObjectsV2 page, keys as they go on the wire.
fn page(keys: &[&str], next: Option<&str>) -> Reply {
    let contents: String = keys
        .iter()
        .map(|key| {
            format!(
                "<Contents><Key>{key}</Key><ETag>&quot;e-{key}&quot;</ETag><Size>{}</Size></Contents>",
                usize::from(!key.ends_with('/')) * 7
            )
        })
        .collect();
    let next = match next {
        Some(token) => format!("<IsTruncated>true</IsTruncated><NextContinuationToken>{token}</NextContinuationToken>"),
        None => "<IsTruncated>false</IsTruncated>".to_owned(),
    };
    let body = format!(
        "<?xml version=\"1.0\"?><ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><EncodingType>url</EncodingType>{next}{contents}</ListBucketResult>"
    );
    reply(200).header("Content-Type", "application/xml").body(body)
}

fn s3_error(status: u16, code: &str) -> Reply {
    let body = format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>said so</Message></Error>");
    reply(status).header("Content-Type", "application/xml").body(body)
}

/// An S3 that lists by `list(number of the listing, token)` and answers every HEAD below `m/` with 7 bytes.
fn s3(list: impl Fn(usize, Option<&str>) -> Reply + Send + Sync + 'static) -> Server {
    let listings = Mutex::new(0);
    Server::start(move |_, asked| {
        if asked.is_list() {
            let mut number = listings.lock().unwrap();
            *number += 1;
            return Some(list(*number - 1, asked.parameter("continuation-token").as_deref()));
        }
        let found = asked.target.contains("/m/");
        Some(if found { reply(200).header("Content-Length", "7").header("ETag", "\"e\"") } else { reply(404) })
    })
}

#[test]
fn a_prefix_is_listed_page_by_page_and_every_object_described() {
    let server = s3(|_, token| match token {
        None => page(&["m/", "m/a+b%2Bc.bin"], Some("t1")),
        Some("t1") => page(&[], Some("t2")),
        Some("t2") => page(&["m/sub/%E6%A8%A1"], None),
        Some(other) => panic!("token {other}"),
    });
    let (manifest, origin) = resolve_s3(&server, "s3://bucket/m").unwrap();
    assert_eq!(paths(&manifest), ["a b+c.bin", "sub/模"]);
    assert_eq!(manifest.source, "s3://bucket/m");
    let entry = &manifest.entries[0];
    assert_eq!(
        (entry.object.as_str(), entry.size, entry.version.etag.as_deref()),
        ("m/a b+c.bin", Some(7), Some("\"e\""))
    );
    let lists: Vec<_> = server.log().into_iter().filter(Asked::is_list).collect();
    assert!(
        lists
            .iter()
            .all(|asked| asked.parameter("prefix").as_deref() == Some("m/") && asked.header("authorization").is_none())
    );
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (access, valid_for) = runtime.block_on(origin.access(entry)).unwrap();
    assert_eq!(access.url.expose(), server.url("/bucket/m/a%20b%2Bc.bin"));
    assert!(access.headers.is_empty() && valid_for.is_none());
}

#[test]
fn an_exact_object_wins_over_the_folder_of_its_name() {
    let server = Server::start(|_, asked| {
        assert!(!asked.is_list(), "nothing to list");
        Some(
            reply(200)
                .header("Content-Length", "9")
                .header("ETag", "\"e\"")
                .header("x-amz-checksum-crc32c", "4waSgw==")
                .header("x-amz-checksum-type", "FULL_OBJECT"),
        )
    });
    let (manifest, _) = resolve_s3(&server, "s3://bucket/m/model.bin").unwrap();
    assert_eq!(paths(&manifest), ["model.bin"]);
    assert_eq!(manifest.entries[0].stated, [Stated::Crc32c(0xe306_9283)]);
}

#[test]
fn composite_checksums_without_the_ends_of_their_parts_are_not_statements() {
    let server = Server::start(|_, asked| {
        if asked.method == "GET" {
            return Some(s3_error(501, "NotImplemented"));
        }
        Some(
            reply(200)
                .header("Content-Length", "9")
                .header("ETag", "\"e-2\"")
                .header("x-amz-checksum-crc32c", "4waSgw==-2")
                .header("x-amz-checksum-type", "COMPOSITE"),
        )
    });
    assert_eq!(resolve_s3(&server, "s3://bucket/x").unwrap().0.entries[0].stated, []);
}

#[test]
fn listings_without_end_are_network_errors() {
    let looping = s3(|number, _| page(&[&format!("m/{number}")], Some("again")));
    let repeating = s3(|number, _| page(&["m/a"], Some(&format!("t{number}"))));
    let empty = s3(|number, _| page(&[], Some(&format!("t{number}"))));
    let lost = s3(|_, _| reply(200).body("<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>"));
    let huge = s3(|_, _| reply(200).body(vec![b' '; 17 << 20]));
    let garbage = s3(|_, _| reply(200).body("<html>login</html>"));
    for (name, server) in [
        ("looping", looping),
        ("repeating", repeating),
        ("empty", empty),
        ("lost", lost),
        ("huge", huge),
        ("garbage", garbage),
    ] {
        let error = error(resolve_s3(&server, "s3://bucket/m/"));
        assert!(matches!(error, Error::Network(_)), "{name}: {error:?}");
        assert!(server.log().len() < 120, "{name}");
    }
}

#[test]
fn refusals_have_their_exit_class_and_are_not_repeated() {
    for (status, code, exit) in [
        (404, "NoSuchBucket", 3),
        (403, "AccessDenied", 4),
        (403, "SignatureDoesNotMatch", 4),
        (403, "InvalidAccessKeyId", 4),
        (400, "ExpiredToken", 4),
        (400, "InvalidRequest", 7),
    ] {
        let server = s3(move |_, _| s3_error(status, code));
        let error = error(resolve_s3(&server, "s3://bucket/x"));
        assert_eq!(error.exit_code(), exit, "{code}: {error:?}");
        assert!(error.to_string().contains(&server.url("")), "{error}");
        assert!(server.log().len() <= 3, "{code}: {} requests", server.log().len());
    }
    let server = s3(|_, _| s3_error(404, "NoSuchBucket"));
    let text = error(resolve_s3(&server, "s3://bucket/x")).to_string();
    assert_eq!(text, format!("bucket `bucket` not found at {}; did you set AWS_ENDPOINT_URL?", server.url("")));
}

#[test]
fn nothing_below_a_prefix_is_not_found() {
    let server = s3(|_, _| page(&[], None));
    assert!(matches!(error(resolve_s3(&server, "s3://bucket/x")), Error::NotFound(_)));
    assert!(matches!(error(resolve_s3(&server, "s3://bucket")), Error::NotFound(_)));
}

#[test]
fn slow_downs_are_waited_out() {
    let server = s3(|number, _| match number {
        0 => s3_error(503, "SlowDown").header("Retry-After", "1"),
        1 => s3_error(500, "InternalError"),
        _ => page(&["m/a"], None),
    });
    let started = Instant::now();
    assert_eq!(paths(&resolve_s3(&server, "s3://bucket/m/").unwrap().0), ["a"]);
    assert!(Duration::from_secs(1) <= started.elapsed());
}

#[test]
fn refused_heads_leave_the_listing_without_statements() {
    let server = Server::start(|_, asked| Some(if asked.is_list() { page(&["m/a", "m/b"], None) } else { reply(403) }));
    let (manifest, _) = resolve_s3(&server, "s3://bucket/m/").unwrap();
    assert_eq!(paths(&manifest), ["a", "b"]);
    let entry = &manifest.entries[0];
    assert_eq!((entry.size, entry.version.etag.as_deref(), entry.stated.len()), (Some(7), Some("\"e-m/a\""), 0));
}

#[test]
fn an_exact_key_is_found_by_listing_where_head_is_refused() {
    let server = Server::start(|_, asked| {
        Some(match asked.parameter("prefix").as_deref() {
            Some("m/") => page(&[], None),
            Some("m") => page(&["m"], Some("more")),
            _ => reply(403),
        })
    });
    assert_eq!(paths(&resolve_s3(&server, "s3://bucket/m").unwrap().0), ["m"]);
}

#[test]
fn a_bucket_in_another_region_is_asked_there_once() {
    let moved = |reply: Reply| reply.header("x-amz-bucket-region", "eu-west-1");
    let once =
        s3(move |number, _| if number == 0 { moved(s3_error(301, "PermanentRedirect")) } else { page(&["m/a"], None) });
    assert_eq!(paths(&resolve_s3(&once, "s3://bucket/m/").unwrap().0), ["a"]);
    let always = s3(move |_, _| moved(s3_error(301, "PermanentRedirect")));
    let error = error(resolve_s3(&always, "s3://bucket/m/"));
    assert!(matches!(&error, Error::Network(text) if text.contains("region eu-west-1")), "{error:?}");
    assert_eq!(always.log().len(), 2);
}

#[test]
fn unsafe_keys_refuse_the_whole_plan_before_any_head() {
    for key in ["m/..%2Fx", "m/../x", "m//x", "m/a%5Cb", "m/a%00b", "m/.dray/x", "m/NUL", "m/A", "m/a/b", "m/%FF"] {
        let server = s3(move |_, _| page(&["m/a", key], None));
        let error = error(resolve_s3(&server, "s3://bucket/m/"));
        assert!(matches!(&error, Error::Policy(_)), "{key}: {error:?}");
        assert!(server.log().iter().all(Asked::is_list), "{key}");
    }
}

#[test]
fn unreachable_and_silent_endpoints_are_network_errors_in_time() {
    let refused = {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap()
    };
    let silent = Server::start(|_, _| {
        std::thread::sleep(Duration::from_secs(3));
        None
    });
    let plain = Server::start(|_, _| None);
    for endpoint in [
        format!("http://{refused}"),
        silent.url(""),
        "http://no-such-host.invalid".to_owned(),
        format!("https://{}", plain.address),
    ] {
        let started = Instant::now();
        let variables = [("AWS_ENDPOINT_URL", endpoint.as_str()), ("AWS_NO_SIGN_REQUEST", "1")];
        let error = error(resolve_with("s3://bucket/m/", &variables, Duration::from_millis(300)));
        assert!(matches!(error, Error::Network(_)), "{endpoint}: {error:?}");
        let http = self::error(resolve_with(&format!("{endpoint}/f"), &[], Duration::from_millis(300)));
        assert!(matches!(http, Error::Network(_)), "{endpoint}: {http:?}");
        assert!(started.elapsed() < Duration::from_secs(20), "{endpoint}");
    }
}

fn file(asked: &Asked) -> Reply {
    match asked.header("range") {
        None => reply(200).header("ETag", "\"v1\"").header("Accept-Ranges", "bytes").body("content"),
        Some(_) => reply(206).header("ETag", "\"v1\"").header("Content-Range", "bytes 0-0/7").body("c"),
    }
}

#[test]
fn a_file_is_described_by_head_and_named_after_the_source() {
    let server = Server::start(|_, asked| Some(file(asked).header("Content-Disposition", "attachment; filename=evil")));
    let (manifest, origin) = resolve(&server.url("/dir/my%20model.bin?x=1")).unwrap();
    let entry = &manifest.entries[0];
    assert_eq!((entry.path.as_str(), entry.size, entry.ranges), ("my model.bin", Some(7), Ranges::Assumed));
    assert_eq!(entry.version.etag.as_deref(), Some("\"v1\""));
    let log = server.log();
    assert_eq!((log.len(), log[0].method.as_str(), log[0].header("accept-encoding")), (1, "HEAD", Some("identity")));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let again = runtime.block_on(origin.stat(entry)).unwrap();
    assert_eq!(&again, entry);
}

#[test]
fn a_refused_head_is_asked_again_as_the_first_byte() {
    for status in [400, 403, 404, 405, 500, 501, 503] {
        let server =
            Server::start(move |_, asked| Some(if asked.method == "HEAD" { reply(status) } else { file(asked) }));
        let (manifest, _) = resolve(&server.url("/f")).unwrap();
        assert_eq!((manifest.entries[0].size, manifest.entries[0].ranges), (Some(7), Ranges::Assumed), "{status}");
        assert_eq!(server.log().len(), 2, "{status}");
    }
}

#[test]
fn a_server_without_ranges_or_sizes_is_still_a_source() {
    let whole =
        Server::start(|_, asked| Some(if asked.method == "HEAD" { reply(405) } else { reply(200).body("content") }));
    let (manifest, _) = resolve(&whole.url("/f")).unwrap();
    assert_eq!((manifest.entries[0].size, manifest.entries[0].ranges), (Some(7), Ranges::Refused));
    let chunked =
        Server::start(|_, _| Some(reply(200).header("Transfer-Encoding", "chunked").body("7\r\ncontent\r\n0\r\n\r\n")));
    let (manifest, _) = resolve(&chunked.url("/f")).unwrap();
    assert_eq!((manifest.entries[0].size, manifest.entries[0].ranges), (None, Ranges::Refused));
    let empty = Server::start(|_, asked| {
        Some(if asked.method == "HEAD" { reply(200) } else { reply(416).header("Content-Range", "bytes */0") })
    });
    let (manifest, _) = resolve(&empty.url("/f")).unwrap();
    assert_eq!(manifest.entries[0].size, Some(0));
}

#[test]
fn http_refusals_have_their_exit_class() {
    for (status, exit, requests) in
        [(401, 4, 2), (403, 4, 2), (404, 3, 2), (410, 3, 2), (400, 7, 2), (500, 7, 4), (503, 7, 4)]
    {
        let server = Server::start(move |_, _| Some(reply(status)));
        let error = error(resolve(&server.url("/f?token=canary-canary")));
        assert_eq!(error.exit_code(), exit, "{status}: {error:?}");
        assert!(!error.to_string().contains("canary"), "{error}");
        assert_eq!(server.log().len(), requests, "{status}");
    }
    let recovering = Server::start(|number, asked| {
        Some(if number < 3 { reply(503).header("Retry-After", "0") } else { file(asked) })
    });
    assert_eq!(resolve(&recovering.url("/f")).unwrap().0.entries[0].size, Some(7));
}

#[test]
fn what_was_sent_in_secret_is_cut_out_of_a_refusal() {
    let echo = |asked: &Asked| {
        let said = format!(
            "<Error><Code>AccessDenied</Code><Message>{} {:?}</Message></Error>",
            asked.target.replace('&', " "),
            asked.header("authorization")
        );
        reply(403).body(said)
    };
    let server = Server::start(move |_, asked| Some(echo(asked)));
    let source = format!("http://someuser:hunter2hunter2@{}/f?X-Amz-Signature=canary-signature", server.address);
    let text = error(resolve(&source)).to_string();
    assert!(text.contains("AccessDenied"), "{text}");
    let basic = server.log()[0].header("authorization").unwrap().to_owned();
    assert!(basic.starts_with("Basic "), "{basic}");
    for secret in ["hunter2hunter2", "canary-signature", &basic[6..]] {
        assert!(!text.contains(secret), "{text}");
    }
}

#[test]
fn redirects_lose_the_login_at_another_origin() {
    let other = Server::start(|_, asked| Some(file(asked)));
    let target = other.url("/cdn?sig=1");
    let server = Server::start(move |_, _| Some(reply(302).header("Location", target.clone())));
    let (manifest, _) = resolve(&format!("http://user:password1@{}/name.bin", server.address)).unwrap();
    assert_eq!(paths(&manifest), ["name.bin"]);
    assert!(server.log()[0].header("authorization").is_some());
    assert!(other.log()[0].header("authorization").is_none());
}

#[test]
fn redirects_that_policy_forbids_are_refused() {
    for location in
        ["file:///etc/passwd", "ftp://127.0.0.1/x", "http://169.254.169.254/latest/meta-data", "http://[fe80::1]/x"]
    {
        let server = Server::start(move |_, _| Some(reply(302).header("Location", location)));
        let error = error(resolve(&server.url("/f")));
        assert!(matches!(error, Error::Policy(_)), "{location}: {error:?}");
    }
    let circle = Server::start(|_, _| Some(reply(302).header("Location", "/f")));
    let error = error(resolve(&circle.url("/f")));
    assert!(matches!(error, Error::Policy(_)), "{error:?}");
    assert_eq!(circle.log().len(), 6);
}

#[test]
fn hostile_names_in_a_url_are_refused() {
    let server = Server::start(|_, asked| Some(file(asked)));
    for name in ["..%2f..%2fetc", "%2e%2e%2fx", "a%00b", "a%5cb", "%2Fetc", ".dray", "NUL"] {
        let error = error(resolve(&server.url(&format!("/{name}"))));
        assert!(matches!(error, Error::Policy(_)), "{name}: {error:?}");
    }
}
