//! One suite that every origin passes: the same cases, told apart only by what an origin can do.
//!
//! Each origin is a [`site::Site`]; each case is a function that knows no origin. A case that an origin cannot have
//! says so, and [`CANNOT`] must say the same, with the reason: nothing is left out in silence.
//! Every run logs everything, and none of the secrets it was given may show anywhere.

mod rig;

#[path = "conformance/azure.rs"]
mod azure;
#[path = "conformance/between.rs"]
mod between;
#[path = "conformance/canary.rs"]
mod canary;
#[path = "conformance/credentials.rs"]
mod credentials;
#[path = "conformance/faults.rs"]
mod faults;
#[path = "conformance/gcs.rs"]
mod gcs;
#[path = "conformance/http.rs"]
mod http;
#[path = "conformance/hub.rs"]
mod hub;
#[path = "conformance/names.rs"]
mod names;
#[path = "conformance/s3.rs"]
mod s3;
#[path = "conformance/site.rs"]
mod site;
#[path = "conformance/versions.rs"]
mod versions;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use site::Site;

/// The origins. Another one is a file beside these and a line here.
const SITES: [Site; 6] = [s3::ARENA, s3::WEED, http::HTTP, gcs::GCS, hub::HUB, azure::AZURE];

/// How a case went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Went {
    /// As it must.
    Well,
    /// The origin cannot have it.
    Cannot,
}

type Case = (&'static str, fn(&Site) -> Went);

const CASES: [Case; 23] = [
    ("lists in pages", names::lists_in_pages),
    ("maps folders", names::maps_folders),
    ("takes one file", names::takes_one_file),
    ("keeps empty files", names::keeps_empty_files),
    ("takes odd names", names::takes_odd_names),
    ("refuses hostile names", names::refuses_hostile_names),
    ("missing", names::missing_exits_3),
    ("pins every read", versions::pins_every_read),
    ("replaced before reading", versions::replaced_before_reading),
    ("replaced in mid-pull", versions::replaced_in_mid_pull),
    ("checksum good", versions::a_good_checksum_counts),
    ("checksum bad", versions::a_bad_checksum_exits_5),
    ("busy", faults::busy_answers_are_waited_out),
    ("busy for ever", faults::an_origin_that_stays_busy_exits_7),
    ("cut bodies", faults::cut_bodies_go_on),
    ("stalled bodies", faults::stalled_bodies_go_on),
    ("killed and resumed", faults::a_killed_pull_resumes),
    ("denied listing", credentials::denied_exits_4),
    ("denied bytes", credentials::denied_bytes_exit_4),
    ("renewed", credentials::expired_credentials_are_renewed_once),
    ("redirect elsewhere", credentials::a_redirect_takes_no_secret_along),
    ("redirect inside", credentials::a_redirect_to_the_metadata_is_refused),
    ("proxy", credentials::a_proxys_login_stays_with_it),
];

/// What an origin cannot have, and why.
const CANNOT: &[(&str, &str, &str)] = &[
    ("http", "lists in pages", "a URL is one file: nothing is listed"),
    ("http", "maps folders", "a URL is one file: there are no folders"),
    ("http", "checksum good", "a web server states nothing of the bytes"),
    ("http", "checksum bad", "a web server states nothing of the bytes"),
    ("http", "denied listing", "nothing is listed: the first refusal is that of the file"),
    ("s3-weed", "refuses hostile names", "SeaweedFS stores no such name"),
    ("s3-weed", "renewed", "its keys are static; `s3` has those that end"),
    ("az", "refuses hostile names", "Azurite stores no such name; tests/azure has a store that does"),
    ("az", "renewed", "links are signed without an issuer; tests/azure has tokens that end"),
];

/// Cases at once: they wait more than they work.
const WORKERS: usize = 6;

/// What became of one cell of the matrix, and how many seconds it took.
type Result = (std::result::Result<Went, String>, f64);

#[test]
fn every_origin_passes_every_case() {
    // DRAY_CONFORMANCE=gs,busy runs these origins and cases alone, for whoever works on one.
    let wanted = std::env::var("DRAY_CONFORMANCE").unwrap_or_default();
    let takes = |name: &str| wanted.is_empty() || wanted.split(',').any(|word| word == name);
    let cells = SITES.iter().flat_map(|site| CASES.iter().map(move |case| (site, case)));
    let cells: Vec<(&Site, &Case)> = cells.filter(|(site, case)| takes(site.name) || takes(case.0)).collect();
    let results = run(&cells);
    println!("{}", matrix(&cells, &results));
    let cells: Vec<(&str, &str)> = cells.iter().map(|(site, case)| (site.name, case.0)).collect();
    let which = |is: fn(&Result) -> bool| {
        let mut found: Vec<_> =
            cells.iter().zip(&results).filter(|(_, result)| is(result)).map(|(cell, _)| *cell).collect();
        found.sort_unstable();
        found
    };
    assert_eq!(which(|(went, _)| went.is_err()), [], "failed; the reasons are above");
    let mut stated: Vec<(&str, &str)> = CANNOT.iter().map(|(site, case, _)| (*site, *case)).collect();
    stated.retain(|cell| wanted.is_empty() || cells.contains(cell));
    stated.sort_unstable();
    assert_eq!(which(|(went, _)| *went == Ok(Went::Cannot)), stated, "left out, and stated to be");
}

/// Runs each cell, [`WORKERS`] at a time; a panic is its failure.
fn run(cells: &[(&Site, &Case)]) -> Vec<Result> {
    let next = AtomicUsize::new(0);
    let results = Mutex::new(vec![None; cells.len()]);
    let work = || {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some((site, (name, case))) = cells.get(number) else { return };
            let started = Instant::now();
            let went = catch_unwind(AssertUnwindSafe(|| case(site))).map_err(|panic| {
                let text = panic.downcast_ref::<String>().cloned();
                text.or(panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
            });
            if let Err(why) = &went {
                eprintln!("{} / {name}: {why}", site.name);
            }
            results.lock().expect("the results")[number] = Some((went, started.elapsed().as_secs_f64()));
        }
    };
    thread::scope(|scope| (0..WORKERS).for_each(|_| drop(scope.spawn(work))));
    let results = results.into_inner().expect("the results");
    results.into_iter().map(|result| result.expect("each was run")).collect()
}

/// A row for each case, a column for each origin: seconds, a dash for what it cannot have.
fn matrix(cells: &[(&Site, &Case)], results: &[Result]) -> String {
    let mut out = format!("{:<26}", "case");
    SITES.iter().for_each(|site| out.push_str(&format!("{:>10}", site.name)));
    for (case, _) in &CASES {
        out.push_str(&format!("\n{case:<26}"));
        for site in &SITES {
            let place = cells.iter().position(|(other, it)| other.name == site.name && it.0 == *case);
            let shown = match place.and_then(|place| results.get(place)) {
                Some((Ok(Went::Well), seconds)) => format!("{seconds:.1}"),
                Some((Ok(Went::Cannot), _)) => "–".to_owned(),
                Some((Err(_), _)) => "FAIL".to_owned(),
                None => String::new(),
            };
            out.push_str(&format!("{shown:>10}"));
        }
    }
    out
}
