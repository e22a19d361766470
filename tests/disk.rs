//! The disk against real file systems: every rung, hostile names, locks, full disks.

use std::fs;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use dray::disk::{
    self, BATCH_SLABS_MAX, Dest, IoWish, LaneDisk, PartFile, Probe, Rung, SLAB_BYTES, Slab, SlabPool, run_lane, scan,
};
use dray::error::{Error, FailureKind};
use dray::manifest::{FileId, SafePath};
use dray::schedule::FILE_SEAL;
use futures::stream::{self, StreamExt, TryStreamExt};
use tempfile::TempDir;

const MIB: u64 = 1 << 20;
const WRITES_AT_ONCE: usize = 4;

fn opened() -> (TempDir, Dest) {
    let folder = tempfile::tempdir().unwrap();
    let dest = Dest::open(folder.path()).unwrap();
    (folder, dest)
}

fn id(number: u8) -> FileId {
    FileId([number; 16])
}

fn path(text: &str) -> SafePath {
    SafePath::parse(text).unwrap()
}

/// A probe for every rung this place allows; what it does not allow is said aloud.
fn probes(dest: &Dest) -> Vec<Probe> {
    let probe = |wish| match disk::probe(dest, wish) {
        Ok(probe) => Some(probe),
        Err(error) => {
            eprintln!("NOT TESTED HERE: {error}");
            None
        }
    };
    [IoWish::Uring, IoWish::Threads, IoWish::Buffered].into_iter().filter_map(probe).collect()
}

/// Bytes that differ from piece to piece and never are zeros for long.
fn content(len: u64) -> Vec<u8> {
    (0..len).map(|at| u8::try_from((at.wrapping_mul(0x9e37_79b9) >> 13) % 251 + 1).unwrap()).collect()
}

/// The batches of a content, last first: order must not matter.
fn batches(len: u64) -> Vec<(u64, u64)> {
    let batch = BATCH_SLABS_MAX as u64 * MIB;
    let mut all: Vec<_> =
        (0..len).step_by(usize::try_from(batch).unwrap()).map(|start| (start, (start + batch).min(len))).collect();
    all.reverse();
    all
}

async fn filled(pool: &SlabPool, bytes: &[u8]) -> Vec<(Slab, usize)> {
    let mut slabs = Vec::new();
    for piece in bytes.chunks(SLAB_BYTES) {
        let mut slab = pool.lease().await;
        slab.fill(0xee);
        slab[..piece.len()].copy_from_slice(piece);
        slabs.push((slab, piece.len()));
    }
    slabs
}

/// Writes all of `bytes` on one lane, several batches at once.
fn write_all(rung: Rung, part: &Arc<PartFile>, bytes: &[u8]) -> io::Result<()> {
    let pool = SlabPool::new((WRITES_AT_ONCE * BATCH_SLABS_MAX) as u64 * MIB)?;
    let slabs = &pool;
    let result = run_lane(rung, |disk: LaneDisk| async move {
        let disk = &disk;
        let write = |(start, end): (u64, u64)| async move {
            let piece = &bytes[usize::try_from(start).unwrap()..usize::try_from(end).unwrap()];
            disk.write(part, start, filled(slabs, piece).await).await
        };
        // As many at once as the pool has slabs for: a batch that waits for its second slab must not starve another.
        let writes = stream::iter(batches(bytes.len() as u64)).map(write).buffer_unordered(WRITES_AT_ONCE);
        writes.try_collect::<()>().await
    })?;
    assert_eq!(pool.leased(), 0, "every slab is back");
    result
}

fn seal(dest: &Dest, part: &PartFile, name: &str, size: u64) -> Result<(), FailureKind> {
    let steps = FILE_SEAL.into_iter().try_for_each(|step| dest.seal_step(step, part, &path(name), size));
    steps.map_err(|failure| failure.kind)
}

