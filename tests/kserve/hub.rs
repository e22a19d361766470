//! `hf://`: repositories of the arena's Hub, their revisions, doors and files.

use std::fs;
use std::sync::OnceLock;

use dray_arena::{Access, HubArena, Kept, Repo};

use super::packed::packed;
use super::row::{Entry, Row};
use crate::rig::hub::committed;
use crate::rig::oracle::{Content, MIB};

/// A token that nobody may repeat.
const TOKEN: &str = "hf_canaryOfTheTable";

/// What KServe's webhook sets for every initializer.
const WEBHOOK: [(&str, &str); 3] =
    [("HF_HUB_ENABLE_HF_TRANSFER", "1"), ("HF_XET_HIGH_PERFORMANCE", "1"), ("HF_XET_NUM_CONCURRENT_RANGE_GETS", "8")];

/// The Hub and the files of `org/model`.
pub(super) struct Served {
    pub(super) hub: HubArena,
    commit: String,
    readme: Content,
    config: Content,
    older: Content,
    weights: Content,
    deep: Content,
    empty: Content,
    pub(super) zip: Content,
}

pub(super) fn served() -> &'static Served {
    static SERVED: OnceLock<Served> = OnceLock::new();
    SERVED.get_or_init(|| {
        let content = |seed, size| Content::new(seed, size);
        let (config, older, deep) = (content(1, 300), content(2, 301), content(3, MIB + 1));
        let (readme, weights, empty) = (content(4, 4000), content(5, 2 * MIB + 1), content(6, 0));
        let files = |config| {
            [
                ("README.md", &readme, Kept::Git),
                ("config.json", config, Kept::Git),
                ("model.safetensors", &weights, Kept::Lfs),
                ("sub/deep.bin", &deep, Kept::Lfs),
                ("sub/__init__.py", &empty, Kept::Git),
            ]
        };
        let model = committed(committed(Repo::model("org/model"), "v1.0", &files(&older)), "main", &files(&config));
        let commit = model.commit("v1.0").expect("a commit").to_owned();
        let one = |repo: Repo| committed(repo, "main", &[("config.json", &config, Kept::Git)]);
        let zip = fs::read(&packed().zip).expect("read");
        let archive = [("m.zip", dray_arena::Content::bytes(zip), Kept::Lfs)];
        let hub = HubArena::start([
            model,
            Repo::model("org/packed").with_commit("main", archive),
            Repo::model("org/empty").with_commit("main", []),
            one(Repo::model("org/private").with_access(Access::Private)),
            one(Repo::model("org/gated").with_access(Access::Gated)),
            one(Repo::dataset("org/data")),
            committed(Repo::model("org/climbs"), "main", &[("../escape", &config, Kept::Git)]),
        ]);
        let hub = hub.expect("start the Hub");
        hub.set_token(TOKEN);
        hub.set_page(3);
        let zip = Content::of_file(&packed().zip);
        Served { hub, commit, readme, config, older, weights, deep, empty, zip }
    })
}

