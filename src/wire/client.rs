//! One lane's client: finds or opens a connection, sends the request, follows redirects, judges the head.

use std::cell::{Cell, RefCell};
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::body::{Body, Framing};
use super::check::{self, Accepted};
use super::connect::{self, Wanted};
use super::dns::Resolver;
use super::http1::{self, Form, Head};
use super::link::{Key, Link};
use super::pool::Pool;
use super::proxy::Route;
use super::refusal::ERROR_BODY_BYTES_MAX;
use super::reply::{After, Reply};
use super::target::{Bound, Hop, Turn};
use super::{Access, Asked, Policy, Settings, redirect, secrets};
use crate::error::{Failure, FailureKind};
use crate::manifest::Version;
use crate::schedule::Connection;
use crate::units;

/// How long an error document may take: it only explains.
const ERROR_BODY_TIME_MAX: Duration = Duration::from_secs(2);

/// Hosts whose last failing address is remembered.
const AVOIDED_MAX: usize = 64;

/// The GET client of one lane. Clones share connections.
#[derive(Clone)]
pub struct Client {
    lane: Rc<Lane>,
}

/// What the clones and replies of one lane share. No borrow is held across an await.
pub(super) struct Lane {
    pub(super) settings: Arc<Settings>,
    resolver: Resolver,
    pool: RefCell<Pool>,
    avoided: RefCell<Vec<(Key, IpAddr)>>,
    turn: Cell<usize>,
}

impl Lane {
    /// Puts a connection back for the next request.
    pub(super) fn keep(&self, link: Link) {
        self.pool.borrow_mut().put(link, Instant::now());
    }

    /// Notes that `peer` failed: new connections for `key` try other addresses first.
    pub(super) fn avoid(&self, key: &Key, peer: IpAddr) {
        let mut avoided = self.avoided.borrow_mut();
        avoided.retain(|(known, _)| known != key);
        if AVOIDED_MAX <= avoided.len() {
            avoided.remove(0);
        }
        avoided.push((key.clone(), peer));
    }

    fn avoided(&self, key: &Key) -> Option<IpAddr> {
        self.avoided.borrow().iter().find(|(known, _)| known == key).map(|(_, ip)| *ip)
    }
}

/// A reply's head, with its body still to come.
struct Answer {
    link: Link,
    head: Head,
    framing: Framing,
}

/// Why a request got no head.
enum Lost {
    /// The connection ended before the reply began: nothing is known of the request.
    BeforeReply(Failure),
    /// Anything else.
    Failed(Failure),
}

/// A failure, and where it came from: the source, or behind a redirect.
struct Trace {
    failure: Failure,
    hop: Hop,
}

impl Client {
    /// A client without connections. Reads /etc/hosts.
    pub fn new(settings: Arc<Settings>) -> Self {
        let resolver = Resolver::new(&settings.dns);
        let lane =
            Lane { settings, resolver, pool: RefCell::default(), avoided: RefCell::default(), turn: Cell::new(0) };
        Self { lane: Rc::new(lane) }
    }

    /// Asks for an object or a range of it; the head of the reply is checked against what was `asked`.
    ///
    /// A connection that turns out closed is replaced silently, once. A redirect's target is remembered for a
    /// minute; when it refuses, its source is asked again, once and by one request for all that wait for the answer.
    ///
    /// # Errors
    /// See [`FailureKind`]; the detail names URL and cause in one line, without secrets.
    pub async fn get(&self, access: &Access, asked: &Asked, connection: Connection) -> Result<Reply, Failure> {
        let (first, turn) = self.place(access).await;
        let trace = match self.follow(first, access, asked, connection).await {
            Ok(reply) => return Ok(reply),
            Err(trace) => trace,
        };
        if trace.hop.hops == 0 || matches!(trace.failure.kind, FailureKind::Throttled { .. }) {
            return Err(trace.failure);
        }
        self.lane.settings.redirects.forget(&access.url, &trace.hop.url);
        match trace.failure.kind {
            FailureKind::Expired | FailureKind::Denied | FailureKind::Missing | FailureKind::Changed => {
                let (again, _turn) = match turn {
                    // The turn is still ours.
                    Some(turn) => (self.source(access), Some(turn)),
                    None => self.place(access).await,
                };
                let again = self.follow(again, access, asked, connection).await;
                again.map_err(|trace| trace.failure)
            }
            _ => Err(trace.failure),
        }
    }

