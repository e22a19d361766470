//! The arena as a bench starts it: the same files by several protocols, over a line with delays and faults on demand.

use std::num::NonZeroU64;
use std::path::Path;
use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::bench::Stop;
use crate::bench::contender::{Origin, SourceFile};
use crate::error::Error;
use crate::units::{parse_duration, parse_size, show_size};

/// Files of one bench at most.
const FILES_MAX: i64 = 100_000;

/// Flags of the arena.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Arena (when there is no URI)")]
pub(super) struct ArenaArgs {
    /// Bytes of each file
    #[arg(long, value_name = "BYTES", value_parser = parse_size, default_value = "2GiB", env = "DRAY_SIZE")]
    size: u64,
    /// How many files
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u32).range(1..=FILES_MAX), env = "DRAY_FILES")]
    files: u32,
    /// Protocols to serve them by
    #[arg(long, value_enum, value_delimiter = ',', default_value = "http,s3", env = "DRAY_SERVE")]
    serve: Vec<ServeArg>,
    /// Delay of the first byte of each reply, and of each new connection
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "0ms", env = "DRAY_RTT")]
    rtt: Duration,
    /// Bytes a second of one connection; unbounded when it is left out
    #[arg(long, value_name = "BYTES", value_parser = parse_rate, env = "DRAY_PER_CONNECTION")]
    per_connection: Option<NonZeroU64>,
    /// Replies that go wrong: 0.5 % fall silent in mid-body, 0.5 % are reset in mid-body, 1 % are 503 SlowDown, 1 % begin 2 s late; =N is N times as many
    #[arg(long, value_name = "N", num_args = 0..=1, require_equals = true, default_missing_value = "1", value_parser = parse_times, env = "DRAY_FAULTS")]
    faults: Option<f64>,
}

/// `--serve`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ServeArg {
    /// HTTP.
    Http,
    /// HTTP over TLS.
    Https,
    /// S3 over HTTP.
    S3,
}

fn parse_rate(text: &str) -> Result<NonZeroU64, String> {
    let rate = parse_size(text).map_err(|error| error.to_string())?;
    NonZeroU64::new(rate).ok_or_else(|| "no byte a second moves nothing".to_owned())
}

fn parse_times(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(times) if (0.0..=100.0).contains(&times) => Ok(times),
        _ => Err(format!("`{text}` is not a number from 0 to 100")),
    }
}

impl ArenaArgs {
    /// Bytes of all its files.
    pub(super) fn bytes(&self) -> u64 {
        self.size.saturating_mul(u64::from(self.files))
    }

    /// The protocols, each once.
    fn protocols(&self) -> Vec<ServeArg> {
        let mut protocols = Vec::new();
        for serve in &self.serve {
            if !protocols.contains(serve) {
                protocols.push(*serve);
            }
        }
        protocols
    }

    /// What it serves, and how, in a line.
    pub(super) fn words(&self) -> String {
        let word = |serve: &ServeArg| match serve {
            ServeArg::Http => "http",
            ServeArg::Https => "https",
            ServeArg::S3 => "s3",
        };
        let ports = self.protocols().iter().map(word).collect::<Vec<_>>().join(" and ");
        let mut words = format!("the arena ({} × {} by {ports}", self.files, show_size(self.size));
        if self.rtt != Duration::ZERO {
            words += &format!(", {} ms to the first byte", self.rtt.as_millis());
        }
        if let Some(rate) = self.per_connection {
            words += &format!(", {}/s a connection", show_size(rate.get()));
        }
        if let Some(times) = self.faults {
            words += &format!(", {times} × the mix of faults");
        }
        words + ")"
    }
}

#[cfg(feature = "arena")]
mod running {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use dray_arena::served::BUCKET;
    use dray_arena::{Content, Port, Served, ServedOptions, Weather};

    use super::{ArenaArgs, Error, Origin, Path, ServeArg, SourceFile, Stop};
    use crate::disk::place;
    use crate::error::storage;

    /// The prefix of all files.
    const PREFIX: &str = "weights";

    /// Bytes hashed at once.
    const BLOCK_BYTES: usize = 1 << 20;

    /// Which files there are and which faults they meet: the same in every run.
    const SEED: u64 = 1;

    /// Threads that serve: clients need processors too.
    const THREADS_MAX: usize = 8;

    /// A running arena; it stops when this is dropped.
    pub(in crate::cli::bench) struct Arena {
        served: Served,
        contents: Vec<(String, Content)>,
        faults: bool,
    }

    impl Arena {
        /// Starts it. Its certificate goes to `folder`.
        pub(in crate::cli::bench) fn start(args: &ArenaArgs, folder: &Path) -> Result<(Self, Vec<Origin>), Error> {
            let name = |number: u32| format!("shard-{number:05}-of-{:05}.bin", args.files);
            let contents: Vec<(String, Content)> = (1..=args.files)
                .map(|number| (name(number), Content::tiled(SEED + u64::from(number), args.size)))
                .collect();
            let protocols = args.protocols();
            let ports: Vec<Port> = protocols.iter().map(port).collect();
            let options = ServedOptions {
                objects: contents.iter().map(|(name, it)| (format!("{PREFIX}/{name}"), it.clone())).collect(),
                ports,
                weather: Weather {
                    rtt: args.rtt,
                    per_connection: args.per_connection,
                    faults: args.faults.unwrap_or(0.0),
                },
                threads: place::cpus().min(THREADS_MAX),
                seed: SEED,
            };
            let failed = |error: std::io::Error| Error::Internal(format!("the arena could not be started: {error}"));
            let served = Served::start(options).map_err(failed)?;
            let names: Vec<String> = contents.iter().map(|(name, _)| name.clone()).collect();
            let origins = protocols.iter().map(|serve| origin(&served, *serve, &names, folder));
            let origins = origins.collect::<Result<Vec<_>, _>>()?;
            Ok((Self { served, contents, faults: args.faults.is_some() }, origins))
        }

