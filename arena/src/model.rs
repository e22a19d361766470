//! A generated model repository: safetensors shards, their index and the small files beside them.
//!
//! In: a [`ModelSpec`]. Out: named [`Content`]s whose bytes exist only where somebody reads them.
//! Holds: the shards' sizes add up to `total_bytes`; every shard is a valid safetensors file.

use std::io;

use bytes::Bytes;

use crate::content::{Content, mix};

/// Bytes of the little-endian header length a safetensors file begins with.
const LENGTH_BYTES: u64 = 8;

/// Smallest shard that holds a header and something after it.
const SHARD_BYTES_MIN: u64 = 8 * 1024;

/// Most shards a five-digit name can number.
const FILES_MAX: u32 = 99_999;

/// Bytes in one BF16 element.
const ELEMENT_BYTES: u64 = 2;

/// Rows in one tensor at most: with 4096 columns of BF16 that is 64 MiB.
const ROWS_MAX: u64 = 8192;

/// The projections a layer has, in the order the tensors take them.
const KINDS: [&str; 7] = [
    "self_attn.q_proj",
    "self_attn.k_proj",
    "self_attn.v_proj",
    "self_attn.o_proj",
    "mlp.gate_proj",
    "mlp.up_proj",
    "mlp.down_proj",
];

/// What to generate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ModelSpec {
    /// Sum of the shards' sizes.
    pub total_bytes: u64,
    /// Number of shards.
    pub files: u32,
    /// Another seed, other weights.
    pub seed: u64,
}

/// One file of the model.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelObject {
    /// Name beneath the model's prefix.
    pub name: String,
    /// Its bytes.
    pub content: Content,
}

/// A generated model: shards first, then index, configuration, tokenizer and an empty file.
#[derive(Clone, Debug)]
pub struct Model {
    objects: Vec<ModelObject>,
}

/// One tensor of a shard, as the header lists it.
struct Tensor {
    name: String,
    dtype: &'static str,
    shape: Vec<u64>,
    begin: u64,
    end: u64,
}

impl Model {
    /// Lays out the model; no weights are generated yet.
    ///
    /// # Errors
    /// `InvalidInput` when there are no shards, more than a five-digit number of them, or when a
    /// shard would be smaller than 8 KiB.
    pub fn new(spec: ModelSpec) -> io::Result<Self> {
        let files = u64::from(spec.files);
        if spec.files == 0 || FILES_MAX < spec.files || spec.total_bytes / files < SHARD_BYTES_MIN {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "a model needs 1 to 99999 shards of at least 8 KiB each",
            ));
        }
        let mut objects = Vec::new();
        let mut index = Index::default();
        for shard in 0..spec.files {
            let extra = u64::from(u64::from(shard) < spec.total_bytes % files);
            let size = spec.total_bytes / files + extra;
            let name = format!("model-{:05}-of-{:05}.safetensors", shard + 1, spec.files);
            let head = index.add_shard(shard, size, &name);
            let key = mix(mix(spec.seed) ^ u64::from(shard));
            objects.push(ModelObject { name, content: Content::headed(head, key, size) });
        }
        let small = [
            ("model.safetensors.index.json", index.finish()),
            ("config.json", config()),
            ("tokenizer_config.json", tokenizer_config()),
            (".gitattributes", String::new()),
        ];
        for (name, text) in small {
            objects.push(ModelObject { name: name.to_owned(), content: Content::bytes(text) });
        }
        Ok(Self { objects })
    }

    /// The files, in a fixed order.
    pub fn objects(&self) -> &[ModelObject] {
        &self.objects
    }

    /// Writes the bytes of file `object` (its index in [`Model::objects`]) from `offset` on.
    ///
    /// # Panics
    /// When there is no such file.
    pub fn fill(&self, object: usize, offset: u64, buf: &mut [u8]) {
        self.objects[object].content.fill(offset, buf);
    }
}

/// The weight map while shards are being added.
#[derive(Default)]
struct Index {
    map: String,
    tensors: u64,
    data_bytes: u64,
}

impl Index {
    /// Records a shard's tensors and returns its first bytes: length and padded header.
    fn add_shard(&mut self, shard: u32, size: u64, file: &str) -> Bytes {
        // The cut depends on `size` alone, so taking the header off the data only shrinks shapes
        // and offsets or drops tensors, but for the two small ones at the end: the slack.
        let upper = header(&tensors(shard, self.tensors, size, size)).len() + 256;
        let header_len = upper.next_multiple_of(8);
        let header_bytes = header_len as u64;
        let data_bytes = size - LENGTH_BYTES - header_bytes;
        let tensors = tensors(shard, self.tensors, size, data_bytes);
        for tensor in &tensors {
            let comma = if self.map.is_empty() { "" } else { "," };
            self.map.push_str(&format!("{comma}\n    \"{}\": \"{file}\"", tensor.name));
        }
        self.tensors += tensors.len() as u64;
        self.data_bytes += data_bytes;
        let mut head = header_bytes.to_le_bytes().to_vec();
        head.extend_from_slice(header(&tensors).as_bytes());
        let whole = 8 + header_len;
        assert!(head.len() <= whole, "header outgrew its bound");
        head.resize(whole, b' ');
        head.into()
    }

    fn finish(self) -> String {
        format!(
            "{{\n  \"metadata\": {{\"total_size\": {}}},\n  \"weight_map\": {{{}\n  }}\n}}\n",
            self.data_bytes, self.map
        )
    }
}

