//! The one type for a name below DEST. Its only constructor is a parser, so a held path is a safe path.
//!
//! In: a name that somebody else chose (a key, a URL's last segment, a receipt). Out: a [`SafePath`] or a [`NameError`].
//! Holds: read under POSIX or under Windows rules, the path stays below DEST, names one place, shows as it is
//! stored, and does not reach into dray's own folder.

use std::fmt;

use unicode_normalization::is_nfc;

/// Longest path in bytes. S3 keys end at 1,024 bytes, and Linux's `PATH_MAX` (4,096) must hold DEST as well.
pub const PATH_BYTES_MAX: usize = 1024;

/// Longest component in bytes, as on every Linux file system.
pub const COMPONENT_BYTES_MAX: usize = 255;

/// Most components of a path: deeper trees are mistakes or attacks.
pub const DEPTH_MAX: usize = 32;

/// dray's own folder below DEST.
pub const STATE_FOLDER: &str = ".dray";

/// A relative path with `/` between its components, safe to create below DEST.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SafePath(String);

/// Why a name is refused: the rule, and the name escaped and cut for showing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unsafe name `{shown}`: {fault}")]
pub struct NameError {
    /// The rule it breaks.
    pub fault: NameFault,
    shown: String,
}

/// A rule of [`SafePath`] that a name can break.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameFault {
    /// No name at all.
    #[error("it is empty")]
    Empty,
    /// Begins with `/`.
    #[error("it is absolute")]
    Absolute,
    /// Two slashes in a row or one at the end.
    #[error("it has an empty component")]
    EmptyComponent,
    /// A `.` or `..` component.
    #[error("it has a `.` or `..` component")]
    DotComponent,
    /// Begins like `C:`.
    #[error("it begins with a drive letter")]
    Drive,
    /// Windows reads it as a separator.
    #[error("it has a backslash")]
    Backslash,
    /// NUL, C0, C1, DEL, line or paragraph separator.
    #[error("it has a control character")]
    Control,
    /// A code point that is not drawn or changes the direction of text.
    #[error("it has an invisible or bidirectional character")]
    Invisible,
    /// Two spellings of one text would be two names.
    #[error("it is not in Unicode normal form C")]
    NotNormal,
    /// Windows drops these.
    #[error("a component ends with a dot or a space")]
    TrailingDotOrSpace,
    /// `CON`, `NUL`, `COM1` and the like, with any extension.
    #[error("a component is a Windows device name")]
    DeviceName,
    /// dray's own folder.
    #[error("it begins with `.dray`, which is dray's own folder")]
    StateFolder,
    /// More than [`PATH_BYTES_MAX`] bytes.
    #[error("it is longer than 1024 bytes")]
    Long,
    /// A component of more than [`COMPONENT_BYTES_MAX`] bytes.
    #[error("a component is longer than 255 bytes")]
    LongComponent,
    /// More than [`DEPTH_MAX`] components.
    #[error("it is deeper than 32 components")]
    Deep,
}

impl SafePath {
    /// Reads a name. Spaces, `+`, `%`, quotes and letters of every script are fine.
    ///
    /// # Errors
    /// [`NameError`] with the first rule of [`NameFault`] that the name breaks.
    pub fn parse(name: &str) -> Result<Self, NameError> {
        match fault(name) {
            None => Ok(Self(name.to_owned())),
            Some(fault) => Err(NameError { fault, shown: shown(name) }),
        }
    }

    /// This path with `name` below it.
    ///
    /// # Errors
    /// [`NameError`] when `name` or the whole breaks a rule.
    pub fn join(&self, name: &str) -> Result<Self, NameError> {
        Self::parse(name)?;
        Self::parse(&format!("{}/{name}", self.0))
    }

    /// The path as text, with `/` between components.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Its components, at least one.
    pub fn components(&self) -> impl Iterator<Item = &str> {
        self.0.split('/')
    }

    /// The last component.
    pub fn file_name(&self) -> &str {
        self.0.rsplit_once('/').map_or(self.0.as_str(), |(_, name)| name)
    }

    /// The folder it is in; `None` directly below DEST.
    pub fn parent(&self) -> Option<Self> {
        // A cut at a component boundary keeps every rule.
        self.0.rsplit_once('/').map(|(folder, _)| Self(folder.to_owned()))
    }
}

impl fmt::Display for SafePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for SafePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