        /// Its files and their digests; a file that `stop` came before has none. Reads each once, on all processors.
        pub(in crate::cli::bench) fn files(&self, stop: &Stop) -> Vec<SourceFile> {
            digests(&self.contents, self.served.origin(Port::S3).is_some(), stop)
        }

        /// A line on the faults that were met, where there are any to meet.
        pub(in crate::cli::bench) fn met(&self) -> Option<String> {
            let met = self.served.met();
            self.faults.then(|| {
                format!(
                    "the arena was asked {} times: {} replies fell silent, {} were reset, {} were 503, {} were slow to begin",
                    met.requests, met.stalls, met.resets, met.slow_downs, met.slow_firsts
                )
            })
        }
    }

    fn port(serve: &ServeArg) -> Port {
        match serve {
            ServeArg::Http => Port::Http,
            ServeArg::Https => Port::Https,
            ServeArg::S3 => Port::S3,
        }
    }

    fn origin(served: &Served, serve: ServeArg, names: &[String], folder: &Path) -> Result<Origin, Error> {
        let lost = || Error::Internal("the arena does not serve what it was asked to".to_owned());
        let base = served.origin(port(&serve)).ok_or_else(lost)?;
        let urls: Vec<String> = names.iter().map(|name| format!("{base}/{PREFIX}/{name}")).collect();
        let first = urls.first().cloned().unwrap_or_default();
        let pairs = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect::<Vec<_>>()
        };
        Ok(match serve {
            ServeArg::Http => Origin { word: "http".to_owned(), uri: first, urls, ..Origin::default() },
            ServeArg::Https => {
                let path = folder.join("authority.pem");
                let pem = served.authority().ok_or_else(lost)?;
                std::fs::write(&path, pem).map_err(|error| storage(&path.display().to_string(), &error))?;
                let env = pairs(&[("SSL_CERT_FILE", &path.to_string_lossy())]);
                Origin { word: "https".to_owned(), uri: first, urls, env, authority: Some(path) }
            }
            ServeArg::S3 => {
                let (access, secret) = served.keys();
                let env = pairs(&[
                    ("AWS_ENDPOINT_URL", &base),
                    ("AWS_ENDPOINT_URL_S3", &base),
                    ("AWS_ACCESS_KEY_ID", access),
                    ("AWS_SECRET_ACCESS_KEY", secret),
                    ("AWS_REGION", "us-east-1"),
                    // The user's own would go before these.
                    ("AWS_PROFILE", ""),
                    ("AWS_SESSION_TOKEN", ""),
                    ("AWS_NO_SIGN_REQUEST", ""),
                ]);
                let uri = format!("s3://{BUCKET}/{PREFIX}");
                Origin { word: "s3".to_owned(), uri, env, ..Origin::default() }
            }
        })
    }

    /// BLAKE3 of each file, and the sums that S3 states.
    fn digests(contents: &[(String, Content)], sums: bool, stop: &Stop) -> Vec<SourceFile> {
        let mut files: Vec<SourceFile> = contents
            .iter()
            .map(|(path, content)| SourceFile { path: path.clone(), size: content.size(), digest: None })
            .collect();
        let next = AtomicUsize::new(0);
        let done = std::thread::scope(|scope| {
            let work = || {
                let mut done = Vec::new();
                while let Some((at, (_, content))) = {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    contents.get(at).map(|content| (at, content))
                } {
                    if sums && !stop.is_asked() {
                        content.crc64nvme();
                    }
                    done.push((at, digest(content, stop)));
                }
                done
            };
            let threads: Vec<_> = (0..place::cpus().min(THREADS_MAX)).map(|_| scope.spawn(work)).collect();
            // A thread that failed leaves its files to be compared among the contenders.
            threads.into_iter().filter_map(|thread| thread.join().ok()).flatten().collect::<Vec<_>>()
        });
        for (at, digest) in done {
            files[at].digest = digest;
        }
        files
    }

    fn digest(content: &Content, stop: &Stop) -> Option<blake3::Hash> {
        let mut hasher = blake3::Hasher::new();
        let mut block = vec![0; BLOCK_BYTES];
        let mut at = 0;
        while at < content.size() {
            if stop.is_asked() {
                return None;
            }
            let left = usize::try_from(content.size() - at).map_or(BLOCK_BYTES, |left| left.min(BLOCK_BYTES));
            content.fill(at, &mut block[..left]);
            hasher.update(&block[..left]);
            at += u64::try_from(left).unwrap_or(u64::MAX);
        }
        Some(hasher.finalize())
    }
}

/// Stands in where the arena is left out (the image).
#[cfg(not(feature = "arena"))]
mod running {
    use super::{ArenaArgs, Error, Origin, Path, SourceFile, Stop};

    /// There is none.
    pub(in crate::cli::bench) struct Arena(std::convert::Infallible);

    impl Arena {
        /// Always refuses.
        pub(in crate::cli::bench) fn start(_: &ArenaArgs, _: &Path) -> Result<(Self, Vec<Origin>), Error> {
            Err(Error::Usage("this build has no arena: name a URI, or build it with the default features".to_owned()))
        }

        /// Never reached: there is no value of this type.
        pub(in crate::cli::bench) fn files(&self, _: &Stop) -> Vec<SourceFile> {
            match self.0 {}
        }

        /// Never reached: there is no value of this type.
        pub(in crate::cli::bench) fn met(&self) -> Option<String> {
            match self.0 {}
        }
    }
}

pub(super) use running::Arena;
