//! What is listed and where it lands.

use std::path::Path;

use serde_json::Value;

use super::Went;
use super::canary::Trial;
use super::site::{Holds, Lists, Place, Site};
use crate::rig::dray::Dray;
use crate::rig::oracle::{Content, Expected};

/// Characters of the longest name that file systems take.
const NAME_CHARS: usize = 230;

fn paths(plan: &Value) -> Vec<&str> {
    let files = plan["files"].as_array().expect("files");
    files.iter().map(|file| file["path"].as_str().expect("a path")).collect()
}

/// Pulls `path` and finds these contents below DEST.
fn assert_pulls(place: &dyn Place, path: &str, files: &[(&str, &Content)]) {
    let trial = Trial::new();
    trial.pull(place, path, &[]).assert_sealed();
    Expected::of(files.iter().copied()).assert_sealed(&trial.dest());
}

pub(crate) fn lists_in_pages(site: &Site) -> Went {
    let content = Content::new(1, 3);
    let page = match (site.open)(&[]).lists() {
        Lists::Pages(page) => page,
        Lists::Nothing => return Went::Cannot,
    };
    let names: Vec<String> = (0..page + page / 4 + 3).map(|number| format!("{number:05}")).collect();
    let keys: Vec<String> = names.iter().map(|name| format!("m/{name}")).collect();
    let objects: Vec<_> = keys.iter().map(|key| (key.as_str(), &content)).collect();
    let place = (site.open)(&objects);
    let run = place.here(Dray::new(["plan", "--json", &place.uri("m")])).env("DRAY_LOG", "trace").run();
    run.assert_code(0);
    let plan: Value = serde_json::from_str(&run.stdout).expect("JSON");
    assert_eq!(paths(&plan), names, "every object, in order");
    let pages = place.front().asked().iter().filter(|asked| place.is_list(asked)).count();
    assert!(2 <= pages, "{pages} pages");
    Trial::new().assert_silent(&*place, &run, &[]);
    Went::Well
}

pub(crate) fn maps_folders(site: &Site) -> Went {
    let content = |seed| Content::new(seed, 100 + seed);
    let (a, b, c, other) = (content(1), content(2), content(3), content(4));
    let place =
        (site.open)(&[("m/a", &a), ("m/sub/b", &b), ("m/sub/deep/er/c", &c), ("m-v2/a", &other), ("m2", &other)]);
    if place.lists() == Lists::Nothing {
        return Went::Cannot;
    }
    for path in ["m", "m/"] {
        assert_pulls(&*place, path, &[("a", &a), ("sub/b", &b), ("sub/deep/er/c", &c)]);
    }
    assert_pulls(&*place, "m/sub", &[("b", &b), ("deep/er/c", &c)]);
    Went::Well
}

pub(crate) fn takes_one_file(site: &Site) -> Went {
    let (wanted, other) = (Content::new(1, 1000), Content::new(2, 1000));
    let place = (site.open)(&[("m/weights", &wanted), ("m/weights-v2", &other), ("m/weights.index", &other)]);
    assert_pulls(&*place, "m/weights", &[("weights", &wanted)]);
    Went::Well
}

pub(crate) fn keeps_empty_files(site: &Site) -> Went {
    let empty = Content::new(1, 0);
    let place = (site.open)(&[("m/__init__.py", &empty)]);
    assert_pulls(&*place, "m/__init__.py", &[("__init__.py", &empty)]);
    Went::Well
}

pub(crate) fn takes_odd_names(site: &Site) -> Went {
    let long = "x".repeat(NAME_CHARS);
    let names =
        ["with space", "日本-é-🚚", "%41", "a+b", "hash#tag", "what?x=1&y", "quote'\"", &long, "semi;colon=&amp;"];
    let files: Vec<(String, Content)> =
        names.iter().zip(1..).map(|(name, seed)| (format!("m/{name}"), Content::new(seed, 50 + seed))).collect();
    let objects: Vec<_> = files.iter().map(|(key, content)| (key.as_str(), content)).collect();
    let place = (site.open)(&objects);
    match place.lists() {
        Lists::Pages(_) => {
            let files: Vec<_> = objects.iter().map(|(key, content)| (&key[2..], *content)).collect();
            assert_pulls(&*place, "m", &files);
        }
        Lists::Nothing => {
            for (key, content) in &objects {
                assert_pulls(&*place, key, &[(&key[2..], content)]);
            }
        }
    }
    Went::Well
}

pub(crate) fn refuses_hostile_names(site: &Site) -> Went {
    let content = Content::new(1, 10);
    if (site.open)(&[]).holds() == Holds::SafeNames {
        return Went::Cannot;
    }
    for name in ["../../evil", "..", "/evil", "a\\..\\..\\evil", "a/./b", "nul\u{1}l", ".dray/journal"] {
        let key = format!("m/{name}");
        let place = (site.open)(&[(&key, &content), ("m/good", &content)]);
        let (path, whole) = match place.lists() {
            Lists::Pages(_) => ("m".to_owned(), true),
            // One segment of a URL is the name.
            Lists::Nothing => (key.clone(), !name.contains('/')),
        };
        if !whole {
            continue;
        }
        let trial = Trial::new();
        let run = trial.pull(&*place, &path, &[]);
        assert!([2, 6].contains(&run.code()), "{name}: exit {}: {}", run.code(), run.last_line());
        if place.lists() != Lists::Nothing {
            run.assert_fails(6);
        }
        trial.assert_nothing_published();
        assert!(!Path::new("/evil").exists(), "{name}");
    }
    Went::Well
}

pub(crate) fn missing_exits_3(site: &Site) -> Went {
    let content = Content::new(1, 10);
    let place = (site.open)(&[("m/good", &content)]);
    for path in ["nothing", "m/nothing", "m/good/below"] {
        let trial = Trial::new();
        trial.pull(&*place, path, &[]).assert_fails(3);
        trial.assert_nothing_published();
    }
    Went::Well
}