#[test]
fn every_rung_writes_the_same_bytes() {
    for len in [1, 511, 4096, MIB - 1, MIB, MIB + 1, 4 * MIB, 9 * MIB + 123] {
        let (folder, dest) = opened();
        let bytes = content(len);
        for (number, probe) in (0..).zip(probes(&dest)) {
            for stated in [Some(len), None] {
                let part = Arc::new(dest.part_open(&id(number), stated, &probe).unwrap());
                assert!(!part.adopted());
                write_all(probe.rung, &part, &bytes).unwrap();
                part.sync_data().unwrap();
                let name = format!("{}/{stated:?}.bin", probe.rung.word());
                seal(&dest, &part, &name, len).unwrap();
                let published = folder.path().join(&name);
                assert!(fs::read(&published).unwrap() == bytes, "{name} of {len} bytes");
                assert_eq!(fs::metadata(&published).unwrap().mode() & 0o7777, 0o644);
                assert_eq!(dest.file_size(&path(&name)).unwrap(), Some(len));
            }
        }
    }
}

#[test]
fn an_empty_file_is_sealed() {
    let (folder, dest) = opened();
    let probe = disk::probe(&dest, IoWish::Auto).unwrap();
    let part = dest.part_open(&id(1), Some(0), &probe).unwrap();
    part.sync_data().unwrap();
    seal(&dest, &part, "a/b/empty", 0).unwrap();
    assert_eq!(fs::metadata(folder.path().join("a/b/empty")).unwrap().len(), 0);
}

#[test]
fn a_write_whose_caller_goes_away_still_ends() {
    let (_folder, dest) = opened();
    for (number, probe) in (0..).zip(probes(&dest)) {
        let part = Arc::new(dest.part_open(&id(number), Some(8 * MIB), &probe).unwrap());
        let pool = SlabPool::new(8 * MIB).unwrap();
        let bytes = content(8 * MIB);
        run_lane(probe.rung, |disk| async move {
            for (start, end) in batches(8 * MIB) {
                let piece = &bytes[usize::try_from(start).unwrap()..usize::try_from(end).unwrap()];
                let slabs = filled(&pool, piece).await;
                let mut write = Box::pin(disk.write(&part, start, slabs));
                // Begun is enough; a quick thread may even have ended it.
                drop(futures::poll!(&mut write));
                drop(write);
            }
            // Both batches hold all slabs: a lease succeeds only when the kernel is done with one.
            let slab = tokio::time::timeout(Duration::from_secs(20), pool.lease()).await;
            assert!(slab.is_ok(), "{:?}", probe.rung);
        })
        .unwrap();
        let file = dest.open_part(&id(number)).unwrap().unwrap();
        let (expected, seen) = (content(8 * MIB), Mutex::new(0));
        scan::pieces(&file, 8 * MIB, &[0, 1, 2, 3, 4, 5, 6, 7], |piece, bytes| {
            let start = usize::try_from(piece * MIB).unwrap();
            assert!(bytes == &expected[start..start + SLAB_BYTES], "piece {piece} on {:?}", probe.rung);
            *seen.lock().unwrap() += 1;
        })
        .unwrap();
        assert_eq!(seen.into_inner().unwrap(), 8);
    }
}

#[test]
fn a_write_is_submitted_although_its_lane_never_idles() {
    let (_folder, dest) = opened();
    for (number, probe) in (0..).zip(probes(&dest)) {
        let part = Arc::new(dest.part_open(&id(number), Some(MIB), &probe).unwrap());
        let pool = SlabPool::new(0).unwrap();
        let ended = run_lane(probe.rung, |disk| async move {
            let slabs = filled(&pool, &content(MIB)).await;
            let write = tokio::task::spawn_local(async move { disk.write(&part, 0, slabs).await });
            let until = Instant::now() + Duration::from_secs(10);
            // Always ready again, as a lane is whose sockets always have bytes.
            while !write.is_finished() && Instant::now() < until {
                tokio::task::yield_now().await;
            }
            write.is_finished()
        });
        assert!(ended.unwrap(), "{:?}", probe.rung);
    }
}

