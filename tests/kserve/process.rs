//! The process itself: arguments, order of pairs, settings, restarts, a strange user, memory.

use dray_arena::{Fault, Options, Rule, Script};

use super::row::{Entry, Row, Stage};
use super::stores::{PATH, Site, origin, site, stored};
use crate::rig::oracle::MIB;

/// Bytes resident at the most with `DRAY_MEMORY=16MiB`: the slabs, the program, its threads and TLS.
const RESIDENT_MAX: u64 = 64 * MIB;

/// What the restarted row fetches, and how much of it again at the most: it is killed with 1,000 bytes in its journal.
const RESTARTED: u64 = 48 * MIB;
const AGAIN_MAX: u64 = 40 * MIB;

pub(super) fn rows() -> Vec<Row> {
    let site = site();
    let mut rows = arguments();
    rows.extend(settings(site));
    rows.extend(pairs(site));
    rows.extend(conditions());
    rows
}

fn arguments() -> Vec<Row> {
    let row = |name, argv: &[&str], last| Row::refuses(name, argv, 2, last);
    let model = "s3://bucket/model";
    vec![
        row("process/no-arguments", &[], ""),
        row("process/one-argument", &[model], "in pairs"),
        row("process/three-arguments", &[model, "{0}", "s3://bucket/other"], "in pairs"),
        row("process/a-flag", &[model, "{0}", "--memory", "8MiB"], "DRAY_<FLAG>"),
        row("process/a-flag-first", &["--memory", "8MiB", model, "{0}"], "error: "),
        row("process/an-empty-dest", &[model, ""], "empty"),
        row("process/an-empty-source", &["", "{0}"], "error: "),
        row("process/an-unknown-scheme", &["nonsense://x", "{0}"], "scheme"),
        row("process/no-scheme", &["model-of-nobody", "{0}"], "error: "),
        row("process/a-later-pair-is-wrong", &[model, "{0}", "nonsense://x", "{1}"], "scheme"),
    ]
}

fn settings(site: &Site) -> Vec<Row> {
    let source = site.nginx.http("weights");
    let takes = |name| Row::takes(name, &source, &[("weights", &site.weights)]);
    let refuses = |name| Row::refuses(name, &[&source, "{0}"], 2, "error: ");
    vec![
        takes("process/io-by-variable").env("DRAY_IO", "buffered"),
        takes("process/progress-as-json").env("DRAY_PROGRESS", "json"),
        takes("process/progress-none").env("DRAY_PROGRESS", "none"),
        takes("process/memory-and-connections").env("DRAY_MEMORY", "8MiB").env("DRAY_CONNECTIONS", "2"),
        refuses("process/io-unknown").env("DRAY_IO", "floppy").dray_only("DRAY_IO is dray's own"),
        Row::refuses("process/memory-too-small", &[&source, "{0}"], 2, "--memory")
            .env("DRAY_MEMORY", "1")
            .dray_only("DRAY_MEMORY is dray's own"),
        refuses("process/confidential")
            .env("CONFIDENTIAL_ENABLED", "true")
            .dray_only("upstream's image decrypts in its entry point, not in the library"),
        Row::fails("process/unproved", &source, 5, "error: ")
            .env("DRAY_REQUIRE", "pinned")
            .dray_only("DRAY_REQUIRE is dray's own"),
    ]
}

fn pairs(site: &Site) -> Vec<Row> {
    let (weights, absent) = (site.nginx.http("weights"), site.nginx.http("absent"));
    let stored = stored();
    let file = [("weights", &site.weights)];
    let mixed = Row::of(
        "process/pairs-of-every-kind",
        &[&stored.bucket.uri("plain"), "{0}", &weights, "{1}", "file://{src}/a.bin", "{2}", "/mnt/models/x", "{3}"],
    );
    let mixed = mixed.dest(&stored.plain()).dest(&file).dest(&[]).dest(&[]);
    let linked = |mut row: Row| {
        let link = Entry::Link("{src}/a.bin".to_owned());
        row.dests[2] = Some([("a.bin".to_owned(), link)].into());
        row.placed("src/a.bin", Entry::Text("a".to_owned()))
    };
    vec![
        Row::of("process/two-pairs", &[&weights, "{0}", &weights, "{1}"]).dest(&file).dest(&file),
        linked(mixed.keyed(&stored.bucket.endpoint)),
        Row::of("process/the-second-pair-fails", &[&weights, "{0}", &absent, "{1}", &weights, "{2}"])
            .dest(&file)
            .dest(&[])
            .dest(&[])
            .ends(3, "404"),
        Row::of("process/the-first-pair-fails", &[&absent, "{0}", &weights, "{1}"]).dest(&[]).dest(&[]).ends(3, "404"),
        Row::of("process/a-dest-of-many-folders", &[&weights, "{0}/a/b/c"]).dest(&[("a/b/c/weights", &site.weights)]),
        Row::of("process/a-dest-with-slash", &[&weights, "{0}/"]).dest(&file),
    ]
}

fn conditions() -> Vec<Row> {
    let slow = Script::calm().rule(Rule::new(Fault::RateLimit { bytes_per_second: 4 * MIB }));
    let (slow, large) = origin(RESTARTED, slow, Options::default());
    let stored = stored();
    let (plenty, much) = origin(96 * MIB, Script::calm(), Options::default());
    let small = site();
    vec![
        Row::takes("process/killed-half-way", slow.url(PATH), &[("weights.bin", &large)])
            .origin(&slow)
            .stage(Stage::Restarted { again_max: AGAIN_MAX }),
        Row::takes("process/a-file-larger-than-memory", plenty.url(PATH), &[("weights.bin", &much)])
            .origin(&plenty)
            .env("DRAY_MEMORY", "16MiB")
            .stage(Stage::Lean { resident_max: RESIDENT_MAX }),
        stored
            .takes_plain("process/a-user-without-a-name-and-s3")
            .keyed(&stored.bucket.endpoint)
            .stage(Stage::Sandboxed),
        Row::takes(
            "process/a-user-without-a-name-and-http",
            small.nginx.http("weights"),
            &[("weights", &small.weights)],
        )
        .stage(Stage::Sandboxed),
    ]
}