    /// Where to ask first: where the source led before, else the source itself, in turn.
    async fn place(&self, access: &Access) -> (Hop, Option<Turn>) {
        let redirects = &self.lane.settings.redirects;
        if let Some(hop) = redirects.recall(&access.url) {
            return (hop, None);
        }
        let turn = redirects.turn(&access.url, self.lane.settings.stall_timeout).await;
        match redirects.recall(&access.url) {
            // Whoever had the turn before has found out.
            Some(hop) => (hop, None),
            None => (self.source(access), turn),
        }
    }

    fn source(&self, access: &Access) -> Hop {
        let namer = match access.policy {
            Policy::Configured => None,
            Policy::NamedBy(class) => Some(class),
        };
        Hop { url: access.url.clone(), namer, bound: Bound::Own, hops: 0 }
    }

    /// Asks `hop` and wherever it redirects to.
    async fn follow(
        &self,
        mut hop: Hop,
        access: &Access,
        asked: &Asked,
        connection: Connection,
    ) -> Result<Reply, Trace> {
        let (since, begun) = (Instant::now(), hop.hops);
        loop {
            let hops = hop.hops;
            let trace = |failure| Trace { failure, hop: hop.clone() };
            let answer = self.exchange(&hop, access, asked, connection).await.map_err(trace)?;
            let location = match redirect::is_redirect(answer.head.status) {
                true => answer.head.first("location").map(str::to_owned),
                false => None,
            };
            let Some(location) = location else {
                let reply = self.judge(answer, &hop, access, asked).await.map_err(trace)?;
                if begun == 0 && hop.hops != 0 {
                    self.lane.settings.redirects.remember(&access.url, hop, since);
                }
                return Ok(reply);
            };
            self.lane.settings.redirects.redirected(&access.url);
            let class = answer.link.class;
            let url = redirect::decide(&hop.url, class, &location, hops).map_err(trace)?;
            self.drain(answer, &hop).await;
            let same = url.origin() == hop.url.origin();
            let bound = if same { hop.bound } else { Bound::Left };
            hop = Hop { url, namer: Some(class), bound, hops: hops + 1 };
        }
    }

    /// Sends one request and reads the head of its reply.
    async fn exchange(
        &self,
        hop: &Hop,
        access: &Access,
        asked: &Asked,
        connection: Connection,
    ) -> Result<Answer, Failure> {
        let settings = &self.lane.settings;
        let origin = hop.url.origin();
        let route = settings.proxies.route(&origin);
        let mut extra = match hop.bound {
            Bound::Own => access.headers.clone(),
            Bound::Left => Vec::new(),
        };
        let (form, via) = match &route {
            Route::Direct => (Form::Path, None),
            Route::Tunnel(proxy) => (Form::Path, Some(proxy)),
            Route::Forward(proxy) => {
                extra.extend(proxy.authorization.clone().map(|value| ("Proxy-Authorization".to_owned(), value)));
                (Form::Whole, Some(proxy))
            }
        };
        let key = Key { origin, via: via.map(|proxy| format!("{}:{}", proxy.host, proxy.port)) };
        let request = http1::request(&hop.url, form, asked, settings, &extra)?;
        let named = |failure: Failure| Failure::new(failure.kind, format!("{}: {failure}", hop.url));
        if connection == Connection::Any {
            let idle = self.lane.pool.borrow_mut().take(&key, hop.namer, Instant::now());
            if let Some(link) = idle {
                match self.ask(link, &request).await {
                    Ok(answer) => return Ok(answer),
                    Err(Lost::Failed(failure)) => return Err(named(failure)),
                    Err(Lost::BeforeReply(failure)) => tracing::debug!(%failure, "idle connection was closed"),
                }
            }
        }
        let turn = self.lane.turn.replace(self.lane.turn.get().wrapping_add(1));
        let wanted = Wanted { key: &key, route: &route, namer: hop.namer, avoid: self.lane.avoided(&key), turn };
        let link = connect::open(settings, &self.lane.resolver, &wanted).await?;
        let peer = link.peer;
        self.ask(link, &request).await.map_err(|lost| {
            self.lane.avoid(&key, peer);
            let (Lost::BeforeReply(failure) | Lost::Failed(failure)) = lost;
            named(failure)
        })
    }

