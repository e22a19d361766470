//! Why a command stopped, by what its caller can do about it, and the exit code of each reason.

use std::time::Duration;

/// Why a command stopped. One variant per decision of the caller; the text is one line without secrets.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The command line, a URI or a setting is wrong; nothing was started.
    #[error("{0}")]
    Usage(String),
    /// The bucket, object or host path is not there, or nothing matched.
    #[error("{0}")]
    NotFound(String),
    /// The origin refused our identity or its rights.
    #[error("{0}")]
    Denied(String),
    /// Bytes do not match what the store or a pin states, after the bad spans were asked again.
    #[error("{0}")]
    Integrity(String),
    /// A name, redirect, address, scheme or format that policy refuses.
    #[error("{0}")]
    Policy(String),
    /// Origin or network failed after retries; the same command may succeed later.
    #[error("{0}")]
    Network(String),
    /// The source changed and could not be taken whole.
    #[error("{0}")]
    Changed(String),
    /// Disk full or quota reached; resumable.
    #[error("{0}")]
    DiskFull(String),
    /// Storage I/O failed.
    #[error("{0}")]
    Storage(String),
    /// SIGINT or SIGTERM; what was durable stays, resumable.
    #[error("interrupted by {}; run the same command again to resume", signal_name(*.signal))]
    Interrupted {
        /// The signal's number: 2 or 15.
        signal: i32,
    },
    /// A defect of dray itself.
    #[error("internal error: {0}")]
    Internal(String),
}

fn signal_name(signal: i32) -> &'static str {
    match signal {
        2 => "SIGINT",
        15 => "SIGTERM",
        _ => "a signal",
    }
}

impl Error {
    /// The process exit code of this reason (docs/operations.md lists them).
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Internal(_) => 1,
            Self::Usage(_) => 2,
            Self::NotFound(_) => 3,
            Self::Denied(_) => 4,
            Self::Integrity(_) => 5,
            Self::Policy(_) => 6,
            Self::Network(_) => 7,
            Self::Changed(_) => 8,
            Self::DiskFull(_) => 9,
            Self::Storage(_) => 10,
            Self::Interrupted { signal } => u8::try_from(128 + signal).unwrap_or(1),
        }
    }

    /// The same reason in other words. An interruption has its own.
    pub fn worded(&self, text: String) -> Self {
        match self {
            Self::Usage(_) => Self::Usage(text),
            Self::NotFound(_) => Self::NotFound(text),
            Self::Denied(_) => Self::Denied(text),
            Self::Integrity(_) => Self::Integrity(text),
            Self::Policy(_) => Self::Policy(text),
            Self::Network(_) => Self::Network(text),
            Self::Changed(_) => Self::Changed(text),
            Self::DiskFull(_) => Self::DiskFull(text),
            Self::Storage(_) => Self::Storage(text),
            Self::Interrupted { signal } => Self::Interrupted { signal: *signal },
            Self::Internal(_) => Self::Internal(text),
        }
    }

    /// The word a report's `outcome` field carries for this reason.
    pub fn class(&self) -> &'static str {
        match self {
            Self::Internal(_) => "internal",
            Self::Usage(_) => "usage",
            Self::NotFound(_) => "not_found",
            Self::Denied(_) => "denied",
            Self::Integrity(_) => "integrity",
            Self::Policy(_) => "policy",
            Self::Network(_) => "network",
            Self::Changed(_) => "source_changed",
            Self::DiskFull(_) => "disk_full",
            Self::Storage(_) => "storage",
            Self::Interrupted { .. } => "interrupted",
        }
    }
}

impl Error {
    /// A refusal with the place and the identity that were refused, where its text does not name them yet.
    #[must_use]
    pub fn with_place(self, place: impl FnOnce() -> String) -> Self {
        match self {
            Self::Denied(text) => {
                let place = place();
                if text.contains(&place) { Self::Denied(text) } else { Self::Denied(format!("{text} ({place})")) }
            }
            other => other,
        }
    }

    /// The reason that a failure of `kind` becomes when nothing can be done about it any more.
    pub fn of(kind: FailureKind, text: String) -> Self {
        match kind {
            FailureKind::Denied | FailureKind::Expired => Self::Denied(text),
            FailureKind::Missing => Self::NotFound(text),
            FailureKind::Refused => Self::Policy(text),
            FailureKind::Changed => Self::Changed(text),
            FailureKind::DiskFull => Self::DiskFull(text),
            FailureKind::Disk => Self::Storage(text),
            FailureKind::Broken
            | FailureKind::Stalled
            | FailureKind::Throttled { .. }
            | FailureKind::Unavailable { .. }
            | FailureKind::Unreachable
            | FailureKind::BadReply
            | FailureKind::RangeIgnored => Self::Network(text),
        }
    }
}

/// Why one request failed, by what the scheduler may do next. Plain data: the simulator makes them too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What to do about it.
    pub kind: FailureKind,
    /// One line for people, free of secrets.
    pub detail: String,
}

/// What a failed request means for the schedule, most frequent first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FailureKind {
    /// The connection broke or the body ended early; ask the rest again.
    Broken,
    /// No progress for the stall timeout; ask the rest again on a new connection.
    Stalled,
    /// The origin asked us to slow down (429, 503), perhaps with a delay.
    Throttled {
        /// The Retry-After the origin gave, already capped.
        retry_after: Option<Duration>,
    },
    /// A 5xx or 408 that a retry may cure.
    Unavailable {
        /// The Retry-After the origin gave, already capped.
        retry_after: Option<Duration>,
    },
    /// Nobody answers: refused, unknown host, TLS refusal, connect timeout.
    Unreachable,
    /// The reply breaks the rules of the request (wrong range, bad framing); a retry may cure it.
    BadReply,
    /// The signed link or the credentials behind it expired; renew, then ask again.
    Expired,
    /// The origin sent the whole object (200) where a range was asked.
    RangeIgnored,
    /// The object is not the planned version any more (412, other ETag, other size).
    Changed,
    /// 401 or 403: no retry helps.
    Denied,
    /// 404 or 410.
    Missing,
    /// Policy forbids where this request leads (redirect, address, scheme).
    Refused,
    /// The disk is full.
    DiskFull,
    /// The disk failed.
    Disk,
}

impl Failure {
    /// A failure of `kind` with one line of detail.
    pub fn new(kind: FailureKind, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into() }
    }

    /// Sorts an operating-system error of the disk into "full" and "failed".
    pub fn disk(what: &str, error: &std::io::Error) -> Self {
        let kind = match error.raw_os_error() {
            Some(code)
                if code == rustix::io::Errno::NOSPC.raw_os_error()
                    || code == rustix::io::Errno::DQUOT.raw_os_error() =>
            {
                FailureKind::DiskFull
            }
            _ => FailureKind::Disk,
        };
        Self::new(kind, format!("{what}: {error}"))
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.detail)
    }
}

/// The one place a file operation's error becomes an [`Error`]: full disks apart from failed ones.
pub fn storage(what: &str, error: &std::io::Error) -> Error {
    let failure = Failure::disk(what, error);
    Error::of(failure.kind, failure.detail)
}