impl Served {
    fn files(&self) -> [(&'static str, &Content); 5] {
        [
            ("README.md", &self.readme),
            ("config.json", &self.config),
            ("model.safetensors", &self.weights),
            ("sub/deep.bin", &self.deep),
            ("sub/__init__.py", &self.empty),
        ]
    }

    /// The same at `v1.0`.
    pub(super) fn older(&self) -> [(&'static str, &Content); 5] {
        let mut files = self.files();
        files[1].1 = &self.older;
        files
    }
}

pub(super) fn rows() -> Vec<Row> {
    let mut rows = places();
    rows.extend(chosen());
    rows.extend(refused());
    let endpoint = served().hub.endpoint();
    rows.into_iter().map(|row| row.env("HF_ENDPOINT", &endpoint)).collect()
}

/// What is there, and where it lands.
fn places() -> Vec<Row> {
    let served = served();
    let (files, older) = (served.files(), served.older());
    let config = [("config.json", &served.config)];
    let at = |revision: &str| format!("hf://org/model:{revision}");
    let mine = || Entry::Text("mine".to_owned());
    let webhook = Row::takes("hub/as-the-webhook-has-it", "hf://org/model", &files);
    vec![
        Row::takes("hub/repository", "hf://org/model", &files),
        Row::takes("hub/branch", at("main"), &files),
        Row::takes("hub/tag", at("v1.0"), &older),
        Row::takes("hub/commit", at(&served.commit), &older),
        WEBHOOK.into_iter().fold(webhook, |row, (name, value)| row.env(name, value)),
        Row::takes("hub/private", "hf://org/private", &config).env("HF_TOKEN", TOKEN),
        Row::takes("hub/gated", "hf://org/gated", &config).env("HF_TOKEN", TOKEN),
        Row::takes("hub/folder", "hf://org/model/sub", &[("deep.bin", &served.deep), ("__init__.py", &served.empty)]),
        Row::takes("hub/file", "hf://org/model/config.json", &config),
        Row::takes("hub/dataset", "hf://datasets/org/data", &config),
        Row::takes("hub/archive-stays-packed", "hf://org/packed", &[("m.zip", &served.zip)]),
        Row::takes("hub/over-an-older-file", "hf://org/model", &files).placed("0/config.json", mine()),
        Row::takes("hub/beside-another-file", "hf://org/model", &files).placed("0/mine", mine()).holds("mine", mine()),
        Row::of("hub/two-revisions", &[&at("v1.0"), "{0}", "hf://org/model", "{1}"]).dest(&older).dest(&files),
        Row::of("hub/fails-after-a-pair", &["hf://org/model", "{0}", "hf://org/none", "{1}"])
            .ends(3, "`org/none`")
            .dest(&files)
            .dest(&[]),
    ]
}

/// Patterns.
fn chosen() -> Vec<Row> {
    let served = served();
    let files = served.files();
    let row = |name, allow: &str, ignore: &str, files: &[(&str, &Content)]| {
        Row::takes(name, "hf://org/model", files)
            .env("STORAGE_ALLOW_PATTERNS", allow)
            .env("STORAGE_IGNORE_PATTERNS", ignore)
    };
    vec![
        row("hub/allowed", "*.json,*.md", "", &files[..2]),
        row("hub/ignored", "", r#"["sub/*", "*.md"]"#, &files[1..3]),
        row("hub/ignored-wins", "*.bin,*.safetensors", "sub/*", &files[2..3]),
        row("hub/star-crosses-folders", "*deep*", "", &files[3..4]),
        row("hub/a-slash-at-the-end", "sub/", "", &files[3..]),
        Row::fails("hub/nothing-passes", "hf://org/model", 3, "filters").env("STORAGE_ALLOW_PATTERNS", "*.gguf"),
    ]
}

/// Names that cannot be meant, that nobody has, and doors that are closed.
fn refused() -> Vec<Row> {
    let refuses = |name, source, last| Row::refuses(name, &[source, "{0}"], 2, last);
    let fails = |name, source: &str, exit, last| Row::fails(name, source, exit, last);
    vec![
        refuses("hub/no-owner", "hf://model", "Invalid Hugging Face URI format"),
        refuses("hub/empty-owner", "hf:///model", "repository owner cannot be empty"),
        refuses("hub/empty-name", "hf://org/", "model name cannot be empty"),
        refuses("hub/revision-without-a-name", "hf://org/:v1.0", "model name cannot be empty"),
        refuses("hub/empty-revision", "hf://org/model:", "branch, tag or commit"),
        fails("hub/offline", "hf://org/model", 2, "HF_HUB_OFFLINE").env("HF_HUB_OFFLINE", "1"),
        fails("hub/no-such-repository", "hf://org/none", 3, "`org/none`"),
        fails("hub/no-such-revision", "hf://org/model:v9", 3, "`v9`"),
        fails("hub/no-such-file", "hf://org/model/absent.bin", 3, "absent.bin"),
        fails("hub/without-files", "hf://org/empty", 3, "no files"),
        fails("hub/private-without-a-token", "hf://org/private", 3, "HF_TOKEN"),
        fails("hub/gated-without-a-token", "hf://org/gated", 4, "gated"),
        fails("hub/a-token-of-another-place", "hf://org/model", 4, "token").env("HF_TOKEN", "hf_canaryOfAnother"),
        fails("hub/climbs-out", "hf://org/climbs", 6, "error: "),
    ]
}
