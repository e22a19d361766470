//! Credentials that expire in mid-pull are asked for once, and a refusal names whose they were.

use std::fs;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::rig::dray::{Dray, Run};
use crate::rig::fake::{Asked, Fake, Reply, reply};
use crate::rig::folder;
use crate::rig::oracle::{Content, Expected, MIB};
use crate::{is_list, refusal};

const FILES: u64 = 16;

/// An issuer of credentials and the store that takes them; each set of credentials is named after its number.
struct Issuer {
    issued: AtomicU64,
    /// What the credentials say of their end, after being issued.
    told: Duration,
    /// How often the store is asked for bytes before it calls the newest credentials expired, once for each set.
    reads_max: u64,
    /// The last set that is ever refused.
    refused_max: u64,
    reads: Mutex<(u64, u64)>,
    files: Vec<Vec<u8>>,
}

/// How credentials are issued.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Way {
    Container,
    Metadata,
    WebIdentity,
}

impl Issuer {
    fn new(told: Duration, reads_max: u64, refused_max: u64) -> Self {
        let file = |index| {
            let mut bytes = Vec::new();
            content(index).write_to(&mut bytes);
            bytes
        };
        let files = (0..FILES).map(file).collect();
        let reads = Mutex::new((0, 0));
        Self { issued: AtomicU64::new(0), told, reads_max, refused_max, reads, files }
    }

    fn start(self) -> (Arc<Self>, Fake) {
        let this = Arc::new(self);
        let issuer = this.clone();
        (this, Fake::start(move |asked| issuer.answer(asked)))
    }

    fn answer(&self, asked: &Asked) -> Reply {
        match asked.path.as_str() {
            "/credentials" => reply(200, self.issue()),
            "/latest/api/token" => reply(200, "metadata-token").header("x-aws-ec2-metadata-token-ttl-seconds", "600"),
            "/latest/meta-data/iam/security-credentials/" | "/latest/meta-data/iam/security-credentials-extended/" => {
                reply(200, "role")
            }
            path if path.starts_with("/latest/") => reply(200, self.issue()),
            "/" if asked.method == "POST" => reply(200, self.issue_by_sts()),
            _ => self.store(asked),
        }
    }

    fn next(&self) -> (u64, String) {
        let number = self.issued.fetch_add(1, Ordering::SeqCst) + 1;
        let end = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970") + self.told;
        (number, date(end.as_secs()))
    }

    fn issue(&self) -> String {
        let (number, end) = self.next();
        format!(
            r#"{{"Code":"Success","Type":"AWS-HMAC","LastUpdated":"2026-01-01T00:00:00Z","AccessKeyId":"AKID{number}","SecretAccessKey":"secret-{number}","Token":"token-{number}","Expiration":"{end}"}}"#
        )
    }

    fn issue_by_sts(&self) -> String {
        let (number, end) = self.next();
        format!(
            "<AssumeRoleWithWebIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><AssumeRoleWithWebIdentityResult>\
             <AssumedRoleUser><Arn>arn:aws:sts::1:assumed-role/r/s</Arn><AssumedRoleId>A:s</AssumedRoleId></AssumedRoleUser>\
             <Credentials><AccessKeyId>AKID{number}</AccessKeyId><SecretAccessKey>secret-{number}</SecretAccessKey>\
             <SessionToken>token-{number}</SessionToken><Expiration>{end}</Expiration></Credentials>\
             </AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>"
        )
    }

    fn store(&self, asked: &Asked) -> Reply {
        if is_list(asked) {
            let object = |index| {
                format!(
                    "<Contents><Key>m/{index:02}</Key><ETag>&quot;e&quot;</ETag><Size>{}</Size></Contents>",
                    MIB + index
                )
            };
            let listed: String = (0..FILES).map(object).collect();
            return reply(
                200,
                format!("<ListBucketResult><IsTruncated>false</IsTruncated>{listed}</ListBucketResult>"),
            );
        }
        let index = asked.path.strip_prefix("/bucket/m/").and_then(|name| name.parse::<usize>().ok());
        // `m` itself is no object.
        let Some(bytes) = index.and_then(|index| self.files.get(index)) else { return reply(404, "") };
        let Some((first, last)) = asked.range() else {
            return reply(200, "").header("Content-Length", bytes.len().to_string()).header("ETag", "\"e\"");
        };
        let token = asked.parameter("X-Amz-Security-Token").expect("a session token").to_owned();
        let number: u64 = token.strip_prefix("token-").and_then(|number| number.parse().ok()).expect("a number");
        if self.is_refused(number) {
            return refusal(400, "ExpiredToken");
        }
        reply(206, &bytes[first..=last])
            .header("ETag", "\"e\"")
            .header("Content-Range", format!("bytes {first}-{last}/{}", bytes.len()))
    }

