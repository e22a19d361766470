//! A store that slows down, repeats itself, lies or talks without end.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::rig::dray::{Dray, Run};
use crate::rig::fake::{Asked, Fake, Reply, reply};
use crate::rig::folder;
use crate::rig::oracle::tree;
use crate::shelf::{ACCOUNT, CONTAINER, Shelf, element, endpoint, is_media, is_page, page, refusal};

const BLOB: &[u8] = b"the weights of a very small model";

fn shelf() -> Shelf {
    Shelf::of(&[("m/weights", BLOB), ("m/empty", b"")])
}

fn pull(store: &Fake, dest: &Path) -> Run {
    Dray::pull(&format!("az://{ACCOUNT}/{CONTAINER}/m"), dest).env("AZURE_STORAGE_ENDPOINT", endpoint(store)).run()
}

/// A store whose answers go through `change`, which is given the number of the request.
fn store(change: impl Fn(usize, &Asked) -> Option<Reply> + Send + Sync + 'static) -> Fake {
    let number = AtomicUsize::new(0);
    Fake::start(move |asked| {
        change(number.fetch_add(1, Ordering::Relaxed), asked).unwrap_or_else(|| shelf().answer(asked))
    })
}

/// A store with other pages.
fn listing(pages: impl Fn(usize, &Asked) -> Reply + Send + Sync + 'static) -> Fake {
    store(move |number, asked| is_page(asked).then(|| pages(number, asked)))
}