/// A foreign name escaped and cut, safe to print in an error or a log line.
pub fn shown(name: &str) -> String {
    const SHOWN_CHARS: usize = 120;
    let short: String = name.chars().take(SHOWN_CHARS).collect();
    let escaped: String = short
        .chars()
        .flat_map(|c| if is_invisible(c) { c.escape_unicode().collect::<Vec<_>>() } else { c.escape_debug().collect() })
        .collect();
    if short.len() < name.len() { format!("{escaped}…") } else { escaped }
}

fn fault(name: &str) -> Option<NameFault> {
    if name.is_empty() {
        return Some(NameFault::Empty);
    }
    if PATH_BYTES_MAX < name.len() {
        return Some(NameFault::Long);
    }
    if name.starts_with('/') {
        return Some(NameFault::Absolute);
    }
    if let Some(fault) = name.chars().find_map(character_fault) {
        return Some(fault);
    }
    let bytes = name.as_bytes();
    if bytes.get(1) == Some(&b':') && bytes.first().is_some_and(u8::is_ascii_alphabetic) {
        return Some(NameFault::Drive);
    }
    if !is_nfc(name) {
        return Some(NameFault::NotNormal);
    }
    if name.split('/').next().is_some_and(|first| first.eq_ignore_ascii_case(STATE_FOLDER)) {
        return Some(NameFault::StateFolder);
    }
    if DEPTH_MAX < name.split('/').count() {
        return Some(NameFault::Deep);
    }
    name.split('/').find_map(component_fault)
}

fn character_fault(c: char) -> Option<NameFault> {
    match c {
        '\\' => Some(NameFault::Backslash),
        ' '..='~' => None,
        c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') => Some(NameFault::Control),
        c if is_invisible(c) => Some(NameFault::Invisible),
        _ => None,
    }
}

fn component_fault(component: &str) -> Option<NameFault> {
    if component.is_empty() {
        return Some(NameFault::EmptyComponent);
    }
    if component == "." || component == ".." {
        return Some(NameFault::DotComponent);
    }
    if COMPONENT_BYTES_MAX < component.len() {
        return Some(NameFault::LongComponent);
    }
    if component.ends_with(['.', ' ']) {
        return Some(NameFault::TrailingDotOrSpace);
    }
    is_device(component).then_some(NameFault::DeviceName)
}

/// Default-ignorable code points of Unicode 16, which hold all bidirectional controls too.
fn is_invisible(c: char) -> bool {
    matches!(c,
        '\u{00AD}' | '\u{034F}' | '\u{061C}' | '\u{115F}'..='\u{1160}' | '\u{17B4}'..='\u{17B5}'
        | '\u{180B}'..='\u{180F}' | '\u{200B}'..='\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2060}'..='\u{206F}'
        | '\u{3164}' | '\u{FE00}'..='\u{FE0F}' | '\u{FEFF}' | '\u{FFA0}' | '\u{FFF0}'..='\u{FFF8}'
        | '\u{1BCA0}'..='\u{1BCA3}' | '\u{1D173}'..='\u{1D17A}' | '\u{E0000}'..='\u{E0FFF}')
}

