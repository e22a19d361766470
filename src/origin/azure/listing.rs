//! Reads the XML of List Blobs: a page of blobs and where the next one begins. Pure.
//!
//! Holds: what is no such page is a `BadReply`; no document type and no entity but XML's own is read; elements nest at
//! most [`DEPTH_MAX`] deep; folders of a data lake and folder markers of Hadoop are left out.

use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};

use crate::error::{Failure, FailureKind};
use crate::manifest::{Stated, Version};
use crate::origin::listing::{Object, Page, base64_number};
use crate::wire::http1;

/// A page has five levels.
const DEPTH_MAX: usize = 16;

/// What is told of one blob.
#[derive(Default)]
pub(super) struct Blob {
    pub(super) name: String,
    pub(super) size: Option<u64>,
    pub(super) etag: Option<String>,
    pub(super) md5: Option<[u8; 16]>,
    /// A folder's stand-in: no file.
    pub(super) folder: bool,
}

impl Blob {
    /// Takes the ETag as lists and headers write it: without and with quotes.
    pub(super) fn set_etag(&mut self, text: &str) {
        let bare = text.trim().trim_matches('"');
        let fits = !bare.is_empty() && !text.starts_with("W/") && !bare.contains(|c: char| c == '"' || c.is_control());
        self.etag = fits.then(|| format!("\"{bare}\""));
    }

    /// Takes the MD5 that the blob's writer stated.
    pub(super) fn set_md5(&mut self, text: &str) {
        self.md5 = base64_number::<16>(text.trim());
    }

    pub(super) fn into_object(self) -> Object {
        let version = Version { etag: self.etag, ..Version::default() };
        let stated = self.md5.map(Stated::Md5).into_iter().collect();
        Object { key: self.name, size: self.size, version, stated }
    }
}

/// Reads one page.
///
/// # Errors
/// `BadReply` for anything else; the text repeats nothing of it.
pub(in crate::origin) fn page(body: &[u8]) -> Result<Page, Failure> {
    let mut reader = Reader::from_reader(body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body));
    let mut reading = Reading::default();
    loop {
        let event = reader.read_event().map_err(|_| bad("is not well-formed"))?;
        match event {
            Event::Start(start) => reading.open(&start)?,
            Event::Empty(start) => {
                reading.open(&start)?;
                reading.close()?;
            }
            Event::End(_) => reading.close()?,
            Event::Text(text) => reading.text.push_str(&text.decode().map_err(|_| bad("is not UTF-8"))?),
            Event::CData(text) => reading.text.push_str(&text.decode().map_err(|_| bad("is not UTF-8"))?),
            Event::GeneralRef(name) => {
                let name = name.decode().map_err(|_| bad("is not UTF-8"))?;
                reading.text.push(entity(&name).ok_or_else(|| bad("has an entity of its own"))?);
            }
            Event::DocType(_) => return Err(bad("has a document type")),
            Event::Decl(_) | Event::PI(_) | Event::Comment(_) => {}
            Event::Eof => return reading.into_page(),
        }
    }
}

fn bad(why: &str) -> Failure {
    Failure::new(FailureKind::BadReply, format!("the listing is not the XML of Azure Storage: it {why}"))
}

/// One of XML's five entities, or a character by its number.
fn entity(name: &str) -> Option<char> {
    if let Some(number) = name.strip_prefix('#') {
        let number = match number.strip_prefix(['x', 'X']) {
            Some(hexadecimal) => u32::from_str_radix(hexadecimal, 16).ok()?,
            None => number.parse().ok()?,
        };
        return char::from_u32(number);
    }
    match name {
        "amp" => Some('&'),
        "lt" => Some('<'),
        "gt" => Some('>'),
        "quot" => Some('"'),
        "apos" => Some('\''),
        _ => None,
    }
}

/// Where the reader is, and what it has seen.
#[derive(Default)]
struct Reading {
    open: Vec<String>,
    text: String,
    /// The name under way is percent-encoded: it has characters that XML cannot hold.
    encoded: bool,
    blob: Blob,
    page: Page,
    whole: bool,
}

impl Reading {
    fn open(&mut self, start: &BytesStart<'_>) -> Result<(), Failure> {
        let name = std::str::from_utf8(start.local_name().into_inner()).map_err(|_| bad("is not UTF-8"))?.to_owned();
        if self.open.is_empty() && (name != "EnumerationResults" || self.whole) {
            return Err(bad("is another document"));
        }
        if DEPTH_MAX <= self.open.len() {
            return Err(bad("nests too deep"));
        }
        if name == "Name" {
            let encoded = start.try_get_attribute("Encoded").map_err(|_| bad("is not well-formed"))?;
            self.encoded = encoded.is_some_and(|attribute| attribute.value.eq_ignore_ascii_case(b"true"));
        }
        self.open.push(name);
        self.text.clear();
        Ok(())
    }

