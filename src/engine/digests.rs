//! `dray lock`: every byte is fetched, hashed and compared like in a pull, and none is kept.
//!
//! In: a [`Pull`] into an empty scratch folder. Out: the receipt that a pull would have written.
//! Holds: nothing made here is ever taken for a model: the scratch folder is the caller's to remove.

use crate::disk::{Dest, IoWish};
use crate::engine::{Observer, Outcome, Pull, resume};
use crate::error::Error;
use crate::manifest::Receipt;

/// Fetches and hashes one model without keeping it; the receipt is there when the run succeeded.
///
/// `pull.dest` is a scratch folder: it gets the state files of a run and empty files of the right sizes.
pub async fn digests(pull: Pull, observer: &mut dyn Observer) -> (Outcome, Option<Receipt>) {
    let scratch = pull.dest.clone();
    let mut outcome = super::run(Pull { io: IoWish::Discard, ..pull }, observer).await;
    if outcome.result.is_err() {
        return (outcome, None);
    }
    let sealed = Dest::open_existing(&scratch).and_then(|dest| resume::sealed_state(&dest));
    let missing = || Error::Internal("the digests were lost".to_owned());
    match sealed.and_then(|sealed| sealed.map(|sealed| sealed.receipt).ok_or_else(missing)) {
        Ok(receipt) => (outcome, Some(receipt)),
        Err(error) => {
            outcome.result = Err(error);
            (outcome, None)
        }
    }
}
