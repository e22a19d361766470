//! `--formats`: what is allowed lands, what is not is refused before anything is published, whatever it is called.
//!
//! Python's own writers make the files (`formats/make.py`); the safetensors library judges its format beside dray.
//! `scripts/formats-deps.sh` installs both; without them these tests fail.

mod rig;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use rig::dray::{Dray, Run};
use rig::oracle::{Content, change_times, tree};
use rig::{folder, nginx, weed};

/// Everything but pickles.
const SAFE: &str = "safetensors,gguf,json,text,onnx,sentencepiece,numpy,hdf5,zip,tar,gzip";

fn python(words: &[&str]) -> String {
    let venv = std::env::var_os("DRAY_FORMATS_VENV").map_or_else(
        || Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("a parent").join("formats-venv"),
        PathBuf::from,
    );
    let python = venv.join("bin/python");
    assert!(python.exists(), "{} is missing: run scripts/formats-deps.sh", python.display());
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/formats/make.py");
    let done = Command::new(python).arg("-B").arg(script).args(words).output().expect("start python");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).expect("UTF-8")
}

/// The folder of all files, made once.
fn files() -> &'static Path {
    static FILES: OnceLock<tempfile::TempDir> = OnceLock::new();
    let made = FILES.get_or_init(|| {
        let made = folder();
        python(&["make", text(made.path())]);
        made
    });
    made.path()
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

fn pull(name: &str, formats: &str, dest: &Path) -> Run {
    Dray::pull(text(&files().join(name)), dest).args(["--formats", formats]).run()
}

/// The file is refused with this code and these words, the last line names it, and nothing is published.
fn refuses(name: &str, formats: &str, code: i32, words: &str) {
    let dest = folder();
    let run = pull(name, formats, dest.path());
    let line = run.assert_fails(code);
    assert!(line.contains(words) && line.contains(&format!("`{name}`")), "{name} of {formats}: {line}");
    assert!(tree(dest.path()).is_empty(), "{name} of {formats}");
    assert!(!dest.path().join(".dray/receipt.json").exists(), "{name} of {formats}");
}

fn takes(name: &str, formats: &str) {
    let dest = folder();
    pull(name, formats, dest.path()).assert_sealed();
    assert_eq!(fs::read(dest.path().join(name)).unwrap(), fs::read(files().join(name)).unwrap(), "{name}");
}

#[test]
fn allowed_files_land_as_they_are() {
    for (name, format) in [
        ("good.safetensors", "safetensors"),
        ("good-scalar-and-empty.safetensors", "safetensors"),
        ("good-nothing.safetensors", "safetensors"),
        ("model.gguf", "gguf"),
        ("config.json", "json"),
        ("config.json", "text"),
        ("rows.jsonl", "json"),
        ("README.md", "text"),
        ("vocab.txt", "text"),
        ("model.onnx", "onnx"),
        ("tokenizer.model", "sentencepiece"),
        ("array.npy", "numpy"),
        ("arrays.npz", "numpy"),
        ("weights.h5", "hdf5"),
        ("empty", "safetensors"),
        ("good.zip", "zip,json,text"),
        ("keras.keras", "zip,json,hdf5"),
        ("good.tar", "tar,json,text"),
        ("good.tar.gz", "gzip,tar,json"),
        ("text.gz", "gzip,text"),
        ("evil-4.bin", "pickle"),
        ("evil-0.bin", "pickle,text"),
        ("torch.bin", "pickle"),
        ("torch-deflated.pt", "pickle,safetensors"),
        ("joblib.bz2", "pickle"),
    ] {
        takes(name, format);
    }
}

