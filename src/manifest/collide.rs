//! Refuses sets of paths that some file system could not hold side by side.
//!
//! In: the paths of one plan. Out: nothing, or the two that collide. Pure.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use unicode_normalization::UnicodeNormalization;

use super::SafePath;
use super::path::shown;
use crate::error::Error;

/// What a refusal ends with: advice for names of a source, which the members of an archive are not.
pub const ADVICE: &str = "; leave one out with --ignore";

/// Checks that no two of `paths` fall together and none is a folder of another.
///
/// Letters that differ only in case, and spellings that differ only in Unicode form, count as one: the
/// same model must land whole on a case-insensitive volume.
///
/// # Errors
/// [`Error::Policy`] naming both paths.
pub fn collisions<'a>(paths: impl IntoIterator<Item = &'a SafePath>) -> Result<(), Error> {
    let mut seen: HashMap<String, &SafePath> = HashMap::new();
    for path in paths {
        match seen.entry(folded(path.as_str())) {
            Entry::Vacant(slot) => drop(slot.insert(path)),
            Entry::Occupied(slot) => return Err(refuse(slot.get(), path, "are one name on some file systems")),
        }
    }
    for (folded, path) in &seen {
        for (at, _) in folded.match_indices('/') {
            if let Some(file) = seen.get(&folded[..at]) {
                return Err(refuse(
                    file,
                    path,
                    "cannot both exist: the first is a file, the second needs it as a folder",
                ));
            }
        }
    }
    Ok(())
}

fn refuse(one: &SafePath, two: &SafePath, why: &str) -> Error {
    Error::Policy(format!("`{}` and `{}` {why}{ADVICE}", shown(one.as_str()), shown(two.as_str())))
}

/// Upper then lower case folds `ß` with `ss` as well; the result is composed again.
fn folded(path: &str) -> String {
    if path.is_ascii() {
        return path.to_ascii_lowercase();
    }
    path.to_uppercase().to_lowercase().nfc().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(names: &[&str]) -> Result<(), Error> {
        let paths: Vec<SafePath> = names.iter().map(|name| SafePath::parse(name).unwrap()).collect();
        collisions(&paths)
    }

    #[test]
    fn distinct_paths_pass() {
        assert_eq!(check(&["a", "b/a", "b/c", "ab", "a.b", "b-c/d"]), Ok(()));
        assert_eq!(check(&[]), Ok(()));
    }

    #[test]
    fn colliding_paths_are_refused_and_both_named() {
        for names in [
            ["a", "a"],
            ["a", "A"],
            ["x/Größe", "x/grösse"],
            ["straße", "STRASSE"],
            ["a", "a/b"],
            ["a/b/c", "A"],
            ["É/x", "é"],
            ["a/b", "a/b/c/d"],
        ] {
            let Err(Error::Policy(text)) = check(&names) else { panic!("{names:?} accepted") };
            assert!(names.iter().all(|name| text.contains(&format!("`{name}`"))), "{text}");
            let swapped = [names[1], names[0]];
            assert!(check(&swapped).is_err(), "{swapped:?}");
        }
    }
}
