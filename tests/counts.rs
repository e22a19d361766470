//! Counts the instructions of the pure parts under callgrind, and holds them to their growth and to stored figures.
//!
//! `benches/counts.json` holds the figures; they are compared where compiler, libc and valgrind are those they were
//! made with, and the output says whether that was so. Growth is held everywhere. docs/performance.md says more.
//! Words on the command line choose cases, as for other tests. `DRAY_COUNTS=store` writes the figures anew.

#[path = "counts/callgrind.rs"]
mod callgrind;
#[path = "counts/cases.rs"]
mod cases;
#[path = "counts/stored.rs"]
mod stored;
#[path = "counts/verdict.rs"]
mod verdict;

use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use cases::{CASES, Case};
use stored::Stored;
use verdict::{Counted, Extent};

/// Options of the usual test program that come with a value of their own.
const WITH_VALUE: [&str; 6] = ["--skip", "--test-threads", "--format", "--color", "--logfile", "-Z"];

const STORE_HINT: &str = "if that is meant, store it (and commit benches/counts.json): DRAY_COUNTS=store make counts";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.as_slice() {
        [first, name, size] if first == callgrind::COUNTED => {
            callgrind::run_counted(name, size.parse().expect("a number of items"));
            ExitCode::SUCCESS
        }
        _ if arguments.iter().any(|argument| argument == "--list") => {
            CASES.iter().for_each(|case| println!("{}: test", case.name));
            ExitCode::SUCCESS
        }
        _ => check(&chosen(&arguments)),
    }
}

/// The cases that the command line's words name; without words, all.
fn chosen(arguments: &[String]) -> Vec<&'static Case> {
    let (mut words, mut left_out) = (Vec::new(), Vec::new());
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        if argument == "--skip" {
            left_out.extend(rest.next());
        } else if WITH_VALUE.contains(&argument.as_str()) {
            rest.next();
        } else if !argument.starts_with('-') {
            words.push(argument);
        }
    }
    let named = |case: &&Case| words.is_empty() || words.iter().any(|word| case.name.contains(word.as_str()));
    let kept = |case: &&Case| !left_out.iter().any(|word| case.name.contains(word.as_str()));
    CASES.iter().filter(named).filter(kept).collect()
}

fn check(cases: &[&Case]) -> ExitCode {
    verdict::prove_rules();
    let store = match std::env::var("DRAY_COUNTS").as_deref() {
        Ok("store") => true,
        Ok(other) => panic!("DRAY_COUNTS is `{other}`; `store` is all it can be"),
        Err(_) => false,
    };
    let counted = count(cases);
    let (stored, here) = (Stored::load(), stored::here());
    show(cases, &counted, &stored);
    let extent = if cases.len() == CASES.len() { Extent::All } else { Extent::Chosen };
    let mut failures = verdict::growing(&counted);
    println!("counts: growth held for {} cases of {}", counted.len() - failures.len(), counted.len());
    if store && extent == Extent::All && failures.is_empty() {
        let instructions = counted.into_iter().map(|case| (case.name, case.large)).collect();
        Stored { made_with: here, instructions }.save();
        println!("counts: stored in benches/counts.json");
        return ExitCode::SUCCESS;
    }
    let unlike: Vec<String> = here
        .iter()
        .filter(|(name, word)| stored.made_with.get(*name) != Some(word))
        .map(|(name, word)| format!("{name} is `{word}`, not `{}`", stored.made_with.get(name).map_or("", |word| word)))
        .collect();
    if unlike.is_empty() {
        let differing = verdict::differing(&counted, &stored.instructions, extent);
        println!("counts: compared with the stored figures: {} differ", differing.len());
        failures.extend(differing);
    } else {
        println!("counts: NOT compared with the stored figures, which are of another toolchain: {}", unlike.join("; "));
    }
    for failure in &failures {
        println!("counts: FAILED {failure}");
    }
    if failures.is_empty() && !store {
        return ExitCode::SUCCESS;
    }
    println!(
        "counts: {}",
        if store { "nothing stored: all cases must be counted and hold their growth" } else { STORE_HINT }
    );
    ExitCode::FAILURE
}

/// Counts every case at its size and at ten times that, on all processors.
fn count(cases: &[&Case]) -> Vec<Counted> {
    let jobs: Vec<(&Case, u64)> = cases.iter().flat_map(|case| [(*case, case.size), (*case, case.size * 10)]).collect();
    let (next, counts) = (AtomicUsize::new(0), Mutex::new(vec![0; jobs.len()]));
    let work = || {
        while let Some((index, (case, size))) = {
            let index = next.fetch_add(1, Ordering::Relaxed);
            jobs.get(index).map(|job| (index, job))
        } {
            let count = callgrind::count(case.name, *size);
            counts.lock().expect("no count panics while it holds this")[index] = count;
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(jobs.len().max(1));
    std::thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(work))));
    let counts = counts.into_inner().expect("every count ended well");
    let counted = |(case, pair): (&&Case, &[u64])| Counted {
        name: format!("{}/{}", case.name, case.size * 10),
        small: pair[0],
        large: pair[1],
        tolerance: case.tolerance,
    };
    cases.iter().zip(counts.chunks(2)).map(counted).collect()
}

fn show(cases: &[&Case], counted: &[Counted], stored: &Stored) {
    println!("{:30} {:>14} {:>22} {:>10} {:>8}", "case", "instructions", "each", "x 10", "change");
    for (case, Counted { name, small, large, .. }) in cases.iter().zip(counted) {
        let each = format!("{} a {}", large / (case.size * 10), case.item);
        let change = stored.instructions.get(name).map(|stored| verdict::change(*large, *stored));
        let change = change.map_or_else(|| "new".to_owned(), |change| format!("{change:+.1} %"));
        println!("{name:30} {large:>14} {each:>22} {:>10.2} {change:>8}", verdict::ratio(*large, *small));
    }
}
