//! `dray verify` and its repair.

use std::fs::{self, File};
use std::path::Path;

use crate::rig::dray::{Dray, Run};
use crate::rig::nginx::Nginx;
use crate::rig::oracle::{Content, Expected, MIB, flip_bit, receipt};
use crate::rig::{folder, nginx, nginx_before_weed, weed};

const SIZE: u64 = 24 * MIB + 77;

fn verify(dest: &Path, flags: &[&str]) -> Run {
    Dray::new([Path::new("verify"), dest]).args(flags).run()
}

/// A sealed pull of one file by HTTP.
fn sealed(nginx: &Nginx, seed: u64) -> (tempfile::TempDir, Expected) {
    let content = Content::new(seed, SIZE);
    content.write_file(&nginx.root().join("weights"));
    let dest = folder();
    Dray::pull(&nginx.http("weights"), dest.path()).run().assert_sealed();
    let expected = Expected::of([("weights", &content)]);
    expected.assert_sealed(dest.path());
    (dest, expected)
}

#[test]
fn a_sealed_folder_is_proven_without_a_request() {
    let nginx = nginx();
    let (dest, expected) = sealed(&nginx, 1);
    let before = nginx.requests("").len();
    verify(dest.path(), &[]).assert_code(0);
    assert_eq!(nginx.requests("").len(), before);
    expected.assert_sealed(dest.path());
}

#[test]
fn a_flipped_bit_anywhere_exits_5_and_names_the_file() {
    let nginx = nginx();
    let (dest, _) = sealed(&nginx, 2);
    for offset in [0, MIB - 1, MIB, 13 * MIB + 5, SIZE - 1] {
        flip_bit(&dest.path().join("weights"), offset);
        let run = verify(dest.path(), &[]);
        assert!(run.assert_fails(5).contains("weights"), "{}", run.last_line());
        flip_bit(&dest.path().join("weights"), offset);
    }
    verify(dest.path(), &[]).assert_code(0);
}

#[test]
fn a_cut_grown_or_missing_file_exits_5() {
    let nginx = nginx();
    for size in [0, SIZE - 1, SIZE + 1] {
        let (dest, _) = sealed(&nginx, 3);
        let file = File::options().write(true).open(dest.path().join("weights")).expect("open");
        file.set_len(size).expect("resize");
        verify(dest.path(), &[]).assert_fails(5);
    }
    let (dest, _) = sealed(&nginx, 3);
    fs::remove_file(dest.path().join("weights")).expect("remove");
    verify(dest.path(), &[]).assert_fails(5);
}

#[test]
fn repair_refetches_the_bad_pieces_only() {
    let nginx = nginx();
    let (dest, expected) = sealed(&nginx, 4);
    for offset in [5 * MIB + 9, 24 * MIB + 70] {
        flip_bit(&dest.path().join("weights"), offset);
    }
    let before = nginx.bytes_sent("weights");
    verify(dest.path(), &["--repair"]).assert_code(0);
    let sent = nginx.bytes_sent("weights") - before;
    // One whole piece and the short last one; a byte may be asked for to learn the version.
    assert!((MIB..=MIB + 78).contains(&sent), "{sent} bytes sent for two bad pieces");
    expected.assert_sealed(dest.path());
    assert_eq!(receipt(dest.path())["files"][0]["assurance"], "hashed", "its own receipt is no outside witness");
    verify(dest.path(), &[]).assert_code(0);
}

#[test]
fn verify_reports_each_file_and_what_it_found() {
    let nginx = nginx();
    let (dest, expected) = sealed(&nginx, 13);
    let around = folder();
    let path = around.path().join("report.json");
    let proved = |code: i32| -> serde_json::Value {
        Dray::new([Path::new("verify"), dest.path(), Path::new("--report"), &path]).run().assert_code(code);
        serde_json::from_slice(&fs::read(&path).expect("a report")).expect("JSON")
    };
    let report = proved(0);
    assert_eq!(report["outcome"], "sealed");
    assert_eq!(report["files"][0]["blake3"], expected.files["weights"].blake3.to_string());
    assert_eq!(report["bytes"]["fetched"], 0);
    flip_bit(&dest.path().join("weights"), 5);
    let report = proved(5);
    assert_eq!(report["outcome"], "integrity");
    assert_eq!(report["files"][0]["checks"][0]["result"], "mismatch");
}

