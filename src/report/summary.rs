//! The two or three lines a person reads after a run: what, where, how fast, how proven, what held it back.

use std::time::Duration;

use crate::report::{Assurance, Report};
use crate::units::{show_duration, show_rate, show_size};

/// The lines for a run that sealed its directory; no line break at the end.
pub fn summary(report: &Report) -> String {
    let elapsed = Duration::from_secs_f64(report.seconds.max(0.0));
    let files = report.files.len();
    let plural = if files == 1 { "file" } else { "files" };
    let head = format!("sealed {} in {files} {plural} at {}", show_size(report.bytes.total), report.dest);
    if report.bytes.fetched == 0 {
        return format!("{head}\n  nothing to fetch: every byte was already there · {}", proven(report));
    }
    let reused = match report.bytes.reused {
        0 => String::new(),
        reused => format!(", {} reused", show_size(reused)),
    };
    let speed = format!(
        "  {} fetched in {} ({}){reused} · {} retried of {} requests",
        show_size(report.bytes.fetched),
        show_duration(elapsed),
        show_rate(report.bytes.fetched, elapsed),
        report.requests.retried,
        report.requests.total,
    );
    let way = match report.io.backend {
        "uring" => "io_uring, O_DIRECT",
        "threads" => "threads, O_DIRECT",
        _ => "page cache",
    };
    let limit = format!(
        "  {} · held back by {} · {way} · {:.2} CPU-s/GiB · {} peak memory",
        proven(report),
        limit_words(report.bottleneck.verdict),
        cpu_per_gib(report),
        show_size(report.rss_bytes_max),
    );
    format!("{head}\n{speed}\n{limit}")
}

fn cpu_per_gib(report: &Report) -> f64 {
    // Display only: a rounded ratio.
    let gib = Duration::from_nanos(report.bytes.fetched).as_secs_f64() * 1e9 / f64::from(1u32 << 30);
    if gib > 0.0 { report.cpu_seconds / gib } else { 0.0 }
}

fn proven(report: &Report) -> String {
    let count = |wanted| report.files.iter().filter(|file| file.assurance == wanted).count();
    let total = report.files.len();
    match report.assurance {
        Assurance::Pinned => "every byte matches its pin".to_owned(),
        Assurance::Origin => "every byte matches the store's checksum".to_owned(),
        Assurance::Hashed if count(Assurance::Hashed) == total => "hashed; the store states no checksum".to_owned(),
        Assurance::Hashed => {
            format!("{} of {total} files match the store's checksum, the rest hashed", total - count(Assurance::Hashed))
        }
    }
}

fn limit_words(verdict: &str) -> &'static str {
    match verdict {
        "network" => "the network",
        "origin" => "the origin",
        "throttle" => "a rate limit",
        "disk" => "the disk",
        "cpu" => "the CPU",
        "memory" => "the memory bound",
        _ => "nothing in particular",
    }
}
