//! How work on other threads hears that it is to end.

use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

use crate::error::Error;

/// Whether the work is to end, and by which signal. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Stop(Arc<AtomicI32>);

impl Stop {
    /// Asks the work to end: nothing new is started, and what runs is killed.
    pub fn ask(&self, signal: i32) {
        self.0.store(signal, Ordering::Release);
    }

    /// Whether it was asked to end.
    pub fn is_asked(&self) -> bool {
        self.check().is_err()
    }

    /// Whether the work may go on.
    ///
    /// # Errors
    /// [`Error::Interrupted`] once it was asked to end.
    pub fn check(&self) -> Result<(), Error> {
        match self.0.load(Ordering::Acquire) {
            0 => Ok(()),
            signal => Err(Error::Interrupted { signal }),
        }
    }
}
