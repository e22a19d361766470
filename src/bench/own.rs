//! dray itself as a contender, and the floors that its other sub-benches measure: children of this very program.
//!
//! In: an [`Origin`], the flags handed on. Out: [`Contender`]s. Holds: dray runs as its users run it: `dray pull`, or
//! `dray prefetch` where files have URLs of their own, as one of them names one file.

use std::io::Write;
use std::path::PathBuf;

use crate::bench::contender::{Contender, Leaves, Origin, Place, SourceFile};
use crate::bench::report::{Kind, ONE_FILE};
use crate::error::{Error, storage};
use crate::units::MIB;

/// Variables that are flags of the bench itself, or of one run alone: to its children they would mean something else.
const NOT_FOR_CHILDREN: &[&str] = &[
    "DRAY_CACHE",
    "DRAY_CONNECTIONS",
    "DRAY_FILES",
    "DRAY_HASH",
    "DRAY_HTML",
    "DRAY_IO",
    "DRAY_JSON",
    "DRAY_LANES",
    "DRAY_MEMORY",
    "DRAY_METRICS",
    "DRAY_NO_HASH",
    "DRAY_NO_WRITE",
    "DRAY_OUTPUT",
    "DRAY_PEERS",
    "DRAY_REPORT",
    "DRAY_ROUNDS",
    "DRAY_SERVE",
    "DRAY_SIZE",
    "DRAY_SPAN",
    "DRAY_STEPS",
    "DRAY_TOUCH",
    "DRAY_TRACE",
];

/// The least that the disk's floor takes, and the most that it needs.
const DISK_BYTES: (u64, u64) = (16 * MIB, 1024 * MIB);

/// Flags handed to each pull.
#[derive(Debug, Clone, Default)]
pub struct Handed {
    /// `--connections`.
    pub connections: Option<String>,
    /// `--memory`.
    pub memory: Option<String>,
    /// A folder for traces, where they are wanted.
    pub traces: Option<PathBuf>,
}

/// dray by `rung` from `origin`; the name says the origin where there are several.
///
/// # Errors
/// `Storage` when a list cannot be written.
pub fn dray(program: &str, origin: &Origin, rung: &str, handed: &Handed, place: &Place) -> Result<Contender, Error> {
    let report = place.scratch.join(format!("report-{}-{rung}.json", origin.word));
    let dest = place.dest.to_string_lossy().into_owned();
    let mut argv = vec![program.to_owned()];
    if origin.urls.len() <= 1 {
        argv.extend(["pull".to_owned(), origin.uri.clone(), dest]);
    } else {
        let list = place.scratch.join(format!("list-{}", origin.word));
        let failed = |error: std::io::Error| storage(&list.display().to_string(), &error);
        let mut file = std::fs::File::create(&list).map_err(failed)?;
        // Names of our own: those that prefetch makes of two URLs may be the same.
        let models = origin.urls.iter().enumerate();
        let models: Vec<_> =
            models.map(|(number, uri)| serde_json::json!({"name": format!("f{number}"), "uri": uri})).collect();
        file.write_all(serde_json::Value::from(models).to_string().as_bytes()).map_err(failed)?;
        argv.extend(["prefetch".to_owned(), list.to_string_lossy().into_owned(), "--into".to_owned(), dest]);
    }
    argv.extend(["--progress", "none", "--io", rung, "--report"].map(str::to_owned));
    argv.push(report.to_string_lossy().into_owned());
    let pulls = argv.get(1).is_some_and(|word| word == "pull");
    if let Some(folder) = handed.traces.as_ref().filter(|_| pulls) {
        let trace = folder.join(format!("trace-{}-{rung}", origin.word));
        argv.extend(["--trace".to_owned(), trace.to_string_lossy().into_owned()]);
    }
    for (flag, value) in [("--connections", &handed.connections), ("--memory", &handed.memory)] {
        argv.extend(value.iter().flat_map(|value| [flag.to_owned(), value.clone()]));
    }
    Ok(Contender {
        name: format!("dray {rung} {}", origin.word),
        kind: Kind::Dray,
        origin: Some(origin.word.clone()),
        argv: Ok(argv),
        env: env_of(Some(origin)),
        proof: "blake3".to_owned(),
        durable: true,
        leaves: Leaves::FilesAndReport(report),
    })
}

