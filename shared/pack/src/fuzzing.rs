//! What the fuzz targets in `fuzz/` run, and the tests over the committed inputs.
//!
//! Each function takes bytes from anywhere. To refuse them is always right; what is accepted must keep the promises
//! that later code relies on, and the function panics where it does not.

mod formats;

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use bytes::Bytes;
use defrost_model::parts::{Naming, plan};
use defrost_model::{ChatSpec, ModelSpec};
use defrost_tasks::{Prompt, TextTokenizer, Truncation};

use crate::SpecOptions;
use crate::checkpoint::{prepare, read};
use crate::formats::{Checkpoint, Gguf, to_f32};
use crate::gguf::of as gguf_checkpoint;

pub use formats::{gguf, onnx, safetensors, shard_index};

/// Words enough for every template.
const TOKENIZER: &[u8] = br#"{"version":"1.0","truncation":null,"padding":null,"added_tokens":[],"normalizer":null,"pre_tokenizer":{"type":"Whitespace"},"post_processor":null,"decoder":null,"model":{"type":"WordLevel","vocab":{"[UNK]":0,"0":1,"1":2,"no":3,"yes":4},"unk_token":"[UNK]"}}"#;

/// The tensors whose presence `read` asks for, one byte long each.
const TENSORS: [&str; 4] = [
    "embeddings.word_embeddings.weight",
    "model.embed_tokens.weight",
    "classifier.weight",
    "classifier.out_proj.weight",
];

/// The files of the target `config`, in the order of its input.
const FILES: [&str; 5] = [
    "config.json",
    "modules.json",
    "1_Pooling/config.json",
    "config_sentence_transformers.json",
    "sentence_bert_config.json",
];

const TEXT: &str = "Where do plants get their food? 0 yes no 中文 e\u{301}\n\t😀";

/// A tokenizer.json, and perhaps a zero byte and a text to tokenise.
///
/// # Panics
///
/// If a promise is broken.
pub fn tokenizer(input: &[u8]) {
    let end = input.iter().position(|&byte| byte == 0);
    let (json, text) = end.map_or((input, None), |end| (&input[..end], Some(&input[end + 1..])));
    let text = text.and_then(|text| std::str::from_utf8(text).ok()).unwrap_or(TEXT);
    let Ok(tokenizer) = TextTokenizer::from_json(json) else {
        return;
    };
    let largest = tokenizer.largest_id();
    let Ok(ids) = tokenizer.ids(text, usize::MAX) else {
        return;
    };
    assert!(ids.iter().all(|&id| id <= largest), "{ids:?} beyond {largest}");
    let _ = tokenizer.single_token(text);
    for limit in [0, 3] {
        if let Ok((prefix, cut)) = tokenizer.cut(text, limit) {
            assert!(text.starts_with(prefix) && (cut || prefix == text));
        }
    }
    if let Ok(second) = tokenizer.ids(TEXT, 8) {
        let _ = tokenizer.single(&ids);
        let _ = tokenizer.pair(&ids, &second);
    }
    if let Ok(image) = defrost_tokenizer::compile(json) {
        let compiled = TextTokenizer::from_image(image.into()).expect("of this version");
        assert_eq!(compiled.ids(text, usize::MAX).expect("without fail"), ids, "{text:?}");
    }
}

/// The files of a checkpoint beside weights and tokenizer, separated by zero bytes; empty ones do not exist.
///
/// # Panics
///
/// If a promise is broken, or if the files cannot be written.
pub fn config(input: &[u8]) {
    let dir = tempfile::tempdir().expect("a directory for the checkpoint");
    let write = |name: &str, bytes: &[u8]| {
        fs::write(dir.path().join(name), bytes).expect("room for a file");
    };
    fs::create_dir(dir.path().join("1_Pooling")).expect("room for a directory");
    write("model.safetensors", &weights());
    write("tokenizer.json", TOKENIZER);
    for (name, bytes) in FILES.iter().zip(input.split(|&byte| byte == 0)) {
        if !bytes.is_empty() {
            write(name, bytes);
        }
    }
    let checkpoint = Checkpoint::open(dir.path()).expect("the weights are right");
    let options = SpecOptions { name: "m".to_owned(), ..SpecOptions::default() };
    let Ok(checkpoint) = prepare(&checkpoint) else {
        return;
    };
    if let Ok(found) = read(&checkpoint, &options) {
        check_spec(&found.spec);
        let meta = found.spec.to_meta();
        let again = ModelSpec::from_meta(dir.path(), &|key| meta.get(key).map(String::as_str));
        assert_eq!(again.ok().as_ref(), Some(&found.spec), "a snapshot would say something else");
    }
}

