//! What the scheduler does, rule by rule. Whole runs with faults and crashes are in `tests/sim.rs`.

mod noted;
mod order;

use std::collections::BTreeMap;
use std::time::Duration;

use super::*;
use crate::error::{Error, Failure, FailureKind};
use crate::journal::record::Record;
use crate::journal::written::WrittenPiece;
use crate::limits::Limits;
use crate::manifest::{Digest, Stated};
use crate::units::{ByteRange, MIB, PIECE_BYTES, piece_count};

/// A span the scheduler asked for.
#[derive(Debug, Clone, Copy)]
struct Asked {
    span: SpanId,
    file: FileIndex,
    range: Option<ByteRange>,
    connection: Connection,
}

/// Answers everything but spans at once and with success, and keeps what was asked.
struct Rig {
    scheduler: Scheduler,
    now: Now,
    asked: Vec<Asked>,
    synced: Vec<Vec<FileIndex>>,
    records: Vec<Record>,
    renewals: usize,
    restats: usize,
    result: Option<Result<(), Error>>,
    /// What restats answer.
    next_plan: Option<FilePlan>,
    /// Appends that wait for their answer, when they are to wait.
    held_appends: Option<Vec<CheckpointId>>,
    /// Fails the next data sync.
    sync_failure: Option<Failure>,
    /// Lists of written pieces, in order.
    lists: Vec<Vec<WrittenPiece>>,
    /// Fails the next list.
    note_failure: Option<Failure>,
    /// What hashing in order finds.
    computed: Vec<Stated>,
}

fn proof(mark: u64) -> PieceProof {
    PieceProof { cv: *blake3::hash(&mark.to_le_bytes()).as_bytes(), crc64nvme: 0, crc32: 0 }
}

fn plan(number: u8, size: u64) -> FilePlan {
    FilePlan {
        id: FileId([number; 16]),
        name: format!("file-{number}"),
        size: Some(size),
        ranges: Ranges::Assumed,
        stated: Vec::new(),
        held: Vec::new(),
        sealed: false,
        computed: Vec::new(),
    }
}

fn limits(connections: usize) -> Limits {
    Limits { connections: Some(connections), memory_bytes_max: 256 * MIB, ..Limits::default() }
}

fn failure(kind: FailureKind) -> Failure {
    Failure::new(kind, "planned")
}

impl Rig {
    fn new(limits: &Limits, files: Vec<FilePlan>) -> Self {
        let scheduler = Scheduler::new(limits, files, 7);
        let mut rig = Self {
            scheduler,
            now: Duration::ZERO,
            asked: Vec::new(),
            synced: Vec::new(),
            records: Vec::new(),
            renewals: 0,
            restats: 0,
            result: None,
            next_plan: None,
            held_appends: None,
            sync_failure: None,
            lists: Vec::new(),
            note_failure: None,
            computed: Vec::new(),
        };
        rig.act();
        rig
    }

    fn tell(&mut self, event: Event) {
        self.scheduler.on_event(self.now, event);
        self.act();
    }

    fn act(&mut self) {
        while let Some(action) = self.scheduler.next_action(self.now) {
            let answer = match action {
                Action::Fetch { span, file, range, connection, .. } => {
                    self.asked.push(Asked { span, file, range, connection });
                    continue;
                }
                Action::Finish { result } => {
                    self.result = Some(result);
                    continue;
                }
                Action::Open { file, .. } => Event::Opened { file, result: Ok(()) },
                Action::SyncData { checkpoint, files } => {
                    self.synced.push(files);
                    Event::DataSynced { checkpoint, result: self.sync_failure.take().map_or(Ok(()), Err) }
                }
                Action::Append { checkpoint, records } => {
                    self.records.extend(records);
                    if let Some(held) = &mut self.held_appends {
                        held.push(checkpoint);
                        continue;
                    }
                    Event::Appended { checkpoint, result: Ok(()) }
                }
                Action::Note { pieces } => {
                    self.lists.push(pieces);
                    Event::Noted { result: self.note_failure.take().map_or(Ok(()), Err) }
                }
                Action::Renew { file } => {
                    self.renewals += 1;
                    Event::Renewed { file, result: Ok(()) }
                }
                Action::Restat { file } => {
                    self.restats += 1;
                    Event::Restated { file, result: Ok(self.next_plan.clone().unwrap()) }
                }
                Action::Hash { file } => Event::Hashed { file, result: Ok(self.computed.clone()) },
                Action::Seal { file, .. } => Event::Sealed { file, result: Ok(()) },
                Action::Publish => Event::Published { result: Ok(()) },
            };
            self.scheduler.on_event(self.now, answer);
        }
    }

