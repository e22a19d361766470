//! The disk: one pool of slabs, three ways to write, and everything beneath one directory descriptor.
//!
//! In: filled [`Slab`]s and names that are already [`SafePath`](crate::manifest::SafePath)s. Out: bytes that are
//! written, then durable when [`PartFile::sync_data`] says so, then published by [`Dest::seal_step`].
//! Holds: a slab returns to its pool only after the kernel is done with it; nothing outside DEST is opened;
//! a part file that met an error is never synced again.

mod above;
mod backend;
mod batch;
mod beneath;
pub mod copy;
mod dest;
mod names;
mod part;
mod parts;
pub mod place;
mod probe;
mod publish;
mod queue;
pub mod scan;
mod slab;
mod stage;
mod threads;
mod uring;
mod window;

pub use above::Above;
pub use backend::{LaneDisk, Rung, WRITES_IN_FLIGHT_MAX, run_lane};
pub use batch::BATCH_SLABS_MAX;
#[cfg(test)]
pub(crate) use dest::seen;
pub use dest::{Activity, Dest, DestLock};
pub use part::PartFile;
pub use probe::{IoWish, Probe, Probes, probe};
pub(crate) use publish::WRITTEN;
pub use slab::{SLAB_BYTES, Slab, SlabPool};
pub use stage::PieceWriter;