#[test]
fn repair_by_s3_refetches_the_bad_piece_only() {
    let nginx = nginx_before_weed("100m");
    let bucket = weed().bucket("repair");
    let [good, bad] = [5, 6].map(|seed| Content::new(seed, 12 * MIB + seed));
    bucket.put_stating("CRC64NVME", &[("model/good", &good), ("model/bad", &bad)]);
    let dest = folder();
    Dray::pull(&bucket.uri("model"), dest.path()).s3(&nginx.s3()).run().assert_sealed();
    flip_bit(&dest.path().join("bad"), 7 * MIB);
    let before = nginx.bytes_sent("/model/");
    let repair = Dray::new([Path::new("verify"), dest.path()]).args(["--repair"]).s3(&nginx.s3()).run();
    repair.assert_code(0);
    let sent = nginx.bytes_sent("/model/") - before;
    assert_eq!(sent, MIB, "bytes sent for one bad piece");
    Expected::of([("good", &good), ("bad", &bad)]).assert_sealed(dest.path());
}

#[test]
fn repair_of_a_sound_folder_makes_no_data_request() {
    let nginx = nginx();
    let (dest, expected) = sealed(&nginx, 7);
    let before = nginx.bytes_sent("weights");
    verify(dest.path(), &["--repair"]).assert_code(0);
    assert_eq!(nginx.bytes_sent("weights"), before);
    expected.assert_sealed(dest.path());
}

#[test]
fn repair_from_a_source_that_changed_mixes_nothing() {
    let nginx = nginx();
    let (dest, _) = sealed(&nginx, 8);
    let old = fs::read(dest.path().join("weights")).expect("read");
    flip_bit(&dest.path().join("weights"), 3 * MIB);
    Content::new(9, SIZE).write_file(&nginx.root().join("weights"));
    let later = std::time::SystemTime::now() + std::time::Duration::from_secs(10);
    fs::File::options()
        .append(true)
        .open(nginx.root().join("weights"))
        .expect("open")
        .set_modified(later)
        .expect("date");
    verify(dest.path(), &["--repair"]).assert_fails(8);
    let mut now = fs::read(dest.path().join("weights")).expect("read");
    let at = usize::try_from(3 * MIB).expect("an index");
    now[at] = old[at];
    assert!(now == old, "no byte but the damaged one differs");
}

#[test]
fn repair_from_a_source_that_lies_about_its_version_publishes_nothing() {
    let nginx = nginx();
    let (dest, _) = sealed(&nginx, 11);
    let source = nginx.root().join("weights");
    let modified = fs::metadata(&source).expect("metadata").modified().expect("date");
    flip_bit(&dest.path().join("weights"), 3 * MIB);
    Content::new(12, SIZE).write_file(&source);
    fs::File::options().append(true).open(&source).expect("open").set_modified(modified).expect("date");
    verify(dest.path(), &["--repair"]).assert_fails(5);
    assert!(!dest.path().join("weights").exists(), "nothing wrong has a final name");
    assert!(!dest.path().join(".dray/receipt.json").exists(), "and nothing says that it is complete");
}

#[test]
fn a_folder_without_a_receipt_or_with_a_torn_one_is_not_proven() {
    let around = folder();
    let run = verify(around.path(), &[]);
    assert!([3, 5].contains(&run.code()), "exit {}", run.code());
    run.assert_fails(run.code());
    let nginx = nginx();
    let (dest, _) = sealed(&nginx, 10);
    let receipt = dest.path().join(".dray/receipt.json");
    let text = fs::read_to_string(&receipt).expect("read");
    fs::write(&receipt, &text[..text.len() / 2]).expect("write");
    verify(dest.path(), &[]).assert_fails(5);
}
