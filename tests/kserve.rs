//! The storage-initializer contract, black box: arguments, environment and servers in; tree, exit code and last line out.
//!
//! `kserve/` holds the table, one row a run; what a row cannot say is below. docs/kserve.md says where upstream differs.

mod rig;

#[path = "kserve/mod.rs"]
mod table;

#[path = "kserve/beyond.rs"]
mod beyond;

use std::collections::BTreeSet;

/// Rows that the table has at the least.
const ROWS_MIN: usize = 200;

/// Runs every row of an area and tells of all that are wrong.
#[track_caller]
fn check(area: &str) {
    let mut wrong = String::new();
    for row in table::area(area) {
        let problems = table::stage::problems(row);
        if !problems.is_empty() {
            wrong.push_str(&format!("\n{}: {}\n", row.name, problems.join("\n  ")));
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn every_row_has_a_name_of_its_own_and_they_are_many() {
    let names: Vec<&str> = table::all().map(|row| row.name).collect();
    let distinct: BTreeSet<&str> = names.iter().copied().collect();
    assert_eq!(names.len(), distinct.len(), "names are unique");
    assert!(ROWS_MIN <= names.len(), "{} rows", names.len());
}

#[test]
fn blobs_of_azure() {
    check("azure");
}

#[test]
fn storage_configurations_stand_in_for_variables() {
    check("configuration");
}

#[test]
fn origins_that_misbehave() {
    check("faults");
}

#[test]
fn patterns_choose_among_files() {
    check("filters");
}

#[test]
fn objects_of_google_cloud_storage() {
    check("gcs");
}

#[test]
fn files_of_web_servers() {
    check("http");
}

#[test]
fn repositories_of_the_hub() {
    check("hub");
}

#[test]
fn keys_land_below_the_prefix() {
    check("keys");
}

#[test]
fn paths_are_linked() {
    check("local");
}

#[test]
fn archives() {
    check("packed");
}

#[test]
fn arguments_pairs_and_conditions() {
    check("process");
}

#[test]
fn names_of_a_registry() {
    check("registry");
}

#[test]
fn private_authorities() {
    check("trust");
}
