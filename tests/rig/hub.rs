//! The rig's contents as repositories of the arena's Hub.

use dray_arena::{Kept, Repo};

use super::oracle::Content;

/// Adds a commit of the rig's contents to a repository.
pub(crate) fn committed(repo: Repo, name: &str, files: &[(&'static str, &Content, Kept)]) -> Repo {
    let served = |content: &Content| {
        let mut bytes = Vec::new();
        content.write_to(&mut bytes);
        dray_arena::Content::bytes(bytes)
    };
    repo.with_commit(name, files.iter().map(|(path, content, kept)| (*path, served(content), *kept)))
}
