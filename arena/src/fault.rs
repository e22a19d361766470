//! Faults and the script that decides which request meets which. Pure: no clock, sockets or randomness.
//!
//! In: a request's method, path and range. Out: the faults to apply, in the order of the rules.
//! Holds: the same rules and seed asked in the same order give the same faults.

use std::time::Duration;

use crate::content::{Content, mix};

/// One way to answer badly, slowly or oddly. Offsets named `at` count in the object, `after` in the
/// reply's body; a body fault changes nothing where there is no body, as on a HEAD.
#[derive(Clone, Debug, PartialEq)]
pub enum Fault {
    /// Orderly end of the connection after so many body bytes; Content-Length promised more.
    ShortBody {
        /// Body bytes sent.
        after: u64,
    },
    /// Connection reset after so many body bytes.
    ResetMidBody {
        /// Body bytes sent.
        after: u64,
    },
    /// Connection reset between headers and body.
    ResetAfterHeaders,
    /// Orderly end of the connection without a single byte of reply.
    CloseBeforeHeaders,
    /// The request is read and never answered.
    StallNoHeaders,
    /// So many body bytes, then silence with the connection open.
    StallMidBody {
        /// Body bytes sent.
        after: u64,
    },
    /// The body comes one byte at a time.
    Drip {
        /// Pause after each byte.
        every: Duration,
    },
    /// 503 with S3's `SlowDown`.
    Status503 {
        /// Seconds to put in Retry-After.
        retry_after: Option<u64>,
    },
    /// 429 Too Many Requests.
    Status429 {
        /// Seconds to put in Retry-After.
        retry_after: Option<u64>,
    },
    /// 500 with S3's `InternalError`.
    Status500,
    /// Any status with a short HTML body: 401, 408, 416, 502, 504, a captive portal's 200.
    StatusHtml {
        /// The status.
        status: u16,
    },
    /// 403 with S3's `ExpiredToken`: fresh credentials would help.
    Status403Expired,
    /// 403 with S3's `AccessDenied`: nothing helps.
    AccessDenied403,
    /// 404 with S3's `NoSuchKey`.
    NotFound404,
    /// The range is ignored: 200 and the whole object.
    Ok200ForRange,
    /// Content-Range names another place of the same length; the bytes are those asked for.
    WrongRange {
        /// Bytes by which both ends are moved up.
        shift: u64,
    },
    /// Content-Range states a total one byte larger than the object.
    WrongTotal,
    /// Content-Range states the total as `*`.
    UnknownTotal,
    /// 206 without Content-Range.
    MissingContentRange,
    /// An honest 206, but for fewer bytes than were asked for.
    ShorterRange {
        /// Bytes missing at the end; at least one byte is sent.
        by: u64,
    },
    /// 206 as `multipart/byteranges` with a single part.
    MultipartRanges,
    /// More body bytes than asked for; Content-Length is honest about it.
    TooLong {
        /// Bytes too many.
        extra: u64,
    },
    /// More bytes on the wire than Content-Length says, in front of whatever reply follows.
    ExtraBytes {
        /// Bytes too many.
        extra: u64,
    },
    /// The lowest bit of one byte is wrong, wherever the reply covers it.
    FlipByte {
        /// Offset in the object.
        at: u64,
    },
    /// Zeroes where the object has something else.
    ZeroBytes {
        /// Offset in the object.
        at: u64,
        /// Length of the hole.
        len: u64,
    },
    /// From this request on the path holds this object, with its ETag.
    VersionChange(Content),
    /// This reply states another ETag for the same bytes, whatever was asked to match.
    OtherEtag(String),
    /// From this request on the path is gone: 404.
    Vanish,
    /// A redirect.
    Redirect {
        /// 301, 302, 303, 307 or 308.
        status: u16,
        /// The Location header, as it stands.
        location: String,
    },
    /// Content-Encoding: gzip over bytes that are no gzip, though nobody asked.
    GzipEncoding,
    /// Correct chunked framing instead of Content-Length.
    ChunkedBody,
    /// Chunked framing that ends, in order, before the last chunk.
    ChunkedTruncated {
        /// Body bytes sent.
        after: u64,
    },
    /// Two Content-Length headers that disagree.
    TwoContentLengths,
    /// Content-Length together with chunked framing.
    LengthAndChunked,
    /// Filler headers.
    HugeHeaders {
        /// Their size in all.
        bytes: usize,
    },
    /// Interim 103 replies before the real one.
    InterimFlood {
        /// How many.
        count: u32,
    },
    /// A status line that is not HTTP.
    Garbage,
    /// A pause before the reply.
    Latency(Duration),
    /// The body comes no faster than this, on this connection.
    RateLimit {
        /// Bytes in a second.
        bytes_per_second: u64,
    },
    /// 200 with an S3 error document, as S3 may end a long operation.
    Xml200,
    /// `Connection: close`, and it is.
    CloseConnectionEachTime,
}