    /// Takes the oldest outstanding span.
    fn take(&mut self) -> Asked {
        self.asked.remove(0)
    }

    fn pieces(&self, asked: Asked) -> std::ops::Range<u64> {
        let size = self.scheduler.file(asked.file).size().unwrap();
        let range = asked.range.unwrap_or(ByteRange::new(0, size));
        range.start / PIECE_BYTES..range.start / PIECE_BYTES + piece_count(range.len())
    }

    /// `asked` brings all its pieces; `version` is what their proofs hash.
    fn deliver_as(&mut self, asked: Asked, version: u64) {
        for piece in self.pieces(asked) {
            self.tell(Event::Written {
                span: asked.span,
                file: asked.file,
                piece,
                proof: proof(version << 32 | piece),
            });
        }
        self.tell(Event::Ended { span: asked.span, result: Ok(()) });
    }

    fn deliver(&mut self, asked: Asked) {
        self.deliver_as(asked, 0);
    }

    fn break_with(&mut self, asked: Asked, kind: FailureKind) {
        self.tell(Event::Ended { span: asked.span, result: Err(failure(kind)) });
    }

    /// Lets time pass until something is asked or the run ends.
    fn wait(&mut self) {
        while self.asked.is_empty() && self.result.is_none() {
            self.now = self.scheduler.wake_at().expect("nothing is planned");
            self.act();
        }
    }

    /// Delivers everything until the run ends.
    fn finish(&mut self) -> Result<(), Error> {
        loop {
            self.wait();
            if let Some(result) = self.result.take() {
                return result;
            }
            let asked = self.take();
            self.now += Duration::from_millis(1);
            self.deliver(asked);
        }
    }

    /// Breaks every span with `kind` until the run ends; returns how many requests it took.
    fn break_all(&mut self, kind: FailureKind) -> (usize, Error) {
        let mut requests = 0;
        loop {
            self.wait();
            if let Some(result) = self.result.take() {
                return (requests, result.unwrap_err());
            }
            let asked = self.take();
            requests += 1;
            self.break_with(asked, kind);
        }
    }
}

#[test]
fn a_model_without_files_is_published_at_once() {
    assert_eq!(Rig::new(&limits(4), Vec::new()).result, Some(Ok(())));
}

#[test]
fn every_byte_is_asked_once_in_spans_that_shrink_towards_the_end() {
    let size = 300 * MIB + 5;
    let mut rig = Rig::new(&limits(8), vec![plan(0, size)]);
    let mut spans: BTreeMap<u64, u64> = BTreeMap::new();
    let mut lengths = Vec::new();
    while rig.result.is_none() {
        assert!(rig.scheduler.progress().spans <= 8);
        let asked = rig.take();
        let range = asked.range.unwrap();
        spans.insert(range.start, range.end);
        lengths.push(range.len());
        rig.deliver(asked);
    }
    let mut end = 0;
    for (start, stop) in spans {
        assert_eq!(start, end);
        end = stop;
    }
    assert_eq!((end, lengths[0], rig.result), (size, 16 * MIB, Some(Ok(()))));
    assert!(lengths.is_sorted_by(|a, b| b <= a), "{lengths:?}");
    assert!(lengths.len() < 50, "{}", lengths.len());
}

