//! A scheduler driven to the end by answers that come at once: what its own decisions cost, without any I/O.

use std::collections::VecDeque;
use std::time::Duration;

use dray::limits::Limits;
use dray::manifest::{FileId, Ranges};
use dray::schedule::{Action, Event, FileIndex, FilePlan, Scheduler, SpanId};
use dray::units::{ByteRange, MIB, PIECE_BYTES, piece_count};
use dray::verify::PieceProof;

const PROOF: PieceProof = PieceProof { cv: [0xc5; 32], crc64nvme: 0, crc32: 0 };

/// `count` files of `bytes` each, none of it on disk.
pub(crate) fn model(count: u64, bytes: u64) -> Vec<FilePlan> {
    let plan = |number: u64| {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&number.to_le_bytes());
        FilePlan {
            id: FileId(id),
            name: format!("model-{number:06}.safetensors"),
            size: Some(bytes),
            ranges: Ranges::Assumed,
            stated: Vec::new(),
            held: Vec::new(),
            sealed: false,
            computed: Vec::new(),
        }
    };
    (0..count).map(plan).collect()
}

/// Sixteen connections on two lanes, so that nothing here depends on the machine.
pub(crate) fn limits() -> Limits {
    Limits { connections: Some(16), lanes: 2, memory_bytes_max: 256 * MIB, ..Limits::default() }
}

/// Runs a scheduler until it finishes well; how many actions that took.
pub(crate) fn drive(limits: &Limits, files: Vec<FilePlan>) -> u64 {
    let sizes: Vec<u64> = files.iter().map(|file| file.size.expect("a planned size")).collect();
    let mut scheduler = Scheduler::new(limits, files, 7);
    let (mut now, mut actions) = (Duration::ZERO, 0);
    let mut asked: VecDeque<(SpanId, FileIndex, ByteRange)> = VecDeque::new();
    loop {
        while let Some(action) = scheduler.next_action(now) {
            actions += 1;
            let answer = match action {
                Action::Open { file, .. } => Event::Opened { file, result: Ok(()) },
                Action::Fetch { span, file, range, .. } => {
                    asked.push_back((span, file, range.unwrap_or(ByteRange::new(0, sizes[file]))));
                    continue;
                }
                Action::SyncData { checkpoint, .. } => Event::DataSynced { checkpoint, result: Ok(()) },
                Action::Append { checkpoint, .. } => Event::Appended { checkpoint, result: Ok(()) },
                Action::Note { .. } => Event::Noted { result: Ok(()) },
                Action::Seal { file, .. } => Event::Sealed { file, result: Ok(()) },
                Action::Publish => Event::Published { result: Ok(()) },
                Action::Finish { result } => {
                    result.expect("every answer was a good one");
                    return actions;
                }
                Action::Renew { .. } | Action::Restat { .. } | Action::Hash { .. } => {
                    unreachable!("nothing expired, changed or was stated in order")
                }
            };
            scheduler.on_event(now, answer);
        }
        match asked.pop_front() {
            Some((span, file, range)) => {
                now += Duration::from_millis(1);
                deliver(&mut scheduler, now, span, file, range);
            }
            None => now = scheduler.wake_at().expect("a run that is not over waits for something"),
        }
    }
}

fn deliver(scheduler: &mut Scheduler, now: Duration, span: SpanId, file: FileIndex, range: ByteRange) {
    let first = range.start / PIECE_BYTES;
    for piece in first..first + piece_count(range.len()) {
        scheduler.on_event(now, Event::Written { span, file, piece, proof: PROOF });
    }
    scheduler.on_event(now, Event::Ended { span, result: Ok(()) });
}
