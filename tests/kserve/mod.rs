//! The table of the storage-initializer contract: rows of arguments, environment and servers, and how each must end.
//!
//! `tests/kserve.rs` runs it by dray, `tests/kserve_upstream.rs` by upstream's own initializer.
//! What must be on disk comes from `rig::oracle`; docs/kserve.md says where upstream differs.

pub(crate) mod row;
pub(crate) mod stage;

mod azure;
mod configuration;
mod faults;
mod filters;
mod gcs;
mod http;
mod hub;
mod keys;
mod local;
pub(crate) mod packed;
mod process;
mod registry;
pub(crate) mod stores;
mod trust;

use std::sync::OnceLock;

use row::Row;

/// An area's name and what makes its rows. Servers start with the first area that needs them.
type Area = (&'static str, fn() -> Vec<Row>);

const AREAS: [Area; 13] = [
    ("azure", azure::rows),
    ("configuration", configuration::rows),
    ("faults", faults::rows),
    ("filters", filters::rows),
    ("gcs", gcs::rows),
    ("http", http::rows),
    ("hub", hub::rows),
    ("keys", keys::rows),
    ("local", local::rows),
    ("packed", packed::rows),
    ("process", process::rows),
    ("registry", registry::rows),
    ("trust", trust::rows),
];

/// The rows of one area, made once: an origin that misbehaves so many times does it for one run.
pub(crate) fn area(name: &str) -> &'static [Row] {
    static ROWS: [OnceLock<Vec<Row>>; AREAS.len()] = [const { OnceLock::new() }; AREAS.len()];
    let number = AREAS.iter().position(|(area, _)| *area == name).expect("an area of the table");
    ROWS[number].get_or_init(AREAS[number].1)
}

/// Every row.
pub(crate) fn all() -> impl Iterator<Item = &'static Row> {
    AREAS.iter().flat_map(|(name, _)| area(name))
}
