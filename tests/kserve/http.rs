//! Pairs from web servers: names, headers, refusals.

use super::row::Row;
use super::stores::{Site, site};

pub(super) fn rows() -> Vec<Row> {
    let site = site();
    let mut rows = files(site);
    rows.extend(failures(site));
    rows.extend(headers(site));
    rows
}

fn files(site: &Site) -> Vec<Row> {
    let nginx = &site.nginx;
    let (weights, small) = (&site.weights, &site.small);
    vec![
        Row::takes("http/named-after-the-url", nginx.http("weights"), &[("weights", weights)]),
        Row::takes("http/a-query-is-not-of-the-name", nginx.http("weights?foo=bar"), &[("weights", weights)]),
        Row::takes("http/a-fragment-is-not-sent", nginx.http("weights#part"), &[("weights", weights)]),
        Row::takes("http/without-ranges", nginx.no_range("weights"), &[("weights", weights)]),
        Row::takes("http/redirected", nginx.http("moved/weights"), &[("weights", weights)]),
        Row::takes("http/folders-of-the-url-are-left-out", nginx.http("stored/blob-17"), &[("blob-17", weights)]),
        Row::takes("http/percent-encoded", nginx.http("a%20name"), &[("a name", weights)]),
        Row::takes("http/no-bytes", nginx.http("empty"), &[("empty", &site.empty)]),
        Row::takes("http/json", nginx.http("typed/json/config.json"), &[("config.json", small)]),
        Row::takes("http/html", nginx.http("typed/html/page.model"), &[("page.model", small)]),
        Row::takes("http/gz-stays-packed", nginx.http("model.pkl.gz"), &[("model.pkl.gz", small)]),
        Row::takes("http/git-within-the-path", nginx.http("site.github.io/file"), &[("file", small)]),
        Row::takes("http/patterns-mean-nothing", nginx.http("weights"), &[("weights", weights)])
            .env("STORAGE_ALLOW_PATTERNS", "*.json")
            .env("STORAGE_IGNORE_PATTERNS", "*"),
    ]
}

fn failures(site: &Site) -> Vec<Row> {
    let nginx = &site.nginx;
    vec![
        Row::fails("http/404", nginx.http("absent"), 3, "404"),
        Row::fails("http/401", nginx.http("denied/401"), 4, "401"),
        Row::fails("http/403", nginx.http("denied/403"), 4, "403"),
        Row::fails("http/redirect-to-a-file", nginx.http("to-file/x"), 6, "redirect"),
        Row::fails("http/redirect-without-end", nginx.http("loop/x"), 6, "redirect"),
        Row::refuses("http/a-folder", &[&nginx.http(""), "{0}"], 2, "names no file"),
        Row::refuses("http/a-folder-within", &[&nginx.http("stored/"), "{0}"], 2, "names no file"),
        Row::refuses("http/a-git-repository", &[&nginx.https("m.git"), "{0}"], 2, "git"),
    ]
}

fn headers(site: &Site) -> Vec<Row> {
    let nginx = &site.nginx;
    let own = "127.0.0.1-headers";
    let right = r#"{"X-Token": "let-me-in"}"#;
    let odd = r#"{"X-Token": "let-me-in", "Range": "bytes=0-0"}"#;
    let takes = |name| Row::takes(name, nginx.http("guarded/weights"), &[("weights", &site.weights)]);
    let fails = |name| Row::fails(name, nginx.http("guarded/weights"), 4, "403");
    let bad = |name| Row::fails(name, nginx.http("guarded/weights"), 2, own);
    vec![
        takes("http/the-right-header").env(own, right),
        takes("http/a-range-among-the-headers").env(own, odd),
        takes("http/headers-beside-others").env(own, right).env("localhost-headers", "{}"),
        fails("http/no-header"),
        fails("http/a-wrong-header").env(own, r#"{"X-Token": "canary-canary"}"#),
        fails("http/a-header-for-another-host").env("localhost-headers", right),
        bad("http/headers-that-are-no-json").env(own, "canary-canary"),
        bad("http/a-header-with-a-line-break").env(own, r#"{"X-Token": "canary-canary\r\nx: y"}"#),
        Row::fails("http/headers-stay-at-their-origin", nginx.http("away/weights"), 4, "403").env(own, right),
    ]
}
