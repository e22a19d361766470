//! dray's own origins: a loopback S3 endpoint that generates models, a Hugging Face Hub with its CDN, an HTTP origin
//! that breaks on demand, and a model registry.
//!
//! In: buckets or objects, and for the HTTP origin a [`Script`] of faults. Out: addresses on
//! 127.0.0.1, counters and a log of what was asked.
//! Holds: bodies are generated as they are sent, so an object costs its size in neither memory nor
//! disk; every wait is bounded; dropping an origin stops it.

#![deny(unsafe_code, missing_docs, unreachable_pub)]
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::let_underscore_must_use, clippy::cast_possible_truncation)
)]

mod certificate;
pub mod content;
pub mod fault;
pub mod http;
pub mod hub;
pub mod model;
mod pool;
pub mod registry;
pub mod s3;
mod serve;
pub mod served;

pub use crate::certificate::Certificate;
pub use crate::content::{Content, Statement};
pub use crate::fault::{Fault, On, Rule, Script, When};
pub use crate::http::{FaultOrigin, Head, Options, Ranges, Seen, Validators};
pub use crate::hub::{Access, HubArena, HubSeen, Kept, Repo, Side};
pub use crate::model::{Model, ModelObject, ModelSpec};
pub use crate::registry::{AskedOfRegistry, Mode, Registry, RegistryOptions};
pub use crate::s3::{Bucket, Counts, S3Arena, demo};
pub use crate::served::{Met, Port, Served, ServedOptions, Weather};
