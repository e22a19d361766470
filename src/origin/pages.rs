//! The bodies of stores' listings as objects, without a server: for whoever measures or fuzzes what reads them. Pure.
//!
//! In: one page's bytes. Out: [`Found`] objects. Holds: the same functions read the pages of real listings.

use crate::error::Failure;
use crate::origin::listing::Listing;
use crate::origin::{Found, azure, gcs, hub};

/// Who wrote a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Store {
    /// The JSON API of Google Cloud Storage.
    Gcs,
    /// List Blobs of Azure Storage, XML.
    Azure,
    /// The tree of a repository of the Hub, JSON.
    Hub,
}

/// Reads one page: the files whose names begin with `prefix`, which is empty or ends with `/`.
///
/// # Errors
/// `BadReply` for what is no such page, and for one that names an object twice.
pub fn read(store: Store, body: &[u8], prefix: &str) -> Result<Vec<Found>, Failure> {
    let page = match store {
        Store::Gcs => gcs::page(body)?,
        Store::Azure => azure::page(body)?,
        Store::Hub => {
            let mut listing = hub::Listing::new(prefix.strip_suffix('/').unwrap_or(prefix));
            listing.add(hub::entries(body)?, None)?;
            return Ok(listing.into_found());
        }
    };
    let mut listing = Listing::new(prefix);
    listing.add(page)?;
    Ok(listing.into_found())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::FailureKind;

    const GCS: &str = r#"{"items": [{"name": "m/a", "size": "7"}, {"name": "n/b", "size": "1"}]}"#;
    const AZURE: &str = "<EnumerationResults><Blobs><Blob><Name>m/a</Name><Properties><Content-Length>7\
                         </Content-Length></Properties></Blob></Blobs><NextMarker/></EnumerationResults>";
    const HUB: &str = r#"[{"type": "file", "path": "m/a", "size": 7}, {"type": "directory", "path": "m/b"}]"#;

    #[test]
    fn a_page_of_each_store_names_its_files_below_the_prefix() {
        for (store, body) in [(Store::Gcs, GCS), (Store::Azure, AZURE), (Store::Hub, HUB)] {
            let found = read(store, body.as_bytes(), "m/").unwrap();
            let shown: Vec<_> = found.iter().map(|found| (found.path.as_str(), &*found.object, found.size)).collect();
            assert_eq!(shown, [("a", "m/a", Some(7))], "{store:?}");
        }
    }

    #[test]
    fn the_page_of_another_store_is_a_bad_reply() {
        for (store, body) in [(Store::Gcs, AZURE), (Store::Azure, HUB), (Store::Hub, GCS)] {
            assert_eq!(read(store, body.as_bytes(), "").unwrap_err().kind, FailureKind::BadReply, "{store:?}");
        }
    }
}
