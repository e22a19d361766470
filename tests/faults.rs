//! The real binary against an origin that breaks on demand: every fault either heals or ends in its class, and
//! nothing wrong ever has a final name.

mod rig;

use std::time::Duration;

use dray_arena::{Content, Fault, FaultOrigin, Head, On, Options, Ranges, Rule, Script, Validators};
use rig::dray::{Dray, Run};
use rig::oracle::{MIB, hash_file, tree};

const PATH: &str = "/models/weights.bin";
const SIZE: u64 = 24 * MIB + 12_345;

fn content(seed: u64) -> Content {
    Content::generated(seed, SIZE)
}

fn digest(content: &Content) -> blake3::Hash {
    let size = usize::try_from(content.size()).expect("fits");
    blake3::hash(&content.range(0, size))
}

/// One pull from an origin of `script` and `options`; returns the run and what DEST holds under the final name.
fn pull(script: Script, options: Options, flags: &[&str]) -> (Run, Option<blake3::Hash>, FaultOrigin) {
    let origin = FaultOrigin::start_with(vec![(PATH.to_owned(), content(1))], script, options).expect("origin");
    let dest = rig::folder();
    let run = Dray::pull(&origin.url(PATH), dest.path()).args(["--stall-timeout", "500ms"]).args(flags).run();
    let found = tree(dest.path()).contains("weights.bin").then(|| hash_file(&dest.path().join("weights.bin")));
    (run, found, origin)
}

#[track_caller]
fn heals_from(script: Script, options: Options) -> Run {
    let (run, found, _) = pull(script, options, &[]);
    run.assert_sealed();
    assert_eq!(found, Some(digest(&content(1))), "bytes under the final name");
    run
}

#[track_caller]
fn ends_in(code: i32, script: Script) -> (Run, FaultOrigin) {
    let (run, found, origin) = pull(script, Options::default(), &[]);
    run.assert_fails(code);
    assert_eq!(found, None, "nothing has a final name");
    (run, origin)
}

fn first_gets(n: u64, fault: Fault) -> Script {
    Script::calm().rule(Rule::new(fault).on(On::Get).first(n))
}

#[test]
fn a_passing_fault_of_any_kind_heals() {
    let faults = [
        Fault::ShortBody { after: 3 * MIB + 17 },
        Fault::ShortBody { after: 0 },
        Fault::ResetMidBody { after: 2 * MIB + 1 },
        Fault::ResetAfterHeaders,
        Fault::CloseBeforeHeaders,
        Fault::StallNoHeaders,
        Fault::StallMidBody { after: MIB + 5 },
        Fault::Status503 { retry_after: None },
        Fault::Status503 { retry_after: Some(1) },
        Fault::Status429 { retry_after: Some(1) },
        Fault::Status500,
        Fault::StatusHtml { status: 502 },
        Fault::StatusHtml { status: 408 },
        Fault::WrongRange { shift: MIB },
        Fault::WrongTotal,
        Fault::MissingContentRange,
        Fault::ShorterRange { by: 100 },
        Fault::MultipartRanges,
        Fault::TooLong { extra: 64 },
        Fault::TwoContentLengths,
        Fault::LengthAndChunked,
        Fault::HugeHeaders { bytes: 1 << 20 },
        Fault::GzipEncoding,
        Fault::Garbage,
        Fault::Xml200,
    ];
    for fault in faults {
        println!("{fault:?}");
        let run = heals_from(first_gets(2, fault.clone()), Options::default());
        assert!(1 <= run.count("requests.retried"), "{fault:?} was met and retried: {}", run.report());
    }
}

#[test]
fn odd_but_honest_replies_are_taken_as_they_are() {
    for fault in [
        Fault::ChunkedBody,
        Fault::CloseConnectionEachTime,
        Fault::InterimFlood { count: 3 },
        Fault::ExtraBytes { extra: 64 },
        Fault::Latency(Duration::from_millis(50)),
    ] {
        println!("{fault:?}");
        heals_from(Script::always(fault), Options::default());
    }
}

#[test]
fn servers_of_lesser_ability_work() {
    let options = [
        Options { ranges: Ranges::Ignored, ..Options::default() },
        Options { head: Head::Refused403, ..Options::default() },
        Options { head: Head::Refused405, ranges: Ranges::Ignored, ..Options::default() },
        Options { validators: Validators::Weak, ..Options::default() },
        Options { validators: Validators::ModifiedOnly, ..Options::default() },
        Options { validators: Validators::None, ..Options::default() },
    ];
    for options in options {
        println!("{options:?}");
        heals_from(Script::calm(), options);
    }
}

#[test]
fn a_server_that_ignores_ranges_only_when_asked_is_read_as_one_stream() {
    heals_from(Script::always(Fault::Ok200ForRange), Options::default());
}