    /// Sends `request` on `link` and reads heads until one is not interim.
    async fn ask(&self, mut link: Link, request: &[u8]) -> Result<Answer, Lost> {
        self.lane.settings.counters.asked();
        let patience = self.lane.settings.stall_timeout;
        match tokio::time::timeout(patience, head(&mut link, request)).await {
            Ok(result) => result.map(|(head, framing)| Answer { link, head, framing }),
            Err(_elapsed) => {
                let detail = format!("no reply for {}", units::show_duration(patience));
                Err(Lost::Failed(Failure::new(FailureKind::Stalled, detail)))
            }
        }
    }

    /// Accepts the head, or reads the error document and says what it means.
    async fn judge(&self, answer: Answer, hop: &Hop, access: &Access, asked: &Asked) -> Result<Reply, Failure> {
        let verdict = |head: &Head, body: &[u8]| {
            let failure = match check::check(head, asked, body, SystemTime::now()) {
                Ok(accepted) => return Ok(accepted),
                Err(failure) => failure,
            };
            let detail = secrets::scrub(&failure.detail, access, &hop.url);
            Err(Failure::new(failure.kind, format!("{}: {detail}", hop.url)))
        };
        if !matches!(answer.head.status, 200..=299) {
            let head = answer.head.clone();
            let body = self.drain(answer, hop).await;
            return match verdict(&head, &body) {
                Err(failure) => Err(failure),
                Ok(_) => Err(Failure::new(FailureKind::BadReply, format!("{}: status {}", hop.url, head.status))),
            };
        }
        let accepted = verdict(&answer.head, &[])?;
        Ok(self.reply(answer, hop, accepted))
    }

    fn reply(&self, answer: Answer, hop: &Hop, accepted: Accepted) -> Reply {
        let Answer { link, head, framing } = answer;
        let after = if http1::keeps_alive(&head, framing) { After::Keep } else { After::Close };
        let tally = self.lane.settings.counters.tally(hop.url.origin());
        Reply::new(Rc::clone(&self.lane), link, hop.url.clone(), Body::new(framing), after, accepted, tally)
    }

    /// Reads what is worth reading of a body that is not the object, and keeps the connection if that was all.
    async fn drain(&self, answer: Answer, hop: &Hop) -> Vec<u8> {
        let accepted = Accepted { size: None, length: None, version: Version::default() };
        let mut reply = self.reply(answer, hop, accepted);
        let mut body = vec![0; ERROR_BODY_BYTES_MAX];
        let filled = match tokio::time::timeout(ERROR_BODY_TIME_MAX, reply.fill(&mut body)).await {
            Ok(Ok(filled)) => {
                reply.finish();
                filled
            }
            // The status has said what matters; the words of a broken document are a courtesy.
            Ok(Err(_)) | Err(_) => 0,
        };
        body.truncate(filled);
        body
    }
}

/// Sends `request`, skips interim replies, and returns the head and how its body is framed.
async fn head(link: &mut Link, request: &[u8]) -> Result<(Head, Framing), Lost> {
    let broken = |error: std::io::Error| Failure::new(FailureKind::Broken, error.to_string());
    link.send(request).await.map_err(|error| Lost::BeforeReply(broken(error)))?;
    let mut interim = 0;
    loop {
        let parsed =
            if link.held().is_empty() { None } else { http1::parse_head(link.held()).map_err(Lost::Failed)? };
        let Some((head, used)) = parsed else {
            let begun = interim != 0 || !link.held().is_empty();
            let failure = match link.more().await {
                Ok(0) => Failure::new(FailureKind::Broken, "the connection closed before the reply"),
                Ok(_) => continue,
                Err(error) => broken(error),
            };
            return Err(if begun { Lost::Failed(failure) } else { Lost::BeforeReply(failure) });
        };
        link.consume(used);
        if matches!(head.status, 100..=199) {
            interim += 1;
            if interim <= http1::INTERIM_MAX && head.status != 101 {
                continue;
            }
            return Err(Lost::Failed(Failure::new(
                FailureKind::BadReply,
                "the reply never gets past interim statuses",
            )));
        }
        let framing = http1::framing(&head).map_err(Lost::Failed)?;
        return Ok((head, framing));
    }
}
