//! Files whose sums need the bytes in order: what is asked when, and what becomes of the sum.

use super::*;

#[test]
fn a_file_is_hashed_in_order_between_its_last_piece_and_its_seal() {
    let stated = vec![Stated::Sha256([7; 32])];
    let mut rig = Rig::new(&limits(4), vec![FilePlan { stated: stated.clone(), ..plan(0, 3 * MIB) }]);
    rig.computed = stated;
    assert_eq!(rig.finish(), Ok(()));
    assert_eq!(rig.scheduler.file(0).checks().iter().map(|check| check.name).collect::<Vec<_>>(), ["sha256"]);
    assert_eq!(rig.scheduler.file(0).attempt(), 0);
}

#[test]
fn a_file_whose_bytes_in_order_are_others_is_asked_again_once() {
    let stated = vec![Stated::Md5([7; 16])];
    let mut rig = Rig::new(&limits(4), vec![FilePlan { stated, ..plan(0, 3 * MIB) }]);
    rig.computed = vec![Stated::Md5([8; 16])];
    let error = rig.finish().unwrap_err();
    assert!(matches!(&error, Error::Integrity(text) if text.contains("md5 0707")), "{error}");
    assert_eq!(rig.scheduler.file(0).attempt(), 1);
}

#[test]
fn a_file_that_is_asked_again_is_hashed_again() {
    let stated = vec![Stated::Md5([7; 16])];
    let mut rig = Rig::new(&limits(1), vec![FilePlan { stated: stated.clone(), ..plan(0, 3 * MIB) }]);
    rig.computed = vec![Stated::Md5([8; 16])];
    let first = rig.take();
    rig.deliver_as(first, 1);
    rig.wait();
    assert_eq!((rig.scheduler.file(0).attempt(), rig.asked[0].connection), (1, Connection::Fresh));
    rig.computed = stated;
    assert_eq!(rig.finish(), Ok(()));
}

/// A file whose SHA-256 is stated, of so many pieces.
fn ordered(number: u8, pieces: u64) -> FilePlan {
    FilePlan { stated: vec![Stated::Sha256([number; 32])], ..plan(number, pieces * MIB) }
}

/// Delivers everything; each span's file, how far past the file's first missing piece it began, and how many others
/// were outstanding.
fn order_of(rig: &mut Rig) -> Vec<(FileIndex, u64, usize)> {
    let mut missing: BTreeMap<FileIndex, std::collections::BTreeSet<u64>> = BTreeMap::new();
    let mut asked = Vec::new();
    let mut seen = 0;
    rig.computed = (0..8).map(|number| Stated::Sha256([number; 32])).collect();
    while rig.result.is_none() {
        rig.wait();
        for (outstanding, span) in rig.asked.iter().enumerate().filter(|(_, asked)| seen <= asked.span.0) {
            let pieces = rig.pieces(*span);
            let all = 0..piece_count(rig.scheduler.file(span.file).size().unwrap());
            let front = *missing.entry(span.file).or_insert_with(|| all.collect()).first().unwrap();
            assert!(pieces.end <= front + AHEAD_PIECES_MAX, "{pieces:?} is too far ahead of {front}");
            asked.push((span.file, pieces.start - front, outstanding));
        }
        seen = asked.len().try_into().unwrap();
        if rig.asked.is_empty() {
            continue;
        }
        let next = rig.take();
        let pieces = rig.pieces(next);
        missing.get_mut(&next.file).unwrap().retain(|piece| !pieces.contains(piece));
        rig.now += Duration::from_millis(1);
        rig.deliver(next);
    }
    asked
}

#[test]
fn as_many_files_as_connections_are_read_each_in_order() {
    let files: Vec<FilePlan> = (0..8).map(|number| ordered(number, 40)).collect();
    let mut rig = Rig::new(&limits(16), files);
    assert_eq!(rig.asked.iter().map(|asked| asked.file).collect::<Vec<_>>(), (0..8).collect::<Vec<_>>());
    let asked = order_of(&mut rig);
    assert!(asked.iter().all(|(_, ahead, _)| *ahead == 0), "{asked:?}");
}

#[test]
fn one_large_file_is_read_on_eight_connections_within_its_window() {
    let mut rig = Rig::new(&limits(16), vec![ordered(0, 1000)]);
    assert_eq!(rig.asked.len(), 8);
    let asked = order_of(&mut rig);
    assert!(asked.iter().any(|(_, ahead, _)| 0 < *ahead) && asked.iter().all(|(_, _, others)| *others < 8));
}

#[test]
fn a_run_that_keeps_nothing_asks_each_file_in_order() {
    let mut rig = Rig::new(&limits(16), Vec::new());
    rig.result = None;
    rig.scheduler = Scheduler::new(&limits(16), vec![ordered(0, 1000), ordered(1, 100)], 7).in_order();
    rig.act();
    assert_eq!(rig.asked.len(), 2);
    assert!(order_of(&mut rig).iter().all(|(_, ahead, _)| *ahead == 0));
}

#[test]
fn parts_are_read_side_by_side_and_each_in_order() {
    let ends: Vec<u64> = (1..=20).map(|part| part * 8 * MIB).collect();
    let sum = crate::manifest::CompositeSum::Sha256([0; 32]);
    let stated = Stated::Composite(crate::manifest::Composite { sum, ends: ends.into() });
    let rig = Rig::new(&limits(16), vec![FilePlan { stated: vec![stated], ..plan(0, 160 * MIB) }]);
    assert_eq!(rig.asked.len(), 16);
    assert!(rig.asked.iter().all(|asked| asked.range.unwrap().start.is_multiple_of(8 * MIB)));
}
