//! `hf://OWNER/NAME[:REV][/PATH]` and `hf://datasets/OWNER/NAME[:REV][/PATH]`: a repository on the Hugging Face Hub.

use std::fmt;

use super::{shown, usage};
use crate::error::Error;

/// Longest owner or name on the Hub, in characters.
const NAME_CHARS_MAX: usize = 96;

/// Longest revision that is asked for: Git's own bound on a ref is a file name's.
const REVISION_BYTES_MAX: usize = 255;

/// Longest path below a repository, in bytes.
const PATH_BYTES_MAX: usize = 1024;

/// What the Hub has beside models and datasets. No owner is called so.
const OTHER_KINDS: [&str; 3] = ["spaces", "kernels", "buckets"];

/// A model's or a dataset's repository, a folder of it, or one of its files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubSource {
    /// Which of the Hub's name spaces the repository is in.
    pub kind: RepoKind,
    /// The user or organisation.
    pub owner: String,
    /// The repository's name below its owner.
    pub name: String,
    /// A branch, a tag or a commit; `None` is the branch `main`.
    pub revision: Option<String>,
    /// The folder or file below the repository, byte for byte, without slashes at its ends; empty for all of it.
    pub path: String,
}

/// What a repository holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RepoKind {
    /// A model.
    Model,
    /// A dataset.
    Dataset,
}

impl RepoKind {
    /// The plural that begins the Hub's API paths.
    pub fn plural(self) -> &'static str {
        match self {
            Self::Model => "models",
            Self::Dataset => "datasets",
        }
    }

    /// What stands before the owner where the Hub serves files.
    pub fn prefix(self) -> &'static str {
        match self {
            Self::Model => "",
            Self::Dataset => "datasets/",
        }
    }
}

impl HubSource {
    /// Reads what follows `hf://`. The revision follows `:` as in KServe or `@` as in the Hub's own URIs; a slash in a
    /// branch's name is written `%2F`, but for `refs/pr/N` and `refs/convert/NAME`.
    pub(super) fn parse(rest: &str) -> Result<Self, Error> {
        if rest.contains('?') {
            return Err(wrong("a query has no meaning here"));
        }
        let (kind, rest) = match rest.split_once('/') {
            Some(("models", rest)) => (RepoKind::Model, rest),
            Some(("datasets", rest)) => (RepoKind::Dataset, rest),
            Some((other, _)) if OTHER_KINDS.contains(&other) => {
                return Err(usage(format!("{other} of the Hub are not among the sources; models and datasets are")));
            }
            _ => (RepoKind::Model, rest),
        };
        let Some((owner, rest)) = rest.split_once('/') else {
            return Err(wrong("an owner and a name are needed, even for the Hub's old models without an owner"));
        };
        let (name, revision, path) = split(rest)?;
        if owner.is_empty() {
            return Err(wrong("the repository owner cannot be empty"));
        }
        if name.is_empty() {
            return Err(wrong("the model name cannot be empty"));
        }
        check_name("owner", owner)?;
        check_name("name", name)?;
        let revision = revision.map(check_revision).transpose()?.filter(|revision| revision != "main");
        let path = check_path(path)?;
        Ok(Self { kind, owner: owner.to_owned(), name: name.to_owned(), revision, path })
    }

    /// `OWNER/NAME`, as the Hub's pages and paths have it.
    pub fn id(&self) -> String {
        format!("{}/{}", self.owner, self.name)
    }

    /// The revision to ask for.
    pub fn revision(&self) -> &str {
        self.revision.as_deref().unwrap_or("main")
    }

    /// The same place at one commit.
    pub fn at(&self, commit: &str) -> Self {
        Self { revision: Some(commit.to_owned()), ..self.clone() }
    }
}

impl fmt::Display for HubSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "hf://{}{}/{}", self.kind.prefix(), self.owner, self.name)?;
        if let Some(revision) = &self.revision {
            let whole = special(revision) == Some(revision.len());
            let shown = if whole { revision.clone() } else { revision.replace('/', "%2F") };
            write!(f, ":{shown}")?;
        }
        if self.path.is_empty() { Ok(()) } else { write!(f, "/{}", self.path) }
    }
}

fn wrong(why: &str) -> Error {
    // KServe's own words stand first: its users search for them.
    usage(format!("the hf:// source has an Invalid Hugging Face URI format: {why}; write hf://OWNER/NAME[:REVISION]"))
}

/// Name, revision and path of what follows the owner.
fn split(rest: &str) -> Result<(&str, Option<&str>, &str), Error> {
    let end = rest.find(['/', ':', '@']).unwrap_or(rest.len());
    let (name, rest) = rest.split_at(end);
    let Some(rest) = rest.strip_prefix([':', '@']) else { return Ok((name, None, rest)) };
    let end = special(rest).or_else(|| rest.find('/')).unwrap_or(rest.len());
    let (revision, path) = rest.split_at(end);
    if path.is_empty() || path.starts_with('/') {
        return Ok((name, Some(revision), path));
    }
    Err(wrong("the revision does not end where its name does"))
}

/// The length of the `refs/pr/N` or `refs/convert/NAME` that `text` begins with.
fn special(text: &str) -> Option<usize> {
    let length = |prefix: &str, fits: fn(char) -> bool| {
        let rest = text.strip_prefix(prefix)?;
        let end = rest.find(|c| !fits(c)).unwrap_or(rest.len());
        (0 < end).then(|| prefix.len() + end)
    };
    let word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    length("refs/pr/", |c| c.is_ascii_digit()).or_else(|| length("refs/convert/", word))
}

