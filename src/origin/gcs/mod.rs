//! Google Cloud Storage: lists and describes by the JSON API, authorises by a bearer token.
//!
//! In: a [`GcsSource`](crate::uri::GcsSource) and the environment. Out: an [`Origin`](crate::origin::Origin).
//! Holds: an exact object wins over a folder of the same name; `m` never takes `m-v2/…`; every read names a
//! generation; the token goes to the storage endpoint only; the types of Google's library stay in this folder.

mod api;
mod credentials;
mod place;
mod store;

pub(super) use api::page;
pub use store::Gcs;
