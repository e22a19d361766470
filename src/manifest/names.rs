//! Names that a layout adds beside the files of a model: links to them, and small texts that point at the links.
//!
//! In: a layout's rules. Out: a [`Names`], which the disk adds once the files have their final names. Pure.
//! Holds: every name is a [`SafePath`]; a link's target is relative and climbs no higher than DEST.

use super::SafePath;

/// What is added once every file has its final name: links first, then texts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Names {
    /// Links to files of the model.
    pub links: Vec<Link>,
    /// Small files that make the links known; written last.
    pub texts: Vec<Text>,
}

/// A symbolic link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Its path below DEST.
    pub path: SafePath,
    /// What it holds: a path relative to its own folder.
    pub target: String,
}

/// A small file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text {
    /// Its path below DEST.
    pub path: SafePath,
    /// All that is in it.
    pub content: String,
}

impl Link {
    /// The link at `path` to the file at `to`, both below DEST.
    pub fn new(path: SafePath, to: &SafePath) -> Self {
        let up = path.components().skip(1).count();
        let target = format!("{}{to}", "../".repeat(up));
        Self { path, target }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_climb_to_dest_and_no_higher() {
        for (path, target) in [("a", "blobs/x"), ("s/a", "../blobs/x"), ("s/c/sub/a b", "../../../blobs/x")] {
            let link = Link::new(SafePath::parse(path).unwrap(), &SafePath::parse("blobs/x").unwrap());
            assert_eq!(link.target, target, "{path}");
        }
    }
}
