//! What is noted of written pieces, and how many rights to receive they keep meanwhile.

use super::*;

/// One lane whose checkpoints never end, and a span of `pieces` pieces.
fn rig(limits: &Limits, pieces: u64) -> (Rig, Asked) {
    let mut rig = Rig::new(limits, vec![plan(0, pieces * MIB), plan(1, 0)]);
    rig.held_appends = Some(Vec::new());
    let asked = rig.take();
    assert_eq!(rig.pieces(asked), 0..pieces);
    (rig, asked)
}

fn bounds(unnoted: u64, unsettled: u64) -> Limits {
    let (unnoted_bytes_max, unsettled_bytes_max) = (unnoted * MIB, unsettled * MIB);
    Limits { unnoted_bytes_max, unsettled_bytes_max, span_bytes: (64 * MIB, 64 * MIB), ..limits(1) }
}

fn write(rig: &mut Rig, asked: Asked, pieces: std::ops::Range<u64>) {
    for piece in pieces {
        rig.tell(Event::Written { span: asked.span, file: asked.file, piece, proof: proof(piece) });
    }
}

fn rights(rig: &Rig) -> u64 {
    rig.scheduler.progress().kept_rights
}

#[test]
fn every_list_names_all_that_is_written_and_not_durable() {
    let (mut rig, asked) = rig(&bounds(48, 128), 64);
    write(&mut rig, asked, 0..15);
    assert_eq!((rig.lists.len(), rights(&rig)), (0, 15), "too few to be listed");
    write(&mut rig, asked, 15..38);
    assert_eq!(rig.lists.iter().map(Vec::len).collect::<Vec<_>>(), [16, 32]);
    let listed = |piece: &u64| WrittenPiece { id: plan(0, 0).id, size: 64 * MIB, piece: *piece, proof: proof(*piece) };
    let mut last = rig.lists[1].clone();
    last.sort_by_key(|listed| listed.piece);
    assert_eq!(last, (0..32).collect::<Vec<_>>().iter().map(listed).collect::<Vec<_>>());
    assert_eq!(rights(&rig), 6, "what no list names");
    // 16 MiB of them are in the checkpoint whose append is held back: once it ends, lists leave them out.
    let checkpoint = rig.held_appends.as_mut().unwrap().remove(0);
    rig.tell(Event::Appended { checkpoint, result: Ok(()) });
    write(&mut rig, asked, 38..48);
    assert_eq!(rig.lists[2].len(), 48 - 16);
}

#[test]
fn what_is_listed_keeps_rights_once_a_power_cut_would_cost_too_much() {
    let (mut rig, asked) = rig(&bounds(16, 40), 64);
    for written in 0..40 {
        let unlisted = written % 8; // Half of 16: the least bound there is.
        assert_eq!(rights(&rig), u64::max(unlisted, written.saturating_sub(40 - 16)), "{written} pieces");
        write(&mut rig, asked, written..written + 1);
    }
    assert_eq!(rights(&rig), 16, "as many as there are");
}

#[test]
fn a_list_that_cannot_be_written_is_the_last_and_costs_nothing_but_itself() {
    let (mut rig, asked) = rig(&bounds(48, 128), 64);
    rig.note_failure = Some(failure(FailureKind::DiskFull));
    write(&mut rig, asked, 0..40);
    assert_eq!((rig.lists.len(), rights(&rig)), (1, 40));
    rig.held_appends.take().unwrap().into_iter().for_each(|checkpoint| {
        rig.tell(Event::Appended { checkpoint, result: Ok(()) });
    });
    write(&mut rig, asked, 40..64);
    rig.tell(Event::Ended { span: asked.span, result: Ok(()) });
    assert_eq!(rig.finish(), Ok(()));
}

#[test]
fn nothing_is_listed_where_it_would_make_no_difference() {
    let (mut rig, asked) = rig(&bounds(48, 48), 64);
    write(&mut rig, asked, 0..48);
    assert_eq!((rig.lists.len(), rights(&rig)), (0, 48));
    let limits = bounds(48, 128);
    let mut rig = Rig::new(&limits, Vec::new());
    rig.scheduler = Scheduler::new(&limits, vec![plan(0, 64 * MIB)], 7).in_order();
    rig.act();
    let asked = rig.take();
    write(&mut rig, asked, 0..16);
    assert_eq!(rig.lists.len(), 0, "nothing is kept");
}

#[test]
fn a_stream_of_unknown_length_is_not_listed() {
    let stream = FilePlan { size: None, ..plan(0, 0) };
    let mut rig = Rig::new(&bounds(48, 128), vec![stream]);
    let asked = rig.take();
    write(&mut rig, asked, 0..16);
    assert_eq!(rig.lists, [[]]);
}

#[test]
fn a_run_that_ends_lists_nothing_more() {
    let (mut rig, asked) = rig(&bounds(48, 128), 64);
    write(&mut rig, asked, 0..8);
    rig.tell(Event::StopAsked { error: Error::Interrupted { signal: 15 } });
    write(&mut rig, asked, 8..40);
    assert_eq!(rig.lists.len(), 0);
}

#[test]
fn a_model_that_outgrew_its_lone_piece_is_listed_once_there_is_a_journal() {
    let limits = Limits { connections: Some(1), ..bounds(48, 128) };
    let mut rig = Rig::new(&limits, Vec::new());
    rig.scheduler = Scheduler::new(&limits, vec![plan(0, MIB)], 7).unjournaled();
    rig.result = None;
    rig.next_plan = Some(plan(1, 64 * MIB));
    rig.held_appends = Some(Vec::new());
    rig.act();
    let asked = rig.take();
    rig.break_with(asked, FailureKind::Changed);
    let asked = rig.take();
    write(&mut rig, asked, 0..32);
    assert_eq!((rig.lists.len(), rights(&rig)), (0, 32));
    let checkpoint = rig.held_appends.as_mut().unwrap().remove(0);
    rig.tell(Event::Appended { checkpoint, result: Ok(()) });
    write(&mut rig, asked, 32..33);
    assert_eq!(rig.lists.len(), 1);
}
