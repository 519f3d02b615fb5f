//! How a language model converses, by its files: templates, the tokens that end a turn, how its authors sample.
//!
//! ```text
//! chat_template.jinja, additional_chat_templates/NAME.jinja   newer; over what is in
//! tokenizer_config.json: chat_template                        a text, or a list of {name, template}
//!                        bos_token, eos_token, …              what templates call so; special_tokens_map.json has them too
//! generation_config.json                                      eos_token_id, temperature, top_k, …
//! config.json: eos_token_id                                   where that file does not say it
//! ```

use std::collections::{BTreeMap, BTreeSet};

use defrost_model::{ChatSpec, SamplingDefaults};
use defrost_tasks::TextTokenizer;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::tokens::id_of;
use super::told::Told;
use super::{RawConfig, optional_beside_weights};
use crate::Error;
use crate::formats::Checkpoint;

const CONFIG: &str = "tokenizer_config.json";
const SPECIAL: &str = "special_tokens_map.json";
const GENERATION: &str = "generation_config.json";
const TEMPLATE: &str = "chat_template.jinja";
const FOLDER: &str = "additional_chat_templates";

/// Names of special tokens that templates are given.
const NAMED: [&str; 7] =
    ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

/// The most templates of a model; those that are published have up to three.
const MOST_TEMPLATES: usize = 64;

/// Keys of `generation_config.json` that change what is said, and that no sampler here knows, with the values by which they
/// change nothing.
const UNREAD: [(&str, &[&str]); 12] = [
    ("bad_words_ids", &["[]"]),
    ("begin_suppress_tokens", &["[]"]),
    ("encoder_no_repeat_ngram_size", &["0"]),
    ("epsilon_cutoff", &["0", "0.0"]),
    ("eta_cutoff", &["0", "0.0"]),
    ("forced_bos_token_id", &[]),
    ("forced_eos_token_id", &[]),
    ("guidance_scale", &["1", "1.0"]),
    ("no_repeat_ngram_size", &["0"]),
    ("num_beams", &["1"]),
    ("suppress_tokens", &["[]"]),
    ("typical_p", &["1", "1.0"]),
];

#[derive(Debug, Default, Deserialize)]
struct Generation {
    eos_token_id: Option<Value>,
    do_sample: Option<bool>,
    temperature: Option<f32>,
    top_k: Option<u32>,
    top_p: Option<f32>,
    min_p: Option<f32>,
    repetition_penalty: Option<f32>,
}

/// Reads it. `json` is the tokenizer.json that is used, and `tokenizer` what is made of it.
pub(super) fn read(
    checkpoint: &Checkpoint,
    raw: &RawConfig,
    json: &[u8],
    tokenizer: &TextTokenizer,
    vocab: usize,
) -> Result<(ChatSpec, Vec<Told>), Error> {
    let whole: Value = serde_json::from_slice(json)
        .map_err(|error| Error::Tokenizer(format!("tokenizer.json: {error}")))?;
    let config: Map<String, Value> =
        optional_beside_weights(checkpoint, CONFIG)?.unwrap_or_default();
    let special: Map<String, Value> =
        optional_beside_weights(checkpoint, SPECIAL)?.unwrap_or_default();
    let mut told = Vec::new();
    let mut special_tokens = BTreeMap::new();
    for key in NAMED {
        let value = config.get(key).filter(|value| !value.is_null()).or(special.get(key));
        let text = value.and_then(|value| value.as_str().or_else(|| value["content"].as_str()));
        if let Some(text) = text.filter(|text| !text.is_empty()) {
            special_tokens.insert(key.to_owned(), text.to_owned());
        }
    }
    let id = |key: &str| special_tokens.get(key).and_then(|text| id_of(&whole, text));
    let bos = id("bos_token");
    let (template, named_templates) = templates(checkpoint, &config, &mut told)?;
    let keys: Map<String, Value> =
        optional_beside_weights(checkpoint, GENERATION)?.unwrap_or_default();
    let generation: Generation = serde_json::from_value(Value::Object(keys.clone()))
        .map_err(|error| Error::Model(format!("{GENERATION}: {error}")))?;
    let in_file = generation.eos_token_id.as_ref();
    let (listed, from) = match in_file.filter(|value| !value.is_null()) {
        Some(value) => (Some(value), GENERATION),
        None => (raw.eos_token_id.as_ref(), "config.json"),
    };
    let mut ends = ids(listed, from, vocab)?;
    ends.extend(id("eos_token"));
    let names: Vec<String> = ends.iter().map(ToString::to_string).collect();
    if ends.is_empty() {
        told.push(Told::new(
            "warning",
            "no token ends the model's turn, so it goes on until the limit of a request or the end of its context",
            format!("{GENERATION}, config.json and {CONFIG} have no eos_token"),
        ));
    } else {
        let from =
            if listed.is_some() { format!("{from} and {CONFIG}") } else { CONFIG.to_owned() };
        told.push(Told::new("ends", format!("tokens {}", names.join(", ")), from));
    }
    let sampling = sampling(&generation)?;
    if let Some(said) = sampling.described() {
        told.push(Told::new("sampling", said, GENERATION));
    }
    for (key, harmless) in UNREAD {
        let value = keys.get(key).filter(|value| !value.is_null()).map(ToString::to_string);
        if let Some(value) = value.filter(|value| !harmless.contains(&value.as_str())) {
            let what =
                format!("{key} is {value}, which this version does not apply when it samples");
            told.push(Told::new("warning", what, GENERATION));
        }
    }
    let add_bos = bos.is_some() && tokenizer.single(&[])?.ids.first() == bos.as_ref();
    let spec = ChatSpec {
        template,
        named_templates,
        special_tokens,
        bos,
        add_bos,
        ends,
        sampling,
        quantization: checkpoint.quantization().map(str::to_owned),
    };
    Ok((spec, told))
}

