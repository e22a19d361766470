//! What a small store keeps, and its answers in the words of Azure's REST API.

use std::collections::BTreeMap;

use crate::rig::fake::{Asked, Fake, Reply, reply};

/// The account and container of every fake store.
pub(crate) const ACCOUNT: &str = "acc";
pub(crate) const CONTAINER: &str = "models";

/// A blob's version.
pub(crate) const ETAG: &str = "\"0x8D4BCC2E4835CD0\"";

/// The blobs of [`CONTAINER`].
#[derive(Clone)]
pub(crate) struct Shelf(BTreeMap<String, Vec<u8>>);

/// A refusal as the REST API words it; a HEAD has the code in a header alone.
pub(crate) fn refusal(status: u16, code: &str, message: &str) -> Reply {
    let text = format!(
        "\u{feff}<?xml version=\"1.0\" encoding=\"utf-8\"?><Error><Code>{code}</Code><Message>{message}\nRequestId:1</Message></Error>"
    );
    reply(status, text).header("x-ms-error-code", code)
}

/// A page of blobs as it is written: their elements, and the marker of the next page.
pub(crate) fn page(blobs: &str, marker: &str) -> Reply {
    let text = format!(
        "\u{feff}<?xml version=\"1.0\" encoding=\"utf-8\"?><EnumerationResults ServiceEndpoint=\"http://x/\" \
         ContainerName=\"{CONTAINER}\"><Blobs>{blobs}</Blobs><NextMarker>{marker}</NextMarker></EnumerationResults>"
    );
    reply(200, text)
}

/// A blob's element.
pub(crate) fn element(name: &str, size: usize) -> String {
    let bare = ETAG.trim_matches('"');
    let name = name.replace('&', "&amp;").replace('<', "&lt;");
    format!(
        "<Blob><Name>{name}</Name><Properties><Etag>{bare}</Etag><Content-Length>{size}</Content-Length>\
         <Content-MD5 /></Properties></Blob>"
    )
}

pub(crate) fn is_page(asked: &Asked) -> bool {
    asked.parameter("comp") == Some("list")
}

/// Whether bytes are asked for.
pub(crate) fn is_media(asked: &Asked) -> bool {
    asked.method == "GET" && !is_page(asked)
}

/// Where the fake's account is.
pub(crate) fn endpoint(store: &Fake) -> String {
    store.url(&format!("/{ACCOUNT}"))
}

impl Shelf {
    pub(crate) fn of(blobs: &[(&str, &[u8])]) -> Self {
        Self(blobs.iter().map(|(name, bytes)| ((*name).to_owned(), bytes.to_vec())).collect())
    }

    /// The API's answer: a page of everything, a blob's properties, or a range of its bytes.
    pub(crate) fn answer(&self, asked: &Asked) -> Reply {
        let container = format!("/{ACCOUNT}/{CONTAINER}");
        let Some(name) = asked.path.strip_prefix(&container) else {
            return refusal(404, "ContainerNotFound", "The specified container does not exist.");
        };
        if is_page(asked) {
            let below =
                self.0.iter().filter(|(name, _)| name.starts_with(asked.parameter("prefix").unwrap_or_default()));
            let blobs: String = below.map(|(name, bytes)| element(name, bytes.len())).collect();
            return page(&blobs, "");
        }
        let Some(bytes) = self.0.get(name.trim_start_matches('/')) else {
            return refusal(404, "BlobNotFound", "The specified blob does not exist.");
        };
        let pin = asked.header("if-match");
        if !pin.is_empty() && pin != ETAG {
            return refusal(
                412,
                "ConditionNotMet",
                "The condition specified using HTTP conditional header(s) is not met.",
            );
        }
        let Some((first, last)) = asked.range() else { return reply(200, bytes.clone()).header("ETag", ETAG) };
        reply(206, &bytes[first..=last])
            .header("Content-Range", format!("bytes {first}-{last}/{}", bytes.len()))
            .header("ETag", ETAG)
    }
}
