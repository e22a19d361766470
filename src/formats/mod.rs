//! What a file is by its content, and whether that is allowed: `--formats`.
//!
//! In: a file's bytes through an [`Input`], its name, the formats that are allowed. Out: nothing, or why it is refused.
//! Holds: pure; an allow-list: what is not recognised is refused; a name admits nothing, a pickle is looked for in
//! every file whatever else it is; memory is bounded and every byte is read a few times at most.
//!
//! A look at content is no sandbox: docs/formats.md says what it cannot see.

mod admit;
mod cursor;
mod glance;
mod members;
mod numpy;
mod pickle;
mod protobuf;
mod safetensors;
mod tail;
mod text;

use crate::error::Error;

pub use admit::admit;
pub use safetensors::check as check_safetensors;

pub(crate) use crate::unpack::Input;

/// A format that can be allowed. [`Format::word`] is its name on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Format {
    /// Tensors behind a JSON header; checked whole: offsets, sizes, no byte left over.
    Safetensors,
    /// Tensors of llama.cpp.
    Gguf,
    /// One JSON value or several in a row (JSON lines), each read to its end.
    Json,
    /// UTF-8 without control characters: Markdown, vocabularies, templates, source code, JSON.
    Text,
    /// An ONNX model.
    Onnx,
    /// A SentencePiece model (`tokenizer.model`).
    Sentencepiece,
    /// Arrays of numbers: `.npy`, and `.npz`, which is a zip of them.
    Numpy,
    /// HDF5, Keras' `.h5` among them.
    Hdf5,
    /// A zip of files that are allowed themselves.
    Zip,
    /// A tar of files that are allowed themselves.
    Tar,
    /// A gzip of what is allowed itself.
    Gzip,
    /// Python's pickle in any disguise: it can run any code when it is loaded.
    Pickle,
}

impl Format {
    /// Every format, in the order in which they are listed.
    pub const ALL: [Self; 12] = [
        Self::Safetensors,
        Self::Gguf,
        Self::Json,
        Self::Text,
        Self::Onnx,
        Self::Sentencepiece,
        Self::Numpy,
        Self::Hdf5,
        Self::Zip,
        Self::Tar,
        Self::Gzip,
        Self::Pickle,
    ];

    /// Its name on the command line.
    pub fn word(self) -> &'static str {
        match self {
            Self::Safetensors => "safetensors",
            Self::Gguf => "gguf",
            Self::Json => "json",
            Self::Text => "text",
            Self::Onnx => "onnx",
            Self::Sentencepiece => "sentencepiece",
            Self::Numpy => "numpy",
            Self::Hdf5 => "hdf5",
            Self::Zip => "zip",
            Self::Tar => "tar",
            Self::Gzip => "gzip",
            Self::Pickle => "pickle",
        }
    }

    /// Reads [`Format::word`].
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.word() == word)
    }
}

/// The formats that are allowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allowed(Vec<Format>);

impl Allowed {
    /// Just these.
    pub fn new(formats: &[Format]) -> Self {
        Self(formats.to_vec())
    }

    /// Whether `format` is among them.
    pub fn has(&self, format: Format) -> bool {
        self.0.contains(&format)
    }

    /// The names, for messages.
    fn words(&self) -> String {
        self.0.iter().map(|format| format.word()).collect::<Vec<_>>().join(", ")
    }
}

/// What a file, or the head of one, was taken for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Content {
    /// No bytes: no format, and nothing to fear.
    Empty,
    /// This format, by its marks.
    Is(Format),
    /// A pickle, in words.
    Pickle(&'static str),
    /// UTF-8 as far as it was looked at.
    Textual,
    /// Something that has no name here, in words.
    Other(&'static str),
}

/// A refusal of the file at `path`, which is `what`.
fn refused(path: &str, what: &str, allowed: &Allowed) -> Error {
    let words = allowed.words();
    Error::Policy(format!("`{path}` is {what}: --formats allows only {words}"))
}
