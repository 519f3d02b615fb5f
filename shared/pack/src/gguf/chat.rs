//! How a GGUF file's model converses, as `tokenizer_config.json` and `generation_config.json`.

use serde_json::{Map, Value, json};

use super::tokenizer::Tokenizer;
use super::{Metadata, float, whole};
use crate::Error;
use crate::formats::GgufValue;

/// Texts of tokens that end a turn, wherever they are special: llama.cpp knows them by these, as older files do not name
/// them.
const ENDS: [&str; 10] = [
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<|eom_id|>",
    "<EOT>",
];

/// Keys of sampling, and what `generation_config.json` calls them.
const SAMPLING: [(&str, &str); 5] = [
    ("temp", "temperature"),
    ("top_k", "top_k"),
    ("top_p", "top_p"),
    ("min_p", "min_p"),
    ("penalty_repeat", "repetition_penalty"),
];

/// Both files.
pub(super) fn read(meta: &Metadata<'_>, tokenizer: &Tokenizer) -> Result<[Value; 2], Error> {
    let mut config = Map::new();
    config.insert("tokenizer_class".into(), "PreTrainedTokenizerFast".into());
    for (key, name) in [
        ("bos", "bos_token"),
        ("eos", "eos_token"),
        ("unknown", "unk_token"),
        ("padding", "pad_token"),
    ] {
        if let Some(id) = tokenizer.named(meta, key)? {
            // A normal word as padding, which files have, is a token for templates alone.
            if let Some(text) = tokenizer.special_text(id) {
                config.insert(name.into(), text.into());
            }
        }
    }
    let text = |value: &GgufValue, key: &str| match value {
        GgufValue::String(text) => Ok(text.clone()),
        other => Err(Error::Model(format!("{key} is {}, expected a text", super::shown(other)))),
    };
    let mut templates = Vec::new();
    for (key, value) in meta.file.metadata() {
        let name = match key.strip_prefix("tokenizer.chat_template") {
            Some("") => "default",
            Some(name) if name.starts_with('.') => &name[1..],
            _ => continue,
        };
        templates.push(json!({"name": name, "template": text(value, key)?}));
    }
    if !templates.is_empty() {
        config.insert("chat_template".into(), templates.into());
    }
    let mut generation = Map::new();
    let mut ends = Vec::new();
    for key in ["eos", "eot", "eom"] {
        ends.extend(tokenizer.named(meta, key)?);
    }
    ends.extend(ENDS.iter().filter_map(|text| tokenizer.special_id(text)));
    ends.sort_unstable();
    ends.dedup();
    if !ends.is_empty() {
        generation.insert("eos_token_id".into(), ends.into());
    }
    for (key, name) in SAMPLING {
        let Some(value) = meta.file.get(&format!("general.sampling.{key}")) else { continue };
        let number = if key == "top_k" {
            whole(value).map(Value::from)
        } else {
            float(value).map(|number| json!(number))
        };
        let number = number.ok_or_else(|| {
            Error::Model(format!(
                "general.sampling.{key} is {}, expected a number",
                super::shown(value)
            ))
        })?;
        generation.insert(name.into(), number);
    }
    Ok([config.into(), generation.into()])
}
