//! Flags that several commands share, and what they mean to the library.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::audit::Audit;
use crate::cli::kserve;
use crate::cli::metrics::{self, Metrics};
use crate::cli::progress::ProgressKind;
use crate::disk::{IoWish, place};
use crate::engine::Require;
use crate::error::Error;
use crate::formats::{Allowed, Format};
use crate::limits::{CONNECTIONS_MAX, Limits};
use crate::manifest::receipt::{self, Receipt};
use crate::origin::Environment;
use crate::resolve::Filter;
use crate::units::{MIB, parse_duration, parse_size};

/// Smallest `--memory`: two slabs a lane, or nothing overlaps.
const MEMORY_MIN: u64 = 4 * MIB;

/// Flags that choose what to take from an origin.
#[derive(Debug, Args)]
pub struct Origins {
    /// Take only files whose path matches; may be given more than once
    #[arg(long, value_name = "GLOB", env = "DRAY_ALLOW", value_delimiter = ',')]
    pub allow: Vec<String>,
    /// Leave out files whose path matches; may be given more than once
    #[arg(long, value_name = "GLOB", env = "DRAY_IGNORE", value_delimiter = ',')]
    pub ignore: Vec<String>,
}

/// Which formats may be published.
#[derive(Debug, Clone, Args)]
pub(super) struct Formats {
    /// Publish nothing unless every file is, by its content, one of: safetensors, gguf, json, text, onnx, sentencepiece, numpy, hdf5, zip, tar, gzip, pickle
    #[arg(long, value_name = "FORMAT", env = "DRAY_FORMATS", value_delimiter = ',', value_parser = parse_format)]
    formats: Vec<Format>,
}

impl Formats {
    /// The formats these flags allow; any when they name none.
    pub(super) fn allowed(&self) -> Option<Allowed> {
        (!self.formats.is_empty()).then(|| Allowed::new(&self.formats))
    }
}

fn parse_format(word: &str) -> Result<Format, String> {
    let known = || Format::ALL.map(Format::word).join(", ");
    Format::from_word(word.trim()).ok_or_else(|| format!("`{word}` is no format that is known: {}", known()))
}

/// Flags of every command that moves bytes.
#[derive(Debug, Clone, Args)]
pub struct Common {
    /// Digests the files must have: what `dray lock` wrote, or the receipt.json of an earlier pull
    #[arg(long, value_name = "FILE", env = "DRAY_PIN")]
    pub pin: Option<PathBuf>,
    /// Refuse files that nobody vouches for: the store's own checksum, or a pin
    #[arg(long, value_enum, default_value = "none", env = "DRAY_REQUIRE")]
    pub require: RequireArg,
    /// Bytes held between socket and disk
    #[arg(long, value_name = "BYTES", value_parser = parse_size, default_value = "64MiB", env = "DRAY_MEMORY")]
    pub memory: u64,
    /// Parallel requests, or `auto`
    #[arg(long, value_name = "N", value_parser = parse_connections, default_value = "auto", env = "DRAY_CONNECTIONS")]
    pub connections: ConnectionsArg,
    /// Way to the disk
    #[arg(long, value_enum, default_value = "auto", env = "DRAY_IO")]
    pub io: IoArg,
    /// Drop a reply that makes no progress for this long and ask the rest again [default: 10s]
    #[arg(long, value_name = "TIME", value_parser = parse_duration, env = "DRAY_STALL_TIMEOUT")]
    pub stall_timeout: Option<Duration>,
    /// Bound of the whole run (exit 7, resumable)
    #[arg(long, value_name = "TIME", value_parser = parse_duration, env = "DRAY_DEADLINE")]
    pub deadline: Option<Duration>,
    /// Bytes per second over all connections
    #[arg(long, value_name = "BYTES", value_parser = parse_size, env = "DRAY_LIMIT_RATE")]
    pub limit_rate: Option<u64>,
    /// How to show progress on stderr
    #[arg(long, value_enum, default_value = "auto", env = "DRAY_PROGRESS")]
    pub progress: ProgressKind,
    /// Serve /metrics, /healthz and /readyz at an address, such as :9090; port 0 takes a free one
    #[arg(long, value_name = "ADDR", value_parser = metrics::parse_address, env = "DRAY_METRICS")]
    pub metrics: Option<metrics::Address>,
    /// Append a JSON line per credential used, registry answer, digest, refusal and publication; - is stderr
    #[arg(long, value_name = "FILE", env = "DRAY_AUDIT")]
    pub audit: Option<PathBuf>,
    /// Write a JSON report, on failure too
    #[arg(long, value_name = "FILE", env = "DRAY_REPORT")]
    pub report: Option<PathBuf>,
}