/// A GGUF file as a model: its metadata as configuration and tokenizer.
///
/// # Panics
///
/// If a promise is broken.
pub fn gguf_model(input: &[u8]) {
    let Ok(file) = Gguf::parse(Bytes::copy_from_slice(input)) else {
        return;
    };
    let Ok(opened) = gguf_checkpoint(&file, Path::new("m.gguf")) else {
        return;
    };
    for name in opened.names() {
        let tensor = opened.get(name).expect("named");
        let _ = to_f32(&tensor);
    }
    let options = SpecOptions { name: "m".to_owned(), ..SpecOptions::default() };
    let Ok(checkpoint) = prepare(&opened) else {
        return;
    };
    let Ok(found) = read(&checkpoint, &options) else {
        return;
    };
    let config = &found.spec.config;
    config.validate().expect("checked");
    let meta = found.spec.to_meta();
    let again = ModelSpec::from_meta(Path::new("m"), &|key| meta.get(key).map(String::as_str));
    let bare = ModelSpec { chat: None, ..found.spec.clone() };
    assert_eq!(again.ok(), Some(bare), "a snapshot would say something else");
    let chat = found.spec.chat.as_ref().expect("a language model");
    let json = chat.to_json().expect("numbers of JSON");
    assert_eq!(ChatSpec::from_json(&json, config.vocab).ok().as_ref(), Some(chat));
    let tokenizer = TextTokenizer::from_json(&found.tokenizer).expect("read once already");
    assert!((tokenizer.largest_id() as usize) < config.vocab);
    if let Ok(ids) = tokenizer.ids(TEXT, usize::MAX) {
        assert!(ids.iter().all(|&id| id <= tokenizer.largest_id()));
    }
}

/// Metadata of a snapshot, as lines `key=value`.
///
/// # Panics
///
/// If a promise is broken.
pub fn snapshot_meta(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let meta: HashMap<&str, &str> = text.lines().filter_map(|line| line.split_once('=')).collect();
    if let Ok(spec) = ModelSpec::from_meta(Path::new("m.snap"), &|key| meta.get(key).copied()) {
        check_spec(&spec);
    }
}

/// What every reader of a specification does with it before it looks at weights.
fn check_spec(spec: &ModelSpec) {
    let config = &spec.config;
    config.validate().expect("checked");
    assert!(config.norm_eps.is_finite() && config.norm_eps >= 0.0, "{config:?}");
    assert!(config.rope_theta.is_finite() && config.rope_theta > 0.0, "{config:?}");
    let groups = plan(config, &Naming::default());
    assert!(groups.iter().map(|group| group.parts.len()).sum::<usize>() < 1 << 16);
    let tokenizer = TextTokenizer::from_json(TOKENIZER).expect("a right tokenizer");
    let Ok(prompt) = Prompt::new(tokenizer, &spec.template, spec.max_length, config.max_positions)
    else {
        return;
    };
    assert!(prompt.max_length() <= config.max_positions);
    let truncation = Truncation::default();
    let Ok(query) = prompt.query(TEXT, Some("find it"), &truncation) else {
        return;
    };
    if let Ok(sequence) = prompt.document(&query, TEXT, &truncation) {
        assert!(sequence.tokens.ids.len() <= config.max_positions);
    }
}

/// A safetensors file of [`TENSORS`].
fn weights() -> Vec<u8> {
    let entries: Vec<String> = TENSORS
        .iter()
        .enumerate()
        .map(|(at, name)| {
            let end = at + 1;
            format!(r#""{name}":{{"dtype":"U8","shape":[1,1],"data_offsets":[{at},{end}]}}"#)
        })
        .collect();
    let header = format!("{{{}}}", entries.join(","));
    let length = (header.len() as u64).to_le_bytes();
    [&length[..], header.as_bytes(), &[0; TENSORS.len()]].concat()
}

#[cfg(test)]
mod tests;
