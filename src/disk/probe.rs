//! Which rung DEST's own file system and this process's rights allow, found by trying.
//!
//! In: an open [`Dest`] and a wish. Out: a [`Probe`]. Holds: nothing is assumed of a file system that was not tried
//! or stated by it; the file it was tried on has no name or loses it at once.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::fs::{AtFlags, Mode, OFlags, StatxFlags};
use rustix::io::Errno;

use super::backend::Rung;
use super::batch::{Batch, bytes};
use super::beneath;
use super::dest::{self, Dest};
use super::place;
use super::slab::{SLAB_BYTES, SlabPool};
use super::uring;
use crate::error::{Error, storage};

/// How long the trial write through the ring may take before the ring counts as refused.
const RING_TIMEOUT: Duration = Duration::from_secs(10);

/// Alignments tried where the file system states none: a page, the largest page, a slab. More than needed costs
/// nothing but padding at the end of a file, since every other write is whole slabs.
const ALIGN_TRIALS: [u32; 3] = [4096, 64 << 10, 1 << 20];

/// Preferred sizes beyond this are about caching (1 MiB on NFS), not blocks.
const BLOCK_MAX: u32 = 64 << 10;

/// Bytes of the trial write through the ring when it is not direct.
const TRIAL_BYTES: u32 = 4096;

/// The name of the trial file where files without names are refused.
const TRIAL: &str = "probe.tmp";

/// Linux ABI, `include/uapi/linux/magic.h`: file systems that are memory and only pretend to do direct I/O.
const MEMORY_FILE_SYSTEMS: [u64; 3] = [0x0102_1994, 0x8584_58f6, 0x9584_58f6];

/// Which rung the user asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IoWish {
    /// The fastest that works.
    Auto,
    /// The ring or nothing.
    Uring,
    /// Direct writes by threads or nothing.
    Threads,
    /// The page cache.
    Buffered,
    /// No writes, for digests alone: [`Rung::Discard`].
    Discard,
}

/// What DEST's file system allows, and the rung chosen.
#[derive(Debug, Clone)]
pub struct Probe {
    /// The rung to use.
    pub rung: Rung,
    /// Whether part files are opened for direct I/O: on every rung but the buffered one.
    pub direct: bool,
    /// What offsets, lengths and memory addresses of direct writes must be multiples of, in bytes.
    pub align: u32,
    /// The file system's name as the kernel's mount table has it, or its magic number.
    pub file_system: String,
    /// Bytes an unprivileged process may still write.
    pub free_bytes: u64,
    /// Whether a write through a ring worked, or why not.
    pub uring: Result<(), String>,
    /// Whether a direct write worked, or why not.
    pub direct_write: Result<(), String>,
    /// What a person looking for speed should know, one sentence each.
    pub notes: Vec<String>,
}

impl Probe {
    /// What was found on the same mount, with what is free now.
    fn here(self, dest: &Dest, wish: IoWish) -> Result<Self, Error> {
        let (_, free_bytes) = about(dest)?;
        Ok(if wish == IoWish::Discard { self } else { Self { free_bytes, ..self } })
    }
}

/// File systems that are remembered; more are tried anew each time.
const GROUNDS_MAX: usize = 16;

/// What was found so far: a file system is tried once for all the folders on it.
#[derive(Debug, Default)]
pub struct Probes {
    found: Mutex<Vec<(Ground, Probe)>>,
    /// Held while something is tried: a trial takes memory and a ring, and its answer is the others' too.
    trial: Mutex<()>,
}

/// What the answer hangs on: the mount, what sets a folder apart on it (encryption, compression), and the wish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Ground {
    device: (u32, u32),
    mount: u64,
    attributes: u64,
    wish: IoWish,
}

