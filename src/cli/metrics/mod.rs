//! `--metrics ADDR`: what a run does, seen from outside over HTTP.
//!
//! In: the snapshots of every pull of this process, and the wire's counters. Out: `/metrics` for Prometheus,
//! `/healthz` for a liveness probe, `/readyz` for a readiness probe.
//! Holds: it answers from a thread of its own, whatever the run waits for; it takes no lock that a lane takes while
//! bytes move; connections, their time and their bytes are bounded; no label holds a secret.

mod figures;
mod serve;
mod text;

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use crate::cli::progress::{ProgressKind, eprintln_line};
use crate::engine::{EndedSpan, Observer, Phase, Snapshot};
use crate::error::Error;
use crate::report::Report;
use crate::wire::Counters;

use figures::{Figures, Run};

/// Where to listen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Address {
    /// `None` is every address of the machine.
    host: Option<std::net::IpAddr>,
    port: u16,
}

/// Reads `127.0.0.1:9090`, `[::1]:0`, `:9090`.
///
/// # Errors
/// For anything else: names are not looked up, as they could mean another machine tomorrow.
pub(in crate::cli) fn parse_address(text: &str) -> Result<Address, String> {
    let wrong = || format!("`{text}` is not an address with a port, such as 127.0.0.1:9090, [::1]:9090 or :9090");
    if let Some(port) = text.strip_prefix(':') {
        return port.parse().map(|port| Address { host: None, port }).map_err(|_| wrong());
    }
    let address: SocketAddr = text.parse().map_err(|_| wrong())?;
    Ok(Address { host: Some(address.ip()), port: address.port() })
}

/// What is shown of this process. Without an address nothing is served, and only the wire counts.
pub(in crate::cli) struct Metrics {
    figures: Option<Arc<Figures>>,
    counters: Counters,
    /// Where it is served, to be told.
    address: Option<SocketAddr>,
}

impl Metrics {
    /// Listens at `address`, for a process that will seal `models` directories.
    ///
    /// # Errors
    /// [`Error::Usage`] when the address cannot be had.
    pub(in crate::cli) fn open(address: Option<Address>, models: usize, stall: Duration) -> Result<Self, Error> {
        let counters = Counters::default();
        let Some(wanted) = address else { return Ok(Self { figures: None, counters, address: None }) };
        let figures = Arc::new(Figures::new(models, stall, counters.clone()));
        let failed = |error: std::io::Error| Error::Usage(format!("--metrics: cannot listen at {wanted}: {error}"));
        let listener = bind(wanted).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        serve::start(listener, figures.clone()).map_err(failed)?;
        Ok(Self { figures: Some(figures), counters, address: Some(address) })
    }

    /// Says once where it listens, in the way of `kind`; a run that shows nothing tells only what was not asked for.
    pub(in crate::cli) fn tell(&self, wanted: Option<Address>, kind: ProgressKind, observer: &mut dyn Observer) {
        let Some(address) = self.address else { return };
        let line = format!("metrics at http://{address}/metrics");
        if kind != ProgressKind::None {
            observer.note(&line);
        } else if wanted.is_some_and(|wanted| wanted.port == 0) {
            eprintln_line(&line);
        }
    }

    /// Where the wire of every pull counts.
    pub(in crate::cli) fn counters(&self) -> &Counters {
        &self.counters
    }

    /// An observer of the next pull, which shows it here too.
    pub(in crate::cli) fn watching(&self, observer: Box<dyn Observer>) -> Box<dyn Observer> {
        let Some(figures) = self.figures.clone() else { return observer };
        let run = figures.begin();
        Box::new(Watched { observer, figures, run })
    }

    /// Notes that a model needed no pull.
    pub(in crate::cli) fn sealed_at_once(&self) {
        if let Some(figures) = &self.figures {
            let run = figures.begin();
            figures.take(run, &Snapshot { phase: Phase::Sealed, ..Snapshot::default() });
        }
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.host {
            Some(host) => SocketAddr::new(host, self.port).fmt(f),
            None => write!(f, ":{}", self.port),
        }
    }
}

fn bind(Address { host, port }: Address) -> std::io::Result<TcpListener> {
    match host {
        Some(host) => TcpListener::bind((host, port)),
        // The wildcard of IPv6 takes IPv4 too; a machine without IPv6 has only the other.
        None => TcpListener::bind((Ipv6Addr::UNSPECIFIED, port))
            .or_else(|_| TcpListener::bind((Ipv4Addr::UNSPECIFIED, port))),
    }
}

/// Passes everything on, and shows it.
struct Watched {
    observer: Box<dyn Observer>,
    figures: Arc<Figures>,
    run: Run,
}

impl Observer for Watched {
    fn tick(&mut self, snapshot: &Snapshot) {
        self.figures.take(self.run, snapshot);
        self.observer.tick(snapshot);
    }

    fn note(&mut self, line: &str) {
        self.observer.note(line);
    }

    fn end(&mut self, summary: &str) {
        self.observer.end(summary);
    }

    fn span(&mut self, span: &EndedSpan) {
        self.observer.span(span);
    }

    fn report(&mut self, report: &Report) {
        self.observer.report(report);
    }
}

#[cfg(test)]
mod tests;