#[test]
fn memory_file_systems_are_written_through_the_page_cache() {
    let Ok(folder) = tempfile::tempdir_in("/dev/shm") else {
        eprintln!("NOT TESTED HERE: /dev/shm cannot be written");
        return;
    };
    let dest = Dest::open(folder.path()).unwrap();
    let probe = disk::probe(&dest, IoWish::Auto).unwrap();
    assert_eq!((probe.rung, probe.direct), (Rung::Buffered, false), "{probe:?}");
    assert_eq!(probe.file_system, "tmpfs");
    assert!(probe.notes.iter().any(|note| note.contains("memory")), "{probe:?}");
    for wish in [IoWish::Uring, IoWish::Threads] {
        let refused = disk::probe(&dest, wish).unwrap_err();
        assert!(matches!(&refused, Error::Usage(why) if why.contains("tmpfs")), "{refused}");
    }
    let bytes = content(5 * MIB + 1);
    let part = Arc::new(dest.part_open(&id(1), Some(bytes.len() as u64), &probe).unwrap());
    write_all(probe.rung, &part, &bytes).unwrap();
    part.sync_data().unwrap();
    seal(&dest, &part, "x", bytes.len() as u64).unwrap();
    assert!(fs::read(folder.path().join("x")).unwrap() == bytes);
}

#[test]
fn a_probe_leaves_nothing_behind() {
    let (folder, dest) = opened();
    let probe = disk::probe(&dest, IoWish::Auto).unwrap();
    assert_eq!(fs::read_dir(folder.path().join(".dray")).unwrap().count(), 0);
    assert!(probe.align.is_power_of_two() && 0 < probe.free_bytes && !probe.file_system.is_empty(), "{probe:?}");
}

#[test]
fn only_a_regular_file_is_ever_replaced() {
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("victim"), "untouched").unwrap();
    let (folder, dest) = opened();
    let at = |name: &str| folder.path().join(name);
    symlink(outside.path().join("victim"), at("link")).unwrap();
    symlink("nowhere", at("dangling")).unwrap();
    symlink(outside.path(), at("folder_link")).unwrap();
    fs::create_dir(at("folder")).unwrap();
    fs::write(at("file"), "old").unwrap();
    assert!(Command::new("mkfifo").arg(at("fifo")).status().unwrap().success());
    let probe = disk::probe(&dest, IoWish::Auto).unwrap();
    let part = Arc::new(dest.part_open(&id(1), Some(3), &probe).unwrap());
    write_all(probe.rung, &part, b"new").unwrap();
    for name in ["link", "dangling", "folder", "fifo", "folder_link/victim", "folder_link/new/x", "file/x", "fifo/x"] {
        assert_eq!(seal(&dest, &part, name, 3), Err(FailureKind::Refused), "{name}");
        assert_eq!(dest.file_size(&path(name)).unwrap(), None, "{name}");
        assert!(dest.open_published(&path(name)).unwrap().is_none(), "{name}");
    }
    seal(&dest, &part, "file", 3).unwrap();
    assert_eq!(fs::read_to_string(at("file")).unwrap(), "new");
    assert_eq!(fs::read_to_string(outside.path().join("victim")).unwrap(), "untouched");
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1);
}

