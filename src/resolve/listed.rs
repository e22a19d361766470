//! A listing with an end, and who was asked for it.

use std::time::Duration;

use tokio::time::timeout;

use crate::error::Error;
use crate::origin::{Found, Origin};
use crate::resolve::Settings;
use crate::wire::proxy::Route;

/// Bound of one listing, all pages and repeats together: a million objects take a slow store some minutes.
const LIST_TIMEOUT: Duration = Duration::from_secs(30 * 60);

/// Everything that `origin` has of its source; the audit log learns which credentials were used.
///
/// # Errors
/// As [`Origin::list`]; [`Error::Network`] for one that does not end within [`LIST_TIMEOUT`].
pub(super) async fn listed(origin: &dyn Origin, settings: &Settings) -> Result<Vec<Found>, Error> {
    tell(origin, settings).await;
    let found = timeout(LIST_TIMEOUT, origin.list()).await.unwrap_or_else(|_| {
        let minutes = LIST_TIMEOUT.as_secs() / 60;
        Err(Error::Network(format!("{}: the listing does not end within {minutes} minutes", origin.describe())))
    })?;
    // A bucket may have turned out to be in another region, which is another host.
    tell(origin, settings).await;
    Ok(found)
}

/// Writes down which credentials requests to `origin` carry, to it and to a proxy on the way.
async fn tell(origin: &dyn Origin, settings: &Settings) {
    let Some(credential) = origin.credential().await else { return };
    settings.audit.credential(&credential.origin.to_string(), credential.kind);
    if let Route::Forward(proxy) | Route::Tunnel(proxy) = settings.wire.proxies.route(&credential.origin)
        && proxy.authorization.is_some()
    {
        settings.audit.credential(&proxy.place(), "proxy login");
    }
}