    /// Counts the reads of each set of credentials; a set that was read enough is refused, and so is each before it.
    fn is_refused(&self, number: u64) -> bool {
        let mut reads = self.reads.lock().expect("the counts");
        let (newest, count) = &mut *reads;
        if *newest < number {
            (*newest, *count) = (number, 0);
        }
        *count += 1;
        number < *newest || (number <= self.refused_max && self.reads_max < *count)
    }

    fn issued(&self) -> u64 {
        self.issued.load(Ordering::SeqCst)
    }
}

fn content(index: u64) -> Content {
    Content::new(index, MIB + index)
}

/// Seconds since 1970 as `2026-01-02T03:04:05Z`.
fn date(seconds: u64) -> String {
    let time = aws_smithy_types::DateTime::from_secs(i64::try_from(seconds).expect("in range"));
    time.fmt(aws_smithy_types::date_time::Format::DateTime).expect("a date")
}

/// The variables that lead to the issuer, and nothing else.
fn by(way: Way, dray: Dray, server: &Fake, token: &std::path::Path) -> Dray {
    let dray = dray.env("AWS_ENDPOINT_URL_S3", server.url("")).env("AWS_REGION", "us-east-1");
    match way {
        Way::Container => dray.env("AWS_CONTAINER_CREDENTIALS_FULL_URI", server.url("/credentials")),
        Way::Metadata => {
            dray.env("AWS_EC2_METADATA_DISABLED", "false").env("AWS_EC2_METADATA_SERVICE_ENDPOINT", server.url(""))
        }
        Way::WebIdentity => dray
            .env("AWS_WEB_IDENTITY_TOKEN_FILE", token)
            .env("AWS_ROLE_ARN", "arn:aws:iam::1:role/r")
            .env("AWS_ENDPOINT_URL_STS", server.url("")),
    }
}

fn pull(way: Way, issuer: Issuer) -> (Run, u64, tempfile::TempDir) {
    let (issuer, server) = issuer.start();
    let dest = folder();
    let state = tempfile::tempdir().expect("temporary folder");
    let token = state.path().join("token");
    fs::write(&token, "web-identity-token").expect("write the token");
    let run = by(way, Dray::pull("s3://bucket/m", dest.path()), &server, &token).run();
    (run, issuer.issued(), dest)
}

fn expected() -> Expected {
    Expected { files: (0..FILES).map(|index| (format!("{index:02}"), content(index))).collect() }
}

#[test]
fn credentials_refused_in_mid_pull_are_asked_for_once_by_all_lanes() {
    for way in [Way::Container, Way::WebIdentity, Way::Metadata] {
        // Two sets expire before their time, each under sixteen files at once.
        let (run, issued, dest) = pull(way, Issuer::new(Duration::from_secs(3600), 4, 2));
        run.assert_sealed();
        expected().assert_sealed(dest.path());
        assert!((2..=3).contains(&issued), "{way:?}: {issued} sets of credentials for two expiries");
    }
}

#[test]
fn credentials_that_live_for_seconds_are_not_asked_for_by_every_file() {
    let (run, issued, dest) = pull(Way::Container, Issuer::new(Duration::from_secs(60), u64::MAX, 0));
    run.assert_sealed();
    expected().assert_sealed(dest.path());
    assert!(issued <= 2, "{issued} sets of credentials");
}

#[test]
fn credentials_that_stay_expired_end_as_denied_after_few_questions() {
    let (run, issued, _dest) = pull(Way::Container, Issuer::new(Duration::from_secs(3600), 0, u64::MAX));
    let line = run.assert_fails(4);
    assert!(line.contains("AWS_CONTAINER_CREDENTIALS_FULL_URI"), "{line}");
    assert!(issued <= 16, "{issued} sets of credentials");
}

