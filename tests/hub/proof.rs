//! What may be demanded of a model from the Hub: locks, pins, statements, repair.

use std::path::Path;

use serde_json::Value;

use crate::rig::dray::Dray;
use crate::rig::folder;
use crate::rig::oracle::{MIB, flip_bit, tree};
use crate::{Model, hub_of, pull};

#[test]
fn a_lock_holds_the_contents_names_and_is_demanded_of_later_pulls() {
    let model = Model::new(1);
    let hub = hub_of(&model);
    let around = folder();
    let lock = around.path().join("model.lock");
    let words = [Path::new("lock"), Path::new("hf://org/model"), Path::new("-o"), &lock];
    Dray::new(words).env("HF_ENDPOINT", hub.endpoint()).run().assert_code(0);
    let text: Value = serde_json::from_slice(&std::fs::read(&lock).expect("a lock")).expect("JSON");
    let files = text["files"].as_array().expect("files");
    assert!(files.iter().all(|file| file["version"]["content"].is_string()), "{text}");
    let dest = folder();
    let pinned = [Path::new("--pin"), &lock, Path::new("--require"), Path::new("pinned")];
    let run = pull(&hub, "hf://org/model", dest.path()).args(pinned).run();
    assert_eq!(run.assert_sealed()["assurance"], "pinned");
    model.expected().assert_sealed(dest.path());
    let hub = hub_of(&Model::new(2));
    let dest = folder();
    pull(&hub, "hf://org/model", dest.path()).args(pinned).run().assert_fails(5);
    // The empty file is as pinned.
    assert_eq!(tree(dest.path()).into_iter().collect::<Vec<_>>(), ["sub/__init__.py"]);
}

#[test]
fn a_damaged_file_is_repaired_from_the_hub_piece_by_piece() {
    let model = Model::new(1);
    let hub = hub_of(&model);
    let dest = folder();
    pull(&hub, "hf://org/model", dest.path()).run().assert_sealed();
    flip_bit(&dest.path().join("model.safetensors"), 7 * MIB + 3);
    let words = [Path::new("verify"), dest.path(), Path::new("--repair")];
    Dray::new(words).env("HF_ENDPOINT", hub.endpoint()).run().assert_code(0);
    model.expected().assert_sealed(dest.path());
}
