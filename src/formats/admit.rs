//! The verdict on one file.

use super::cursor::Head;
use super::glance::{HEAD_BYTES, glance, is_tar, unpacked};
use super::members::{admitted, members};
use super::{Allowed, Content, Format, Input, refused, safetensors, tail, text};
use crate::error::{Error, storage};
use crate::unpack::Kind;
use crate::verify::wide;

/// Admits the file at `path` whose bytes are `input`, or says why not.
///
/// # Errors
/// [`Error::Policy`] for a format that is not `allowed`, and for a file whose name ends in `.safetensors` or `.gguf`
/// and that is something else; [`Error::Integrity`] for a safetensors file that breaks its format's rules and for an
/// archive that is broken; [`Error::Storage`] when `input` fails.
pub fn admit(path: &str, input: &mut dyn Input, allowed: &Allowed) -> Result<(), Error> {
    let failed = |error| storage(&format!("look at `{path}`"), &error);
    let content = glance(input).map_err(failed)?;
    let lower = path.to_ascii_lowercase();
    if let Content::Pickle(what) = content {
        return if allowed.has(Format::Pickle) { Ok(()) } else { Err(refused(path, what, allowed)) };
    }
    if content != Content::Is(Format::Zip) && tail::ends_as_zip(input).map_err(failed)? {
        return Err(refused(path, "a zip with something else before it", allowed));
    }
    if content != Content::Is(Format::Tar) && is_tar(&tail::read(input, 0, HEAD_BYTES).map_err(failed)?) {
        return Err(refused(path, "a tar that begins as something else", allowed));
    }
    if let Some(claim) = [Format::Safetensors, Format::Gguf]
        .into_iter()
        .find(|claim| lower.ends_with(&format!(".{}", claim.word())) && content != Content::Is(*claim))
    {
        return Err(misnamed(path, claim, content, input, allowed));
    }
    match content {
        Content::Empty | Content::Pickle(_) => Ok(()),
        Content::Other(what) => Err(refused(path, what, allowed)),
        Content::Textual => textual(path, input, allowed).map_err(failed)?,
        Content::Is(Format::Zip) => zip(path, input, allowed),
        Content::Is(format) if !allowed.has(format) => Err(refused(path, format.word(), allowed)),
        Content::Is(Format::Safetensors) => safetensors::check(input).map_err(|why| broken(path, &why)),
        Content::Is(Format::Tar) => archive(path, Kind::Tar, input, allowed),
        Content::Is(Format::Gzip) => gzip(path, input, allowed),
        Content::Is(_) => Ok(()),
    }
}

fn broken(path: &str, why: &str) -> Error {
    Error::Integrity(format!("`{path}` is no valid safetensors file: {why}"))
}

/// A name that claims a format, on other content: damage where nothing else is recognised, else a refusal.
fn misnamed(path: &str, claim: Format, content: Content, input: &mut dyn Input, allowed: &Allowed) -> Error {
    let what = match content {
        Content::Empty => "empty",
        Content::Textual => "text",
        Content::Is(format) => format.word(),
        Content::Pickle(what) | Content::Other(what) => what,
    };
    let unknown = matches!(content, Content::Other(_) | Content::Empty);
    if claim == Format::Safetensors && allowed.has(claim) && unknown {
        return broken(path, &safetensors::check(input).err().unwrap_or_else(|| "it is something else".to_owned()));
    }
    refused(path, &format!("named {} and is {what}", claim.word()), allowed)
}

fn textual(path: &str, input: &mut dyn Input, allowed: &Allowed) -> std::io::Result<Result<(), Error>> {
    let refuse = |what: &str| Ok(Err(refused(path, what, allowed)));
    if !text::is_text(input, u64::MAX)? {
        return refuse("text with something else behind it");
    }
    if allowed.has(Format::Text) || (allowed.has(Format::Json) && text::is_json(input)?) {
        return Ok(Ok(()));
    }
    refuse(if allowed.has(Format::Json) { "text and no JSON" } else { "text" })
}

/// A zip: NumPy's, PyTorch's, or one of allowed files.
fn zip(path: &str, input: &mut dyn Input, allowed: &Allowed) -> Result<(), Error> {
    if ![Format::Zip, Format::Numpy, Format::Pickle].iter().any(|format| allowed.has(*format)) {
        return Err(refused(path, "a zip", allowed));
    }
    let found = members(Kind::Zip, input, allowed)?;
    if let Some((member, what)) = &found.pickle {
        let text = format!("a zip whose member `{member}` is {what}");
        return if allowed.has(Format::Pickle) { Ok(()) } else { Err(refused(path, &text, allowed)) };
    }
    if allowed.has(Format::Numpy) && 0 < found.count && found.arrays == found.count {
        return Ok(());
    }
    match found.refused.filter(|_| allowed.has(Format::Zip)) {
        Some((member, what)) => Err(refused(path, &format!("a zip whose member `{member}` is {what}"), allowed)),
        None if allowed.has(Format::Zip) => Ok(()),
        None => Err(refused(path, "a zip", allowed)),
    }
}

/// An archive of allowed files.
fn archive(path: &str, kind: Kind, input: &mut dyn Input, allowed: &Allowed) -> Result<(), Error> {
    let found = members(kind, input, allowed)?;
    let pickle = found.pickle.filter(|_| !allowed.has(Format::Pickle));
    match pickle.or(found.refused) {
        Some((member, what)) => Err(refused(path, &format!("an archive whose member `{member}` is {what}"), allowed)),
        None => Ok(()),
    }
}

/// A gzip of something that is allowed.
fn gzip(path: &str, input: &mut dyn Input, allowed: &Allowed) -> Result<(), Error> {
    let failed = |error| storage(&format!("look at `{path}`"), &error);
    let packed = tail::read(input, 0, HEAD_BYTES).map_err(failed)?;
    let bytes = unpacked(flate2::bufread::MultiGzDecoder::new(packed.as_slice()));
    let whole = bytes.len() < HEAD_BYTES && wide(packed.len()) == input.size();
    let mut head = Head { bytes: &bytes, size: if whole { wide(bytes.len()) } else { u64::MAX } };
    let content = glance(&mut head).map_err(failed)?;
    if content == Content::Is(Format::Tar) && allowed.has(Format::Tar) {
        return archive(path, Kind::Tar, input, allowed);
    }
    match admitted(content, &mut head, whole, allowed).map_err(failed)? {
        Ok(()) => Ok(()),
        Err(what) => Err(refused(path, &format!("a gzip of something that is {what}"), allowed)),
    }
}