#[test]
fn what_hides_under_a_part_name_is_replaced_not_written() {
    let outside = tempfile::tempdir().unwrap();
    let victim = outside.path().join("victim");
    fs::write(&victim, "untouched").unwrap();
    let (folder, dest) = opened();
    let probe = disk::probe(&dest, IoWish::Auto).unwrap();
    drop(dest.part_open(&id(0), Some(1), &probe).unwrap());
    let plant = |number: u8, how: &dyn Fn(&Path)| how(&folder.path().join(".dray/parts").join(id(number).to_hex()));
    plant(1, &|name| symlink(&victim, name).unwrap());
    plant(2, &|name| fs::hard_link(&victim, name).unwrap());
    plant(3, &|name| assert!(Command::new("mkfifo").arg(name).status().unwrap().success()));
    for number in 1..=3 {
        assert_eq!(dest.part_exists(&id(number)).unwrap(), None);
        let part = Arc::new(dest.part_open(&id(number), Some(4), &probe).unwrap());
        assert!(!part.adopted(), "{number}");
        write_all(probe.rung, &part, b"mine").unwrap();
    }
    plant(4, &|name| fs::create_dir(name).unwrap());
    assert_eq!(dest.part_open(&id(4), Some(1), &probe).unwrap_err().kind, FailureKind::Refused);
    assert_eq!(fs::read_to_string(&victim).unwrap(), "untouched");
}

#[test]
fn a_state_folder_that_is_a_link_is_refused() {
    let outside = tempfile::tempdir().unwrap();
    let (folder, dest) = opened();
    symlink(outside.path(), folder.path().join(".dray")).unwrap();
    assert!(dest.state_write("receipt.json", b"x").is_err());
    assert!(matches!(dest.try_lock(), Err(Error::Storage(_))));
    assert!(disk::probe(&dest, IoWish::Auto).is_err());
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
}

#[test]
fn one_lock_at_a_time_and_no_trace_of_it() {
    let (folder, dest) = opened();
    let other = Dest::open_existing(folder.path()).unwrap();
    let held = dest.try_lock().unwrap().unwrap();
    assert!(other.try_lock().unwrap().is_none());
    drop(held);
    let held = other.try_lock().unwrap().unwrap();
    assert!(dest.try_lock().unwrap().is_none());
    assert_eq!(fs::read_dir(folder.path().join(".dray")).unwrap().count(), 0);
    drop(held);
}

#[test]
fn activity_moves_with_parts_and_journal() {
    let (_folder, dest) = opened();
    let probe = disk::probe(&dest, IoWish::Auto).unwrap();
    let part = Arc::new(dest.part_open(&id(1), Some(MIB), &probe).unwrap());
    let before = dest.activity();
    assert_eq!(dest.activity(), before);
    std::thread::sleep(Duration::from_millis(20));
    write_all(probe.rung, &part, &content(MIB)).unwrap();
    let written = dest.activity();
    assert_ne!(written, before);
    dest.state_write("journal", b"x").unwrap();
    assert_ne!(dest.activity(), written);
}

#[test]
fn a_part_is_adopted_with_its_content() {
    let (folder, dest) = opened();
    let probe = disk::probe(&dest, IoWish::Auto).unwrap();
    assert_eq!((dest.part_exists(&id(1)).unwrap(), dest.parts().unwrap()), (None, vec![]));
    let part = Arc::new(dest.part_open(&id(1), Some(2 * MIB + 5), &probe).unwrap());
    write_all(probe.rung, &part, &content(2 * MIB + 5)).unwrap();
    drop(part);
    assert!((2 * MIB + 5) <= dest.part_exists(&id(1)).unwrap().unwrap());
    let part = dest.part_open(&id(1), Some(2 * MIB + 5), &probe).unwrap();
    assert!(part.adopted() && part.id() == id(1));
    seal(&dest, &part, "deep/er/x", 2 * MIB + 5).unwrap();
    assert!(fs::read(folder.path().join("deep/er/x")).unwrap() == content(2 * MIB + 5));
    assert_eq!(dest.parts().unwrap(), vec![]);
    drop(part);
    dest.sync_folders([path("deep/er/x"), path("deep/y"), path("z")].iter().take(1)).unwrap();
    dest.withdraw(&path("deep/er/x"), &id(9)).unwrap();
    assert_eq!(dest.file_size(&path("deep/er/x")).unwrap(), None);
    assert_eq!(dest.part_exists(&id(9)).unwrap(), Some(2 * MIB + 5));
    assert_eq!(dest.withdraw(&path("deep/er/x"), &id(9)).unwrap_err().kind(), io::ErrorKind::NotFound);
    assert!(dest.part_open(&id(9), Some(2 * MIB + 5), &probe).unwrap().adopted());
    dest.part_remove(&id(9)).unwrap();
    dest.part_remove(&id(9)).unwrap();
    assert_eq!(dest.part_exists(&id(9)).unwrap(), None);
}

