//! `--audit` from outside: each act as a line of JSON, in the order of the acts, and never a secret.

mod rig;

use std::fs;
use std::path::{Path, PathBuf};

use dray_arena::{Content as Generated, Fault, FaultOrigin, Script};
use rig::dray::{Dray, Run};
use rig::oracle::{Content, KIB, MIB, flip_bit};
use rig::server::free_ports;
use rig::{folder, moto, nginx, weed};
use serde_json::Value;

/// Words that stand for every secret a run is given.
const CANARIES: [&str; 4] = ["CANARY", rig::s3::SECRET_KEY, rig::s3::ACCESS_KEY, "X-Amz-Signature"];

/// An audit log and the lines it has.
struct Log {
    _folder: tempfile::TempDir,
    path: PathBuf,
}

impl Log {
    fn new() -> Self {
        let folder = folder();
        let path = folder.path().join("audit.jsonl");
        Self { _folder: folder, path }
    }

    fn of(&self, dray: Dray) -> Run {
        let run = dray.env("DRAY_AUDIT", &self.path).run();
        let text = fs::read_to_string(&self.path).unwrap_or_default();
        for canary in CANARIES {
            assert!(!text.contains(canary), "{canary} is in the log:\n{text}");
            assert!(!run.stderr.contains(canary), "{canary} is on stderr:\n{}", run.stderr);
        }
        run
    }

    /// Every line so far.
    fn acts(&self) -> Vec<Value> {
        acts(&fs::read_to_string(&self.path).expect("the log"))
    }

    /// The acts of `dray`, in short: `act` and what tells it from its like.
    fn short(&self, dray: Dray) -> (Run, Vec<String>) {
        let before = if self.path.exists() { self.acts().len() } else { 0 };
        let run = self.of(dray);
        (run, self.acts()[before..].iter().map(short).collect())
    }
}

/// Reads lines of the log; each must be an act by the schema.
fn acts(text: &str) -> Vec<Value> {
    let act = |line: &str| {
        let act: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert_eq!(act["schema"], "dray.audit/1", "{line}");
        let time = act["time"].as_str().expect("a time");
        assert!(time.len() == 20 && time.ends_with('Z') && time.as_bytes()[10] == b'T', "{time}");
        let fields: &[&str] = match act["act"].as_str().expect("an act") {
            "credential" => &["origin", "kind"],
            "digest" => &["path", "size", "blake3", "assurance", "checks"],
            "published" => &["source", "dest", "files", "bytes", "assurance", "receipt"],
            "refusal" => &["class", "cause"],
            other => panic!("an act nobody knows: {other}"),
        };
        let mut found: Vec<&str> = act.as_object().expect("an object").keys().map(String::as_str).collect();
        let mut expected = [&["schema", "time", "act"], fields].concat();
        found.sort_unstable();
        expected.sort_unstable();
        assert_eq!(found, expected, "{line}");
        act
    };
    text.lines().map(act).collect()
}

fn short(act: &Value) -> String {
    let word = |name: &str| act[name].as_str().unwrap_or_default().to_owned();
    match act["act"].as_str().expect("an act") {
        "credential" => format!("{} to {}", word("kind"), word("origin")),
        "digest" => format!("{} {}", word("path"), word("assurance")),
        "published" => format!("published {}", word("receipt")),
        "refusal" => format!("refused {}", word("class")),
        other => other.to_owned(),
    }
}

fn plain(src: &str, dest: &Path) -> Dray {
    Dray::pull(src, dest).args(["--progress", "lines"])
}

/// `http://127.0.0.1:port` of a URL.
fn origin(url: &str) -> String {
    url.splitn(4, '/').take(3).collect::<Vec<_>>().join("/")
}

