//! `hf://` against the arena's Hub and CDN: mapping, pins, links, limits, refusals, and the Hub's own client beside it.

mod rig;

#[path = "hub/client.rs"]
mod client;
#[path = "hub/mapping.rs"]
mod mapping;
#[path = "hub/pin.rs"]
mod pin;
#[path = "hub/proof.rs"]
mod proof;
#[path = "hub/refusal.rs"]
mod refusal;
#[path = "hub/secrets.rs"]
mod secrets;
#[path = "hub/sums.rs"]
mod sums;

use std::path::Path;

use dray_arena::{HubArena, HubSeen, Kept, Repo, Side};

use rig::dray::Dray;
use rig::hub::committed;
use rig::oracle::{Content, Expected, MIB};

/// A token that must show nowhere.
const TOKEN: &str = "hf_canaryTokenThatMustNotShow";

/// The files of the model that most tests read.
struct Model {
    attributes: Content,
    readme: Content,
    config: Content,
    weights: Content,
    deep: Content,
    odd: Content,
    empty: Content,
}

impl Model {
    /// Another seed, other contents.
    fn new(seed: u64) -> Self {
        let content = |number, size| Content::new(seed * 100 + number, size);
        Self {
            attributes: content(1, 1519),
            readme: content(2, 4000),
            config: content(3, 700),
            weights: content(4, 20 * MIB + 17),
            deep: content(5, MIB + 1),
            odd: content(6, 99),
            empty: content(7, 0),
        }
    }

    fn files(&self) -> [(&'static str, &Content, Kept); 7] {
        [
            (".gitattributes", &self.attributes, Kept::Git),
            ("README.md", &self.readme, Kept::Git),
            ("config.json", &self.config, Kept::Git),
            ("model.safetensors", &self.weights, Kept::Lfs),
            ("sub/deep/part.bin", &self.deep, Kept::Lfs),
            ("sub/odd name+%41#.txt", &self.odd, Kept::Git),
            ("sub/__init__.py", &self.empty, Kept::Git),
        ]
    }

    fn expected(&self) -> Expected {
        Expected::of(self.files().map(|(path, content, _)| (path, content)))
    }
}

/// A Hub with one public model, `org/model`, at `main`.
fn hub_of(model: &Model) -> HubArena {
    start([committed(Repo::model("org/model"), "main", &model.files())])
}

fn start(repos: impl IntoIterator<Item = Repo>) -> HubArena {
    HubArena::start(repos).expect("start the Hub")
}

fn pull(hub: &HubArena, src: &str, dest: &Path) -> Dray {
    Dray::pull(src, dest).env("HF_ENDPOINT", hub.endpoint())
}

/// What one side was asked, where the target has `part` in it.
fn asked(hub: &HubArena, side: Side, part: &str) -> Vec<HubSeen> {
    hub.log().into_iter().filter(|seen| seen.side == side && seen.target.contains(part)).collect()
}
