//! What is counted. A case prepares its input outside the count and asserts what its work came to.

#[path = "../../benches/loads/http.rs"]
mod http;
#[path = "../../benches/loads/journal.rs"]
mod journal;
#[path = "../../benches/loads/names.rs"]
mod names;
#[path = "../../benches/loads/pages.rs"]
mod pages;
#[path = "../../benches/loads/proofs.rs"]
mod proofs;
#[path = "../../benches/loads/safetensors.rs"]
mod safetensors;
#[path = "../../benches/loads/schedule.rs"]
mod schedule;

use std::hint::black_box;

use dray::formats;
use dray::journal::record::{self, Encoder};
use dray::manifest::{SafePath, collisions};
use dray::origin::pages::Store;
use dray::plan;
use dray::units::{MIB, PIECE_BYTES};
use dray::verify::{self, tree};

/// Work that is ready to be done once.
pub(crate) type Work = Box<dyn FnOnce()>;

/// One thing that is counted at two sizes, the second ten times the first.
pub(crate) struct Case {
    /// `subject/variant`.
    pub(crate) name: &'static str,
    /// What its size counts.
    pub(crate) item: &'static str,
    /// Items of the smaller size.
    pub(crate) size: u64,
    /// How far its count may be from the stored one, either way, in percent.
    pub(crate) tolerance: f64,
    prepare: fn(u64) -> Work,
}

impl Case {
    /// The work for `size` items.
    pub(crate) fn work(&self, size: u64) -> Work {
        (self.prepare)(size)
    }
}

/// A case whose count is the same in every run, to 0.01 %: that is room for a builder's paths and nothing more.
const fn case(name: &'static str, item: &'static str, size: u64, prepare: fn(u64) -> Work) -> Case {
    Case { name, item, size, tolerance: 1.0, prepare }
}

/// A case with hash tables: they draw their keys anew in each process, and ten runs of one build lay 1.3 % apart.
const fn tables(name: &'static str, item: &'static str, size: u64, prepare: fn(u64) -> Work) -> Case {
    Case { tolerance: 3.0, ..case(name, item, size, prepare) }
}

/// All of them, in the order of a byte's way.
pub(crate) const CASES: [Case; 18] = [
    tables("listing/gcs", "object", 150, |n| listing(Store::Gcs, n)),
    tables("listing/azure", "object", 150, |n| listing(Store::Azure, n)),
    tables("listing/hub", "object", 150, |n| listing(Store::Hub, n)),
    case("safe_path/parse", "name", 500, safe_path),
    tables("plan/collisions", "file", 500, plan_collisions),
    case("plan/ids", "file", 200, plan_ids),
    tables("plan/whole", "file", 300, plan_whole),
    case("schedule/pieces", "piece", 500, schedule_pieces),
    case("schedule/files", "file", 200, schedule_files),
    case("request/build", "request", 200, request_build),
    case("head/parse", "head", 200, head_parse),
    case("body/unframe", "chunk", 2000, body_unframe),
    case("journal/encode", "piece", 2000, journal_encode),
    case("journal/replay", "piece", 2000, journal_replay),
    case("tree/merge", "piece", 1000, tree_merge),
    case("tree/encode", "piece", 5000, tree_encode),
    case("tree/decode", "piece", 5000, tree_decode),
    tables("safetensors/header", "tensor", 200, safetensors_header),
];

fn length<T>(items: &[T]) -> u64 {
    u64::try_from(items.len()).expect("fits")
}

fn listing(store: Store, keys: u64) -> Work {
    let page = pages::page(store, keys);
    Box::new(move || {
        let found = dray::origin::pages::read(store, black_box(&page), "m/").expect("a page");
        assert_eq!(
            (length(&found), found[0].path.as_str()),
            (keys, "weights/shard-00/model-00000-of-10000.safetensors")
        );
    })
}