fn assert_pulled(store: &Fake) -> Run {
    let dest = folder();
    let run = pull(store, dest.path());
    run.assert_sealed();
    assert_eq!(fs::read(dest.path().join("weights")).expect("weights"), BLOB);
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
fn a_busy_store_is_asked_again_for_heads_lists_and_bytes() {
    for (status, code) in [(429, "TooManyRequests"), (500, "InternalError"), (503, "ServerBusy")] {
        // Each kind of request is refused once.
        let refused = [(); 3].map(|()| AtomicUsize::new(0));
        let store = store(move |_, asked| {
            let kind = if is_media(asked) { 0 } else { usize::from(is_page(asked)) + 1 };
            let first = refused[kind].fetch_add(1, Ordering::Relaxed) == 0;
            first.then(|| refusal(status, code, "slow down").header("Retry-After", "0"))
        });
        let run = assert_pulled(&store);
        assert_eq!(run.count("requests.retried"), 1, "{status}: {}", run.report());
    }
}

#[test]
fn a_store_that_stays_away_exits_7() {
    let store = store(|_, _| Some(refusal(503, "ServerBusy", "overloaded").header("Retry-After", "0")));
    assert_fails(&store, 7, "ServerBusy");
    assert_eq!(store.asked().len(), 5, "a handful of tries");
}

#[test]
fn refusals_exit_by_what_can_be_done_about_them() {
    for (status, code, exit) in [
        (401, "NoAuthenticationInformation", 4),
        (403, "AuthenticationFailed", 4),
        (403, "AuthorizationFailure", 4),
        (403, "AuthorizationPermissionMismatch", 4),
        (409, "PublicAccessNotPermitted", 4),
        (404, "ContainerNotFound", 3),
        (404, "ResourceNotFound", 3),
        (409, "SomethingElse", 8),
        (307, "Moved", 6),
        (400, "InvalidHeaderValue", 7),
    ] {
        let store = store(move |_, _| Some(refusal(status, code, "no").header("Location", "http://127.0.0.1:1/")));
        assert_fails(&store, exit, if exit == 6 { "redirects" } else { code });
        assert!(store.asked().len() <= 2, "{code}: {}", store.asked().len());
    }
}

#[test]
fn an_archived_blob_exits_4_and_says_so() {
    let store = store(|_, asked| is_media(asked).then(|| refusal(409, "BlobArchived", "This blob is archived.")));
    assert_fails(&store, 4, "BlobArchived");
}

#[test]
fn listings_without_end_exit_7() {
    let item = |number: usize| element(&format!("m/{number}"), 1);
    let endless = [
        // Another blob and the same marker; the same blob and another marker; nothing at all for ever.
        listing(move |number, _| page(&item(number), "t")),
        listing(move |number, _| page(&item(0), &number.to_string())),
        listing(|number, _| page("", &number.to_string())),
    ];
    for store in &endless {
        assert_fails(store, 7, "the listing");
        assert!(store.asked().len() < 200);
    }
}

#[test]
fn a_reply_that_is_no_listing_exits_7_in_bounded_memory() {
    let bomb = {
        let mut text = String::from("<?xml version=\"1.0\"?><!DOCTYPE x [<!ENTITY a \"aaaaaaaaaa\">");
        for (name, of) in "bcdefghij".chars().zip("abcdefghi".chars()) {
            text.push_str(&format!("<!ENTITY {name} \"{}\">", format!("&{of};").repeat(10)));
        }
        format!("{text}]><EnumerationResults><Blobs><Blob><Name>&j;</Name></Blob></Blobs></EnumerationResults>")
    };
    let deep = format!("<EnumerationResults>{}", "<a>".repeat(100_000));
    let own = "<EnumerationResults><NextMarker>&own;</NextMarker></EnumerationResults>".to_owned();
    for (body, words) in [
        (b"<html>please log in</html>".to_vec(), "is not the XML"),
        (b"<EnumerationResults><Blobs>".to_vec(), "ends early"),
        (b"".to_vec(), "ends early"),
        (b"{}".to_vec(), "ends early"),
        (b"<EnumerationResults></Blobs>".to_vec(), "well-formed"),
        (bomb.into_bytes(), "document type"),
        (own.into_bytes(), "entity"),
        (deep.into_bytes(), "nests too deep"),
        (vec![b' '; 17 << 20], "more than 16777216 bytes"),
    ] {
        let dest = folder();
        let store = listing(move |_, _| reply(200, body.clone()));
        let run = pull(&store, dest.path());
        let line = run.assert_fails(7);
        assert!(line.contains(words), "{words}: {line}");
        assert!(run.resident_max < 120 << 20, "{words}: {} bytes", run.resident_max);
    }
}

#[test]
fn unsafe_names_refuse_the_whole_plan() {
    for name in ["m/../../evil", "m/a/../b", "m/bad\\name", "/etc/passwd", "m/./a"] {
        let store = listing(move |_, _| page(&format!("{}{}", element("m/good", 1), element(name, 1)), ""));
        let dest = folder();
        let run = pull(&store, dest.path());
        if name.starts_with('/') {
            // Nobody asked for it: it is not below the prefix.
            assert!(!tree(dest.path()).contains("passwd"));
        } else {
            run.assert_fails(6);
        }
    }
}

#[test]
fn names_that_xml_cannot_hold_come_percent_encoded() {
    let named = "<Blob><Name Encoded=\"true\">m%2Fa%20%EF%BF%BE%25</Name><Properties><Content-Length>0</Content-Length>\
                 </Properties></Blob>";
    let store = listing(move |_, _| page(named, ""));
    let dest = folder();
    pull(&store, dest.path()).assert_sealed();
    assert!(tree(dest.path()).contains("a \u{fffe}%"), "{:?}", tree(dest.path()));
}

#[test]
fn folders_of_a_data_lake_are_no_files() {
    let folder_of = |name: &str| {
        format!(
            "<Blob><Name>{name}</Name><Properties><ResourceType>directory</ResourceType><Content-Length>0\
             </Content-Length></Properties><Metadata><hdi_isfolder>true</hdi_isfolder></Metadata></Blob>"
        )
    };
    let store = store(move |_, asked| {
        if is_page(asked) {
            let blobs = [folder_of("m"), folder_of("m/sub"), element("m/weights", BLOB.len()), element("m/empty", 0)];
            return Some(page(&blobs.concat(), ""));
        }
        let folder = asked.method == "HEAD" && asked.path.ends_with("/m");
        folder.then(|| reply(200, "").header("x-ms-meta-hdi_isfolder", "true"))
    });
    assert_pulled(&store);
}

#[test]
fn a_store_that_ignores_the_pin_is_not_believed() {
    // Another ETag for every read: it never comes to rest.
    let store = store(|number, asked| {
        let last = BLOB.len() - 1;
        is_media(asked).then(|| {
            reply(206, BLOB)
                .header("Content-Range", format!("bytes 0-{last}/{}", BLOB.len()))
                .header("ETag", format!("\"0x{number}\""))
        })
    });
    assert_fails(&store, 8, "0x8D4BCC2E4835CD0");
}