/// Variables of a run, and the words of its refusal.
type Case<'a> = (Vec<(&'a str, &'a str)>, Vec<&'a str>);

/// A store that refuses everybody: at the listing, or only when bytes are read.
fn refusing(reads: bool) -> Fake {
    Fake::start(move |asked| match (reads, asked.range()) {
        (true, None) => reply(200, "").header("Content-Length", "9").header("ETag", "\"e\""),
        _ => refusal(403, "AccessDenied"),
    })
}

#[test]
fn a_refusal_names_the_variable_or_file_of_the_credentials_and_never_their_value() {
    let home = tempfile::tempdir().expect("temporary folder");
    let file = |name: &str, text: &str| {
        let path = home.path().join(name);
        fs::write(&path, text).expect("write a file");
        path.to_str().expect("UTF-8").to_owned()
    };
    let keys = "aws_access_key_id = AKIDcanary\naws_secret_access_key = secret-canary\n";
    let shared = file("shared", &format!("[default]\n{keys}[other]\n{keys}"));
    let config = file("config", &format!("[profile third]\n{keys}"));
    let token = file("token", "token-canary");
    let (_, issuer) = Issuer::new(Duration::from_secs(3600), 0, 0).start();
    let (container, sts) = (issuer.url("/credentials"), issuer.url(""));
    let environment = [("AWS_ACCESS_KEY_ID", "AKIDcanary"), ("AWS_SECRET_ACCESS_KEY", "secret-canary")];
    let with_token = [&environment[..], &[("AWS_SESSION_TOKEN", "token-canary")]].concat();
    let cases: Vec<Case<'_>> = vec![
        (environment.to_vec(), vec!["the environment (AWS_ACCESS_KEY_ID)"]),
        (with_token, vec!["AWS_ACCESS_KEY_ID and AWS_SESSION_TOKEN"]),
        (vec![("AWS_SHARED_CREDENTIALS_FILE", &shared)], vec!["the profile `default`", &shared]),
        (vec![("AWS_SHARED_CREDENTIALS_FILE", &shared), ("AWS_PROFILE", "other")], vec!["`other`", &shared]),
        (vec![("AWS_CONFIG_FILE", &config), ("AWS_PROFILE", "third")], vec!["`third`", &config]),
        (
            vec![
                ("AWS_WEB_IDENTITY_TOKEN_FILE", &token),
                ("AWS_ROLE_ARN", "arn:aws:iam::1:role/r"),
                ("AWS_ENDPOINT_URL_STS", &sts),
            ],
            vec!["AWS_WEB_IDENTITY_TOKEN_FILE", &token],
        ),
        (vec![("AWS_CONTAINER_CREDENTIALS_FULL_URI", &container)], vec!["AWS_CONTAINER_CREDENTIALS_FULL_URI"]),
        (
            vec![("AWS_EC2_METADATA_DISABLED", "false"), ("AWS_EC2_METADATA_SERVICE_ENDPOINT", &sts)],
            vec!["EC2 metadata"],
        ),
        (vec![("AWS_NO_SIGN_REQUEST", "true")], vec!["anonymous, as asked by AWS_NO_SIGN_REQUEST"]),
        (vec![("awsAnonymousCredential", "true")], vec!["anonymous, as asked by awsAnonymousCredential"]),
        (vec![], vec!["anonymous: no credentials are configured"]),
    ];
    for reads in [false, true] {
        for (variables, words) in &cases {
            let store = refusing(reads);
            let dest = folder();
            let dray = Dray::pull("s3://bucket/m", dest.path()).env("AWS_ENDPOINT_URL_S3", store.url(""));
            let run = variables.iter().fold(dray, |dray, (name, value)| dray.env(name, value)).run();
            let line = run.assert_fails(4);
            for word in words {
                assert!(line.contains(word), "{word} in {line}");
            }
            for secret in ["canary", "token-1", "secret-1"] {
                assert!(
                    !run.stderr.replace(home.path().to_str().expect("UTF-8"), "").contains(secret),
                    "{}",
                    run.stderr
                );
            }
            assert!(store.asked().len() <= 8, "{variables:?}: {} requests", store.asked().len());
        }
    }
}