/// Methods a rule is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum On {
    /// GET alone.
    Get,
    /// HEAD alone.
    Head,
    /// Both.
    Any,
}

/// Which of the requests a rule is about meet its fault. Counts start at 1 and are the rule's own.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum When {
    /// Each.
    Always,
    /// The n-th alone.
    Nth(u64),
    /// The first n: a storm that heals.
    First(u64),
    /// The n-th and all later ones.
    From(u64),
    /// Each with this probability, from the script's seed.
    Chance(f64),
}

/// A fault and the requests it is for.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    on: On,
    path: Option<String>,
    covering: Option<u64>,
    when: When,
    fault: Fault,
    matched: u64,
}

/// The rules of an origin, with the seed for those that leave it to chance.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Script {
    seed: u64,
    rules: Vec<Rule>,
}

/// What a script has to know of a request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked<'a> {
    pub(crate) head: bool,
    pub(crate) path: &'a str,
    /// First and past-the-end offset of the bytes a good reply would carry.
    pub(crate) span: (u64, u64),
}

impl Rule {
    /// `fault` on every GET of every path, until narrowed.
    pub fn new(fault: Fault) -> Self {
        Self { on: On::Get, path: None, covering: None, when: When::Always, fault, matched: 0 }
    }

    /// For these methods.
    #[must_use]
    pub fn on(mut self, on: On) -> Self {
        self.on = on;
        self
    }

    /// For this path alone; a query does not count.
    #[must_use]
    pub fn path(mut self, path: &str) -> Self {
        self.path = Some(path.to_owned());
        self
    }

    /// For requests whose range holds this offset of the object.
    #[must_use]
    pub fn covering(mut self, offset: u64) -> Self {
        self.covering = Some(offset);
        self
    }

    /// For these of the requests that fit so far.
    #[must_use]
    pub fn when(mut self, when: When) -> Self {
        self.when = when;
        self
    }

    /// The n-th fitting request alone, from 1.
    #[must_use]
    pub fn nth(self, n: u64) -> Self {
        self.when(When::Nth(n))
    }

    /// The first n fitting requests.
    #[must_use]
    pub fn first(self, n: u64) -> Self {
        self.when(When::First(n))
    }

    /// Each fitting request with probability `p`.
    #[must_use]
    pub fn chance(self, p: f64) -> Self {
        self.when(When::Chance(p))
    }

    fn fits(&self, asked: Asked<'_>) -> bool {
        let method = match self.on {
            On::Get => !asked.head,
            On::Head => asked.head,
            On::Any => true,
        };
        let path = self.path.as_deref().is_none_or(|path| path == asked.path);
        let covered = self.covering.is_none_or(|at| asked.span.0 <= at && at < asked.span.1);
        method && path && covered
    }

