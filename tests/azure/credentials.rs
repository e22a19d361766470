//! Signatures and keys, which Azurite enforces; and who may see them.

use std::fs;

use crate::assert_silent;
use crate::rig::azure::{ACCOUNT, Container, Grant, KEY, account_signature};
use crate::rig::dray::Dray;
use crate::rig::oracle::{Content, Expected, MIB};
use crate::rig::{azurite, folder};

const READER: Grant = Grant { permissions: "rl", expiry: "2099-01-01T00:00:00Z" };
const ENDED: Grant = Grant { permissions: "rl", expiry: "2020-01-01T00:00:00Z" };
const WRITER: Grant = Grant { permissions: "w", expiry: "2099-01-01T00:00:00Z" };

fn filled(name: &str) -> (Container, Expected) {
    let container = azurite().container(name);
    let content = Content::new(9, 9 * MIB + 1);
    container.put_all(&[("m/weights", &content)]);
    (container, Expected::of([("weights", &content)]))
}

/// What of a signature nobody may read.
fn secret(signature: &str) -> &str {
    signature.rsplit("sig=").next().expect("a signature")
}

fn connection(container: &Container) -> String {
    format!(
        "DefaultEndpointsProtocol=http;AccountName={ACCOUNT};AccountKey={KEY};BlobEndpoint={};",
        container.endpoint()
    )
}

#[test]
fn every_form_of_key_and_signature_opens_the_account_and_is_never_shown() {
    let (container, expected) = filled("opened");
    let signature = account_signature(&READER);
    let query = format!("?{signature}");
    let connected = connection(&container);
    let signed = format!("BlobEndpoint={};SharedAccessSignature={signature}", container.endpoint());
    for (kind, query, variables) in [
        ("shared key", "", &[("AZURE_STORAGE_ACCESS_KEY", KEY)][..]),
        ("shared key", "", &[("AZURE_STORAGE_KEY", KEY)]),
        ("shared access signature", &query, &[]),
        ("shared access signature", &query, &[("AZURE_STORAGE_ACCESS_KEY", "d3Jvbmc=")]),
        ("shared access signature", "", &[("AZURE_STORAGE_SAS_TOKEN", &query)]),
        ("shared access signature", "", &[("AZURE_STORAGE_SAS_TOKEN", &signature), ("AZURE_STORAGE_KEY", "d3Jvbmc=")]),
        ("shared access signature", "", &[("AZURE_STORAGE_ACCESS_KEY", &signature)]),
        ("shared key", "", &[("AZURE_STORAGE_CONNECTION_STRING", &connected)]),
        ("shared access signature", "", &[("AZURE_STORAGE_CONNECTION_STRING", &signed)]),
    ] {
        for uri in [container.uri("m"), container.url("m")] {
            let dest = folder();
            let around = folder();
            let log = around.path().join("audit.jsonl");
            let run = Dray::pull(&format!("{uri}{query}"), dest.path()).env("DRAY_LOG", "trace");
            let mut run = run.env("DRAY_AUDIT", &log);
            for (name, value) in variables {
                run = run.env(name, value);
            }
            if !variables.iter().any(|(name, _)| name.contains("CONNECTION")) {
                run = container.at(run);
            }
            let run = run.run();
            run.assert_sealed();
            expected.assert_sealed(dest.path());
            assert_silent(&run, dest.path(), &[KEY, secret(&signature), "sig="]);
            let log = fs::read_to_string(&log).expect("the log");
            assert!(log.contains(&format!("\"{kind}\"")) && !log.contains("sig="), "{kind}: {log}");
        }
    }
}