/// Cuts `data_bytes` into tensors that follow one another without a hole. Their shape follows from
/// `size`, the whole shard; their names number on from `first`.
fn tensors(shard: u32, first: u64, size: u64, data_bytes: u64) -> Vec<Tensor> {
    let columns: u64 = if (1 << 20) <= size { 4096 } else { 64 };
    let row_bytes = columns * ELEMENT_BYTES;
    let rows_each = (size / row_bytes / 8).clamp(1, ROWS_MAX);
    let rows_all = data_bytes / row_bytes;
    let mut out = Vec::new();
    let mut begin = 0;
    let mut push = |name: String, dtype, shape, len: u64| {
        if len != 0 {
            out.push(Tensor { name, dtype, shape, begin, end: begin + len });
            begin += len;
        }
    };
    let mut row = 0;
    let mut number = first;
    while row < rows_all {
        let rows = rows_each.min(rows_all - row);
        let name = format!("model.layers.{}.{}.weight", number / 7, KINDS[(number % 7) as usize]);
        push(name, "BF16", vec![rows, columns], rows * row_bytes);
        row += rows;
        number += 1;
    }
    let rest = data_bytes % row_bytes;
    let elements = rest / ELEMENT_BYTES;
    push(format!("model.rest.{shard}.weight"), "BF16", vec![elements], elements * ELEMENT_BYTES);
    // An odd size leaves one byte no BF16 can cover, and the format allows no hole.
    push(format!("model.rest.{shard}.odd"), "U8", vec![1], rest % ELEMENT_BYTES);
    out
}

/// The JSON header. Written by hand: its bytes must not depend on a library's map order.
fn header(tensors: &[Tensor]) -> String {
    let mut out = String::from("{\"__metadata__\":{\"format\":\"pt\"}");
    for tensor in tensors {
        out.push_str(&format!(
            ",\"{}\":{{\"dtype\":\"{}\",\"shape\":{:?},\"data_offsets\":[{},{}]}}",
            tensor.name, tensor.dtype, tensor.shape, tensor.begin, tensor.end
        ));
    }
    out.push('}');
    out
}

fn config() -> String {
    concat!(
        "{\n  \"architectures\": [\"LlamaForCausalLM\"],\n  \"hidden_size\": 4096,\n",
        "  \"model_type\": \"llama\",\n  \"torch_dtype\": \"bfloat16\"\n}\n"
    )
    .to_owned()
}

fn tokenizer_config() -> String {
    "{\n  \"tokenizer_class\": \"PreTrainedTokenizerFast\",\n  \"model_max_length\": 8192\n}\n".to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn check(spec: ModelSpec) {
        let model = Model::new(spec).unwrap();
        let shards = &model.objects()[..spec.files as usize];
        assert_eq!(shards.iter().map(|o| o.content.size()).sum::<u64>(), spec.total_bytes);
        let mut named = Vec::new();
        for shard in shards {
            let size = shard.content.size();
            let length = shard.content.range(0, 8);
            let length = u64::from_le_bytes(length.try_into().unwrap());
            assert_eq!(length % 8, 0);
            let text = shard.content.range(8, length as usize);
            let header: Value = serde_json::from_slice(&text).unwrap();
            let mut spans = Vec::new();
            for (name, tensor) in header.as_object().unwrap() {
                if name == "__metadata__" {
                    continue;
                }
                let element = if tensor["dtype"] == "BF16" { 2 } else { 1 };
                let count: u64 = tensor["shape"].as_array().unwrap().iter().map(|n| n.as_u64().unwrap()).product();
                let begin = tensor["data_offsets"][0].as_u64().unwrap();
                let end = tensor["data_offsets"][1].as_u64().unwrap();
                assert_eq!(end - begin, count * element, "{name}");
                spans.push((begin, end));
                named.push((name.clone(), shard.name.clone()));
            }
            spans.sort_unstable();
            let mut at = 0;
            for (begin, end) in spans {
                assert_eq!(begin, at);
                at = end;
            }
            assert_eq!(at, size - 8 - length);
        }
        let index = &model.objects()[spec.files as usize];
        let index: Value = serde_json::from_slice(&index.content.range(0, index.content.size() as usize)).unwrap();
        let map = index["weight_map"].as_object().unwrap();
        assert_eq!(map.len(), named.len());
        for (name, file) in named {
            assert_eq!(map[&name], Value::String(file));
        }
    }

    #[test]
    fn shards_are_valid_and_add_up() {
        for (total_bytes, files) in [(8192, 1), (8192 * 3 + 1, 3), (1_000_003, 7), (10_000_000_019, 4), (140 << 30, 30)]
        {
            check(ModelSpec { total_bytes, files, seed: 1 });
        }
    }

    #[test]
    fn shards_of_every_small_size_are_valid() {
        for total_bytes in 8192..8700 {
            check(ModelSpec { total_bytes, files: 1, seed: 0 });
        }
    }

    #[test]
    fn the_small_files_are_there_and_one_is_empty() {
        let model = Model::new(ModelSpec { total_bytes: 1 << 20, files: 2, seed: 1 }).unwrap();
        let names: Vec<_> = model.objects().iter().map(|o| (o.name.as_str(), o.content.size() == 0)).collect();
        assert_eq!(
            names,
            [
                ("model-00001-of-00002.safetensors", false),
                ("model-00002-of-00002.safetensors", false),
                ("model.safetensors.index.json", false),
                ("config.json", false),
                ("tokenizer_config.json", false),
                (".gitattributes", true),
            ]
        );
    }

    #[test]
    fn a_model_without_room_is_refused() {
        for (total_bytes, files) in [(8191, 1), (1 << 30, 0), (0, 1), (1 << 40, 100_000)] {
            let error = Model::new(ModelSpec { total_bytes, files, seed: 1 }).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        }
    }
}
