//! `az://` and blob URLs against Azurite, which nobody here wrote and which enforces signatures, and against a small
//! server that refuses, repeats and issues tokens as the real ones do.
//!
//! `make test` installs Azurite by `scripts/azure-deps.sh`; without it these tests fail. What must be on disk comes
//! from `rig::oracle`, never from dray.

mod rig;

#[path = "azure/blobs.rs"]
mod blobs;
#[path = "azure/changes.rs"]
mod changes;
#[path = "azure/credentials.rs"]
mod credentials;
#[path = "azure/faults.rs"]
mod faults;
#[path = "azure/shelf.rs"]
mod shelf;
#[path = "azure/tokens.rs"]
mod tokens;

use std::fs;
use std::path::Path;

use rig::dray::Run;

/// No canary is in the output, the report or anything that the run left in DEST or its state.
fn assert_silent(run: &Run, dest: &Path, canaries: &[&str]) {
    let mut texts = vec![("stdout".to_owned(), run.stdout.clone()), ("stderr".to_owned(), run.stderr.clone())];
    texts.extend(run.report.iter().map(|report| ("report".to_owned(), report.to_string())));
    for folder in [dest.to_owned(), dest.join(".dray")] {
        for entry in fs::read_dir(&folder).into_iter().flatten() {
            let path = entry.expect("folder entry").path();
            if path.is_file() {
                let bytes = fs::read(&path).expect("read");
                texts.push((path.display().to_string(), String::from_utf8_lossy(&bytes).into_owned()));
            }
        }
    }
    for (place, text) in &texts {
        for canary in canaries {
            assert!(!text.contains(canary), "{canary} is in {place}");
        }
    }
}
