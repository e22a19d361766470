//! The same store by another hand: gcp-storage-emulator, which has no pages and heeds no generation.

use crate::rig::dray::Dray;
use crate::rig::oracle::{Content, Expected, MIB};
use crate::rig::{folder, weaker_gcs};

#[test]
fn folders_objects_and_odd_names_arrive_with_the_stores_checksum() {
    let bucket = weaker_gcs().bucket("mapping");
    let names = [
        "m/config.json",
        "m/deep/er/file",
        "m/with space",
        "m/percent%sign",
        "m/encoded%2Fslash",
        "m/日本/モデル",
        "m/plus+sign",
        "m-v2/other",
        "mm",
    ];
    let contents: Vec<Content> = (0..).zip(names).map(|(seed, _)| Content::new(seed, 100 + seed)).collect();
    let objects: Vec<(&str, &Content)> = names.into_iter().zip(&contents).collect();
    bucket.put(&objects);
    let below =
        |prefix: &str| Expected::of(objects.iter().filter_map(|(n, c)| n.strip_prefix(prefix).map(|n| (n, *c))));
    for (path, expected) in [
        ("m", below("m/")),
        ("m/", below("m/")),
        ("m/deep", below("m/deep/")),
        ("m/deep/er/file", Expected::of([("file", &contents[1])])),
        ("m/percent%sign", Expected::of([("percent%sign", &contents[3])])),
        ("", below("")),
    ] {
        let dest = folder();
        let run = bucket.pull(path, dest.path()).run();
        assert_eq!(run.assert_sealed()["assurance"], "origin", "{path}");
        expected.assert_sealed(dest.path());
    }
    bucket.pull("none", folder().path()).run().assert_fails(3);
}

#[test]
fn every_size_is_pulled_in_ranges_and_a_second_run_asks_for_no_data() {
    let bucket = weaker_gcs().bucket("sizes");
    let contents = [1, MIB - 1, MIB, MIB + 1, 9 * MIB + 5].map(|size| (format!("m/{size}"), Content::new(size, size)));
    bucket.put(&contents.each_ref().map(|(name, content)| (name.as_str(), content)));
    let expected = Expected::of(contents.iter().map(|(name, content)| (&name[2..], content)));
    let dest = folder();
    bucket.pull("m", dest.path()).run().assert_sealed();
    expected.assert_sealed(dest.path());
    let again = bucket.pull("m", dest.path()).run();
    again.assert_sealed();
    assert_eq!(again.count("requests.total"), 0);
    bucket.here(Dray::new(["verify".as_ref(), dest.path().as_os_str()])).run().assert_code(0);
}