/// The default template and those with names.
fn templates(
    checkpoint: &Checkpoint,
    config: &Map<String, Value>,
    told: &mut Vec<Told>,
) -> Result<(Option<String>, BTreeMap<String, String>), Error> {
    let text = |name: &str, bytes: Vec<u8>| {
        String::from_utf8(bytes).map_err(|_| Error::Model(format!("{name} is not UTF-8")))
    };
    let mut named = BTreeMap::new();
    let mut default = None;
    match config.get("chat_template") {
        None | Some(Value::Null) => {}
        Some(Value::String(template)) => default = Some((template.clone(), CONFIG)),
        Some(Value::Array(several)) => {
            for one in several {
                let (Some(name), Some(template)) = (one["name"].as_str(), one["template"].as_str())
                else {
                    return Err(Error::Model(format!(
                        "{CONFIG}: chat_template has {one}, expected a name and a template"
                    )));
                };
                if name == "default" {
                    default = Some((template.to_owned(), CONFIG));
                } else {
                    named.insert(name.to_owned(), template.to_owned());
                }
            }
        }
        Some(other) => {
            return Err(Error::Model(format!(
                "{CONFIG}: chat_template is {other}, expected a text"
            )));
        }
    }
    if let Some(bytes) = checkpoint.file_beside_weights(TEMPLATE)? {
        default = Some((text(TEMPLATE, bytes)?, TEMPLATE));
    }
    for name in checkpoint.listed_beside_weights(FOLDER, MOST_TEMPLATES)? {
        let Some(short) = name.strip_suffix(".jinja") else { continue };
        let path = format!("{FOLDER}/{name}");
        if let Some(bytes) = checkpoint.file_beside_weights(&path)? {
            named.insert(short.to_owned(), text(&path, bytes)?);
        }
    }
    if named.len() > MOST_TEMPLATES {
        return Err(Error::Model(format!(
            "the model has {} chat templates, expected at most {MOST_TEMPLATES}",
            named.len()
        )));
    }
    let more = if named.is_empty() {
        String::new()
    } else {
        format!(", and {}", named.keys().cloned().collect::<Vec<_>>().join(", "))
    };
    match &default {
        Some((_, from)) => told.push(Told::new("template", format!("of the model{more}"), *from)),
        None => told.push(Told::new(
            "template",
            format!("none{more}: messages are refused, texts are continued"),
            "no chat_template.jinja, and no chat_template in tokenizer_config.json",
        )),
    }
    Ok((default.map(|(template, _)| template), named))
}

/// One id or several.
fn ids(value: Option<&Value>, from: &str, vocab: usize) -> Result<BTreeSet<u32>, Error> {
    let wrong = |value: &Value| {
        Error::Model(format!(
            "{from}: eos_token_id is {value}, expected ids below the {vocab} words of config.json"
        ))
    };
    let one = |value: &Value| {
        let id = value.as_u64().filter(|&id| id < vocab as u64);
        id.and_then(|id| u32::try_from(id).ok()).ok_or_else(|| wrong(value))
    };
    match value {
        None | Some(Value::Null) => Ok(BTreeSet::new()),
        Some(Value::Array(several)) => several.iter().map(one).collect(),
        Some(value) => Ok(BTreeSet::from([one(value)?])),
    }
}

/// What the authors sample with; a file that says that they do not sample has nothing to say of it.
fn sampling(generation: &Generation) -> Result<SamplingDefaults, Error> {
    let samples = generation.do_sample != Some(false);
    let when = |value: Option<f32>| value.filter(|_| samples);
    let defaults = SamplingDefaults {
        temperature: when(generation.temperature),
        top_k: generation.top_k.filter(|_| samples),
        top_p: when(generation.top_p),
        min_p: when(generation.min_p),
        repetition_penalty: generation.repetition_penalty,
    };
    defaults.validate().map_err(|error| Error::Model(format!("{GENERATION}: {error}")))?;
    Ok(defaults)
}