/// The Hub's rules for names of owners and repositories.
fn check_name(what: &str, name: &str) -> Result<(), Error> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let fits = name.bytes().all(|byte| plain(byte) || matches!(byte, b'.' | b'-'));
    let edges = [name.bytes().next(), name.bytes().last()].into_iter().flatten().all(plain);
    if name.len() <= NAME_CHARS_MAX && fits && edges && !name.contains("..") {
        return Ok(());
    }
    Err(usage(format!("{} is no {what} that the Hub could have", shown(name))))
}

/// Git's rules for refs, as far as a slip or an attack could break them.
fn check_revision(text: &str) -> Result<String, Error> {
    let text = text.replace("%2F", "/").replace("%2f", "/");
    let odd = |c: char| c.is_whitespace() || c.is_control() || r"~^:?*[\%@#".contains(c);
    let part = |part: &str| !part.is_empty() && !part.starts_with('.');
    if text.len() <= REVISION_BYTES_MAX && !text.contains(odd) && !text.contains("..") && text.split('/').all(part) {
        return Ok(text);
    }
    Err(usage(format!("{} is no branch, tag or commit", shown(&text))))
}

/// The path between its slashes; it becomes part of a URL's path, where a `.` or `..` segment would name another file.
fn check_path(text: &str) -> Result<String, Error> {
    let path = text.strip_prefix('/').unwrap_or(text);
    let path = path.strip_suffix('/').unwrap_or(path);
    if PATH_BYTES_MAX < path.len() {
        return Err(usage(format!("the hf:// source's path is longer than {PATH_BYTES_MAX} bytes")));
    }
    if !path.is_empty() && path.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Err(usage("the hf:// source's path has an empty, `.` or `..` component"));
    }
    Ok(path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, id: &str, revision: &str, path: &str, canonical: &str) {
        let source = HubSource::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!((source.id().as_str(), source.revision(), source.path.as_str()), (id, revision, path), "{text}");
        assert_eq!(source.to_string(), canonical, "{text}");
        let again = HubSource::parse(canonical.strip_prefix("hf://").unwrap());
        assert_eq!(again, Ok(source), "{canonical}");
    }

    #[test]
    fn sources_have_an_owner_a_name_perhaps_a_revision_and_a_path() {
        check("o/n", "o/n", "main", "", "hf://o/n");
        check("o/n/", "o/n", "main", "", "hf://o/n");
        check("o/n:main", "o/n", "main", "", "hf://o/n");
        check("models/o/n", "o/n", "main", "", "hf://o/n");
        check("Org-1/My.Model_v2:v1.0", "Org-1/My.Model_v2", "v1.0", "", "hf://Org-1/My.Model_v2:v1.0");
        check("o/n@v1/sub/f.bin", "o/n", "v1", "sub/f.bin", "hf://o/n:v1/sub/f.bin");
        check("o/n/sub dir/f:1@2.bin", "o/n", "main", "sub dir/f:1@2.bin", "hf://o/n/sub dir/f:1@2.bin");
        check("o/n:refs/pr/12/sub", "o/n", "refs/pr/12", "sub", "hf://o/n:refs/pr/12/sub");
        check("o/n:refs%2Fpr%2F12", "o/n", "refs/pr/12", "", "hf://o/n:refs/pr/12");
        check("o/n@refs/convert/parquet-v2", "o/n", "refs/convert/parquet-v2", "", "hf://o/n:refs/convert/parquet-v2");
        check("o/n:feature%2Fx/sub", "o/n", "feature/x", "sub", "hf://o/n:feature%2Fx/sub");
        // Without the special form a slash ends the revision, as in the Hub's own URIs.
        check("o/n:refs/heads/x", "o/n", "refs", "heads/x", "hf://o/n:refs/heads/x");
    }

    #[test]
    fn datasets_are_another_name_space() {
        let source = HubSource::parse("datasets/o/n:v1/f").unwrap();
        assert_eq!(
            (source.kind, source.kind.plural(), source.kind.prefix()),
            (RepoKind::Dataset, "datasets", "datasets/")
        );
        assert_eq!(source.to_string(), "hf://datasets/o/n:v1/f");
        assert_eq!(source.at("c0ffee").to_string(), "hf://datasets/o/n:c0ffee/f");
    }

    #[test]
    fn errors_say_what_kserve_says() {
        for (text, why) in [
            ("", "Invalid Hugging Face URI format"),
            ("gpt2", "Invalid Hugging Face URI format"),
            ("o", "Invalid Hugging Face URI format"),
            ("/n", "repository owner cannot be empty"),
            ("o/", "model name cannot be empty"),
            ("o/:main", "model name cannot be empty"),
            ("datasets/o", "Invalid Hugging Face URI format"),
            ("o/n?revision=x", "Invalid Hugging Face URI format"),
            ("spaces/o/n", "spaces of the Hub"),
            ("o/n:", "branch"),
            ("o/n@", "branch"),
            ("o/n:a..b", "branch"),
            ("o/n:.a", "branch"),
            ("o/n:a b", "branch"),
            ("o/n:a:b", "branch"),
            ("o/n:refs/pr/1x", "revision"),
            ("o/n//f", "component"),
            ("o/n/../f", "component"),
            ("o/n/./f", "component"),
            ("../n", "owner"),
            ("-o/n", "owner"),
            ("o/n-", "name"),
            ("o/a..b", "name"),
            ("o/n\u{e9}", "name"),
            ("user%20x/n", "owner"),
        ] {
            let Err(Error::Usage(said)) = HubSource::parse(text) else { panic!("{text:?} is accepted") };
            assert!(said.contains(why), "{text:?}: {said}");
        }
        assert!(HubSource::parse(&format!("o/{}", "n".repeat(97))).is_err());
        assert!(HubSource::parse(&format!("o/n/{}", "p".repeat(1025))).is_err());
    }
}
