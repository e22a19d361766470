//! Pairs from web servers: names, bound headers, trust, what is refused before it is asked for.

use std::fs;

use crate::Row;
use crate::rig::oracle::{Content, MIB};
use crate::rig::{folder, nginx};

#[test]
fn files_of_web_servers() {
    let nginx = nginx();
    let content = Content::new(1, 2 * MIB + 1);
    for name in ["weights", "weights.json", "m.git"] {
        content.write_file(&nginx.root().join(name));
    }
    let rows = [
        Row::takes("named after the URL", nginx.http("weights"), &[("weights", &content)]),
        Row::takes("its type is nobody's business", nginx.http("weights.json"), &[("weights.json", &content)]),
        Row::takes("without ranges", nginx.no_range("weights"), &[("weights", &content)]),
        Row::takes("patterns mean nothing here", nginx.http("weights"), &[("weights", &content)])
            .env("STORAGE_ALLOW_PATTERNS", "*.json")
            .env("STORAGE_IGNORE_PATTERNS", "*"),
        Row::takes("a missing bundle of KServe", nginx.http("weights"), &[("weights", &content)])
            .env("CA_BUNDLE_CONFIGMAP_NAME", "bundle")
            .env("CA_BUNDLE_VOLUME_MOUNT_POINT", "/nonexistent"),
        Row::fails("404", nginx.http("absent"), 3, "404"),
        Row::fails("401", nginx.http("denied/401"), 4, "401"),
        Row::fails("403", nginx.http("denied/403"), 4, "403"),
        Row::fails("a redirect to a file", nginx.http("to-file/x"), 6, "redirect"),
    ];
    rows.into_iter().for_each(|row| drop(row.check()));
    let early = [
        Row::fails("a folder", nginx.http(""), 2, "names no file"),
        Row::fails("a git repository", nginx.https("m.git"), 2, "git"),
    ];
    for row in early {
        Row { trees: vec![None], ..row }.check();
    }
    assert!(nginx.requests("m.").is_empty(), "what is refused is not asked for");
}

#[test]
fn headers_go_to_their_own_origin() {
    let nginx = nginx();
    let content = Content::new(1, 2 * MIB + 1);
    content.write_file(&nginx.root().join("guarded/weights"));
    let own = "127.0.0.1-headers";
    let takes = |what| Row::takes(what, nginx.http("guarded/weights"), &[("weights", &content)]);
    let fails = |what, exit, last| Row::fails(what, nginx.http("guarded/weights"), exit, last);
    let right = r#"{"X-Token": "let-me-in", "Range": "bytes=0-0", "Connection": "close"}"#;
    let rows = [
        takes("the right header").env(own, right),
        fails("no header", 4, "403"),
        fails("a wrong header", 4, "403").env(own, r#"{"X-Token": "canary-canary"}"#),
        fails("a header for another host", 4, "403").env("localhost-headers", right),
        fails("headers that are no JSON", 2, own).env(own, "canary-canary"),
        fails("a header with a line break", 2, own).env(own, r#"{"X-Token": "canary-canary\r\nx: y"}"#),
        Row::fails("another origin behind a redirect", nginx.http("away/weights"), 4, "403").env(own, right),
    ];
    for row in rows {
        let run = row.check();
        for secret in ["canary", "let-me-in"] {
            assert!(!run.stderr.contains(secret), "{}", run.stderr);
        }
    }
}

#[test]
fn private_authorities() {
    let nginx = nginx();
    let content = Content::new(1, MIB);
    content.write_file(&nginx.root().join("weights"));
    let mount = folder();
    fs::copy(nginx.ca(), mount.path().join("cabundle.crt")).expect("copy the CA");
    let mounted = mount.path().to_str().expect("UTF-8");
    Row::takes("the mounted bundle", nginx.https("weights"), &[("weights", &content)])
        .env("CA_BUNDLE_CONFIGMAP_NAME", "bundle")
        .env("CA_BUNDLE_VOLUME_MOUNT_POINT", mounted)
        .check();
    Row::fails("S3_VERIFY_SSL is about S3 alone", nginx.https("weights"), 7, "certificate")
        .env("S3_VERIFY_SSL", "false")
        .check();
}
