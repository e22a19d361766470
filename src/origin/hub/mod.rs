//! The Hugging Face Hub, and whatever speaks like it: a revision to its commit, the commit's tree, its files.
//!
//! In: a [`HubSource`](crate::uri::HubSource) and the environment. Out: an [`Origin`](crate::origin::Origin).
//! Holds: every file is asked for at one commit, so a branch that moves changes nothing; the token goes to the Hub's
//! own scheme, host and port and nowhere else.

mod api;
mod settings;
mod store;
mod tree;

pub use store::Hub;
pub(super) use tree::{Listing, entries};