#[test]
fn a_locked_part_is_waited_for() {
    let (_folder, dest) = opened();
    let probe = disk::probe(&dest, IoWish::Auto).unwrap();
    let part = dest.part_open(&id(1), Some(1), &probe).unwrap();
    let started = Instant::now();
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| dest.part_open(&id(1), Some(1), &probe).map(|part| part.adopted()));
        std::thread::sleep(Duration::from_millis(200));
        drop(part);
        assert!(waiter.join().unwrap().unwrap());
    });
    assert!(Duration::from_millis(150) <= started.elapsed());
}

#[test]
fn a_part_that_was_sealed_while_we_waited_is_begun_anew() {
    let (folder, dest) = opened();
    let probe = disk::probe(&dest, IoWish::Auto).unwrap();
    let part = dest.part_open(&id(1), Some(1), &probe).unwrap();
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| dest.part_open(&id(1), Some(1), &probe).map(|part| part.adopted()));
        std::thread::sleep(Duration::from_millis(200));
        seal(&dest, &part, "x", 1).unwrap();
        drop(part);
        assert!(!waiter.join().unwrap().unwrap(), "the published file is not written again");
    });
    assert_eq!(fs::metadata(folder.path().join("x")).unwrap().nlink(), 1);
}

#[test]
fn a_finished_run_leaves_only_what_it_published() {
    let (folder, dest) = opened();
    let probe = disk::probe(&dest, IoWish::Auto).unwrap();
    let lock = dest.try_lock().unwrap().unwrap();
    drop(dest.part_open(&id(1), Some(1), &probe).unwrap());
    for name in ["journal", "tree.b3", "receipt.json"] {
        dest.state_write(name, b"content").unwrap();
    }
    dest.remove_journal().unwrap();
    dest.remove_journal().unwrap();
    drop(lock);
    let mut left: Vec<_> =
        fs::read_dir(folder.path().join(".dray")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["receipt.json", "tree.b3"]);
    assert_eq!(fs::metadata(folder.path().join(".dray/receipt.json")).unwrap().permissions().mode() & 0o7777, 0o644);
}

#[test]
fn state_files_are_read_whole_or_refused() {
    let (folder, dest) = opened();
    assert_eq!(dest.state_read("receipt.json", 10).unwrap(), None);
    dest.state_write("receipt.json", b"0123456789").unwrap();
    assert_eq!(dest.state_read("receipt.json", 10).unwrap().unwrap(), b"0123456789");
    assert_eq!(dest.state_read("receipt.json", 9).unwrap_err().kind(), io::ErrorKind::InvalidData);
    dest.state_write("receipt.json", b"new").unwrap();
    assert_eq!(dest.state_read("receipt.json", 10).unwrap().unwrap(), b"new");
    fs::create_dir(folder.path().join(".dray/folder")).unwrap();
    assert_eq!(dest.state_read("folder", 10).unwrap_err().kind(), io::ErrorKind::InvalidData);
    symlink("/etc/passwd", folder.path().join(".dray/link")).unwrap();
    assert!(dest.state_read("link", 1 << 20).is_err());
    assert!(dest.state_write("../escape", b"x").is_err() && dest.state_read("../escape", 9).is_err());
    dest.state_remove("receipt.json").unwrap();
    dest.state_remove("receipt.json").unwrap();
    assert_eq!(dest.state_read("receipt.json", 10).unwrap(), None);
}

