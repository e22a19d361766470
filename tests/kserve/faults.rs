//! Origins that misbehave, refuse, or are not there.

use std::sync::Arc;

use dray_arena::{Fault, FaultOrigin, Head, On, Options, Ranges, Rule, Script, Validators};

use super::row::Row;
use super::stores::{PATH, origin, s3_origin};
use crate::rig::oracle::{Content, MIB};
use crate::rig::server::free_ports;

const SIZE: u64 = 6 * MIB + 123;

/// The path of the one object of an S3 endpoint that misbehaves.
const OBJECT: &str = "/bucket/model/weights.bin";

/// Requests that a refusal may cost: it is not tried again and again.
const REFUSED_MAX: u64 = 6;

pub(super) fn rows() -> Vec<Row> {
    let mut rows = healing();
    rows.extend(odd());
    rows.extend(changing());
    rows.extend(lasting());
    rows.extend(of_s3());
    rows.extend(healing_of_s3());
    rows.extend(unreachable());
    rows
}

/// One file from an origin of these manners.
fn takes(name: &'static str, script: Script, options: Options) -> Row {
    let (origin, content) = origin(SIZE, script, options);
    Row::takes(name, origin.url(PATH), &[("weights.bin", &content)]).origin(&origin).hasty()
}

fn fails(name: &'static str, script: Script, exit: i32, last: &'static str) -> (Row, Arc<FaultOrigin>) {
    let (origin, _) = origin(SIZE, script, Options::default());
    (Row::fails(name, origin.url(PATH), exit, last).origin(&origin).hasty(), origin)
}

impl Row {
    /// Silence is not waited out for long.
    fn hasty(self) -> Self {
        self.env("DRAY_STALL_TIMEOUT", "500ms")
    }
}

fn healing() -> Vec<Row> {
    [
        ("faults/cut-body", Fault::ShortBody { after: MIB + 17 }),
        ("faults/reset-body", Fault::ResetMidBody { after: MIB + 1 }),
        ("faults/reset-after-headers", Fault::ResetAfterHeaders),
        ("faults/closed-without-reply", Fault::CloseBeforeHeaders),
        ("faults/stalled-body", Fault::StallMidBody { after: MIB + 5 }),
        ("faults/500-once", Fault::Status500),
        ("faults/503-once", Fault::Status503 { retry_after: None }),
        ("faults/503-with-retry-after", Fault::Status503 { retry_after: Some(1) }),
        ("faults/429-with-retry-after", Fault::Status429 { retry_after: Some(1) }),
        ("faults/gzip-nobody-asked-for", Fault::GzipEncoding),
        ("faults/garbage-once", Fault::Garbage),
    ]
    .into_iter()
    .map(|(name, fault)| takes(name, Script::calm().rule(Rule::new(fault).first(1)), Options::default()))
    .collect()
}

fn odd() -> Vec<Row> {
    let options = Options::default;
    vec![
        takes("faults/chunked", Script::always(Fault::ChunkedBody), options()),
        takes("faults/a-connection-each", Script::always(Fault::CloseConnectionEachTime), options()),
        takes("faults/head-403", Script::calm(), Options { head: Head::Refused403, ..options() }),
        takes("faults/head-405", Script::calm(), Options { head: Head::Refused405, ..options() }),
        takes("faults/ranges-ignored", Script::calm(), Options { ranges: Ranges::Ignored, ..options() }),
        takes("faults/weak-validators", Script::calm(), Options { validators: Validators::Weak, ..options() }),
        takes("faults/no-validators", Script::calm(), Options { validators: Validators::None, ..options() }),
    ]
}

/// The file becomes another one, with its own ETag, while it is fetched.
fn changing() -> Vec<Row> {
    let new = Content::new(8, SIZE - MIB);
    let mut bytes = Vec::new();
    new.write_to(&mut bytes);
    let change = Fault::VersionChange(dray_arena::Content::bytes(bytes));
    let cut = Rule::new(Fault::ShortBody { after: MIB + 17 }).first(1);
    let script = Script::calm().rule(cut).rule(Rule::new(change).nth(2));
    let (origin, _) = origin(SIZE, script, Options::default());
    let row = Row::takes("faults/changed-half-way", origin.url(PATH), &[("weights.bin", &new)]);
    vec![row.origin(&origin).hasty()]
}

fn lasting() -> Vec<Row> {
    let always = |fault| Script::calm().rule(Rule::new(fault).on(On::Any));
    let row = |name, fault, exit, last| fails(name, always(fault), exit, last).0;
    vec![
        row("faults/cut-for-good", Fault::ShortBody { after: 0 }, 7, "error: ").env("DRAY_DEADLINE", "2s"),
        row("faults/500-for-good", Fault::Status500, 7, "500").env("DRAY_DEADLINE", "20s"),
        row("faults/503-for-good", Fault::Status503 { retry_after: None }, 7, "503").env("DRAY_DEADLINE", "20s"),
        row("faults/404", Fault::NotFound404, 3, "404").requests_max(REFUSED_MAX),
        row("faults/403", Fault::AccessDenied403, 4, "403").requests_max(REFUSED_MAX),
        row("faults/401", Fault::StatusHtml { status: 401 }, 4, "401").requests_max(REFUSED_MAX),
    ]
}