#[test]
fn acts_of_a_pull_come_in_their_order_and_are_appended() {
    let bucket = weed().bucket("audit");
    let (one, two) = (Content::new(1, 3 * MIB + 1), Content::new(2, 10 * KIB));
    bucket.put_stating("CRC64NVME", &[("model/one", &one), ("model/two", &two)]);
    let (dest, log) = (folder(), Log::new());
    let place = origin(&bucket.endpoint);
    log.of(plain(&bucket.uri("model"), dest.path()).s3(&bucket.endpoint)).assert_sealed();
    let first = log.acts();
    assert_eq!(short(&first[0]), format!("static keys to {place}"));
    let mut digests = first[1..3].to_vec();
    digests.sort_by_key(|act| act["path"].to_string());
    for (digest, (path, content)) in digests.iter().zip([("one", &one), ("two", &two)]) {
        assert_eq!((&digest["act"], &digest["path"]), (&"digest".into(), &path.into()), "{digest}");
        assert_eq!(digest["size"].as_u64(), Some(content.size));
        assert_eq!(digest["blake3"].as_str(), Some(content.blake3.to_string().as_str()));
        assert_eq!((&digest["assurance"], &digest["checks"][0]), (&"origin".into(), &"crc64nvme".into()));
    }
    let published = &first[3];
    assert_eq!((first.len(), short(published)), (4, "published written".to_owned()));
    assert_eq!(published["dest"].as_str(), dest.path().to_str());
    assert_eq!(published["files"].as_u64(), Some(2));
    assert_eq!(published["bytes"].as_u64(), Some(one.size + two.size));
    assert_eq!(published["assurance"], "origin");
    assert!(published["source"].as_str().expect("a source").starts_with("s3://"));
    let (again, acts) = log.short(plain(&bucket.uri("model"), dest.path()).s3(&bucket.endpoint));
    again.assert_sealed();
    assert_eq!(acts, [format!("static keys to {place}"), "published found".to_owned()]);
    assert_eq!(log.acts()[..4], first[..], "what was there stays");
}

#[test]
fn the_kind_of_each_credential_is_told_for_its_origin() {
    let bucket = weed().bucket("kinds");
    let content = Content::new(3, MIB);
    bucket.put(&[("model/a", &content)]);
    let public = moto().bucket("audit-public");
    public.put_public(&[("model/a", &content)]);
    let nginx = nginx();
    content.write_file(&nginx.root().join("weights"));
    content.write_file(&nginx.root().join("guarded/weights"));
    let (store, web) = (origin(&bucket.endpoint), origin(&nginx.http("")));
    let with_login = nginx.http("weights").replace("http://", "http://user:CANARY-PASSWORD@");
    let headers = r#"{"X-Token": "let-me-in", "X-Other": "CANARY-HEADER"}"#;
    let web_pull = |url: &str, dest: &Path| plain(url, dest).env("no_proxy", "");
    type Make<'a> = Box<dyn Fn(&Path) -> Dray + 'a>;
    let rows: Vec<(&str, Make<'_>, Vec<String>)> = vec![
        (
            "an anonymous store",
            Box::new(|dest| {
                let dray = plain(&public.uri("model"), dest).env("AWS_ENDPOINT_URL", &public.endpoint);
                dray.env("AWS_NO_SIGN_REQUEST", "true")
            }),
            vec![format!("anonymous to {}", origin(&public.endpoint))],
        ),
        ("no login", Box::new(|dest| web_pull(&nginx.http("weights"), dest)), vec![format!("none to {web}")]),
        ("a login", Box::new(|dest| web_pull(&with_login, dest)), vec![format!("basic login to {web}")]),
        (
            "bound headers",
            Box::new(|dest| web_pull(&nginx.http("guarded/weights"), dest).env("127.0.0.1-headers", headers)),
            vec![format!("bound headers to {web}")],
        ),
        (
            "a signed link",
            Box::new(|dest| web_pull(&bucket.presigned_get("model/a"), dest)),
            vec![format!("signed link to {store}")],
        ),
        (
            "a proxy's login",
            Box::new(|dest| {
                let proxy = nginx.http("").replace("http://", "http://user:CANARY-PROXY@");
                web_pull("http://models.invalid/weights", dest).env("http_proxy", proxy)
            }),
            vec!["none to http://models.invalid:80".to_owned(), format!("proxy login to {web}")],
        ),
    ];
    for (what, make, credentials) in rows {
        let (dest, log) = (folder(), Log::new());
        let (run, acts) = log.short(make(dest.path()));
        run.assert_sealed();
        let (told, rest) = acts.split_at(credentials.len());
        assert_eq!(told, credentials, "{what}");
        assert_eq!(rest.len(), 2, "{what}: a digest and the publication: {rest:?}");
    }
}