#[test]
fn a_missing_dest_is_made_or_reported() {
    let folder = tempfile::tempdir().unwrap();
    let deep = folder.path().join("a/b/c");
    assert!(matches!(Dest::open_existing(&deep), Err(Error::NotFound(_))));
    Dest::open(&deep).unwrap();
    assert_eq!(fs::metadata(&deep).unwrap().mode() & 0o7777, 0o755);
    Dest::open_existing(&deep).unwrap();
    fs::write(folder.path().join("file"), "").unwrap();
    assert!(matches!(Dest::open(&folder.path().join("file")), Err(Error::Usage(_))));
    assert!(matches!(Dest::open(&folder.path().join("file/x")), Err(Error::Usage(_))));
}

#[test]
fn a_scan_hands_over_the_wanted_pieces_of_what_is_there() {
    let (folder, dest) = opened();
    let len = 6 * MIB + 77;
    let bytes = content(len);
    fs::write(folder.path().join("x"), &bytes).unwrap();
    let file = dest.open_published(&path("x")).unwrap().unwrap();
    let check = |size: u64, wanted: &[u64], expected: &[u64]| {
        let seen = Mutex::new(Vec::new());
        scan::pieces(&file, size, wanted, |piece, got| {
            let start = usize::try_from(piece * MIB).unwrap();
            let end = usize::try_from(((piece + 1) * MIB).min(size)).unwrap();
            assert!(got == &bytes[start..end], "piece {piece}");
            seen.lock().unwrap().push(piece);
        })
        .unwrap();
        let mut seen = seen.into_inner().unwrap();
        seen.sort_unstable();
        assert_eq!(seen, expected, "{size} {wanted:?}");
    };
    check(len, &[0, 1, 2, 3, 4, 5, 6], &[0, 1, 2, 3, 4, 5, 6]);
    check(len, &[5], &[5]);
    check(len, &[1, 6], &[1, 6]);
    check(len, &[], &[]);
    check(len, &[6, 7, 1000], &[6]);
    check(3 * MIB, &[0, 2, 3], &[0, 2]);
    // The file is shorter than it should be: what is not there in full is left out.
    check(len + 1, &[5, 6], &[5]);
    check(20 * MIB, &[0, 6, 7, 15], &[0]);
    check(0, &[0], &[]);
}

/// Pieces of a file whose first byte is in the page cache.
fn cached_pieces(path: &Path, pieces: u64) -> usize {
    let file = fs::File::open(path).unwrap();
    let cached = |piece: &u64| {
        let mut byte = [0];
        let mut slices = [io::IoSliceMut::new(&mut byte)];
        rustix::io::preadv2(&file, &mut slices, piece * MIB, rustix::io::ReadWriteFlags::NOWAIT).is_ok()
    };
    (0..pieces).filter(cached).count()
}

#[test]
fn the_buffered_rung_leaves_the_page_cache_as_it_goes() {
    let (folder, dest) = opened();
    let probe = disk::probe(&dest, IoWish::Buffered).unwrap();
    if probe.direct_write.is_err() {
        eprintln!("NOT TESTED HERE: {} is the page cache", probe.file_system);
        return;
    }
    let part = Arc::new(dest.part_open(&id(1), Some(64 * MIB), &probe).unwrap());
    write_all(probe.rung, &part, &content(64 * MIB)).unwrap();
    let part_path = folder.path().join(".dray/parts").join(id(1).to_hex());
    let cached = cached_pieces(&part_path, 64);
    assert!(cached <= 20, "{cached} of 64 MiB are cached after the run");
    seal(&dest, &part, "x", 64 * MIB).unwrap();
    assert!(cached_pieces(&folder.path().join("x"), 64) <= 1);
    assert!(fs::read(folder.path().join("x")).unwrap() == content(64 * MIB));
}