/// An S3 endpoint that gives each of its error classes.
fn of_s3() -> Vec<Row> {
    let row = |name, fault, exit, last| {
        let script = Script::calm().rule(Rule::new(fault).on(On::Any));
        let (origin, _) = origin(1, script, Options::default());
        let row = Row::fails(name, "s3://bucket/model", exit, last).keyed(&origin.url(""));
        row.origin(&origin).hasty().env("DRAY_DEADLINE", "20s")
    };
    vec![
        row("faults/s3-access-denied", Fault::AccessDenied403, 4, "refuses access").requests_max(REFUSED_MAX),
        row("faults/s3-expired-token", Fault::Status403Expired, 4, "error: ").requests_max(2 * REFUSED_MAX),
        row("faults/s3-401", Fault::StatusHtml { status: 401 }, 4, "error: ").requests_max(REFUSED_MAX),
        row("faults/s3-404", Fault::NotFound404, 3, "error: ").requests_max(REFUSED_MAX),
        row("faults/s3-500", Fault::Status500, 7, "error: ").env("DRAY_DEADLINE", "2s"),
        row("faults/s3-slow-down", Fault::Status503 { retry_after: None }, 7, "error: ").env("DRAY_DEADLINE", "2s"),
        row("faults/s3-garbage", Fault::Garbage, 7, "error: ").env("DRAY_DEADLINE", "2s"),
    ]
}

/// One object that meets a fault once, and one that is gone when it is asked for.
fn healing_of_s3() -> Vec<Row> {
    let once = |fault| Script::calm().rule(Rule::new(fault).path(OBJECT).first(1));
    let row = |name, script| {
        let (origin, content) = s3_origin("/bucket", SIZE, script);
        let row = Row::takes(name, "s3://bucket/model", &[("weights.bin", &content)]).keyed(&origin.url(""));
        row.origin(&origin).hasty()
    };
    let vanish = Rule::new(Fault::Vanish).on(On::Any).path(OBJECT);
    let (gone, _) = s3_origin("/bucket", SIZE, Script::calm().rule(vanish));
    vec![
        row("faults/s3-calm", Script::calm()),
        row("faults/s3-cut-body", once(Fault::ShortBody { after: MIB + 17 })),
        row("faults/s3-reset-body", once(Fault::ResetMidBody { after: MIB + 1 })),
        row("faults/s3-503-once", once(Fault::Status503 { retry_after: None })),
        row("faults/s3-500-once", once(Fault::Status500)),
        read_timeout(once(Fault::StallMidBody { after: MIB + 5 })),
        Row::fails("faults/s3-listed-and-gone", "s3://bucket/model", 8, "listed and is gone")
            .keyed(&gone.url(""))
            .origin(&gone)
            .hasty(),
    ]
}

/// `S3_READ_TIMEOUT` alone ends the silence: dray's own patience would outlast the deadline.
fn read_timeout(script: Script) -> Row {
    let (origin, content) = s3_origin("/bucket", SIZE, script);
    Row::takes("faults/s3-read-timeout", "s3://bucket/model", &[("weights.bin", &content)])
        .keyed(&origin.url(""))
        .origin(&origin)
        .env("S3_READ_TIMEOUT", "0.5")
        .env("DRAY_DEADLINE", "9s")
        .dray_only("upstream reads whole seconds only")
}

fn unreachable() -> Vec<Row> {
    let [closed] = free_ports();
    let place = format!("http://127.0.0.1:{closed}");
    let nowhere = "http://nowhere.invalid";
    vec![
        Row::fails("faults/refused-connection", format!("{place}/weights"), 7, "refused").env("DRAY_DEADLINE", "20s"),
        Row::fails("faults/unknown-host", format!("{nowhere}/weights"), 7, "nowhere.invalid")
            .env("DRAY_DEADLINE", "20s"),
        Row::fails("faults/s3-refused-connection", "s3://bucket/model", 7, "error: ")
            .keyed(&place)
            .env("DRAY_DEADLINE", "20s"),
        Row::fails("faults/s3-unknown-host", "s3://bucket/model", 7, "error: ")
            .keyed(nowhere)
            .env("DRAY_DEADLINE", "20s"),
        Row::fails("faults/s3-endpoint-is-no-url", "s3://bucket/model", 2, "AWS_ENDPOINT_URL").keyed("nowhere"),
    ]
}
