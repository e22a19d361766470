//! One self-contained page of HTML: what `dray bench page` and `--html` write.
//!
//! In: bench reports and traces, which anybody may have written. Out: HTML with plots inside. Holds: the page asks
//! nothing of any network and runs no script, and its own policy forbids both; text from outside is escaped; numbers of
//! any kind and lists of any length make a page of bounded size.

mod html;
mod peers;
mod plot;
mod run;
mod series;

use crate::bench::machine::Machine;
use crate::bench::report::BenchReport;
use crate::bench::trace::Trace;
use crate::error::Error;
use crate::units::show_size;

/// Reports and traces of one page.
pub const SECTIONS_MAX: usize = 32;

const STYLE: &str = include_str!("style.css");

/// The page of `reports` and `traces`, in their order.
///
/// # Errors
/// [`Error::Usage`] for more than [`SECTIONS_MAX`]; [`Error::Internal`] when a plot cannot be drawn.
pub fn page(reports: &[BenchReport], traces: &[Trace]) -> Result<String, Error> {
    if SECTIONS_MAX < reports.len() + traces.len() {
        return Err(Error::Usage(format!("a page shows at most {SECTIONS_MAX} reports and traces")));
    }
    let heading = if reports.is_empty() { "dray: the record of a run" } else { "dray: what was measured" };
    let title = match (reports, traces) {
        ([], [trace]) => format!("dray: pull of {}", trace.head.source),
        ([report], []) => format!("dray: bench of {}", report.work.origin),
        _ => "dray: bench".to_owned(),
    };
    let title = html::text(&html::label(&title, 120));
    let mut body = String::new();
    for report in reports {
        body.push_str(&peers::section(report)?);
    }
    for trace in traces {
        body.push_str(&run::section(trace)?);
    }
    let (dark, version) = (plot::dark_rules(), env!("CARGO_PKG_VERSION"));
    Ok(format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; img-src data:\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <link rel=\"icon\" href=\"data:,\">\n<title>{title}</title>\n\
         <style>\n{STYLE}@media (prefers-color-scheme:dark){{\n{dark}}}\n</style></head>\n\
         <body><h1>{heading}</h1>\n{body}<footer>dray {version}</footer></body></html>\n"
    ))
}

/// Where it ran.
fn machine(machine: &Machine) -> String {
    html::facts(&[
        ("processor", machine.cpu.clone()),
        ("CPUs for this process", if 0 < machine.cpus { machine.cpus.to_string() } else { String::new() }),
        ("memory", if 0 < machine.memory_bytes { show_size(machine.memory_bytes) } else { String::new() }),
        ("kernel", machine.kernel.clone()),
        ("file system", machine.file_system.clone()),
        ("way to the disk", machine.io.clone()),
        ("load average", html::figure(machine.load_average)),
    ])
}
