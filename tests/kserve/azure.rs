//! Azure blobs: which land where, against Azurite at an endpoint of our own.

use std::sync::OnceLock;

use dray_arena::{Registry, RegistryOptions};

use super::packed::packed;
use super::row::{Entry, Row};
use super::stores::stored;
use crate::rig::azure::{Container, Grant, KEY, account_signature};
use crate::rig::azurite;
use crate::rig::oracle::{Content, MIB};

/// Why upstream is not asked: its Azure is at Microsoft's own hosts.
const ENDPOINT: &str = "AZURE_STORAGE_ENDPOINT is dray's own";

/// Blobs of the one container that most rows read, as names and contents.
struct Shelf {
    container: Container,
    config: Content,
    weights: Content,
    deep: Content,
    empty: Content,
}

fn shelf() -> &'static Shelf {
    static SHELF: OnceLock<Shelf> = OnceLock::new();
    SHELF.get_or_init(|| {
        let shelf = Shelf {
            container: azurite().container("kserve"),
            config: Content::new(1, 300),
            weights: Content::new(2, 2 * MIB + 1),
            deep: Content::new(3, 77),
            empty: Content::new(4, 0),
        };
        shelf.container.put_all(&[
            ("plain/config.json", &shelf.config),
            ("plain/weights.bin", &shelf.weights),
            ("plain/sub/deep.bin", &shelf.deep),
            ("model/weights.bin", &shelf.weights),
            ("model-v2/other.bin", &shelf.deep),
            ("marked/", &shelf.empty),
            ("marked/sub/a", &shelf.deep),
            ("zero/__init__.py", &shelf.empty),
            ("zero/weights.bin", &shelf.weights),
            ("again/again/again", &shelf.deep),
            ("odd/a b+%41#.txt", &shelf.config),
        ]);
        shelf.container.put_with("marked/sub", &shelf.empty, &[("x-ms-meta-hdi_isfolder", "true")]);
        shelf.container.put_file("one/m.zip", &packed().zip);
        shelf
    })
}

impl Shelf {
    /// A row that takes what is below `path`, and no more than `files`, by the URL that KServe knows.
    fn takes(&self, name: &'static str, path: &str, files: &[(&str, &Content)]) -> Row {
        Row::takes(name, self.container.url(path), files)
    }

    fn fails(&self, name: &'static str, path: &str, exit: i32, last: &'static str) -> Row {
        Row::fails(name, self.container.url(path), exit, last)
    }