/// `--require`.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum RequireArg {
    /// A computed digest is enough.
    None,
    /// The store's own checksum must match.
    Origin,
    /// A pin must match.
    Pinned,
}

/// `--io`.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum IoArg {
    /// The best this place allows.
    Auto,
    /// io_uring, direct.
    Uring,
    /// Threads, direct.
    Threads,
    /// Threads through the page cache.
    Buffered,
}

/// `--connections`.
#[derive(Debug, Clone, Copy)]
pub struct ConnectionsArg(pub(super) Option<usize>);

pub(super) fn parse_connections(text: &str) -> Result<ConnectionsArg, String> {
    if text == "auto" {
        return Ok(ConnectionsArg(None));
    }
    match text.parse() {
        Ok(number) if (1..=CONNECTIONS_MAX).contains(&number) => Ok(ConnectionsArg(Some(number))),
        _ => Err(format!("`{text}` is not `auto` or a number from 1 to {CONNECTIONS_MAX}")),
    }
}

impl Origins {
    /// The filter these flags ask for, beside the one of KServe's `STORAGE_ALLOW_PATTERNS` and `STORAGE_IGNORE_PATTERNS`.
    ///
    /// # Errors
    /// [`Error::Usage`] for a pattern that is none.
    pub fn filter(&self, environment: &Environment) -> Result<Filter, Error> {
        let listed = |name: &'static str| (name, kserve::patterns(environment.var(name).unwrap_or_default()));
        let (allow, ignore) = (listed("STORAGE_ALLOW_PATTERNS"), listed("STORAGE_IGNORE_PATTERNS"));
        Filter::new(&self.allow, &self.ignore)?.with_listed((allow.0, &allow.1), (ignore.0, &ignore.1))
    }
}

impl Common {
    /// The bounds these flags ask for, and KServe's hints for S3 where no flag says more.
    ///
    /// # Errors
    /// [`Error::Usage`] for values no run could work with.
    pub fn limits(&self, environment: &Environment) -> Result<Limits, Error> {
        let hints = kserve::hints(environment)?;
        let usual = Limits::default();
        if self.memory < MEMORY_MIN {
            return Err(Error::Usage("--memory must be at least 4MiB".to_owned()));
        }
        if self.stall_timeout.is_some_and(|timeout| timeout < Duration::from_millis(100)) {
            return Err(Error::Usage("--stall-timeout must be at least 100ms".to_owned()));
        }
        if self.limit_rate.is_some_and(|rate| rate < 1024) {
            return Err(Error::Usage("--limit-rate must be at least 1KiB".to_owned()));
        }
        Ok(Limits {
            memory_bytes_max: self.memory,
            connections: self.connections.0,
            lanes: place::cpus(),
            stall_timeout: self.stall_timeout.or(hints.read_timeout).unwrap_or(usual.stall_timeout),
            deadline: self.deadline,
            rate_bytes_max: self.limit_rate,
            attempts_max: hints.attempts.map_or(usual.attempts_max, |attempts| attempts.max(usual.attempts_max)),
            ..usual
        })
    }

    /// The way to the disk these flags ask for.
    pub fn io_wish(&self) -> IoWish {
        match self.io {
            IoArg::Auto => IoWish::Auto,
            IoArg::Uring => IoWish::Uring,
            IoArg::Threads => IoWish::Threads,
            IoArg::Buffered => IoWish::Buffered,
        }
    }

    /// What must be known of each file.
    pub fn required(&self) -> Require {
        match self.require {
            RequireArg::None => Require::None,
            RequireArg::Origin => Require::Origin,
            RequireArg::Pinned => Require::Pinned,
        }
    }

    /// Opens the audit log.
    ///
    /// # Errors
    /// [`Error::Usage`] when it cannot be opened.
    pub fn audit(&self) -> Result<Audit, Error> {
        self.audit.as_deref().map_or_else(|| Ok(Audit::default()), Audit::open)
    }

    /// Serves what these flags ask to be seen of `models` models.
    ///
    /// # Errors
    /// [`Error::Usage`] when the address cannot be had, and as [`Common::limits`].
    pub(super) fn metrics(&self, models: usize, environment: &Environment) -> Result<Metrics, Error> {
        Metrics::open(self.metrics, models, self.limits(environment)?.stall_timeout)
    }

    /// Reads the pin file.
    ///
    /// # Errors
    /// [`Error::Usage`] when it cannot be read or is not a receipt.
    pub fn pins(&self) -> Result<Option<Receipt>, Error> {
        let Some(path) = &self.pin else { return Ok(None) };
        let bytes = std::fs::read(path).map_err(|error| Error::Usage(format!("--pin {}: {error}", path.display())))?;
        let pin = receipt::parse(&bytes).map_err(|error| Error::Usage(format!("--pin {}: {error}", path.display())))?;
        Ok(Some(pin))
    }
}