#[test]
fn held_pieces_are_not_asked_again() {
    let mut held: Vec<Option<PieceProof>> = (0..10).map(|piece| Some(proof(piece))).collect();
    (held[3], held[7], held[8]) = (None, None, None);
    let mut rig = Rig::new(&limits(8), vec![FilePlan { held, ..plan(0, 10 * MIB) }]);
    assert_eq!(rig.finish(), Ok(()));
    let progress = rig.scheduler.progress();
    assert_eq!((progress.bytes_reused, progress.bytes_fetched, progress.bytes_durable), (7 * MIB, 3 * MIB, 10 * MIB));
    let claimed: u64 = rig
        .records
        .iter()
        .map(|record| if let Record::Pieces { proofs, .. } = record { u64::try_from(proofs.len()).unwrap() } else { 0 })
        .sum();
    assert_eq!(claimed, 3);
}

#[test]
fn whole_and_sealed_files_need_no_request() {
    let held: Vec<Option<PieceProof>> = (0..2).map(|piece| Some(proof(piece))).collect();
    let whole = FilePlan { held: held.clone(), ..plan(0, 2 * MIB) };
    let sealed = FilePlan { held, sealed: true, ..plan(1, 2 * MIB) };
    let rig = Rig::new(&limits(4), vec![whole, sealed, plan(2, 0)]);
    assert_eq!((rig.result, rig.scheduler.progress().requests_total), (Some(Ok(())), 0));
}

#[test]
fn pieces_are_claimed_after_their_sync_in_runs_of_eight() {
    let mut rig = Rig::new(&limits(1), vec![plan(0, 12 * MIB)]);
    let asked = rig.take();
    for piece in rig.pieces(asked) {
        rig.scheduler.on_event(rig.now, Event::Written { span: asked.span, file: 0, piece, proof: proof(piece) });
    }
    rig.tell(Event::Ended { span: asked.span, result: Ok(()) });
    assert_eq!(rig.finish(), Ok(()));
    let shape: Vec<(u64, usize)> =
        rig.records
            .iter()
            .filter_map(|record| {
                if let Record::Pieces { first, proofs, .. } = record { Some((*first, proofs.len())) } else { None }
            })
            .collect();
    assert!(shape.iter().all(|(_, count)| *count <= 8), "{shape:?}");
    assert_eq!(shape.iter().map(|(_, count)| count).sum::<usize>(), 12);
    assert!(matches!(rig.records.last(), Some(Record::Sealed { file: 0, .. })));
}

#[test]
fn small_files_share_checkpoints() {
    let files = (0..200).map(|number| plan(number, 1000)).collect();
    let mut rig = Rig::new(&limits(16), files);
    assert_eq!(rig.finish(), Ok(()));
    assert!(rig.synced.len() <= 30, "{} syncs", rig.synced.len());
}

#[test]
fn a_throttled_origin_is_left_alone_for_as_long_as_it_asked() {
    for (asked, waited) in [(5, 5), (3600, 60)] {
        let mut rig = Rig::new(&limits(4), vec![plan(0, 64 * MIB)]);
        for span in std::mem::take(&mut rig.asked) {
            rig.break_with(span, FailureKind::Throttled { retry_after: Some(Duration::from_secs(asked)) });
        }
        assert!(rig.asked.is_empty());
        rig.wait();
        assert_eq!(rig.now.as_secs(), waited);
        assert_eq!(rig.scheduler.progress().window, 2);
    }
}

#[test]
fn a_span_without_progress_is_given_up_after_its_tries() {
    for kind in [FailureKind::Broken, FailureKind::Stalled, FailureKind::BadReply] {
        let mut rig = Rig::new(&limits(1), vec![plan(0, MIB)]);
        let (requests, error) = rig.break_all(kind);
        assert_eq!(requests, 8, "{kind:?}");
        assert_eq!(error, Error::Network("file-0: planned; given up after 8 tries".to_owned()));
        assert!(rig.now < Duration::from_secs(26), "{:?}", rig.now);
    }
}

