//! One contiguous write of a few slabs, carried through short writes and retries. No syscalls here.
//!
//! In: slabs with their fill. Out: what to hand to the kernel next. Holds: a direct write starts and ends on the
//! file's alignment; slabs are kept until the kernel has taken their last byte; retries are counted.

use std::io;

use super::slab::{SLAB_BYTES, Slab};

/// Slabs that go out as one operation: 4 MiB cost half the CPU of four times 1 MiB (docs/performance.md).
pub const BATCH_SLABS_MAX: usize = 4;

/// Tries without progress (EINTR, EAGAIN, or less than one aligned block) before a write has failed.
const IDLE_TRIES_MAX: u32 = 100;

/// A slab and the part of it that is still to be written.
#[derive(Debug)]
pub(super) struct Filled {
    slab: Slab,
    start: usize,
    end: usize,
}

impl Filled {
    pub(super) fn bytes(&self) -> &[u8] {
        &self.slab[self.start..self.end]
    }
}

/// What is left of one write.
#[derive(Debug)]
pub(super) struct Batch {
    /// What is left, in file order.
    filled: Vec<Filled>,
    /// Where in the file it goes.
    offset: u64,
    /// Where the write ends.
    end: u64,
    align: usize,
    idle_tries: u32,
}

/// What to do after one attempt.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// All bytes are written.
    Done,
    /// Hand the rest to the kernel.
    Again,
    /// The kernel asked for patience; then hand the rest to it again.
    Later,
}

impl Batch {
    /// Takes `slabs`, all full but perhaps the last, to be written at `offset`; pads the last one with zeros to `align`.
    pub(super) fn new(align: u64, offset: u64, slabs: Vec<(Slab, usize)>) -> io::Result<Self> {
        let align = usize::try_from(align).map_err(io::Error::other)?;
        let count = slabs.len();
        let misshapen = |(index, (_, filled)): (usize, &(Slab, usize))| {
            *filled == 0 || SLAB_BYTES < *filled || (index + 1 < count && *filled != SLAB_BYTES)
        };
        let bad_shape = count == 0 || BATCH_SLABS_MAX < count || slabs.iter().enumerate().any(misshapen);
        if bad_shape || !align.is_power_of_two() || SLAB_BYTES < align || !offset.is_multiple_of(bytes(align)) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "a write of no whole, aligned, contiguous slabs"));
        }
        let pad = |(mut slab, filled): (Slab, usize)| {
            let end = filled.next_multiple_of(align);
            slab[filled..end].fill(0);
            Filled { slab, start: 0, end }
        };
        let filled: Vec<_> = slabs.into_iter().map(pad).collect();
        let end = filled.iter().map(|filled| bytes(filled.end)).fold(offset, u64::saturating_add);
        Ok(Self { filled, offset, end, align, idle_tries: 0 })
    }

    /// Where the rest goes.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// How much is left, in bytes. 0 only when the kernel has taken the last byte.
    pub(super) fn left(&self) -> u64 {
        self.end - self.offset
    }

    /// The rest, in file order.
    pub(super) fn filled(&self) -> &[Filled] {
        &self.filled
    }

    /// Lends the rest to the kernel; [`Batch::put_back`] must follow.
    pub(super) fn take(&mut self) -> Vec<Filled> {
        std::mem::take(&mut self.filled)
    }

    /// Takes back what [`Batch::take`] lent.
    pub(super) fn put_back(&mut self, filled: Vec<Filled>) {
        self.filled = filled;
    }

    /// Draws the conclusion from what the kernel said to the last attempt.
    ///
    /// # Errors
    /// The kernel's error, a write of nothing, or too many tries without progress.
    pub(super) fn settle(&mut self, result: io::Result<usize>) -> io::Result<Next> {
        let patience = match result {
            Ok(0) => return Err(io::Error::new(io::ErrorKind::WriteZero, "the kernel wrote nothing")),
            Ok(written) => {
                // A direct write must go on from an aligned offset: an odd tail is written again.
                let whole = written - written % self.align;
                if 0 < whole {
                    self.advance(whole)?;
                    self.idle_tries = 0;
                    return Ok(if self.left() == 0 { Next::Done } else { Next::Again });
                }
                Next::Again
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Next::Again,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Next::Later,
            Err(error) => return Err(error),
        };
        self.idle_tries += 1;
        if self.idle_tries <= IDLE_TRIES_MAX {
            return Ok(patience);
        }
        Err(io::Error::new(io::ErrorKind::TimedOut, "a write made no progress"))
    }

    /// Moves past `written` bytes and lets go of the slabs that are through.
    fn advance(&mut self, written: usize) -> io::Result<()> {
        let mut rest = written;
        let mut through = 0;
        for filled in &mut self.filled {
            let step = rest.min(filled.end - filled.start);
            filled.start += step;
            rest -= step;
            through += usize::from(filled.start == filled.end);
        }
        if rest != 0 {
            return Err(io::Error::other("the kernel wrote more than it was given"));
        }
        self.filled.drain(..through);
        self.offset += bytes(written);
        Ok(())
    }
}