#[test]
fn pickles_are_refused_in_every_disguise() {
    for protocol in 0..6 {
        for name in ["evil", "weights"] {
            refuses(&format!("{name}-{protocol}.bin"), SAFE, 6, "a pickle");
        }
    }
    for name in ["evil.txt", "evil.json", "evil-and-more.txt", "evil-after-a-long-text.md", "legacy.pt"] {
        refuses(name, SAFE, 6, "a pickle");
    }
    for name in ["joblib.gz", "joblib.z", "joblib.bz2", "joblib.xz"] {
        refuses(name, SAFE, 6, "a pickle that is packed");
    }
    for (name, what) in [
        ("torch.bin", "PyTorch archive"),
        ("torch-deflated.pt", "PyTorch archive"),
        ("torch.safetensors", "PyTorch archive"),
        ("pickle.safetensors", "a pickle"),
        ("objects.npy", "Python objects"),
        ("objects.npz", "member `odd.npy` is a NumPy array that may hold Python objects"),
        ("member.zip", "member `weights` is a pickle"),
        ("member.tar", "member `model/weights` is a pickle"),
        ("member.tar.gz", "member `model/weights` is a pickle"),
        ("nested.zip", "member `inner.zip` is a PyTorch archive"),
        ("zip-as-tensor.safetensors", "a zip with something else before it"),
        ("json-then-zip.json", "a zip with something else before it"),
        ("gguf-then-zip.gguf", "a zip with something else before it"),
    ] {
        refuses(name, SAFE, 6, what);
    }
}

#[test]
fn what_is_not_on_the_list_is_refused_and_said() {
    for (name, formats, what) in [
        ("README.md", "safetensors,json", "text and no JSON"),
        ("README.md", "safetensors", "text"),
        ("config.json", "safetensors", "text"),
        ("broken.json", "json", "text and no JSON"),
        ("good.safetensors", "gguf,json", "safetensors"),
        ("model.gguf", "safetensors", "gguf"),
        ("good.zip", "json,text", "a zip"),
        ("good.zip", "zip,json", "README.md` is text and no JSON"),
        ("arrays.npz", "zip,json", "numpy"),
        ("text.gz", "text", "gzip"),
        ("program.zip", SAFE, "member `run` is of no format"),
        ("program.gz", SAFE, "of no format"),
        ("program", SAFE, "of no format"),
        ("latin-1.txt", SAFE, "of no format"),
        ("text-then-bytes.txt", SAFE, "text with something else behind it"),
        ("lz4", SAFE, "lz4"),
        ("zstd", SAFE, "zstd"),
        ("counts.gguf", SAFE, "broken GGUF"),
        ("version.gguf", SAFE, "broken GGUF"),
        ("text.gguf", SAFE, "named gguf and is text"),
        ("pointer.safetensors", SAFE, "named safetensors and is text"),
    ] {
        refuses(name, formats, 6, what);
    }
}

#[test]
fn safetensors_files_are_judged_as_their_own_library_judges_them() {
    let names: Vec<String> = tree(files()).into_iter().filter(|name| name.ends_with(".safetensors")).collect();
    assert!(20 < names.len());
    let paths: Vec<PathBuf> = names.iter().map(|name| files().join(name)).collect();
    let words: Vec<&str> = ["judge"].into_iter().chain(paths.iter().map(|path| text(path))).collect();
    for (name, verdict) in names.iter().zip(python(&words).lines()) {
        // Stricter than the library: what its last-one-wins lets pass, and what another reader would find.
        let stricter = ["twice.safetensors", "zip-as-tensor.safetensors"].contains(&name.as_str());
        assert!(!stricter || verdict == "good", "{name}: the library has become stricter");
        if verdict == "good" && !stricter {
            takes(name, "safetensors");
        } else if name.starts_with("bad-") || name.starts_with("twice") {
            refuses(name, "safetensors", 5, "no valid safetensors file");
        } else {
            refuses(name, "safetensors", 6, "--formats allows only safetensors");
        }
    }
}

#[test]
fn a_model_with_one_bad_file_publishes_none_and_a_change_of_mind_fetches_nothing_again() {
    let bucket = weed().bucket("formats-one-bad");
    for (name, key) in [("good.safetensors", "m/a.safetensors"), ("evil-2.bin", "m/b.bin"), ("config.json", "m/c.json")]
    {
        bucket.put_file(key, &files().join(name), "CRC32C");
    }
    let weights = Content::new(5, 3 << 20);
    bucket.put(&[("m/sub/z.bin", &weights)]);
    let dest = folder();
    let asked = |formats: Option<&str>| {
        let pull = Dray::pull(&bucket.uri("m"), dest.path()).s3(&weed().endpoint());
        formats
            .map_or_else(
                || Dray::pull(&bucket.uri("m"), dest.path()).s3(&weed().endpoint()),
                |formats| pull.args(["--formats", formats]),
            )
            .run()
    };
    for _ in 0..2 {
        let run = asked(Some("safetensors,json"));
        let line = run.assert_fails(6);
        assert!(line.contains("`b.bin`") || line.contains("`sub/z.bin`"), "{line}");
        assert!(tree(dest.path()).is_empty(), "{:?}", tree(dest.path()));
        assert_eq!(run.report()["outcome"], "policy");
    }
    let sealed = asked(None);
    sealed.assert_sealed();
    assert_eq!(tree(dest.path()).len(), 4);
    let times = change_times(dest.path());
    // Sealed, and looked at again: nothing is asked for and nothing changes.
    let again = asked(Some("safetensors,json"));
    again.assert_fails(6);
    assert_eq!((again.count("bytes.fetched"), again.count("requests.total")), (0, 0));
    assert_eq!(change_times(dest.path()), times);
}

