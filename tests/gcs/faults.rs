//! A store that slows down, repeats itself, lies or talks without end.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::json;

use crate::rig::dray::{Dray, Run};
use crate::rig::fake::{Asked, Fake, Reply, reply};
use crate::rig::folder;
use crate::rig::oracle::tree;
use crate::shelf::{BUCKET, Shelf, is_media, refusal};

const OBJECT: &[u8] = b"the weights of a very small model";

fn shelf() -> Shelf {
    Shelf::of(&[("m/weights", OBJECT), ("m/empty", b"")])
}

fn pull(store: &Fake, dest: &Path) -> Run {
    Dray::pull(&format!("gs://{BUCKET}/m"), dest).env("STORAGE_EMULATOR_HOST", store.url("")).run()
}

/// A store whose answers go through `change`, which is given the number of the request.
fn store(change: impl Fn(usize, &Asked) -> Option<Reply> + Send + Sync + 'static) -> Fake {
    let number = AtomicUsize::new(0);
    Fake::start(move |asked| {
        change(number.fetch_add(1, Ordering::Relaxed), asked).unwrap_or_else(|| shelf().answer(asked))
    })
}

fn assert_pulled(store: &Fake) -> Run {
    let dest = folder();
    let run = pull(store, dest.path());
    run.assert_sealed();
    assert_eq!(fs::read(dest.path().join("weights")).expect("weights"), OBJECT);
    assert_eq!(fs::read(dest.path().join("empty")).expect("empty"), b"");
    run
}

fn assert_fails(store: &Fake, exit: i32, words: &str) {
    let dest = folder();
    let run = pull(store, dest.path());
    let line = run.assert_fails(exit);
    assert!(line.contains(words), "{line}");
    assert!(!tree(dest.path()).contains("weights"), "{words}");
}

#[test]
fn a_busy_store_is_asked_again_for_lists_and_for_bytes() {
    for status in [429, 500, 503] {
        // Each kind of request is refused once.
        let refused = [(); 3].map(|()| AtomicUsize::new(0));
        let store = store(move |_, asked| {
            let kind = if is_media(asked) { 0 } else { usize::from(asked.path.ends_with("/o")) + 1 };
            let first = refused[kind].fetch_add(1, Ordering::Relaxed) == 0;
            first.then(|| refusal(status, "slow down").header("Retry-After", "0"))
        });
        let run = assert_pulled(&store);
        assert_eq!(run.count("requests.retried"), 1, "{status}: {}", run.report());
    }
}

#[test]
fn a_store_that_stays_away_exits_7() {
    let store = store(|_, _| Some(refusal(503, "overloaded").header("Retry-After", "0")));
    assert_fails(&store, 7, "overloaded");
    assert_eq!(store.asked().len(), 5, "a handful of tries");
}

#[test]
fn listings_without_end_exit_7() {
    let item = |number: usize| json!({"name": format!("m/{number}"), "size": "1", "generation": "17"});
    let endless = [
        // Another object and the same token; the same object and another token; nothing at all for ever.
        store(move |number, asked| {
            asked
                .path
                .ends_with("/o")
                .then(|| reply(200, json!({"items": [item(number)], "nextPageToken": "t"}).to_string()))
        }),
        store(move |number, asked| {
            asked
                .path
                .ends_with("/o")
                .then(|| reply(200, json!({"items": [item(0)], "nextPageToken": number.to_string()}).to_string()))
        }),
        store(|number, asked| {
            asked.path.ends_with("/o").then(|| reply(200, json!({"nextPageToken": number.to_string()}).to_string()))
        }),
    ];
    for store in &endless {
        assert_fails(store, 7, "the listing");
        assert!(store.asked().len() < 200);
    }
}

#[test]
fn a_reply_that_is_no_listing_exits_7() {
    for (body, words) in [
        (b"<html>please log in</html>".to_vec(), "is not the JSON"),
        (b"{\"items\": [{\"name\"".to_vec(), "is not the JSON"),
        (vec![b' '; 17 << 20], "more than 16777216 bytes"),
    ] {
        assert_fails(&store(move |_, asked| asked.path.ends_with("/o").then(|| reply(200, body.clone()))), 7, words);
    }
}

#[test]
fn bytes_that_do_not_match_the_stated_sum_exit_5() {
    let store = store(|_, asked| {
        let swapped = Shelf::of(&[("m/weights", b"the weights of a very evil! model")]);
        is_media(asked).then(|| swapped.answer(asked))
    });
    assert_fails(&store, 5, "crc32c");
}

#[test]
fn an_md5_counts_where_no_crc_is_stated() {
    // Python: base64.b64encode(hashlib.md5(OBJECT).digest())
    for (md5, right) in [("r5vcUaHfgG4Z6WnUPPKQbA==", true), ("1B2M2Y8AsgTpgAmY7PhCfg==", false)] {
        let described = |name: &str, size: usize, md5: &str| json!({"name": name, "size": size.to_string(), "generation": "17", "md5Hash": md5});
        let items = [described("m/weights", OBJECT.len(), md5), described("m/empty", 0, "1B2M2Y8AsgTpgAmY7PhCfg==")];
        let store = store(move |_, asked| {
            let page = json!({"items": items}).to_string();
            let item = items.iter().find(|item| item["name"].as_str().is_some_and(|name| asked.path.ends_with(name)));
            if asked.path.ends_with("/o") {
                return Some(reply(200, page));
            }
            item.filter(|_| !is_media(asked)).map(|item| reply(200, item.to_string()))
        });
        if right {
            let run = assert_pulled(&store);
            assert_eq!(run.report()["assurance"], "origin");
            assert_eq!(run.file("weights")["checks"][0]["name"], "md5", "{}", run.report());
        } else {
            assert_fails(&store, 5, "md5");
        }
    }
}

#[test]
fn a_store_that_ignores_the_generation_is_not_believed() {
    // Another generation for every read: it never comes to rest.
    let store = store(|number, asked| {
        let last = OBJECT.len() - 1;
        is_media(asked).then(|| {
            reply(206, OBJECT)
                .header("Content-Range", format!("bytes 0-{last}/{}", OBJECT.len()))
                .header("x-goog-generation", (100 + number).to_string())
        })
    });
    assert_fails(&store, 8, "17");
}
