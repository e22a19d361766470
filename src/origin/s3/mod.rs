//! S3 and whatever speaks like it: lists by ListObjectsV2, describes by HEAD, authorises by presigning.
//!
//! In: an [`S3Source`](crate::uri::S3Source) and the environment. Out: an [`Origin`](crate::origin::Origin).
//! Holds: an exact key wins over a folder of the same name; `m` never takes `m-v2/…`; the SDK's types stay in
//! this folder.

mod client;
mod credentials;
mod fault;
mod head;
mod listing;
mod parts;
mod settings;
mod signature;
mod store;

pub use store::S3;