#[test]
fn a_profile_and_temporary_keys_are_told_apart() {
    let bucket = weed().bucket("profiles");
    bucket.put(&[("model/a", &Content::new(4, MIB))]);
    let (home, store) = (folder(), origin(&bucket.endpoint));
    let text = format!(
        "[default]\naws_access_key_id = {}\naws_secret_access_key = {}\n",
        rig::s3::ACCESS_KEY,
        rig::s3::SECRET_KEY
    );
    let file = home.path().join("credentials");
    fs::write(&file, text).expect("write the profile");
    let (dest, log) = (folder(), Log::new());
    let profile = plain(&bucket.uri("model"), dest.path()).env("AWS_ENDPOINT_URL", &bucket.endpoint);
    let (run, acts) = log.short(profile.env("AWS_SHARED_CREDENTIALS_FILE", &file));
    run.assert_sealed();
    assert_eq!(acts[0], format!("profile to {store}"));
    let (dest, log) = (folder(), Log::new());
    let wrong = plain(&bucket.uri("model"), dest.path()).s3(&bucket.endpoint);
    let wrong = wrong.env("AWS_SECRET_ACCESS_KEY", "CANARY-SECRET").env("AWS_SESSION_TOKEN", "CANARY-SESSION");
    let (run, acts) = log.short(wrong);
    run.assert_fails(4);
    assert_eq!(acts, [format!("temporary keys to {store}"), "refused denied".to_owned()]);
}

#[test]
fn refusals_repeat_the_last_line() {
    let nginx = nginx();
    let content = Content::new(5, 2 * MIB);
    content.write_file(&nginx.root().join("weights"));
    content.write_file(&nginx.root().join("guarded/weights"));
    let other = folder();
    Content::new(6, 2 * MIB).write_file(&nginx.root().join("other/weights"));
    Dray::pull(&nginx.http("other/weights"), other.path()).run().assert_sealed();
    let pin = other.path().join(".dray/receipt.json");
    let [port] = free_ports();
    let log = Log::new();
    let broken = FaultOrigin::start(
        vec![("/m".to_owned(), Generated::generated(1, 2 * MIB))],
        Script::always(Fault::Redirect { status: 302, location: "http://169.254.169.254/m".to_owned() }),
    );
    let broken = broken.expect("origin");
    let header = r#"{"X-Token": "let-me-in"}"#;
    for (source, code, flags) in [
        (nginx.http("absent"), 3, &[][..]),
        (nginx.http("denied/403"), 4, &[]),
        (nginx.http("to-file/x"), 6, &[]),
        // The token is dropped on the way to the other origin, which then refuses.
        (nginx.http("away/weights"), 4, &[]),
        (broken.url("/m"), 6, &[]),
        (format!("http://127.0.0.1:{port}/x"), 7, &[]),
        (nginx.http("weights"), 5, &["--pin", pin.to_str().expect("UTF-8")]),
        (nginx.http("weights"), 5, &["--require", "origin"]),
        ("ftp://user:CANARY@host/x".to_owned(), 2, &[]),
    ] {
        let dest = folder();
        let run = log.of(plain(&source, dest.path()).args(flags).env("127.0.0.1-headers", header));
        let line = run.assert_fails(code);
        let acts = log.acts();
        let last = acts.last().expect("an act");
        assert_eq!(last["act"], "refusal", "{source}: {last}");
        assert_eq!(format!("error: {}", last["cause"].as_str().expect("a cause")), line, "{source}");
        assert_eq!(last["class"], run.report()["outcome"], "{source}");
    }
    let published = log.acts().iter().filter(|act| act["act"] == "published").count();
    assert_eq!(published, 0);
}