    fn close(&mut self) -> Result<(), Failure> {
        let text = std::mem::take(&mut self.text);
        let path: Vec<&str> = self.open.iter().map(String::as_str).collect();
        match path.get(1..).unwrap_or_default() {
            ["NextMarker"] => self.page.token = Some(text).filter(|text| !text.is_empty()),
            ["Blobs", "Blob"] => {
                let blob = std::mem::take(&mut self.blob);
                if blob.name.is_empty() {
                    return Err(bad("has a blob without a name"));
                }
                if !blob.folder {
                    self.page.objects.push(blob.into_object());
                }
            }
            ["Blobs", "Blob", "Name"] => self.blob.name = if self.encoded { decoded(&text)? } else { text },
            ["Blobs", "Blob", "Properties", property] => match *property {
                "Content-Length" => self.blob.size = http1::decimal(text.trim()),
                "Etag" => self.blob.set_etag(&text),
                "Content-MD5" => self.blob.set_md5(&text),
                "ResourceType" => self.blob.folder |= text == "directory",
                _ => {}
            },
            ["Blobs", "Blob", "Metadata", name] if name.eq_ignore_ascii_case("hdi_isfolder") => {
                self.blob.folder |= text.eq_ignore_ascii_case("true");
            }
            [] => self.whole = true,
            _ => {}
        }
        self.open.pop();
        Ok(())
    }

    fn into_page(mut self) -> Result<Page, Failure> {
        if !self.whole || !self.open.is_empty() {
            return Err(bad("ends early"));
        }
        self.page.truncated = self.page.token.is_some();
        Ok(self.page)
    }
}

fn decoded(text: &str) -> Result<String, Failure> {
    let decoded = percent_encoding::percent_decode_str(text).decode_utf8();
    decoded.map(std::borrow::Cow::into_owned).map_err(|_| bad("has a name that is not UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the service writes it, with all that is of no interest here.
    const PAGE: &str = r#"<?xml version="1.0" encoding="utf-8"?>
<EnumerationResults ServiceEndpoint="https://acc.blob.core.windows.net/" ContainerName="models"><Prefix>m/</Prefix>
  <MaxResults>1000</MaxResults><Blobs>
    <Blob><Name>m/a &amp; b&#x41;<![CDATA[<c>]]></Name><Properties><Creation-Time>x</Creation-Time>
      <Etag>0x8D4BCC2E4835CD0</Etag><Content-Length>9</Content-Length><Content-Type>t</Content-Type><Content-Encoding />
      <Content-MD5>AAECAwQFBgcICQoLDA0ODw==</Content-MD5><BlobType>BlockBlob</BlobType></Properties>
      <Metadata><Name>not a name</Name><owner>me</owner></Metadata><OrMetadata /></Blob>
    <Blob><Name>m/sub</Name><Properties><ResourceType>directory</ResourceType></Properties></Blob>
    <Blob><Name>m/old</Name><Properties /><Metadata><Hdi_isfolder>TRUE</Hdi_isfolder></Metadata></Blob>
    <Blob><Name Encoded="true">m%2Fx%20%EF%BF%BE</Name><Properties><Content-MD5>no</Content-MD5></Properties></Blob>
  </Blobs><NextMarker>2!76!=</NextMarker></EnumerationResults>"#;

    #[test]
    fn a_page_is_read_with_names_versions_and_md5() {
        for text in [PAGE.to_owned(), format!("\u{feff}{PAGE}")] {
            let page = page(text.as_bytes()).unwrap();
            assert_eq!((page.truncated, page.token.as_deref()), (true, Some("2!76!=")));
            let keys: Vec<&str> = page.objects.iter().map(|object| object.key.as_str()).collect();
            assert_eq!(keys, ["m/a & bA<c>", "m/x \u{fffe}"]);
            let first = &page.objects[0];
            assert_eq!((first.size, first.version.etag.as_deref()), (Some(9), Some("\"0x8D4BCC2E4835CD0\"")));
            assert_eq!(first.stated, [Stated::Md5([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15])]);
            let second = &page.objects[1];
            assert_eq!((second.size, second.version.is_empty(), second.stated.len()), (None, true, 0));
        }
    }

    #[test]
    fn the_last_page_has_no_marker() {
        for text in [
            "<EnumerationResults><Blobs/><NextMarker/></EnumerationResults>",
            "<EnumerationResults><Blobs></Blobs><NextMarker></NextMarker></EnumerationResults>\n",
        ] {
            let page = page(text.as_bytes()).unwrap();
            assert_eq!((page.objects.len(), page.truncated, page.token), (0, false, None), "{text}");
        }
    }

    #[test]
    fn what_is_no_page_is_a_bad_reply_that_shows_nothing() {
        for text in [
            "",
            "canary",
            "<canary/>",
            "<EnumerationResults>",
            "<EnumerationResults/><EnumerationResults/>",
            "<EnumerationResults><Blobs></EnumerationResults>",
            "<EnumerationResults><Blobs><Blob/></Blobs></EnumerationResults>",
            "<!DOCTYPE x><EnumerationResults/>",
            "<EnumerationResults>&canary;</EnumerationResults>",
            "<EnumerationResults>&#xD800;</EnumerationResults>",
            "<EnumerationResults>\u{0}<</EnumerationResults>",
        ] {
            let Err(failure) = page(text.as_bytes()) else { panic!("{text}") };
            assert_eq!(failure.kind, FailureKind::BadReply);
            assert!(!failure.detail.contains("canary"), "{failure}");
        }
        assert!(page(b"<EnumerationResults><NextMarker>\xff</NextMarker></EnumerationResults>").is_err());
    }

    #[test]
    fn etags_are_written_with_quotes_and_weak_ones_are_none() {
        for (text, etag) in
            [("0x1", Some("\"0x1\"")), ("\"0x1\"", Some("\"0x1\"")), ("W/\"0x1\"", None), ("", None), ("a\"b", None)]
        {
            let mut blob = Blob::default();
            blob.set_etag(text);
            assert_eq!(blob.etag.as_deref(), etag, "{text}");
        }
    }
}
