//! Private authorities, bundles, and verification switched off.

use serde_json::json;

use super::row::{Entry, Row};
use super::stores::{Stored, site, stored, tls};

const NAME: &str = "CA_BUNDLE_CONFIGMAP_NAME";
const MOUNT: &str = "CA_BUNDLE_VOLUME_MOUNT_POINT";

/// A bundle that holds no certificate.
const BROKEN: &str = "-----BEGIN CERTIFICATE-----\nbm90IGEgY2VydGlmaWNhdGU=\n-----END CERTIFICATE-----\n";

pub(super) fn rows() -> Vec<Row> {
    let mut rows = of_s3(stored());
    rows.extend(of_web_servers());
    rows
}

fn of_s3(stored: &Stored) -> Vec<Row> {
    let endpoint = tls().s3_tls();
    let ca = tls().ca().to_str().expect("UTF-8").to_owned();
    let pem = std::fs::read_to_string(&ca).expect("the CA");
    let takes = |name| stored.takes_plain(name).keyed(&endpoint);
    let fails = |name, exit, last| stored.fails_plain(name, exit, last).keyed(&endpoint);
    let mounted = |row: Row, text: &str| {
        row.placed("src/cabundle.crt", Entry::Text(text.to_owned())).env(NAME, "bundle").env(MOUNT, "{src}")
    };
    let missing = |row: Row| row.env(NAME, "bundle").env(MOUNT, "/nonexistent");
    let config = |text: serde_json::Value| text.to_string();
    vec![
        fails("trust/unknown-authority", 7, "certificate"),
        takes("trust/verify-false").env("S3_VERIFY_SSL", "False"),
        takes("trust/verify-0").env("S3_VERIFY_SSL", "0"),
        fails("trust/verify-1", 7, "certificate").env("S3_VERIFY_SSL", "1"),
        fails("trust/verify-true", 7, "certificate").env("S3_VERIFY_SSL", "true"),
        takes("trust/verify-by-configuration").env("STORAGE_CONFIG", config(json!({"type": "s3", "verify_ssl": "0"}))),
        takes("trust/aws-bundle").env("AWS_CA_BUNDLE", &ca),
        takes("trust/aws-bundle-by-configuration")
            .env("STORAGE_CONFIG", config(json!({"type": "s3", "ca_bundle": ca}))),
        mounted(takes("trust/mounted-bundle"), &pem),
        mounted(takes("trust/aws-bundle-before-a-mounted-one"), BROKEN).env("AWS_CA_BUNDLE", &ca),
        mounted(takes("trust/empty-aws-bundle-is-unset"), &pem).env("AWS_CA_BUNDLE", ""),
        fails("trust/a-mount-without-its-name", 7, "certificate")
            .placed("src/cabundle.crt", Entry::Text(pem.clone()))
            .env(MOUNT, "{src}"),
        missing(fails("trust/mounted-bundle-missing", 2, "/nonexistent/cabundle.crt")),
        missing(takes("trust/aws-bundle-before-a-missing-mount")).env("AWS_CA_BUNDLE", &ca),
        fails("trust/aws-bundle-missing", 2, "/nonexistent/ca.pem").env("AWS_CA_BUNDLE", "/nonexistent/ca.pem"),
        takes("trust/unverified-reads-no-bundle")
            .env("S3_VERIFY_SSL", "false")
            .env("AWS_CA_BUNDLE", "/nonexistent/ca.pem"),
        missing(takes("trust/unverified-reads-no-mount")).env("S3_VERIFY_SSL", "false"),
    ]
}

fn of_web_servers() -> Vec<Row> {
    let site = site();
    let pem = std::fs::read_to_string(site.nginx.ca()).expect("the CA");
    let weights = [("weights", &site.weights)];
    let secure = || site.nginx.https("weights");
    let plain = || site.nginx.http("weights");
    let mounted = |row: Row, text: &str| {
        row.placed("src/cabundle.crt", Entry::Text(text.to_owned())).env(NAME, "bundle").env(MOUNT, "{src}")
    };
    vec![
        mounted(Row::takes("trust/web-mounted-bundle", secure(), &weights), &pem),
        mounted(Row::takes("trust/web-with-a-query", format!("{}?foo=bar", secure()), &weights), &pem),
        Row::takes("trust/web-mount-missing", plain(), &weights).env(NAME, "bundle").env(MOUNT, "/nonexistent"),
        mounted(Row::takes("trust/web-mount-without-certificate", plain(), &weights), BROKEN),
        Row::takes("trust/web-own-roots", secure(), &weights)
            .env("SSL_CERT_FILE", site.nginx.ca().to_str().expect("UTF-8")),
        Row::fails("trust/web-unknown-authority", secure(), 7, "certificate"),
        Row::fails("trust/web-verify-is-about-s3", secure(), 7, "certificate").env("S3_VERIFY_SSL", "false"),
        mounted(Row::fails("trust/web-downgrade", site.nginx.https("downgrade/weights"), 6, "redirect"), &pem),
    ]
}
