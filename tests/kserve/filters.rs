//! `STORAGE_ALLOW_PATTERNS` and `STORAGE_IGNORE_PATTERNS`.

use super::row::Row;
use super::stores::stored;
use crate::rig::oracle::Content;
use crate::rig::weed;

const ALLOW: &str = "STORAGE_ALLOW_PATTERNS";
const IGNORE: &str = "STORAGE_IGNORE_PATTERNS";

/// The files that rows choose from.
const FILES: [&str; 9] = [
    "config.json",
    "tokenizer.json",
    "model-00001.safetensors",
    "model-00002.safetensors",
    "pytorch_model.bin",
    "README.md",
    "onnx/model.onnx",
    "onnx/config.json",
    "original/params.json",
];

/// What LLMInferenceService asks for when it wants a tokenizer alone.
const TOKENIZER: &str = "tokenizer.json,tokenizer_config.json,special_tokens_map.json,vocab.json,merges.txt,\
                         config.json,generation_config.json";

pub(super) fn rows() -> Vec<Row> {
    let bucket = weed().bucket("kserve-filters");
    let some = Content::new(1, 40);
    let keys = FILES.map(|name| format!("m/{name}"));
    bucket.put(&keys.iter().map(|key| (key.as_str(), &some)).collect::<Vec<_>>());
    let row = |name, allow: &str, ignore: &str, files: &[&str]| {
        let files: Vec<_> = files.iter().map(|file| (*file, &some)).collect();
        Row::takes(name, bucket.uri("m"), &files).env(ALLOW, allow).env(IGNORE, ignore)
    };
    let but = |left_out: &[&str]| FILES.into_iter().filter(|name| !left_out.contains(name)).collect::<Vec<_>>();
    let shards = ["model-00001.safetensors", "model-00002.safetensors"];
    let configs = ["config.json", "tokenizer.json", "onnx/config.json", "original/params.json"];
    let exact = [("pytorch_model.bin", &some)];
    let stored = stored();
    let rows = vec![
        row("filters/none", "", "", &FILES),
        row("filters/empty-arrays", "[]", "[]", &FILES),
        row("filters/json-array", r#"["*.safetensors", "*.md"]"#, "", &[shards[0], shards[1], "README.md"]),
        row("filters/json-string", r#""*.safetensors""#, "", &shards),
        row("filters/commas", "*.safetensors,*.md", "", &[shards[0], shards[1], "README.md"]),
        row("filters/commas-and-spaces", " *.safetensors , *.md ,", "", &[shards[0], shards[1], "README.md"]),
        row("filters/array-with-empties", r#"["", " *.safetensors "]"#, "", &shards),
        row("filters/star-crosses-folders", "*.json", "", &configs),
        row("filters/one-name-is-the-whole-path", "config.json", "", &["config.json"]),
        row("filters/folder-and-star", "onnx/*", "", &["onnx/model.onnx", "onnx/config.json"]),
        row("filters/question-marks", "model-0000?.*", "", &shards),
        row("filters/a-class", "model-0000[13].safetensors", "", &shards[..1]),
        row("filters/a-class-turned", "model-0000[!1].safetensors", "", &shards[1..]),
        row("filters/letters-count", "readme.md,config.json", "", &["config.json"]),
        row("filters/ignored", "", "*.bin,original/*", &but(&["pytorch_model.bin", "original/params.json"])),
        row("filters/ignored-as-json", "", r#"["*.bin"]"#, &but(&["pytorch_model.bin"])),
        row("filters/ignored-wins", "*.json", "onnx/*,original/*", &["config.json", "tokenizer.json"]),
        row("filters/tokenizer-alone", TOKENIZER, "", &["config.json", "tokenizer.json"]),
        row("filters/a-slash-at-the-end", "onnx/", "", &["onnx/model.onnx", "onnx/config.json"]),
        row("filters/beside-a-flag", "*.json", "", &["config.json", "tokenizer.json"])
            .env("DRAY_IGNORE", "o*/*")
            .dray_only("DRAY_IGNORE is dray's own"),
        Row::fails("filters/nothing-passes", bucket.uri("m"), 3, "filters").env(ALLOW, "*.gguf"),
        Row::fails("filters/all-ignored", bucket.uri("m"), 3, "filters").env(IGNORE, "*"),
        Row::takes("filters/exact-object-is-not-allowed", bucket.uri("m/pytorch_model.bin"), &exact)
            .env(ALLOW, "*.json"),
        Row::takes("filters/exact-object-is-ignored", bucket.uri("m/pytorch_model.bin"), &exact).env(IGNORE, "*.bin"),
        Row::refuses("filters/unclosed-class", &[&bucket.uri("m"), "{0}"], 2, "[unclosed").env(ALLOW, "[unclosed"),
        Row::takes("filters/archives-are-counted-after", stored.bucket.uri("two"), &[("n.bin", &stored.config)])
            .env(IGNORE, "*.tar.gz"),
    ];
    rows.into_iter().map(|row| row.keyed(&bucket.endpoint)).collect()
}