#[test]
fn a_retry_asks_only_what_is_missing_on_a_new_connection() {
    let mut rig = Rig::new(&limits(1), vec![plan(0, 32 * MIB)]);
    let asked = rig.take();
    for piece in [0, 1, 5] {
        rig.tell(Event::Written { span: asked.span, file: 0, piece, proof: proof(piece) });
    }
    rig.break_with(asked, FailureKind::Stalled);
    // The window goes on with fresh spans; the missing runs come when their backoff is over.
    let mut missing = Vec::new();
    while rig.result.is_none() {
        rig.wait();
        let Some(next) = rig.asked.first().copied() else { break };
        rig.asked.clear();
        let range = next.range.unwrap();
        if range.start < asked.range.unwrap().end {
            assert_eq!(next.connection, Connection::Fresh);
            missing.push((range.start / MIB, range.end / MIB));
        }
        rig.now += Duration::from_millis(200);
        rig.deliver(next);
    }
    assert_eq!(missing, [(2, 5), (6, asked.range.unwrap().end / MIB)]);
}

#[test]
fn denial_and_absence_end_the_run_after_one_repetition() {
    let cases = [(FailureKind::Denied, 4), (FailureKind::Missing, 3), (FailureKind::Refused, 6)];
    for (kind, code) in cases {
        let mut rig = Rig::new(&limits(8), (0..100).map(|number| plan(number, MIB)).collect());
        let (requests, error) = rig.break_all(kind);
        assert_eq!(error.exit_code(), code);
        assert!(requests <= 9, "{kind:?}: {requests}");
    }
}

#[test]
fn an_expired_access_is_renewed_once_for_all_spans() {
    let mut rig = Rig::new(&limits(4), vec![plan(0, 64 * MIB)]);
    let four: Vec<Asked> = std::mem::take(&mut rig.asked);
    assert_eq!(four.len(), 4);
    four.into_iter().for_each(|asked| rig.break_with(asked, FailureKind::Expired));
    assert_eq!(rig.finish(), Ok(()));
    assert_eq!(rig.renewals, 1);
}

#[test]
fn renewals_without_progress_end_in_denial() {
    let mut rig = Rig::new(&limits(1), vec![plan(0, MIB)]);
    let (requests, error) = rig.break_all(FailureKind::Expired);
    assert_eq!((requests, rig.renewals, error.exit_code()), (4, 3, 4));
}

#[test]
fn an_origin_without_ranges_is_read_in_one_stream() {
    let mut rig = Rig::new(&limits(4), vec![plan(0, 64 * MIB)]);
    for asked in std::mem::take(&mut rig.asked) {
        assert!(asked.range.is_some());
        rig.break_with(asked, FailureKind::RangeIgnored);
    }
    assert_eq!(rig.asked.len(), 1);
    assert_eq!(rig.asked[0].range, None);
    assert_eq!(rig.finish(), Ok(()));
}

#[test]
fn one_stray_whole_reply_does_not_cost_the_ranges() {
    let mut rig = Rig::new(&limits(2), vec![plan(0, 64 * MIB)]);
    let (good, stray) = (rig.take(), rig.take());
    rig.deliver(good);
    rig.break_with(stray, FailureKind::RangeIgnored);
    assert_eq!(rig.finish(), Ok(()));
    assert_eq!(rig.scheduler.progress().bytes_fetched, 64 * MIB);
}

#[test]
fn a_changed_object_starts_over_as_its_new_version_and_not_for_ever() {
    let mut rig = Rig::new(&limits(2), vec![plan(0, 64 * MIB)]);
    let (good, changed) = (rig.take(), rig.take());
    rig.deliver(good);
    rig.next_plan = Some(plan(9, 2 * MIB));
    rig.asked.iter().for_each(|asked| assert_eq!(asked.file, 0));
    let others = std::mem::take(&mut rig.asked);
    rig.break_with(changed, FailureKind::Changed);
    assert_eq!(rig.restats, 0, "spans of the old version are still out");
    others.into_iter().for_each(|asked| rig.break_with(asked, FailureKind::Changed));
    assert_eq!(
        (rig.restats, rig.scheduler.file(0).id(), rig.scheduler.file(0).size()),
        (1, FileId([9; 16]), Some(2 * MIB))
    );
    assert!(rig.records.contains(&Record::Dropped { file: 0 }));
    let mut again = Rig::new(&limits(1), vec![plan(0, MIB)]);
    again.next_plan = Some(plan(0, MIB));
    let (_, error) = again.break_all(FailureKind::Changed);
    assert_eq!((again.restats, error.exit_code()), (3, 8));
}