/// Windows reserves these stems in every folder, whatever follows the first dot or colon.
fn is_device(component: &str) -> bool {
    let stem = component.split(['.', ':']).next().unwrap_or(component).trim_end_matches(' ');
    let stem = stem.to_ascii_uppercase();
    if matches!(stem.as_str(), "CON" | "PRN" | "AUX" | "NUL" | "CONIN$" | "CONOUT$") {
        return true;
    }
    let number = stem.strip_prefix("COM").or_else(|| stem.strip_prefix("LPT"));
    number.is_some_and(|number| matches!(number, "1" | "2" | "3" | "4" | "5" | "6" | "7" | "8" | "9" | "¹" | "²" | "³"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_real_models_pass() {
        for name in [
            "model.safetensors",
            "a/b/c.bin",
            "a b/c d.txt",
            "a+b.bin",
            "100%.txt",
            "a%2Fb",
            "模型/权重.bin",
            "größe.bin",
            ".gitattributes",
            "a/.hidden",
            "...a",
            "a..b",
            "-rf",
            "~",
            "$HOME",
            "a'b\"c",
            "#1",
            "model-00001-of-00002.safetensors",
            "onnx/model_q4f16.onnx",
            "t=10:30/x",
            "console.log",
            "com10.bin",
            "nullable",
            "a/.dray",
            ".drayage/x",
            "*?<>|",
            "🤗.bin",
        ] {
            assert_eq!(SafePath::parse(name).map(|path| path.to_string()), Ok(name.to_owned()), "{name}");
        }
        let longest = format!("{}/{}/{}/{}/x", "a".repeat(255), "b".repeat(255), "c".repeat(255), "d".repeat(254));
        assert_eq!(longest.len(), PATH_BYTES_MAX);
        assert!(SafePath::parse(&longest).is_ok());
        assert!(SafePath::parse(&["d"; DEPTH_MAX].join("/")).is_ok());
    }

    #[test]
    fn hostile_names_are_refused_by_the_right_rule() {
        use NameFault::*;
        let long_component = "x".repeat(256);
        let long = "y/".repeat(513);
        let deep = ["d"; DEPTH_MAX + 1].join("/");
        let cases: &[(NameFault, &[&str])] = &[
            (Empty, &[""]),
            (Absolute, &["/", "/etc/passwd", "//host/share", "/../x"]),
            (EmptyComponent, &["a//b", "a/", "a/b//", "a///b"]),
            (
                DotComponent,
                &[".", "..", "../x", "a/..", "a/../b", "./a", "a/./b", "../../etc/passwd", "a/b/../../../c"],
            ),
            (Drive, &["C:", "c:/x", "C:x", "z:file", "C:/Windows"]),
            (Backslash, &["\\", "a\\b", "..\\x", "a\\..\\b", "\\\\host\\share", "C:\\x", "\\\\?\\C:\\x"]),
            (
                Control,
                &[
                    "\0",
                    "a\0b",
                    "a\nb",
                    "a\r",
                    "\u{1b}[31mred",
                    "a\u{7f}",
                    "a\u{85}b",
                    "a\u{9b}m",
                    "a\tb",
                    "a\u{2028}b",
                    "a\u{2029}",
                ],
            ),
            (
                Invisible,
                &[
                    "a\u{200b}b",
                    "\u{202e}txt.exe",
                    "a\u{2066}b",
                    "\u{feff}a",
                    "a\u{ad}b",
                    "a\u{200d}b",
                    "a\u{fe0f}",
                    "a\u{e0041}",
                    "a\u{3164}",
                    "a\u{61c}b",
                ],
            ),
            (NotNormal, &["cafe\u{301}", "A\u{30a}", "\u{212b}", "\u{1100}\u{1161}", "\u{2126}"]),
            (TrailingDotOrSpace, &["a.", "a ", "a./b", "a /b", "...", "a/. ", "a. ."]),
            (
                DeviceName,
                &[
                    "CON",
                    "nul",
                    "NUL.txt",
                    "a/aux.bin",
                    "com1",
                    "COM9.tar.gz",
                    "lpt1/x",
                    "prn",
                    "CONIN$",
                    "nul:x",
                    "COM\u{b9}",
                    "con .txt",
                ],
            ),
            (StateFolder, &[".dray", ".dray/receipt.json", ".DRAY/x", ".Dray"]),
            (Long, &[&long]),
            (LongComponent, &[&long_component]),
            (Deep, &[&deep]),
        ];
        let mut count = 0;
        for (fault, names) in cases {
            for name in *names {
                assert_eq!(SafePath::parse(name).map_err(|error| error.fault), Err(*fault), "{name:?}");
                count += 1;
            }
        }
        assert!(60 <= count, "{count}");
    }

    #[test]
    fn refusals_show_the_name_without_its_effect() {
        let error = SafePath::parse("a\u{1b}[2Jb\n\u{202e}c").unwrap_err();
        assert_eq!(error.to_string(), "unsafe name `a\\u{1b}[2Jb\\n\\u{202e}c`: it has a control character");
        let long = SafePath::parse(&"x".repeat(5000)).unwrap_err().to_string();
        assert!(long.len() < 200, "{long}");
    }

    #[test]
    fn parts_of_a_path_are_paths() {
        let path = SafePath::parse("a/b c/d.bin").unwrap();
        assert_eq!((path.file_name(), path.components().count()), ("d.bin", 3));
        let folder = path.parent().unwrap();
        assert_eq!(folder.as_str(), "a/b c");
        assert_eq!(folder.parent().and_then(|folder| folder.parent()), None);
        assert_eq!(folder.join("d.bin"), Ok(path));
        assert!(folder.join("../x").is_err() && folder.join("/x").is_err() && folder.join("").is_err());
    }
}
