//! The bound on what a crash can cost: pieces received and not yet noted as written, or not yet durable.

use std::sync::Arc;

use tokio::sync::Semaphore;

/// Rights to receive one more piece: taken with a slab, given back as the scheduler says (`Progress::kept_rights`).
#[derive(Clone)]
pub(super) struct Gate(Arc<Semaphore>);

impl Gate {
    /// A gate of `pieces` rights, at least one.
    pub(super) fn new(pieces: usize) -> Self {
        Self(Arc::new(Semaphore::new(pieces.max(1))))
    }

    /// Takes a right if one is free.
    pub(super) fn try_take(&self) -> bool {
        self.0.try_acquire().map(tokio::sync::SemaphorePermit::forget).is_ok()
    }

    /// Waits for a right. The semaphore is never closed, so the wait cannot fail.
    pub(super) async fn take(&self) {
        if let Ok(permit) = self.0.acquire().await {
            permit.forget();
        }
    }

    /// Gives `count` rights back.
    pub(super) fn give_back(&self, count: usize) {
        self.0.add_permits(count);
    }
}
