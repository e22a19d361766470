//! Azure Blob Storage: lists and describes blobs over the REST API, signs reads or lends them a token.
//!
//! In: an [`AzureSource`](crate::uri::AzureSource), the environment. Out: objects with ETags and the MD5 that their
//! writers stated.
//! Holds: an exact blob wins over a folder of the same name; `m` never takes `m-v2/…`; keys never leave this process;
//! signatures and tokens go to the account's endpoint only; the types of Microsoft's library stay in this folder.

mod api;
mod credentials;
mod listing;
mod place;
mod signature;
mod store;
mod token;

pub(super) use listing::page;
pub use store::Azure;