impl Probes {
    /// As [`probe`], from what was found on the same mount before; how much is free is asked every time.
    ///
    /// # Errors
    /// As [`probe`].
    pub fn probe(&self, dest: &Dest, wish: IoWish) -> Result<Probe, Error> {
        let Some(ground) = ground(dest, wish) else { return probe(dest, wish) };
        if let Some(found) = self.known(ground) {
            return found.here(dest, wish);
        }
        let _trial = self.trial.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = self.known(ground) {
            return found.here(dest, wish);
        }
        let found = probe(dest, wish)?;
        let mut list = self.list();
        if list.len() < GROUNDS_MAX {
            list.push((ground, found.clone()));
        }
        Ok(found)
    }

    fn known(&self, ground: Ground) -> Option<Probe> {
        self.list().iter().find(|(known, _)| *known == ground).map(|(_, found)| found.clone())
    }

    fn list(&self) -> MutexGuard<'_, Vec<(Ground, Probe)>> {
        // Whoever panicked here left the list whole.
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where DEST lies; `None` where the kernel does not tell mounts apart.
fn ground(dest: &Dest, wish: IoWish) -> Option<Ground> {
    let wanted = StatxFlags::BASIC_STATS | StatxFlags::MNT_ID;
    let stat = rustix::fs::statx(dest.dir(), "", AtFlags::EMPTY_PATH, wanted).ok()?;
    let told = StatxFlags::from_bits_retain(stat.stx_mask).contains(StatxFlags::MNT_ID);
    let device = (stat.stx_dev_major, stat.stx_dev_minor);
    let attributes = stat.stx_attributes.bits();
    told.then_some(Ground { device, mount: stat.stx_mnt_id, attributes, wish })
}

/// The kernel's number of DEST's file system, and the bytes that an unprivileged process may still write.
fn about(dest: &Dest) -> Result<(u64, u64), Error> {
    let about = rustix::fs::fstatfs(dest.dir()).map_err(|error| unwritable(dest, &error.into()))?;
    let magic = u64::try_from(about.f_type).unwrap_or(0) & 0xffff_ffff;
    Ok((magic, about.f_bavail.saturating_mul(u64::try_from(about.f_bsize).unwrap_or(0))))
}

fn unwritable(dest: &Dest, error: &io::Error) -> Error {
    storage(&format!("cannot write in `{}`", dest.path().display()), error)
}

/// Tries what DEST's file system allows and chooses the rung. Blocks for a few milliseconds; writes one small file.
///
/// # Errors
/// `Usage` when the wish cannot be fulfilled, with the reason; `Storage` or `DiskFull` when DEST cannot be written.
pub fn probe(dest: &Dest, wish: IoWish) -> Result<Probe, Error> {
    let failed = |error: io::Error| unwritable(dest, &error);
    let (magic, free_bytes) = about(dest)?;
    let file_system = file_system_name(dest, magic);
    if wish == IoWish::Discard {
        return Ok(discarding(file_system));
    }
    let direct = if MEMORY_FILE_SYSTEMS.contains(&magic) {
        Err(format!("{file_system} keeps files in memory"))
    } else {
        try_direct(dest).map_err(failed)?
    };
    let ring = try_ring(dest, direct.as_ref().ok().copied()).map_err(failed)?;
    let rung = choose(wish, &direct, &ring)?;
    let mut notes = Vec::new();
    notes.extend(direct.as_ref().err().map(|why| format!("no direct I/O: {why}; writes go through the page cache")));
    notes.extend(ring.as_ref().err().map(|why| format!("no io_uring: {why}; writer threads do as well")));
    Ok(Probe {
        rung,
        direct: rung != Rung::Buffered,
        align: direct.as_ref().copied().unwrap_or(1),
        file_system,
        free_bytes,
        uring: ring,
        direct_write: direct.map(drop),
        notes,
    })
}

/// What is known of a place where nothing will be written: no room is needed.
fn discarding(file_system: String) -> Probe {
    let untried = || Err("not tried: nothing is written".to_owned());
    Probe {
        rung: Rung::Discard,
        direct: false,
        align: 1,
        file_system,
        free_bytes: u64::MAX,
        uring: untried(),
        direct_write: untried(),
        notes: Vec::new(),
    }
}

fn choose(wish: IoWish, direct: &Result<u32, String>, ring: &Result<(), String>) -> Result<Rung, Error> {
    let refused = |name: &str, why: &str| Err(Error::Usage(format!("--io {name} is not possible here: {why}")));
    match (wish, direct, ring) {
        (IoWish::Discard, _, _) => Ok(Rung::Discard),
        (IoWish::Buffered, _, _) | (IoWish::Auto, Err(_), _) => Ok(Rung::Buffered),
        (IoWish::Auto | IoWish::Uring, Ok(_), Ok(())) => Ok(Rung::Uring),
        (IoWish::Auto | IoWish::Threads, Ok(_), _) => Ok(Rung::Threads),
        (IoWish::Threads, Err(why), _) => refused("threads", why),
        (IoWish::Uring, Err(why), _) | (IoWish::Uring, _, Err(why)) => refused("uring", why),
    }
}

/// Makes a file in the state folder that has no name, or had one for a moment.
fn trial_file(dest: &Dest, kept: OFlags) -> io::Result<OwnedFd> {
    let state = dest.state_folder()?;
    let mode = Mode::from_raw_mode(0o600);
    let flags = OFlags::WRONLY | OFlags::CLOEXEC | kept;
    if let Ok(file) = rustix::fs::openat(state, ".", flags | OFlags::TMPFILE, mode) {
        return Ok(file);
    }
    let remove = || dest::absent_is_fine(rustix::fs::unlinkat(state, TRIAL, AtFlags::empty()));
    remove()?;
    let opened = beneath::open(state, TRIAL, flags | OFlags::CREATE | OFlags::EXCL, mode);
    // Some file systems leave the name although they refuse the flags.
    remove()?;
    opened
}

/// The alignment with which a direct write works, or why none does.
fn try_direct(dest: &Dest) -> io::Result<Result<u32, String>> {
    let file = match trial_file(dest, OFlags::DIRECT) {
        Ok(file) => file,
        Err(error) if is_refusal(&error) => return Ok(Err("the file system refuses O_DIRECT".to_owned())),
        Err(error) => return Err(error),
    };
    let stated = stated_align(file.as_fd());
    if stated == Some(0) {
        return Ok(Err("the file system states that it has none".to_owned()));
    }
    let mut last = "no alignment works".to_owned();
    for align in stated.map_or(ALIGN_TRIALS.to_vec(), |align| vec![align]) {
        match write_direct(&file, align) {
            Ok(()) => return Ok(Ok(align)),
            Err(error) if is_refusal(&error) => last = format!("a write aligned to {align} bytes failed: {error}"),
            Err(error) => return Err(error),
        }
    }
    Ok(Err(last))
}

/// What statx says about direct I/O: `None` when it says nothing, 0 when there is none.
fn stated_align(file: impl AsFd) -> Option<u32> {
    let stat = rustix::fs::statx(file, "", AtFlags::EMPTY_PATH, StatxFlags::DIOALIGN | StatxFlags::BASIC_STATS).ok()?;
    if !StatxFlags::from_bits_retain(stat.stx_mask).contains(StatxFlags::DIOALIGN) {
        return None;
    }
    // Whole blocks where that is more: ext4 makes a write of half a block wait for all others.
    let block = stat.stx_blksize.min(BLOCK_MAX);
    let align = stat.stx_dio_mem_align.max(stat.stx_dio_offset_align).max(block);
    let usable = stat.stx_dio_offset_align != 0 && align.is_power_of_two() && u64::from(align) <= bytes(SLAB_BYTES);
    Some(if usable { align } else { 0 })
}

/// One write that is aligned to `align` and, where a slab has room for it, to no more than that.
fn write_direct(file: &OwnedFd, align: u32) -> io::Result<()> {
    let pool = SlabPool::new(0)?;
    let slab = pool.try_lease().ok_or(io::ErrorKind::OutOfMemory)?;
    let len = usize::try_from(align).map_err(io::Error::other)?;
    let memory = if len * 2 <= SLAB_BYTES { &slab[len..len * 2] } else { &slab[..len] };
    match rustix::io::pwrite(file, memory, u64::from(align))? {
        written if written == len => Ok(()),
        _ => Err(io::Error::from(Errno::INVAL)),
    }
}

/// One write through a ring, on a thread of its own because the caller may be inside a runtime.
fn try_ring(dest: &Dest, direct_align: Option<u32>) -> io::Result<Result<(), String>> {
    let file = File::from(trial_file(dest, direct_align.map_or(OFlags::empty(), |_| OFlags::DIRECT))?);
    let len = usize::try_from(direct_align.unwrap_or(TRIAL_BYTES)).map_err(io::Error::other)?;
    let (reply, answer) = sync_channel(1);
    let trial = move || {
        let result = SlabPool::new(0).and_then(|pool| {
            let slab = pool.try_lease().ok_or(io::ErrorKind::OutOfMemory)?;
            let mut batch = Batch::new(1, 0, vec![(slab, len)])?;
            uring::try_write(file, batch.take())
        });
        // Nobody listens after the timeout.
        drop(reply.send(result));
    };
    std::thread::Builder::new().name("dray-probe".to_owned()).spawn(trial)?;
    Ok(match answer.recv_timeout(RING_TIMEOUT) {
        Ok(Ok(written)) if written == len => Ok(()),
        Ok(Ok(written)) => Err(format!("a trial write of {len} bytes wrote {written}")),
        Ok(Err(error)) => Err(why_no_ring(&error)),
        Err(RecvTimeoutError::Timeout) => Err("a trial write did not come back".to_owned()),
        Err(RecvTimeoutError::Disconnected) => Err("the ring's runtime could not be made".to_owned()),
    })
}

/// What an errno of ring creation means to a person.
fn why_no_ring(error: &io::Error) -> String {
    let meaning = match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::PERM | Errno::ACCESS) => "a seccomp profile or kernel.io_uring_disabled forbids it",
        Some(Errno::NOSYS) => "this kernel or sandbox does not have it",
        Some(Errno::NOMEM) => "the limit on locked memory is too low",
        _ => "the trial write failed",
    };
    format!("{meaning} ({error})")
}