#[test]
fn pairs_share_one_log_and_tell_a_credential_once() {
    let nginx = nginx();
    for name in ["one", "two"] {
        Content::new(7, MIB).write_file(&nginx.root().join(name));
    }
    let (around, log) = (folder(), Log::new());
    let dest = |name: &str| around.path().join(name).to_str().expect("UTF-8").to_owned();
    let words = [nginx.http("one"), dest("a"), nginx.http("two"), dest("b"), nginx.http("absent"), dest("c")];
    let (run, acts) = log.short(Dray::new(words));
    run.assert_fails(3);
    let web = origin(&nginx.http(""));
    let expected = [
        format!("none to {web}"),
        "one hashed".to_owned(),
        "published written".to_owned(),
        "two hashed".to_owned(),
        "published written".to_owned(),
        "refused not_found".to_owned(),
    ];
    assert_eq!(acts, expected);
}

#[test]
fn a_verification_and_a_repair_leave_their_acts() {
    let nginx = nginx();
    Content::new(8, 3 * MIB).write_file(&nginx.root().join("weights"));
    let (dest, log) = (folder(), Log::new());
    Dray::pull(&nginx.http("weights"), dest.path()).run().assert_sealed();
    let dir = dest.path().to_str().expect("UTF-8");
    let (run, acts) = log.short(Dray::new(["verify", dir]));
    run.assert_code(0);
    assert_eq!(acts, ["weights hashed"]);
    flip_bit(&dest.path().join("weights"), MIB);
    let (run, acts) = log.short(Dray::new(["verify", dir]));
    run.assert_fails(5);
    assert_eq!(acts, ["refused integrity"]);
    let (run, acts) = log.short(Dray::new(["verify", dir, "--repair"]));
    run.assert_code(0);
    let web = origin(&nginx.http(""));
    assert_eq!(acts, [format!("none to {web}"), "weights hashed".to_owned(), "published written".to_owned()]);
    nginx_gone(&log, dest.path());
}

/// A repair that cannot reach its source says so once.
fn nginx_gone(log: &Log, dest: &Path) {
    flip_bit(&dest.join("weights"), MIB);
    let [port] = free_ports();
    let from = format!("http://127.0.0.1:{port}/weights");
    let dir = dest.to_str().expect("UTF-8");
    let (run, acts) = log.short(Dray::new(["verify", dir, "--repair", "--from", &from]));
    run.assert_fails(7);
    assert_eq!(acts, [format!("none to http://127.0.0.1:{port}"), "refused network".to_owned()]);
}

#[test]
fn a_log_that_cannot_be_written_fails_the_run() {
    let nginx = nginx();
    Content::new(9, MIB).write_file(&nginx.root().join("weights"));
    let dest = folder();
    let run = Dray::pull(&nginx.http("weights"), dest.path()).args(["--audit", "/nonexistent/audit"]).run();
    assert!(run.assert_fails(2).contains("--audit"), "{}", run.last_line());
    assert!(nginx.requests("weights").is_empty(), "nothing was asked");
    let run = Dray::pull(&nginx.http("weights"), dest.path()).args(["--audit", "/dev/full"]).run();
    assert!(run.assert_fails(9).contains("--audit"), "{}", run.last_line());
    let dir = dest.path().to_str().expect("UTF-8");
    Dray::new(["verify", dir, "--audit", "/dev/full"]).run().assert_fails(9);
    Dray::new(["verify", dir, "--audit", "/nonexistent/audit"]).run().assert_fails(2);
}

#[test]
fn a_dash_is_stderr_and_the_last_line_stays_the_cause() {
    let nginx = nginx();
    Content::new(10, MIB).write_file(&nginx.root().join("weights"));
    let told = |run: &Run| {
        let lines: Vec<&str> = run.stderr.lines().filter(|line| line.contains("dray.audit/1")).collect();
        acts(&lines.join("\n")).iter().map(short).collect::<Vec<_>>()
    };
    let web = origin(&nginx.http(""));
    let dest = folder();
    let run = plain(&nginx.http("weights"), dest.path()).args(["--audit", "-"]).run();
    run.assert_sealed();
    assert_eq!(told(&run), [format!("none to {web}"), "weights hashed".to_owned(), "published written".to_owned()]);
    let run = plain(&nginx.http("absent"), folder().path()).args(["--audit", "-"]).run();
    run.assert_fails(3);
    assert_eq!(told(&run), [format!("none to {web}"), "refused not_found".to_owned()]);
}