#[test]
fn refused_credentials_exit_4_and_name_their_variable() {
    let (container, _) = filled("refused");
    let (ended, writer) = (account_signature(&ENDED), account_signature(&WRITER));
    let other = "Y2FuYXJ5LW90aGVyLWtleS1vZi1ub2JvZHktMDEyMzQ1Njc4OWFiY2RlZg==";
    for (name, value) in [
        ("AZURE_STORAGE_ACCESS_KEY", other),
        ("AZURE_STORAGE_KEY", other),
        ("AZURE_STORAGE_SAS_TOKEN", ended.as_str()),
        ("AZURE_STORAGE_SAS_TOKEN", writer.as_str()),
    ] {
        for path in ["m", "m/weights", ""] {
            let dest = folder();
            let run = container.at(Dray::pull(&container.uri(path), dest.path())).env(name, value).run();
            let line = run.assert_fails(4);
            assert!(line.contains(name), "{line}");
            assert!(run.seconds < 10.0, "{} s", run.seconds);
            assert_silent(&run, dest.path(), &[value, secret(value)]);
        }
    }
}

#[test]
fn settings_that_cannot_be_used_exit_2_and_show_no_value() {
    let (container, _) = filled("unusable");
    for (name, value) in [
        ("AZURE_STORAGE_ACCESS_KEY", "canary-no-base64!"),
        ("AZURE_STORAGE_SAS_TOKEN", "canary"),
        ("AZURE_STORAGE_SAS_TOKEN", "sv=2021-12-02&comp=canary&sig=canary"),
        ("AZURE_STORAGE_CONNECTION_STRING", "canary"),
        ("AZURE_STORAGE_CONNECTION_STRING", "AccountName=canary"),
        ("AZURE_STORAGE_CONNECTION_STRING", "UseDevelopmentStorage=true"),
        ("AZURE_STORAGE_CONNECTION_STRING", "AccountKey=x;BlobEndpoint=ftp://canary"),
        ("AZURE_STORAGE_ENDPOINT", "http://canary:canary@host"),
    ] {
        let dest = folder();
        let run = container.at(Dray::pull(&container.uri("m"), dest.path())).env(name, value).run();
        let line = run.assert_fails(2);
        assert!(line.contains(name), "{line}");
        assert_silent(&run, dest.path(), &["canary"]);
    }
}

#[test]
fn nobody_reads_a_public_container_and_no_other() {
    let public = azurite().public("public");
    let content = Content::new(3, 70_000);
    public.put_all(&[("m/weights", &content)]);
    let dest = folder();
    let run = public.at(Dray::pull(&public.uri("m"), dest.path())).run();
    run.assert_sealed();
    Expected::of([("weights", &content)]).assert_sealed(dest.path());
    let (private, _) = filled("private");
    let run = private.at(Dray::pull(&private.uri("m"), dest.path())).run();
    assert!(matches!(run.code(), 3 | 4), "{}", run.stderr);
    let line = run.last_line();
    assert!(line.contains("anonymous: no credentials are configured (AZURE_STORAGE_ACCESS_KEY"), "{line}");
}

#[test]
fn a_key_of_another_account_is_not_used() {
    let (container, _) = filled("other-account");
    // Nothing is asked of the network: the host does not exist.
    for (name, value) in [
        ("AZURE_STORAGE_ACCOUNT", "another"),
        ("AZURE_STORAGE_CONNECTION_STRING", "AccountName=another;AccountKey=d3Jvbmc="),
    ] {
        let dest = folder();
        let key = if name == "AZURE_STORAGE_ACCOUNT" { KEY } else { "" };
        let run = Dray::pull("az://nosuchaccount0dray/models/m", dest.path())
            .env(name, value)
            .env("AZURE_STORAGE_KEY", key)
            .env("HTTPS_PROXY", format!("http://{}", container.host()))
            .env("DRAY_LOG", "debug")
            .run();
        assert_ne!(run.code(), 0);
        assert!(!run.stderr.contains("shared key"), "{}", run.stderr);
    }
}

#[test]
fn the_audit_log_names_the_kind_of_credential_and_where_it_went() {
    let (container, _) = filled("audited");
    let around = folder();
    let log = around.path().join("audit.jsonl");
    let dest = around.path().join("dest");
    let run = container.pull("m", &dest).args(["--audit", log.to_str().expect("UTF-8")]).run();
    run.assert_sealed();
    let text = fs::read_to_string(&log).expect("the log");
    assert!(text.contains("\"shared key\"") && text.contains(&container.host()), "{text}");
    assert!(!text.contains(KEY) && !text.contains("sig="), "{text}");
}