    /// The files of `plain/`.
    fn plain(&self) -> [(&'static str, &Content); 3] {
        [("config.json", &self.config), ("weights.bin", &self.weights), ("sub/deep.bin", &self.deep)]
    }
}

pub(super) fn rows() -> Vec<Row> {
    let endpoint = shelf().container.endpoint();
    let with_key = places().into_iter().chain(absent()).map(|row| row.env("AZURE_STORAGE_ACCESS_KEY", KEY));
    let rows = with_key.chain(identities()).map(|row| row.env("AZURE_STORAGE_ENDPOINT", &endpoint));
    rows.map(|row| row.dray_only(ENDPOINT)).collect()
}

/// Names below a prefix, blobs that are named in full, patterns and archives.
fn places() -> Vec<Row> {
    let (shelf, stored) = (shelf(), stored());
    let weights = [("weights.bin", &shelf.weights)];
    let zero = [("__init__.py", &shelf.empty), ("weights.bin", &shelf.weights)];
    let older = || Entry::Text("older".to_owned());
    let files: Vec<_> = packed().files.iter().map(|(name, content)| (*name, content)).collect();
    let bins = [("weights.bin", &shelf.weights), ("sub/deep.bin", &shelf.deep)];
    vec![
        shelf.takes("azure/prefix", "plain", &shelf.plain()),
        shelf.takes("azure/prefix-with-a-slash", "plain/", &shelf.plain()),
        shelf.takes("azure/nested-prefix", "plain/sub", &[("deep.bin", &shelf.deep)]),
        shelf.takes("azure/sibling-prefix", "model", &weights),
        shelf.takes("azure/prefix-again-below-itself", "again", &[("again/again", &shelf.deep)]),
        shelf.takes("azure/exact-blob", "plain/config.json", &[("config.json", &shelf.config)]),
        shelf.takes("azure/folder-blobs", "marked", &[("sub/a", &shelf.deep)]),
        shelf.takes("azure/zero-bytes", "zero", &zero),
        shelf.takes("azure/odd-names", "odd", &[("a b+%41#.txt", &shelf.config)]),
        shelf.takes("azure/over-an-older-file", "model", &weights).placed("0/weights.bin", older()),
        shelf
            .takes("azure/concurrency-hints", "model", &weights)
            .env("AZURE_MAX_FILE_CONCURRENCY", "4")
            .env("AZURE_MAX_CHUNK_CONCURRENCY", "x"),
        Row::takes("azure/numbered-zone", "https://drayrig.z12.blob.storage.azure.net/kserve/model", &weights),
        Row::takes("azure/az-scheme", shelf.container.uri("model"), &weights),
        shelf.takes("azure/allowed", "plain", &bins).env("STORAGE_ALLOW_PATTERNS", "*.bin"),
        shelf.takes("azure/ignored", "plain", &bins[..1]).env("STORAGE_IGNORE_PATTERNS", r#"["*.json", "sub/*"]"#),
        shelf.fails("azure/nothing-passes", "plain", 3, "filters").env("STORAGE_ALLOW_PATTERNS", "*.gguf"),
        shelf.takes("azure/archive-below-a-prefix", "one", &files),
        Row::of("azure/after-s3", &[&stored.bucket.uri("model/"), "{0}", &shelf.container.url("plain"), "{1}"])
            .keyed(&stored.bucket.endpoint)
            .dest(&[("weights.bin", &stored.weights)])
            .dest(&shelf.plain()),
    ]
}

/// Nothing is there, or nothing that can be meant.
fn absent() -> Vec<Row> {
    let shelf = shelf();
    let refuses = |name, source: &str, last| Row::refuses(name, &[source, "{0}"], 2, last);
    vec![
        shelf.fails("azure/nothing-there", "absent", 3, "`absent`"),
        shelf.fails("azure/part-of-a-segment", "mod", 3, "`mod`"),
        Row::fails(
            "azure/no-such-container",
            "https://drayrig.blob.core.windows.net/kserve-absent/m",
            3,
            "kserve-absent",
        ),
        refuses("azure/no-container", "https://drayrig.blob.core.windows.net/", "no container"),
        refuses("azure/file-share", "https://drayrig.file.core.windows.net/share/m", "file shares"),
        refuses("azure/foreign-query", "https://drayrig.blob.core.windows.net/kserve/m?comp=list", "`comp`"),
    ]
}

/// A registry that knows the blobs by the name that MLflow and Hadoop give them.
fn registry() -> &'static Registry {
    static REGISTRY: OnceLock<Registry> = OnceLock::new();
    REGISTRY.get_or_init(|| {
        let registry = Registry::start(RegistryOptions::default()).expect("a registry");
        registry.add("blobs", "v1", "wasbs://kserve@drayrig.blob.core.windows.net/model");
        registry
    })
}

/// As whom: KServe's order, which puts an identity before a key.
fn identities() -> Vec<Row> {
    let shelf = shelf();
    let weights = [("weights.bin", &shelf.weights)];
    let reader = account_signature(&Grant { permissions: "rl", expiry: "2099-01-01T00:00:00Z" });
    let anybody = azurite().public("kserve-public");
    anybody.put_all(&[("m/weights.bin", &shelf.weights)]);
    let issuer = |row: Row| {
        row.env("AZURE_STORAGE_ACCESS_KEY", KEY)
            .env("AZURE_TENANT_ID", "tenant")
            .env("AZURE_CLIENT_SECRET", "secret")
            .env("AZURE_AUTHORITY_HOST", "https://127.0.0.1:1")
    };
    let named = "model-registry://blobs/v1";
    vec![
        Row::takes("azure/named-by-a-registry", named, &weights)
            .env("MODEL_REGISTRY_BASE_URL", registry().address())
            .env("AZURE_STORAGE_ACCESS_KEY", KEY),
        shelf.takes("azure/signature-as-key", "model", &weights).env("AZURE_STORAGE_ACCESS_KEY", &reader),
        shelf.takes("azure/signature-in-the-url", &format!("model?{reader}"), &weights),
        Row::takes("azure/anonymous", anybody.url("m"), &weights),
        shelf
            .fails("azure/wrong-key", "model", 4, "AZURE_STORAGE_ACCESS_KEY")
            .env("AZURE_STORAGE_ACCESS_KEY", "d3Jvbmc="),
        issuer(shelf.fails("azure/identity-before-a-key", "model", 7, "client secret")).env("AZURE_CLIENT_ID", "c"),
        issuer(shelf.fails("azure/identity-by-its-older-name", "model", 7, "client secret")).env("AZ_CLIENT_ID", "c"),
    ]
}