#[test]
fn a_stream_without_length_ends_where_its_last_chunk_says() {
    for size in [0, 1, MIB - 1, MIB, MIB + 1, 5 * MIB, 9 * MIB + 3] {
        let content = Content::generated(9, size);
        let options = Options { ranges: Ranges::Ignored, head: Head::Refused405, ..Options::default() };
        let origin = FaultOrigin::start_with(
            vec![(PATH.to_owned(), content.clone())],
            Script::always(Fault::ChunkedBody),
            options,
        )
        .expect("origin");
        let dest = rig::folder();
        Dray::pull(&origin.url(PATH), dest.path()).run().assert_sealed();
        assert_eq!(hash_file(&dest.path().join("weights.bin")), digest(&content), "{size} bytes");
        assert_eq!(
            rig::oracle::stated_digests(&rig::oracle::receipt(dest.path()))["weights.bin"],
            digest(&content).to_string(),
            "{size} bytes"
        );
    }
}

#[test]
fn a_fault_that_stays_ends_as_a_network_failure() {
    for fault in [
        Fault::WrongRange { shift: MIB },
        Fault::TwoContentLengths,
        Fault::Status500,
        Fault::CloseBeforeHeaders,
        Fault::GzipEncoding,
    ] {
        println!("{fault:?}");
        ends_in(7, Script::calm().rule(Rule::new(fault).on(On::Get)));
    }
}

#[test]
fn refusals_end_after_a_handful_of_requests() {
    for (fault, code) in [(Fault::AccessDenied403, 4), (Fault::StatusHtml { status: 401 }, 4), (Fault::NotFound404, 3)]
    {
        let (run, origin) = ends_in(code, Script::calm().rule(Rule::new(fault.clone()).on(On::Any)));
        assert!(origin.requests() <= 12, "{fault:?}: {} requests", origin.requests());
        assert!(run.seconds < 20.0, "{fault:?}");
    }
}

#[test]
fn a_head_on_a_connection_that_closes_is_sent_once_more() {
    for (closed, heads) in [(0, 1), (1, 2), (9, 2)] {
        let rule = Rule::new(Fault::CloseBeforeHeaders).on(On::Head).first(closed);
        let (run, found, origin) = pull(Script::calm().rule(rule), Options::default(), &[]);
        run.assert_sealed();
        assert_eq!(found, Some(digest(&content(1))), "bytes under the final name");
        let asked = origin.log().iter().filter(|seen| seen.method == "HEAD").count();
        assert_eq!(asked, heads, "{closed} were closed");
    }
}

#[test]
fn an_object_that_changes_in_mid_pull_arrives_as_the_new_version_whole() {
    let script = Script::calm().rule(Rule::new(Fault::VersionChange(content(2))).on(On::Get).nth(2));
    let (run, found, _) = pull(script, Options::default(), &["--connections", "1"]);
    run.assert_sealed();
    assert_eq!(found, Some(digest(&content(2))), "the new version, whole");
}

#[test]
fn an_object_that_keeps_changing_is_given_up_as_changed() {
    let mut script = Script::calm();
    for n in 2..60 {
        script = script.rule(Rule::new(Fault::VersionChange(content(n))).on(On::Get).nth(n));
    }
    let (run, found, _) = pull(script, Options::default(), &["--connections", "1"]);
    run.assert_fails(8);
    assert_eq!(found, None);
}

#[test]
fn redirects_are_followed_by_hand_and_bounded() {
    let target = FaultOrigin::start(vec![("/blob".to_owned(), content(1))], Script::calm()).expect("target");
    let to = |location: String| {
        Script::calm().rule(Rule::new(Fault::Redirect { status: 302, location }).on(On::Any).path(PATH))
    };
    heals_from(to(target.url("/blob")), Options::default());
    ends_in(6, to(PATH.to_owned()));
    ends_in(6, to("file:///etc/passwd".to_owned()));
    ends_in(6, to("http://169.254.169.254/latest/meta-data".to_owned()));
}

#[test]
fn a_pull_under_random_faults_heals_with_right_bytes() {
    for seed in 0..6 {
        let faults = [
            Fault::ShortBody { after: MIB + 3 },
            Fault::ResetMidBody { after: 2 * MIB },
            Fault::StallMidBody { after: 2 * MIB },
            Fault::Status503 { retry_after: None },
            Fault::WrongRange { shift: MIB },
            Fault::CloseBeforeHeaders,
        ];
        println!("seed {seed}");
        heals_from(Script::random(seed, 0.15, faults), Options::default());
    }
}

#[test]
fn connections_that_are_all_cut_before_a_whole_piece_still_make_progress() {
    let run = heals_from(
        Script::calm().rule(Rule::new(Fault::ShortBody { after: 900 << 10 }).on(On::Get)),
        Options::default(),
    );
    let fetched = run.count("bytes.fetched");
    assert!(fetched <= SIZE, "no byte counts twice: {fetched}");
}

#[test]
fn a_drip_is_a_stall() {
    let run = heals_from(first_gets(1, Fault::Drip { every: Duration::from_millis(20) }), Options::default());
    assert!(run.seconds < 30.0);
}