#[test]
fn a_model_of_allowed_files_is_published_whole_over_the_network() {
    let bucket = weed().bucket("formats-good");
    let names = ["good.safetensors", "config.json", "README.md", "tokenizer.model", "arrays.npz"];
    names.iter().for_each(|name| bucket.put_file(&format!("m/{name}"), &files().join(name), "CRC32C"));
    // More small files than are open at once.
    let many: Vec<(String, Content)> = (0..40).map(|n| (format!("m/many/{n}.txt"), Content::new(n, 0))).collect();
    bucket.put(&many.iter().map(|(key, content)| (key.as_str(), content)).collect::<Vec<_>>());
    let dest = folder();
    let run = Dray::pull(&bucket.uri("m"), dest.path())
        .s3(&weed().endpoint())
        .env("DRAY_FORMATS", "safetensors,json,text,sentencepiece,numpy")
        .run();
    run.assert_sealed();
    assert_eq!(tree(dest.path()).len(), names.len() + many.len());
    Dray::new(["verify", text(dest.path())]).run().assert_code(0);
    let times = change_times(dest.path());
    let again = Dray::pull(&bucket.uri("m"), dest.path()).s3(&weed().endpoint()).args(["--formats", SAFE]).run();
    again.assert_sealed();
    assert_eq!((again.count("requests.total"), change_times(dest.path())), (0, times));
}

#[test]
fn members_of_an_unpacked_archive_are_looked_at_as_files() {
    let nginx = nginx();
    for (archive, code, words) in [
        ("good.tar.gz", 0, ""),
        ("member.tar.gz", 6, "`model/weights` is a pickle"),
        ("member.zip", 6, "`weights` is a pickle"),
    ] {
        fs::copy(files().join(archive), nginx.root().join(archive)).expect("copy");
        for source in [nginx.http(archive), text(&files().join(archive)).to_owned()] {
            let dest = folder();
            let run = Dray::pull(&source, dest.path()).args(["--unpack", "--formats", "json,text"]).run();
            run.assert_code(code);
            if code == 0 {
                run.assert_sealed();
            } else {
                assert!(run.assert_fails(code).contains(words), "{}", run.last_line());
                assert!(tree(dest.path()).is_empty());
            }
        }
    }
}

#[test]
fn the_initializer_looks_at_what_it_would_link() {
    let model = folder();
    fs::create_dir(model.path().join("sub")).expect("create folder");
    fs::copy(files().join("config.json"), model.path().join("config.json")).expect("copy");
    fs::copy(files().join("evil-0.bin"), model.path().join("sub/weights.txt")).expect("copy");
    let run = |formats: &str| {
        let dest = folder();
        let run = Dray::new([text(model.path()), text(dest.path())]).env("DRAY_FORMATS", formats).run();
        (run, dest)
    };
    let (refused, dest) = run("json,text");
    assert!(refused.assert_fails(6).contains("`sub/weights.txt` is a pickle"), "{}", refused.last_line());
    assert!(tree(dest.path()).is_empty());
    let (linked, dest) = run("json,pickle");
    linked.assert_code(0);
    assert!(dest.path().join("sub/weights.txt").exists());
}

#[test]
fn formats_that_nobody_knows_are_a_usage_error() {
    for formats in ["safetensor", "safetensors,,json", "*"] {
        let run = pull("config.json", formats, folder().path());
        assert!(run.assert_fails(2).contains("--formats"), "{}", run.last_line());
    }
}