fn is_refusal(error: &io::Error) -> bool {
    [Errno::INVAL, Errno::OPNOTSUPP].iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

/// The name the mount table has for DEST's device, else the magic number.
fn file_system_name(dest: &Dest, magic: u64) -> String {
    let name = rustix::fs::fstat(dest.dir()).ok().and_then(|stat| {
        let device = format!("{}:{}", rustix::fs::major(stat.st_dev), rustix::fs::minor(stat.st_dev));
        let table = std::fs::read_to_string("/proc/self/mountinfo").ok()?;
        place::mounts(&table).find(|mount| mount.device == device).map(|mount| mount.kind.to_owned())
    });
    name.unwrap_or_else(|| format!("file system {magic:#x}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wish_is_fulfilled_or_refused_with_the_reason() {
        let yes = || (Ok(512), Ok(()));
        let no_ring = || (Ok(512), Err("seccomp".to_owned()));
        let no_direct = || (Err("memory".to_owned()), Ok(()));
        let refused = |text: &str| Err(Error::Usage(format!("--io {text}")));
        let table = [
            (IoWish::Auto, yes(), Ok(Rung::Uring)),
            (IoWish::Auto, no_ring(), Ok(Rung::Threads)),
            (IoWish::Auto, no_direct(), Ok(Rung::Buffered)),
            (IoWish::Uring, yes(), Ok(Rung::Uring)),
            (IoWish::Uring, no_ring(), refused("uring is not possible here: seccomp")),
            (IoWish::Uring, no_direct(), refused("uring is not possible here: memory")),
            (IoWish::Threads, yes(), Ok(Rung::Threads)),
            (IoWish::Threads, no_ring(), Ok(Rung::Threads)),
            (IoWish::Threads, no_direct(), refused("threads is not possible here: memory")),
            (IoWish::Buffered, yes(), Ok(Rung::Buffered)),
        ];
        for (wish, (direct, ring), expected) in table {
            assert_eq!(choose(wish, &direct, &ring), expected, "{wish:?}");
        }
    }
}