/// A length in memory as a length in a file.
pub(super) fn bytes(len: usize) -> u64 {
    // usize is at most 64 bits wide on every platform that Rust has.
    u64::try_from(len).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::super::slab::SlabPool;
    use super::*;

    fn batch(align: u64, fills: &[usize]) -> io::Result<Batch> {
        let pool = SlabPool::new(8 << 20).unwrap();
        let slabs = fills.iter().zip(1u8..).map(|(fill, mark)| {
            let mut slab = pool.try_lease().unwrap();
            slab.fill(mark);
            (slab, *fill)
        });
        Batch::new(align, 8 << 20, slabs.collect())
    }

    #[test]
    fn only_contiguous_shapes_are_taken() {
        const FULL: usize = SLAB_BYTES;
        for fills in [&[][..], &[0], &[FULL + 1], &[5, FULL], &[FULL, 0], &[FULL; 5]] {
            assert_eq!(batch(512, fills).unwrap_err().kind(), io::ErrorKind::InvalidInput, "{fills:?}");
        }
        assert_eq!(batch(3, &[1]).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        let pool = SlabPool::new(0).unwrap();
        let odd = Batch::new(512, 100, vec![(pool.try_lease().unwrap(), 1)]);
        assert_eq!(odd.unwrap_err().kind(), io::ErrorKind::InvalidInput);
        assert_eq!(pool.leased(), 0, "a refused write gives its slabs back");
    }

    #[test]
    fn the_tail_is_padded_with_zeros_to_the_alignment_only() {
        let padded = batch(4096, &[SLAB_BYTES, 5000]).unwrap();
        assert_eq!(padded.left(), bytes(SLAB_BYTES) + 8192);
        let tail = padded.filled()[1].bytes();
        assert!(tail[..5000].iter().all(|byte| *byte == 2) && tail[5000..].iter().all(|byte| *byte == 0));
        assert_eq!(batch(1, &[5000]).unwrap().left(), 5000);
    }

    #[test]
    fn a_short_direct_write_goes_on_from_the_last_aligned_byte() {
        let mut short = batch(512, &[SLAB_BYTES, SLAB_BYTES]).unwrap();
        assert_eq!(short.settle(Ok(SLAB_BYTES + 700)).unwrap(), Next::Again);
        assert_eq!((short.offset(), short.filled().len()), ((9 << 20) + 512, 1));
        assert_eq!(short.left(), bytes(SLAB_BYTES) - 512);
        assert_eq!(short.settle(Ok(SLAB_BYTES - 512)).unwrap(), Next::Done);
        assert_eq!((short.offset(), short.left()), (10 << 20, 0));
    }

    #[test]
    fn a_short_buffered_write_goes_on_from_any_byte() {
        let mut short = batch(1, &[1000]).unwrap();
        assert_eq!(short.settle(Ok(1)).unwrap(), Next::Again);
        assert_eq!((short.offset(), short.left()), ((8 << 20) + 1, 999));
    }

    #[test]
    fn a_write_that_never_advances_fails() {
        let error = |code: rustix::io::Errno| io::Error::from(code);
        for idle in [|| Err(io::ErrorKind::Interrupted.into()), || Err(io::ErrorKind::WouldBlock.into()), || Ok(511)] {
            let mut stuck = batch(512, &[SLAB_BYTES]).unwrap();
            let tries = (0..1000).take_while(|_| stuck.settle(idle()).is_ok()).count();
            assert_eq!(tries, 100);
        }
        let mut fatal = batch(512, &[SLAB_BYTES]).unwrap();
        assert_eq!(fatal.settle(Ok(0)).unwrap_err().kind(), io::ErrorKind::WriteZero);
        let full = fatal.settle(Err(error(rustix::io::Errno::NOSPC))).unwrap_err();
        assert_eq!(full.kind(), io::ErrorKind::StorageFull);
        assert!(fatal.settle(Ok(SLAB_BYTES * 2)).is_err(), "more than was given");
    }
}
