//! `--allow` and `--ignore`: shell patterns over the path below DEST. Pure.

use globset::{Glob, GlobBuilder, GlobSet, GlobSetBuilder};

use crate::error::Error;

/// Most patterns of one kind.
const PATTERNS_MAX: usize = 1000;

/// Which files are wanted. The default wants all.
///
/// Patterns mean what Python's `fnmatch` means by them, as the Hub's and KServe's own filters do: `*` and `?` cross
/// `/`, `[seq]` and `[!seq]` are sets, case counts, the whole path must match. A pattern that ends with `/` means
/// everything below that folder.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    allow: Option<GlobSet>,
    ignore: GlobSet,
    /// What a listing's files must pass as well; one object that was named is taken without.
    listed: Option<Box<Filter>>,
}

impl Filter {
    /// Files that match one of `allow` (or any file, when there is none) and none of `ignore`.
    ///
    /// # Errors
    /// [`Error::Usage`] for a pattern that is none.
    pub fn new(allow: &[String], ignore: &[String]) -> Result<Self, Error> {
        Self::named(("--allow", allow), ("--ignore", ignore))
    }

    /// Adds patterns in the manner of KServe's storage initializer: they choose among the files of a folder and
    /// mean nothing to a source that names one object. Each set comes with the name of the setting it is from.
    ///
    /// # Errors
    /// [`Error::Usage`] for a pattern that is none.
    pub fn with_listed(self, allow: (&str, &[String]), ignore: (&str, &[String])) -> Result<Self, Error> {
        Ok(Self { listed: Some(Box::new(Self::named(allow, ignore)?)), ..self })
    }

    /// The filter for a source that names one object.
    pub fn of_one_object(&self) -> Self {
        Self { listed: None, ..self.clone() }
    }

    fn named(allow: (&str, &[String]), ignore: (&str, &[String])) -> Result<Self, Error> {
        let allow = if allow.1.is_empty() { None } else { Some(set(allow.0, allow.1)?) };
        Ok(Self { allow, ignore: set(ignore.0, ignore.1)?, listed: None })
    }

    /// Whether the file at `path` is wanted.
    pub fn takes(&self, path: &str) -> bool {
        self.allow.as_ref().is_none_or(|allow| allow.is_match(path))
            && !self.ignore.is_match(path)
            && self.listed.as_ref().is_none_or(|listed| listed.takes(path))
    }
}

fn set(flag: &str, patterns: &[String]) -> Result<GlobSet, Error> {
    if PATTERNS_MAX < patterns.len() {
        return Err(Error::Usage(format!("{flag} takes at most {PATTERNS_MAX} patterns")));
    }
    let mut builder = GlobSetBuilder::new();
    for pattern in patterns {
        builder.add(glob(pattern).map_err(|error| Error::Usage(format!("{flag}: {error}")))?);
    }
    builder.build().map_err(|error| Error::Usage(format!("{flag}: {error}")))
}

fn glob(pattern: &str) -> Result<Glob, globset::Error> {
    let whole = if pattern.ends_with('/') { format!("{pattern}*") } else { pattern.to_owned() };
    // fnmatch knows neither `{a,b}` nor a backslash escape.
    let literal = whole.replace('{', "[{]").replace('}', "[}]");
    GlobBuilder::new(&literal).literal_separator(false).backslash_escape(false).empty_alternates(false).build()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(allow: &[&str], ignore: &[&str], taken: &[&str], left: &[&str]) {
        let owned = |patterns: &[&str]| patterns.iter().map(|pattern| (*pattern).to_owned()).collect::<Vec<_>>();
        let filter = Filter::new(&owned(allow), &owned(ignore)).unwrap();
        for path in taken {
            assert!(filter.takes(path), "{allow:?} {ignore:?} {path}");
        }
        for path in left {
            assert!(!filter.takes(path), "{allow:?} {ignore:?} {path}");
        }
    }

    #[test]
    fn patterns_match_like_fnmatch() {
        check(&[], &[], &["a", "a/b"], &[]);
        check(&["*.bin"], &[], &["a.bin", "a/b/c.bin", ".bin"], &["a.bin.txt", "a.BIN"]);
        check(&["*"], &["*.md", "onnx/*"], &["a", "b/onnx/x"], &["x.md", "d/x.md", "onnx/a", "onnx/b/c"]);
        check(&["a?c"], &[], &["abc", "a/c"], &["ac", "abbc"]);
        check(&["m-[0-4].bin"], &[], &["m-3.bin"], &["m-5.bin"]);
        check(&["m-[!0-4].bin"], &[], &["m-5.bin"], &["m-3.bin"]);
        check(&["onnx/"], &[], &["onnx/a", "onnx/b/c"], &["onnx", "x/onnx/a"]);
        check(&["{a,b}"], &[], &["{a,b}"], &["a", "b"]);
        check(&["a", "b"], &["b"], &["a"], &["b", "c"]);
    }

    #[test]
    fn patterns_for_listings_spare_an_object_that_was_named() {
        let filter = Filter::new(&["*.bin".to_owned()], &[]).unwrap();
        let filter = filter.with_listed(("A", &[]), ("I", &["a*".to_owned()])).unwrap();
        assert!(filter.takes("b.bin") && !filter.takes("a.bin") && !filter.takes("b.txt"));
        let named = filter.of_one_object();
        assert!(named.takes("a.bin") && !named.takes("b.txt"));
        let broken = Filter::default().with_listed(("A", &["[".to_owned()]), ("I", &[]));
        assert!(matches!(broken, Err(Error::Usage(text)) if text.starts_with("A: ")));
    }

    #[test]
    fn broken_patterns_are_usage_errors() {
        for pattern in ["[", "a[b"] {
            assert!(matches!(Filter::new(&[pattern.to_owned()], &[]), Err(Error::Usage(_))), "{pattern}");
        }
    }
}
