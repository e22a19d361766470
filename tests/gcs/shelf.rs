//! What a small store keeps, and its answers in the words of Google's JSON API.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::rig::fake::{Asked, Reply, reply};

/// A refusal as the JSON API words it.
pub(crate) fn refusal(status: u16, message: &str) -> Reply {
    let error = json!({"error": {"code": status, "message": message, "errors": [{"reason": "test"}]}});
    reply(status, error.to_string())
}

/// Whether bytes are asked for.
pub(crate) fn is_media(asked: &Asked) -> bool {
    asked.parameter("alt") == Some("media")
}

/// The one bucket of a store.
pub(crate) const BUCKET: &str = "bucket";

/// What a store keeps in [`BUCKET`], every object as one generation: 17 unless another is named.
#[derive(Clone)]
pub(crate) struct Shelf {
    objects: BTreeMap<String, Vec<u8>>,
    generation: &'static str,
}

impl Shelf {
    pub(crate) fn of(objects: &[(&str, &[u8])]) -> Self {
        let objects = objects.iter().map(|(name, bytes)| ((*name).to_owned(), bytes.to_vec())).collect();
        Self { objects, generation: "17" }
    }

    /// The same names and bytes as another generation.
    pub(crate) fn at(self, generation: &'static str) -> Self {
        Self { generation, ..self }
    }

    /// The JSON API's answer: a page of everything, a description, or a range of one object's bytes.
    pub(crate) fn answer(&self, asked: &Asked) -> Reply {
        let objects = format!("/storage/v1/b/{BUCKET}/o");
        let Some(name) = asked.path.strip_prefix(&objects) else { return refusal(404, "no such bucket") };
        if name.is_empty() {
            let below =
                self.objects.iter().filter(|(name, _)| name.starts_with(asked.parameter("prefix").unwrap_or_default()));
            let items: Vec<Value> = below.map(|(name, bytes)| self.described(name, bytes)).collect();
            return reply(200, json!({"items": items}).to_string());
        }
        let Some((name, bytes)) = self.objects.get_key_value(&name[1..]) else { return refusal(404, "no such object") };
        if !is_media(asked) {
            return reply(200, self.described(name, bytes).to_string());
        }
        if asked.parameter("generation") != Some(self.generation) {
            return refusal(404, "no such generation");
        }
        let Some((first, last)) = asked.range() else {
            return reply(200, bytes.clone()).header("x-goog-generation", self.generation);
        };
        reply(206, &bytes[first..=last])
            .header("Content-Range", format!("bytes {first}-{last}/{}", bytes.len()))
            .header("x-goog-generation", self.generation)
    }

    fn described(&self, name: &str, bytes: &[u8]) -> Value {
        let sum = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, bytes);
        let sum = u32::try_from(sum).expect("32 bits").to_be_bytes();
        let sum = aws_smithy_types::base64::encode(sum);
        json!({"name": name, "size": bytes.len().to_string(), "generation": self.generation, "crc32c": sum})
    }
}
