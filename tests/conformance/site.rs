//! What the suite has to know of an origin, and nothing of how dray speaks to it.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use super::between::{Asked, Between, Fault};
use crate::rig::dray::Dray;
use crate::rig::oracle::Content;

/// Objects by key; keys begin with a folder such as `m/`.
pub(crate) type Objects<'a> = [(&'a str, &'a Content)];

/// An origin: how to open a place there.
pub(crate) struct Site {
    pub(crate) name: &'static str,
    /// Opens a place with these objects and secrets of its own.
    pub(crate) open: fn(&Objects<'_>) -> Box<dyn Place>,
}

/// How an origin lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lists {
    /// Pages of at most so many objects.
    Pages(usize),
    /// Nothing can be listed: a source is one file.
    Nothing,
}

/// Which names a place holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Holds {
    /// Any text.
    AnyName,
    /// Only those that are safe paths: the server itself refuses others.
    SafeNames,
}

/// What is said of an object's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum States {
    /// A checksum that dray compares.
    Checksum,
    /// Nothing that could be compared.
    Nothing,
}

/// What becomes of an object that is replaced after it was planned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Replaced {
    /// The old version is gone.
    IsGone,
    /// The planned version can still be read.
    StaysReadable,
}

/// A credential that ends while a pull runs.
pub(crate) struct Expiring {
    /// A pull whose first credential is refused from the `after`-th request for bytes on.
    pub(crate) pull: Box<dyn FnOnce(&Path) -> Dray>,
    /// How many credentials were asked for since the first was refused.
    pub(crate) renewals: Box<dyn Fn() -> usize>,
    /// What of it nobody may see.
    pub(crate) secrets: Vec<String>,
}

/// Objects at an origin, as one user sees them.
pub(crate) trait Place: Send + Sync {
    /// Puts objects, or other versions of them.
    fn put(&self, objects: &Objects<'_>);

    /// The source of a path: a folder, a file, or nothing for all there is.
    fn uri(&self, path: &str) -> String;

    /// The run with the endpoint and the credentials in its environment.
    fn here(&self, dray: Dray) -> Dray;

    /// Who is asked for everything but bytes.
    fn front(&self) -> &Between;

    /// Who is asked for bytes.
    fn data(&self) -> &Between {
        self.front()
    }

    /// Everything that may be seen by the origin alone.
    fn canaries(&self) -> Vec<String>;

    /// What names the credentials in the last line of a refusal.
    fn credentials(&self) -> &'static str;

    /// Whether a page of a listing is asked for.
    fn is_list(&self, asked: &Asked) -> bool;

    /// Whether a request for bytes names a version.
    fn is_pinned(&self, asked: &Asked) -> bool;

    fn lists(&self) -> Lists;

    fn holds(&self) -> Holds {
        Holds::AnyName
    }

    fn states(&self) -> States;

    fn replaced(&self) -> Replaced {
        Replaced::IsGone
    }

    /// The same place asked with credentials that end; `None` where they never do.
    fn expiring(&self, after: usize) -> Option<Expiring>;

    /// A refusal of credentials that nothing helps against.
    fn denial(&self) -> Fault {
        Fault::status(403, "")
    }
}

/// A word that nobody else has.
pub(crate) fn canary(what: &str) -> String {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let random = blake3::hash(format!("{}-{number}", std::process::id()).as_bytes()).to_hex();
    format!("canary{what}{}", &random.as_str()[..20])
}

/// The bytes of a content, for servers in this process.
pub(crate) fn bytes(content: &Content) -> Vec<u8> {
    let mut bytes = Vec::new();
    content.write_to(&mut bytes);
    bytes
}
