//! dray itself as a contender, and the floors that its other sub-benches measure: children of this very program.
//!
//! In: an [`Origin`], the flags handed on. Out: [`Contender`]s. Holds: dray runs as its users run it: `dray pull`, or
//! `dray prefetch` where files have URLs of their own, as one of them names one file.

use std::io::Write;

use crate::bench::contender::{Contender, Leaves, Origin, Place};
use crate::bench::report::Kind;
use crate::error::{Error, storage};

/// Flags handed to each pull.
#[derive(Debug, Clone, Default)]
pub struct Handed {
    /// `--connections`.
    pub connections: Option<String>,
    /// `--memory`.
    pub memory: Option<String>,
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
        file.write_all((origin.urls.join("\n") + "\n").as_bytes()).map_err(failed)?;
        argv.extend(["prefetch".to_owned(), list.to_string_lossy().into_owned(), "--into".to_owned(), dest]);
    }
    argv.extend(["--progress", "none", "--io", rung, "--report"].map(str::to_owned));
    argv.push(report.to_string_lossy().into_owned());
    for (flag, value) in [("--connections", &handed.connections), ("--memory", &handed.memory)] {
        argv.extend(value.iter().flat_map(|value| [flag.to_owned(), value.clone()]));
    }
    Ok(Contender {
        name: format!("dray {rung} {}", origin.word),
        kind: Kind::Dray,
        argv: Ok(argv),
        env: origin.env.clone(),
        proof: "blake3".to_owned(),
        durable: true,
        leaves: Leaves::FilesAndReport(report),
    })
}

/// The floors: what this machine allows to hashing, to the disk, to the network from each origin, and to a lane that
/// does nothing but the work.
pub fn floors(program: &str, origins: &[Origin], place: &Place) -> Vec<Contender> {
    let dest = place.dest.to_string_lossy().into_owned();
    let floor = |word: &str, args: &[&str], env: &[(String, String)], name: String| Contender {
        name,
        kind: Kind::Floor,
        argv: Ok([&[program, "bench", word], args, &["--rounds", "1", "--json", "-"]]
            .concat()
            .iter()
            .map(|arg| (*arg).to_owned())
            .collect()),
        env: env.to_vec(),
        proof: "none".to_owned(),
        durable: false,
        leaves: Leaves::Rows(word.to_owned()),
    };
    let mut floors = vec![floor("hash", &[], &[], "hash".to_owned()), floor("disk", &[&dest], &[], "disk".to_owned())];
    for origin in origins {
        let uri = origin.urls.first().unwrap_or(&origin.uri);
        floors.push(floor("origin", &[&origin.uri], &origin.env, format!("origin {}", origin.word)));
        floors.push(floor("lane", &[uri, &dest], &origin.env, format!("lane {}", origin.word)));
    }
    floors
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_file_is_pulled_and_files_with_urls_are_prefetched() {
        let folder = tempfile::tempdir().unwrap();
        let place = Place { dest: "/d/run".into(), scratch: folder.path().to_owned() };
        let handed = Handed { connections: Some("4".to_owned()), memory: None };
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
        assert_eq!(std::fs::read_to_string(folder.path().join("list-o")).unwrap(), "http://h/0\nhttp://h/1\n");
    }
}