#[test]
fn content_that_does_not_match_is_asked_again_on_new_connections() {
    let good: Vec<PieceProof> = (0..2).map(proof).collect();
    let stated = vec![Stated::Blake3(crate::verify::root(2 * MIB, &good))];
    let mut rig = Rig::new(&limits(1), vec![FilePlan { stated: stated.clone(), ..plan(0, 2 * MIB) }]);
    for version in [1, 0] {
        let asked = rig.take();
        assert_eq!(asked.connection, if version == 0 { Connection::Fresh } else { Connection::Any });
        rig.deliver_as(asked, version);
    }
    assert_eq!(rig.result, Some(Ok(())));
    let mut same = Rig::new(&limits(1), vec![FilePlan { stated, ..plan(0, 2 * MIB) }]);
    for _ in 0..2 {
        let asked = same.take();
        same.deliver_as(asked, 1);
    }
    let error = same.result.unwrap().unwrap_err();
    assert!(
        matches!(&error, Error::Integrity(text) if text.starts_with("file-0: ") && text.contains("blake3")),
        "{error:?}"
    );
}

#[test]
fn nothing_is_overwritten_before_its_claims_are_dropped() {
    let stated = vec![Stated::Blake3(Digest([1; 32]))];
    let held = (0..2).map(|piece| Some(proof(piece))).collect();
    let mut rig = Rig::new(&limits(4), Vec::new());
    rig.scheduler = Scheduler::new(&limits(4), vec![FilePlan { stated, held, ..plan(0, 2 * MIB) }], 7);
    rig.held_appends = Some(Vec::new());
    rig.act();
    assert_eq!((&rig.records[..], rig.asked.len()), (&[Record::Dropped { file: 0 }][..], 0));
    let checkpoint = rig.held_appends.take().unwrap()[0];
    rig.tell(Event::Appended { checkpoint, result: Ok(()) });
    assert!(!rig.asked.is_empty());
}

#[test]
fn a_stop_settles_what_is_written_and_says_so() {
    let mut rig = Rig::new(&limits(2), vec![plan(0, 64 * MIB)]);
    let (one, other) = (rig.take(), rig.take());
    rig.tell(Event::Written { span: one.span, file: 0, piece: 0, proof: proof(0) });
    rig.tell(Event::StopAsked { error: Error::Interrupted { signal: 15 } });
    assert_eq!(rig.scheduler.stopping(), Some(&Error::Interrupted { signal: 15 }));
    rig.break_with(one, FailureKind::Broken);
    assert!(rig.result.is_none(), "a span is still out");
    rig.break_with(other, FailureKind::Broken);
    assert!(rig.asked.is_empty());
    assert_eq!(rig.result, Some(Err(Error::Interrupted { signal: 15 })));
    assert!(
        matches!(&rig.records[..], [Record::File { .. }, Record::Pieces { first: 0, .. }, Record::Clean]),
        "{:?}",
        rig.records
    );
}

#[test]
fn the_first_reason_to_end_counts() {
    let mut rig = Rig::new(&limits(2), vec![plan(0, 64 * MIB)]);
    let (one, other) = (rig.take(), rig.take());
    rig.break_with(one, FailureKind::Refused);
    rig.tell(Event::StopAsked { error: Error::Interrupted { signal: 2 } });
    rig.break_with(other, FailureKind::Disk);
    assert_eq!(rig.result, Some(Err(Error::Policy("file-0: planned".to_owned()))));
}

