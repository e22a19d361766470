//! The stored figures, and what they are good for: the compiler, library, counter and processor that they were made with.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;

use serde::{Deserialize, Serialize};

/// `benches/counts.json`.
#[derive(Debug, Default, Serialize, Deserialize, PartialEq, Eq)]
pub(crate) struct Stored {
    /// Everything that changes counts without a change of ours, by name.
    pub(crate) made_with: BTreeMap<String, String>,
    /// Instructions by `subject/variant/size`.
    pub(crate) instructions: BTreeMap<String, u64>,
}

fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("benches/counts.json")
}

impl Stored {
    pub(crate) fn load() -> Self {
        let text = std::fs::read(path()).expect("benches/counts.json is part of the project");
        serde_json::from_slice(&text).expect("benches/counts.json is what `DRAY_COUNTS=store make counts` writes")
    }

    pub(crate) fn save(&self) {
        let text = serde_json::to_string_pretty(self).expect("names and numbers");
        std::fs::write(path(), text + "\n").expect("benches/counts.json can be written");
    }
}

/// What this run counts with.
pub(crate) fn here() -> BTreeMap<String, String> {
    let rustc = said(Command::new(std::env::var_os("RUSTC").unwrap_or("rustc".into())).arg("-V"));
    let profile = if cfg!(debug_assertions) { "dev" } else { "release" };
    // Whether a build is incremental decides what is inlined: that moved counts by up to 5 %.
    let set = [option_env!("CARGO_INCREMENTAL"), option_env!("CARGO_ENCODED_RUSTFLAGS"), option_env!("RUSTFLAGS")];
    let set = set.map(|word| word.map_or(String::new(), |word| format!(" {word}"))).concat();
    let words = [
        ("rustc", rustc),
        ("target", format!("{} {}", std::env::consts::ARCH, std::env::consts::OS)),
        ("profile", format!("{profile}{set}")),
        ("libc", said(Command::new("getconf").arg("GNU_LIBC_VERSION"))),
        ("valgrind", said(Command::new("valgrind").arg("--version"))),
        ("vectors", vectors().to_owned()),
    ];
    words.map(|(name, word)| (name.to_owned(), word)).into()
}

/// The widest vectors that valgrind passes on from this processor: hashes choose their code by them.
fn vectors() -> &'static str {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") {
        return "avx2";
    }
    "less than avx2"
}

/// The first line that a program prints, or why it printed none: then it is unlike any that is stored.
fn said(command: &mut Command) -> String {
    match command.output() {
        Ok(ended) => String::from_utf8_lossy(&ended.stdout).lines().next().unwrap_or("silent").to_owned(),
        Err(error) => error.to_string(),
    }
}