fn safe_path(count: u64) -> Work {
    let names = names::names(count);
    Box::new(move || assert!(names.iter().all(|name| SafePath::parse(black_box(name)).is_ok())))
}

fn plan_collisions(count: u64) -> Work {
    let paths: Vec<SafePath> = names::names(count).iter().map(|name| SafePath::parse(name).expect("safe")).collect();
    Box::new(move || assert_eq!(collisions(black_box(&paths)), Ok(())))
}

fn plan_ids(count: u64) -> Work {
    let manifest = names::manifest(names::found(&names::names(count)));
    Box::new(move || assert!(0 < names::ids(black_box(&manifest))))
}

fn plan_whole(count: u64) -> Work {
    let found = names::found(&names::names(count));
    Box::new(move || {
        let plan = plan::plan(&names::manifest(found), None);
        assert_eq!((plan.files, plan.bytes), (count, count * 4 * MIB));
    })
}

fn schedule_pieces(pieces: u64) -> Work {
    let (limits, files) = (schedule::limits(), schedule::model(1, pieces * PIECE_BYTES));
    Box::new(move || assert!(pieces / 16 < schedule::drive(&limits, files)))
}

fn schedule_files(count: u64) -> Work {
    let (limits, files) = (schedule::limits(), schedule::model(count, 4096));
    Box::new(move || assert!(count * 3 < schedule::drive(&limits, files)))
}

fn request_build(count: u64) -> Work {
    let ((settings, url), asked) = (http::signed(), http::asked());
    Box::new(move || {
        let bytes: usize = (0..count).map(|_| http::build_request(&settings, black_box(&url), &asked, &[])).sum();
        assert!(usize::try_from(count).expect("fits") * 300 < bytes);
    })
}

fn head_parse(count: u64) -> Work {
    let (head, asked) = (http::head(), http::asked());
    Box::new(move || {
        let bytes: u64 = (0..count).map(|_| http::read_head(black_box(&head), &asked)).sum();
        assert_eq!(bytes, count * 16 * MIB);
    })
}

fn body_unframe(chunks: u64) -> Work {
    let body = http::chunked(chunks);
    Box::new(move || assert_eq!(http::unframe(black_box(&body)), chunks << 10))
}

fn journal_encode(pieces: u64) -> Work {
    let records = journal::records(pieces);
    Box::new(move || assert_eq!(Encoder::new([3; 16]).encode_batch(black_box(&records)).len(), records.len()))
}

fn journal_replay(pieces: u64) -> Work {
    let mut encoder = Encoder::new([3; 16]);
    let mut journal = encoder.header().to_vec();
    journal.extend(encoder.encode_batch(&journal::records(pieces)).as_flattened());
    Box::new(move || {
        let replay = record::replay(black_box(&journal)).expect("what the encoder wrote");
        assert_eq!(length(&replay.files[0].held), pieces);
    })
}

fn tree_merge(pieces: u64) -> Work {
    let proofs = proofs::proofs(pieces);
    Box::new(move || assert_ne!(verify::root(pieces * PIECE_BYTES, black_box(&proofs)).0, [0; 32]))
}

fn tree(pieces: u64) -> tree::Tree {
    tree::Tree { files: vec![proofs::proofs(pieces).iter().map(|proof| proof.cv).collect()] }
}

fn tree_encode(pieces: u64) -> Work {
    let tree = tree(pieces);
    Box::new(move || assert!(pieces * 32 < length(&tree::encode(black_box(&tree)))))
}

fn tree_decode(pieces: u64) -> Work {
    let bytes = tree::encode(&tree(pieces));
    Box::new(move || assert_eq!(length(&tree::decode(black_box(&bytes)).expect("a tree").files[0]), pieces))
}

fn safetensors_header(tensors: u64) -> Work {
    let header = safetensors::header(tensors);
    Box::new(move || assert_eq!(formats::check_safetensors(&mut &header), Ok(())))
}