#[test]
fn a_stream_is_claimed_again_once_its_size_is_known() {
    let mut rig = Rig::new(&limits(1), vec![FilePlan { size: None, ..plan(0, 0) }]);
    let asked = rig.take();
    for piece in 0..2 {
        rig.tell(Event::Written { span: asked.span, file: 0, piece, proof: proof(piece) });
        rig.now += Duration::from_secs(1);
        rig.act();
    }
    rig.tell(Event::Sized { span: asked.span, file: 0, size: MIB + 1 });
    rig.tell(Event::Ended { span: asked.span, result: Ok(()) });
    assert_eq!(rig.result, Some(Ok(())));
    let sized = rig.records.iter().position(|record| matches!(record, Record::File { size: Some(_), .. })).unwrap();
    assert!(
        matches!(&rig.records[sized + 1..], [Record::Pieces { first: 0, proofs, .. }, Record::Sealed { .. }] if proofs.len() == 2)
    );
}

#[test]
fn a_failed_write_poisons_its_file_only() {
    let mut rig = Rig::new(&limits(4), vec![plan(0, 2 * MIB), plan(1, 2 * MIB)]);
    let asked = std::mem::take(&mut rig.asked);
    for span in &asked[1..] {
        let piece = rig.pieces(*span).start;
        rig.tell(Event::Written { span: span.span, file: span.file, piece, proof: proof(piece) });
    }
    rig.break_with(asked[0], FailureKind::DiskFull);
    asked[1..].iter().for_each(|span| rig.break_with(*span, FailureKind::Broken));
    assert_eq!(rig.result.as_ref().unwrap().as_ref().unwrap_err().exit_code(), 9);
    assert!(rig.synced.iter().all(|files| !files.contains(&0)), "{:?}", rig.synced);
    assert!(!rig.records.contains(&Record::Clean));
    assert!(rig.records.iter().any(|record| matches!(record, Record::Pieces { file: 1, .. })));
    assert_eq!(rig.scheduler.progress().unsettled_pieces, 0);
}

#[test]
fn a_failed_sync_is_not_repeated_and_claims_nothing() {
    let mut rig = Rig::new(&limits(1), vec![plan(0, MIB)]);
    rig.sync_failure = Some(failure(FailureKind::Disk));
    let asked = rig.take();
    rig.deliver(asked);
    assert_eq!(rig.result, Some(Err(Error::Storage("data sync: planned".to_owned()))));
    assert_eq!((rig.synced.len(), rig.records.len()), (1, 0));
}

#[test]
fn tiny_memory_still_works() {
    for memory in [MIB, 2 * MIB, 4 * MIB] {
        let tiny = Limits { memory_bytes_max: memory, unsettled_bytes_max: MIB, ..Limits::default() };
        let mut rig = Rig::new(&tiny, vec![plan(0, 20 * MIB), plan(1, 0), plan(2, 1)]);
        assert!(rig.asked.len() <= 2);
        assert_eq!(rig.finish(), Ok(()));
    }
}

#[test]
fn a_hundred_thousand_files_are_scheduled_in_linear_time() {
    let files = (0..100_000_u32)
        .map(|number| FilePlan { id: FileId([0; 16]), ..plan(u8::try_from(number % 251).unwrap(), 1000) });
    let mut rig = Rig::new(&limits(16), files.collect());
    assert_eq!(rig.finish(), Ok(()));
    assert_eq!(rig.scheduler.progress().files_done, 100_000);
}

#[test]
fn a_digest_is_known_only_when_everything_is_durable() {
    let mut rig = Rig::new(&limits(1), vec![plan(0, MIB), plan(1, MIB)]);
    assert_eq!(rig.scheduler.file(0).digest(), None);
    let asked = rig.take();
    rig.deliver(asked);
    rig.now += Duration::from_secs(1);
    rig.act();
    assert_eq!(rig.scheduler.file(0).digest(), Some(Digest(proof(0).cv)));
}
