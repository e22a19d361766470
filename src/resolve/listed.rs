//! A listing with an end.

use std::time::Duration;

use tokio::time::timeout;

use crate::error::Error;
use crate::origin::{Found, Origin};

/// Bound of one listing, all pages and repeats together: a million objects take a slow store some minutes.
const LIST_TIMEOUT: Duration = Duration::from_secs(30 * 60);

/// Everything that `origin` has of its source.
///
/// # Errors
/// As [`Origin::list`]; [`Error::Network`] for one that does not end within [`LIST_TIMEOUT`].
pub(super) async fn listed(origin: &dyn Origin) -> Result<Vec<Found>, Error> {
    timeout(LIST_TIMEOUT, origin.list()).await.unwrap_or_else(|_| {
        let minutes = LIST_TIMEOUT.as_secs() / 60;
        Err(Error::Network(format!("{}: the listing does not end within {minutes} minutes", origin.describe())))
    })
}