    /// Counts a fitting request and says whether it meets the fault.
    fn strikes(&mut self, seed: u64) -> bool {
        self.matched += 1;
        match self.when {
            When::Always => true,
            When::Nth(n) => self.matched == n,
            When::First(n) => self.matched <= n,
            When::From(n) => n <= self.matched,
            When::Chance(p) => {
                // 53 bits: every value is exact as a double.
                let draw = mix(seed ^ mix(self.matched)) >> 11;
                (draw as f64) < p * (1u64 << 53) as f64
            }
        }
    }
}

impl Script {
    /// No faults.
    pub fn calm() -> Self {
        Self::default()
    }

    /// No faults yet, and a seed for rules that leave it to chance.
    pub fn seeded(seed: u64) -> Self {
        Self { seed, rules: Vec::new() }
    }

    /// This fault on every GET.
    pub fn always(fault: Fault) -> Self {
        Self::calm().rule(Rule::new(fault))
    }

    /// This fault on the n-th GET of a path, from 1.
    pub fn once(path: &str, n: u64, fault: Fault) -> Self {
        Self::calm().rule(Rule::new(fault).path(path).nth(n))
    }

    /// Each of these faults with probability `p` on every GET.
    pub fn random(seed: u64, p: f64, faults: impl IntoIterator<Item = Fault>) -> Self {
        faults.into_iter().fold(Self::seeded(seed), |script, fault| script.rule(Rule::new(fault).chance(p)))
    }

    /// Adds a rule. All rules that strike apply, in the order they were added.
    #[must_use]
    pub fn rule(mut self, rule: Rule) -> Self {
        self.rules.push(rule);
        self
    }

    /// The faults of this request; counts it for every rule it fits.
    pub(crate) fn faults(&mut self, asked: Asked<'_>) -> Vec<Fault> {
        let mut out = Vec::new();
        for (number, rule) in (0u64..).zip(&mut self.rules) {
            // Each rule draws its own stream, so that adding one does not shift the others.
            let seed = mix(self.seed ^ mix(number + 1));
            if rule.fits(asked) && rule.strikes(seed) {
                out.push(rule.fault.clone());
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(path: &str, span: (u64, u64)) -> Asked<'_> {
        Asked { head: false, path, span }
    }

    fn strikes(rule: Rule, requests: u64) -> Vec<u64> {
        let mut script = Script::seeded(7).rule(rule);
        (1..=requests).filter(|_| !script.faults(asked("/m", (0, 10))).is_empty()).collect()
    }

    #[test]
    fn counts_are_per_rule_and_start_at_one() {
        let rule = Rule::new(Fault::Status500);
        assert_eq!(strikes(rule.clone(), 3), [1, 2, 3]);
        assert_eq!(strikes(rule.clone().nth(2), 4), [2]);
        assert_eq!(strikes(rule.clone().first(2), 4), [1, 2]);
        assert_eq!(strikes(rule.clone().when(When::From(3)), 4), [3, 4]);
        assert!(strikes(rule.clone().path("/other"), 4).is_empty());
        assert!(strikes(rule.clone().on(On::Head), 4).is_empty());
        assert!(strikes(rule.clone().covering(10), 4).is_empty());
        assert_eq!(strikes(rule.covering(9), 2), [1, 2]);
    }

    #[test]
    fn chance_follows_the_seed_and_the_probability() {
        let rule = Rule::new(Fault::Status500).chance(0.3);
        let first = strikes(rule.clone(), 10_000);
        assert_eq!(first, strikes(rule, 10_000));
        assert!((2_800..3_200).contains(&first.len()), "{}", first.len());
        assert!(strikes(Rule::new(Fault::Status500).chance(0.0), 1000).is_empty());
        assert_eq!(strikes(Rule::new(Fault::Status500).chance(1.0), 1000).len(), 1000);
    }

    #[test]
    fn rules_that_strike_together_keep_their_order() {
        let latency = Fault::Latency(Duration::from_millis(1));
        let mut script = Script::calm().rule(Rule::new(latency.clone())).rule(Rule::new(Fault::Status500).path("/m"));
        assert_eq!(script.faults(asked("/m", (0, 1))), [latency, Fault::Status500]);
    }
}