/// A small file system of its own; unmounted on drop.
struct Small {
    _around: TempDir,
    point: PathBuf,
}

impl Small {
    /// `None`, and the reason aloud, where mounting is not permitted.
    fn mount(kind: &str) -> Option<Self> {
        let around = tempfile::tempdir().unwrap();
        let point = around.path().join("mnt");
        fs::create_dir(&point).unwrap();
        let image = around.path().join("image");
        let run = |program: &str, args: &[&str]| {
            let done = Command::new(program).args(args).arg(if program == "mount" { &point } else { &image }).output();
            match done {
                Ok(output) if output.status.success() => true,
                Ok(output) => {
                    eprintln!("NOT TESTED HERE: {program}: {}", String::from_utf8_lossy(&output.stderr).trim());
                    false
                }
                Err(error) => {
                    eprintln!("NOT TESTED HERE: {program}: {error}");
                    false
                }
            }
        };
        let mounted = if kind == "tmpfs" {
            run("mount", &["-t", "tmpfs", "-o", "size=6m", "small"])
        } else {
            fs::File::create(&image).unwrap().set_len(12 * MIB).unwrap();
            run("mkfs.ext4", &["-q", "-F", "-O", "^has_journal"])
                && run("mount", &["-o", "loop", image.to_str().unwrap()])
        };
        mounted.then(|| Self { _around: around, point })
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        assert!(Command::new("umount").arg(&self.point).status().unwrap().success());
    }
}

/// Fills a file system through every rung it allows: the space is refused at once where it is reserved, else by the
/// write that does not fit, after which the part is dead.
fn check_full_disk(kind: &str) {
    let Some(small) = Small::mount(kind) else { return };
    let dest = Dest::open(&small.point.join("dest")).unwrap();
    for (number, probe) in (1..).zip(probes(&dest)) {
        let refused = dest.part_open(&id(99), Some(64 * MIB), &probe).unwrap_err();
        assert_eq!(refused.kind, FailureKind::DiskFull, "{kind} {:?}", probe.rung);
        assert_eq!(dest.part_exists(&id(99)).unwrap(), None, "a failed reservation fills no disk");
        let part = Arc::new(dest.part_open(&id(number), None, &probe).unwrap());
        let failed = write_all(probe.rung, &part, &content(16 * MIB)).unwrap_err();
        assert!(
            matches!(failed.kind(), io::ErrorKind::StorageFull | io::ErrorKind::Other),
            "{kind} {:?}: {failed}",
            probe.rung
        );
        assert!(part.poisoned());
        assert!(
            part.sync_data().is_err() && seal(&dest, &part, "x", 1).is_err(),
            "a dead part is neither synced nor sealed"
        );
        dest.part_remove(&id(number)).unwrap();
    }
    assert_eq!(dest.file_size(&path("x")).unwrap(), None);
}

#[test]
fn a_full_memory_file_system_says_so() {
    check_full_disk("tmpfs");
}

#[test]
fn a_full_disk_says_so() {
    check_full_disk("ext4");
}

#[test]
fn a_part_is_reserved_up_to_its_padding() {
    let (folder, dest) = opened();
    for (number, probe) in (0..).zip(probes(&dest)) {
        let part = dest.part_open(&id(number), Some(MIB + 1), &probe).unwrap();
        let about = fs::metadata(folder.path().join(".dray/parts").join(id(number).to_hex())).unwrap();
        assert_eq!(about.len(), (MIB + 1).next_multiple_of(part.align()));
        assert_eq!(about.mode() & 0o7777, 0o600);
        let outside = fs::File::open(folder.path().join(".dray/parts").join(id(number).to_hex())).unwrap();
        let mut byte = [1];
        outside.read_exact_at(&mut byte, MIB).unwrap();
        assert_eq!(byte, [0]);
    }
}