/// The floors: what this machine allows to hashing, to the disk, to the network from each origin, and to a lane that
/// does nothing but the work of one file.
pub fn floors(
    program: &str,
    origins: &[Origin],
    files: &[SourceFile],
    rungs: &[&'static str],
    place: &Place,
) -> Vec<Contender> {
    let dest = place.dest.to_string_lossy().into_owned();
    // A sync costs small files more than large ones, on the floor too.
    let size = files.iter().map(|file| file.size).sum::<u64>().clamp(DISK_BYTES.0, DISK_BYTES.1).to_string();
    let floor = |kind: &'static str, args: &[&str], origin: Option<&Origin>, note: &'static str| {
        let of = origin.map(|origin| origin.word.clone());
        let words = [&[program, "bench", kind], args, &["--rounds", "1", "--json", "-"]].concat();
        Contender {
            name: of.as_ref().map_or_else(|| kind.to_owned(), |of| format!("{kind} {of}")),
            kind: Kind::Floor,
            origin: of,
            argv: Ok(words.into_iter().map(str::to_owned).collect()),
            env: env_of(origin),
            proof: "none".to_owned(),
            durable: false,
            leaves: Leaves::Rows { kind, note },
        }
    };
    let note = |files: usize| if 1 < files { ONE_FILE } else { "" };
    let mut floors = vec![floor("hash", &[], None, ""), floor("disk", &[&dest, "--size", &size], None, "")];
    for origin in origins {
        floors.push(floor("origin", &[&origin.uri], Some(origin), note(origin.urls.len())));
        // By each way that dray takes: which one is leaner differs between machines.
        for rung in rungs {
            let args = [&one_file(origin, files), &dest, "--io", *rung];
            let lane = floor("lane", &args, Some(origin), note(files.len()));
            floors.push(Contender { name: format!("lane {rung} {}", origin.word), ..lane });
        }
    }
    floors
}

/// The origin's variables, without [`NOT_FOR_CHILDREN`].
fn env_of(origin: Option<&Origin>) -> Vec<(String, String)> {
    let own = NOT_FOR_CHILDREN.iter().map(|name| ((*name).to_owned(), String::new()));
    origin.map_or(&[][..], |origin| &origin.env).iter().cloned().chain(own).collect()
}

/// The source of the first file alone.
fn one_file(origin: &Origin, files: &[SourceFile]) -> String {
    match (origin.urls.first(), files.first()) {
        (Some(url), _) => url.clone(),
        (None, Some(file)) if origin.word == "s3" && !origin.uri.ends_with(&file.path) => {
            format!("{}/{}", origin.uri.trim_end_matches('/'), file.path)
        }
        _ => origin.uri.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_file_is_pulled_and_files_with_urls_are_prefetched() {
        let folder = tempfile::tempdir().unwrap();
        let place = Place { dest: "/d/run".into(), scratch: folder.path().to_owned() };
        let handed = Handed { connections: Some("4".to_owned()), memory: None, traces: None };
        let urls = |count: usize| (0..count).map(|n| format!("http://h/{n}")).collect::<Vec<_>>();
        let of = |uri: &str, urls| Origin { word: "o".to_owned(), uri: uri.to_owned(), urls, ..Origin::default() };
        for (origin, words) in [
            (of("s3://b/m", Vec::new()), "dray pull s3://b/m /d/run --progress none --io threads"),
            (of("http://h/0", urls(1)), "dray pull http://h/0 /d/run --progress none --io threads"),
            (of("http://h/0", urls(2)), "--into /d/run --progress none --io threads"),
        ] {
            let contender = dray("dray", &origin, "threads", &handed, &place).unwrap();
            let line = contender.argv.unwrap().join(" ");
            assert!(line.contains(words) && line.ends_with("--connections 4"), "{line}");
        }
        let list = std::fs::read_to_string(folder.path().join("list-o")).unwrap();
        assert_eq!(list, r#"[{"name":"f0","uri":"http://h/0"},{"name":"f1","uri":"http://h/1"}]"#);
    }

    #[test]
    fn floors_of_one_file_say_so_where_there_are_several() {
        let place = Place { dest: "/d/run".into(), scratch: "/d/scratch".into() };
        let file = |n| SourceFile { path: format!("{n}.bin"), size: 3 * MIB, digest: None };
        let http = |urls: usize| (0..urls).map(|n| format!("http://h/{n}")).collect::<Vec<_>>();
        let of = |word: &str, uri: &str, urls| Origin {
            word: word.to_owned(),
            uri: uri.to_owned(),
            urls,
            ..Origin::default()
        };
        for (count, origin, notes) in [
            (1, of("http", "http://h/0", http(1)), ["", ""]),
            (9, of("http", "http://h/0", http(9)), [ONE_FILE, ONE_FILE]),
            (9, of("s3", "s3://b/m", Vec::new()), ["", ONE_FILE]),
        ] {
            let files: Vec<SourceFile> = (0..count).map(file).collect();
            let floors = floors("dray", std::slice::from_ref(&origin), &files, &["threads"], &place);
            let seen: Vec<_> = floors.iter().map(|it| (&it.leaves, it.origin.as_deref())).collect();
            let word = Some(origin.word.as_str());
            let rows = |kind, note| Leaves::Rows { kind, note };
            let [network, lane] = notes;
            assert_eq!(
                seen,
                [
                    (&rows("hash", ""), None),
                    (&rows("disk", ""), None),
                    (&rows("origin", network), word),
                    (&rows("lane", lane), word)
                ]
            );
            let size = floors[1].argv.clone().unwrap().join(" ");
            assert!(size.contains(if count == 1 { "--size 16777216 " } else { "--size 28311552 " }), "{size}");
        }
    }

    #[test]
    fn a_lane_is_given_one_file_of_an_origin() {
        let file = SourceFile { path: "a.bin".to_owned(), size: 1, digest: None };
        for (word, uri, expected) in [
            ("s3", "s3://b/m", "s3://b/m/a.bin"),
            ("s3", "s3://b/m/a.bin", "s3://b/m/a.bin"),
            ("hf", "hf://o/n", "hf://o/n"),
        ] {
            let origin = Origin { word: word.to_owned(), uri: uri.to_owned(), ..Origin::default() };
            assert_eq!(one_file(&origin, std::slice::from_ref(&file)), expected);
        }
    }
}
