//! What must be on disk, worked out without the code under test: seeded bytes and `blake3::hash`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::SystemTime;

use serde_json::Value;

pub(crate) const KIB: u64 = 1 << 10;
pub(crate) const MIB: u64 = 1 << 20;

const BLOCK: usize = 1 << 20;

/// Bytes that a seed decides, never held whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Content {
    pub(crate) seed: u64,
    pub(crate) size: u64,
    pub(crate) blake3: blake3::Hash,
}

impl Content {
    pub(crate) fn new(seed: u64, size: u64) -> Self {
        let mut hasher = blake3::Hasher::new();
        each_block(seed, size, |block| {
            hasher.update(block);
        });
        Self { seed, size, blake3: hasher.finalize() }
    }

    /// What the file at `path` holds; only its digest is of use.
    pub(crate) fn of_file(path: &Path) -> Self {
        Self { seed: 0, size: fs::metadata(path).expect("metadata").len(), blake3: hash_file(path) }
    }

    pub(crate) fn write_to(&self, out: &mut impl Write) {
        each_block(self.seed, self.size, |block| out.write_all(block).expect("write content"));
    }

    /// Writes the bytes to a new file and returns it as an expectation would see it.
    pub(crate) fn write_file(&self, path: &Path) {
        fs::create_dir_all(path.parent().expect("a parent")).expect("create folder");
        self.write_to(&mut File::create(path).expect("create file"));
    }
}

fn each_block(seed: u64, size: u64, mut take: impl FnMut(&[u8])) {
    let mut random = Random::new(seed);
    let whole = usize::try_from(size).map_or(BLOCK, |size| size.next_multiple_of(8).min(BLOCK));
    let mut block = vec![0; whole];
    let mut left = size;
    while 0 < left {
        let length = left.min(BLOCK as u64);
        for word in block.chunks_exact_mut(8) {
            word.copy_from_slice(&random.next().to_le_bytes());
        }
        take(&block[..usize::try_from(length).expect("a block")]);
        left -= length;
    }
}

/// SplitMix64.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0x5EED)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}

/// The files a sealed folder must hold, and no others.
#[derive(Default)]
pub(crate) struct Expected {
    pub(crate) files: BTreeMap<String, Content>,
}

impl Expected {
    pub(crate) fn of<'a>(files: impl IntoIterator<Item = (&'a str, &'a Content)>) -> Self {
        let files = files.into_iter().map(|(path, content)| (path.to_owned(), content.clone()));
        Self { files: files.collect() }
    }

    pub(crate) fn total(&self) -> u64 {
        self.files.values().map(|content| content.size).sum()
    }

    /// Every byte, name and mode is right, the receipt says the same, and no state is left over.
    pub(crate) fn assert_sealed(&self, dest: &Path) {
        let found = tree(dest);
        let names: BTreeSet<_> = found.iter().collect();
        assert_eq!(names, self.files.keys().collect(), "files in {}", dest.display());
        for (path, content) in &self.files {
            let file = dest.join(path);
            assert_eq!(hash_file(&file), content.blake3, "bytes of {path}");
            let mode = fs::metadata(&file).expect("metadata").permissions().mode();
            assert_eq!(mode & 0o7777, 0o644, "mode of {path}");
        }
        self.assert_receipt(dest);
        let mut state = tree(&dest.join(".dray"));
        assert!(state.remove("receipt.json"), "receipt.json is in .dray/");
        assert!(state.remove("tree.b3"), "tree.b3 is in .dray/");
        state.retain(|name| !name.ends_with("lock"));
        assert!(state.is_empty(), "left over in .dray/: {state:?}");
    }

    fn assert_receipt(&self, dest: &Path) {
        let stated = stated_digests(&receipt(dest)["files"]);
        let computed = self.files.iter().map(|(path, content)| (path.clone(), content.blake3.to_string()));
        assert_eq!(stated, computed.collect(), "blake3 in receipt.json");
    }

    /// Whatever has a final name is whole and right; returns how many files are there.
    pub(crate) fn assert_only_whole_files(&self, dest: &Path) -> usize {
        let found = tree(dest);
        for path in &found {
            let content = self.files.get(path).unwrap_or_else(|| panic!("{path} was never planned"));
            assert_eq!(hash_file(&dest.join(path)), content.blake3, "bytes under the final name {path}");
        }
        found.len()
    }
}

/// Relative paths of the files beneath `root`, without its `.dray/`; none when it does not exist.
pub(crate) fn tree(root: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else {
            continue;
        };
        for entry in entries {
            let path = entry.expect("folder entry").path();
            let relative = path.strip_prefix(root).expect("beneath root");
            if relative == Path::new(".dray") {
                continue;
            }
            if path.symlink_metadata().expect("metadata").is_dir() {
                folders.push(path);
            } else {
                found.insert(relative.to_str().expect("UTF-8 name").to_owned());
            }
        }
    }
    found
}

/// The receipt of a sealed folder.
pub(crate) fn receipt(dest: &Path) -> Value {
    let text = fs::read_to_string(dest.join(".dray/receipt.json")).expect("receipt.json");
    serde_json::from_str(&text).expect("receipt.json is JSON")
}

/// `path` to `blake3` wherever a JSON document has both in one object.
pub(crate) fn stated_digests(document: &Value) -> BTreeMap<String, String> {
    let mut stated = BTreeMap::new();
    let mut rest = vec![document];
    while let Some(value) = rest.pop() {
        match value {
            Value::Array(items) => rest.extend(items),
            Value::Object(fields) => {
                if let (Some(Value::String(path)), Some(Value::String(digest))) =
                    (fields.get("path"), fields.get("blake3"))
                {
                    stated.insert(path.clone(), digest.clone());
                }
                rest.extend(fields.values());
            }
            _ => {}
        }
    }
    stated
}

/// When each file beneath `root` last changed, `.dray/` and folders included.
pub(crate) fn change_times(root: &Path) -> BTreeMap<String, SystemTime> {
    let mut names = tree(root);
    names.extend(tree(&root.join(".dray")).into_iter().map(|name| format!(".dray/{name}")));
    let changed = |name: &String| fs::metadata(root.join(name)).and_then(|data| data.modified());
    names.into_iter().map(|name| (name.clone(), changed(&name).expect("mtime"))).collect()
}

pub(crate) fn hash_file(path: &Path) -> blake3::Hash {
    let mut file = File::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut hasher = blake3::Hasher::new();
    let mut block = vec![0; BLOCK];
    loop {
        let length = file.read(&mut block).expect("read");
        if length == 0 {
            return hasher.finalize();
        }
        hasher.update(&block[..length]);
    }
}

/// Flips one bit of the byte at `offset`.
pub(crate) fn flip_bit(path: &Path, offset: u64) {
    use std::os::unix::fs::FileExt;
    let file = File::options().read(true).write(true).open(path).expect("open");
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).expect("read");
    file.write_all_at(&[byte[0] ^ 1], offset).expect("write");
    file.sync_all().expect("sync");
}
