//! A GGUF file as a checkpoint: its tensors under the names, and its metadata as the files, that Hugging Face's folders have.
//!
//! ```text
//! general.architecture, ARCHITECTURE.*   -> config.json               [`config`]
//! tokenizer.ggml.*                       -> tokenizer.json             [`tokenizer`]
//! tokenizer.chat_template, *_token_id    -> tokenizer_config.json
//! general.sampling.*, *_token_id         -> generation_config.json
//! blk.0.attn_q.weight                    -> model.layers.0.self_attn.q_proj.weight    [`tensors`]
//! ```
//!
//! So what a model is, and what is refused, is decided in one place for both ([`crate::checkpoint`]). Which keys are known at
//! all is a table ([`keys`]): an unknown one may change what the model computes, and is refused by its name. Blocks stay as
//! they are in the file; only the rows of llama's query and key heads, which llama.cpp wants in the order of pairs that are
//! turned together, are put back into Hugging Face's.

mod chat;
mod config;
mod keys;
mod tensors;
mod tokenizer;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use defrost_model::Family;
use serde_json::Value;

use crate::Error;
use crate::formats::{Checkpoint, Gguf, GgufValue};

pub(crate) use config::rope_factors;
pub(crate) use tensors::own_name;

/// Entries of a folder that are looked at.
const MOST_LISTED: usize = 10_000;

/// Opens the file as a checkpoint.
pub(crate) fn open(path: &Path) -> Result<Checkpoint, Error> {
    of(&Gguf::open(path)?, path)
        .map_err(|error| Error::Model(format!("{}: {error}", path.display())))
}

/// The checkpoint of a file that is read already.
pub(crate) fn of(file: &Gguf, path: &Path) -> Result<Checkpoint, Error> {
    let meta = Metadata { file, architecture: architecture(file)? };
    keys::check(file, meta.architecture)?;
    let family = family(meta.architecture)?;
    let tensors = tensors::read(&meta, family)?;
    let tokenizer = tokenizer::read(&meta)?;
    let config = config::read(&meta, family, &tensors)?;
    let [tokenizer_config, generation] = chat::read(&meta, &tokenizer)?;
    let text = |value: &Value| serde_json::to_vec(value).map_err(|e| Error::Model(e.to_string()));
    let files = BTreeMap::from([
        ("config.json".to_owned(), text(&config)?),
        ("tokenizer.json".to_owned(), text(&tokenizer.json)?),
        ("tokenizer_config.json".to_owned(), text(&tokenizer_config)?),
        ("generation_config.json".to_owned(), text(&generation)?),
    ]);
    Ok(Checkpoint::of_gguf(path, tensors.by_name, files, quantization(file)))
}

/// The GGUF file that a path means: the file itself, or the only one in a folder without other weights.
///
/// # Errors
/// If a folder has several.
pub fn find(path: &Path) -> Result<Option<PathBuf>, Error> {
    let is_gguf = |path: &Path| path.extension().is_some_and(|end| end == "gguf");
    if path.is_file() {
        return Ok(is_gguf(path).then(|| path.to_path_buf()));
    }
    if path.join("model.safetensors").is_file()
        || path.join("model.safetensors.index.json").is_file()
        || path.join("modules.json").is_file()
    {
        return Ok(None);
    }
    let entries = fs::read_dir(path).into_iter().flatten().take(MOST_LISTED);
    let files = entries.filter_map(|entry| Some(entry.ok()?.path()));
    // Projectors of models that see lie beside them, and are no model.
    let is_model = |path: &PathBuf| {
        let name = path.file_name().map(|name| name.to_string_lossy().to_ascii_lowercase());
        is_gguf(path) && path.is_file() && !name.is_some_and(|name| name.starts_with("mmproj"))
    };
    let mut found: Vec<PathBuf> = files.filter(is_model).collect();
    found.sort();
    match found.len() {
        0 => Ok(None),
        1 => Ok(found.pop()),
        count => {
            let names: Vec<String> = found
                .iter()
                .take(8)
                .filter_map(|path| Some(path.file_name()?.to_string_lossy().into_owned()))
                .collect();
            Err(Error::Model(format!(
                "{} has {count} GGUF files ({}): expected one. Name the file itself",
                path.display(),
                names.join(", ")
            )))
        }
    }
}

fn architecture(file: &Gguf) -> Result<&str, Error> {
    match file.get("general.architecture") {
        Some(GgufValue::String(name)) => Ok(name),
        other => Err(Error::Model(format!(
            "general.architecture is {}, expected the name of an architecture",
            other.map_or_else(|| "missing".to_owned(), shown)
        ))),
    }
}

fn family(architecture: &str) -> Result<Family, Error> {
    let of =
        |family: &Family| family.files.gguf.as_ref().map_or(&[][..], |gguf| gguf.architectures);
    Family::all().find(|family| of(family).contains(&architecture)).ok_or_else(|| {
        let known: Vec<&str> = Family::all().flat_map(|family| of(&family).to_vec()).collect();
        Error::Model(format!(
            "general.architecture is {architecture:?}, expected one of {}",
            known.join(", ")
        ))
    })
}

/// What the file's blocks are called together: by `general.file_type`, else the commonest kind.
fn quantization(file: &Gguf) -> String {
    /// Numbers of llama.cpp's `llama_ftype`.
    const NAMES: [(u64, &str); 17] = [
        (0, "F32"),
        (1, "F16"),
        (2, "Q4_0"),
        (3, "Q4_1"),
        (7, "Q8_0"),
        (8, "Q5_0"),
        (9, "Q5_1"),
        (10, "Q2_K"),
        (11, "Q3_K_S"),
        (12, "Q3_K_M"),
        (13, "Q3_K_L"),
        (14, "Q4_K_S"),
        (15, "Q4_K_M"),
        (16, "Q5_K_S"),
        (17, "Q5_K_M"),
        (18, "Q6_K"),
        (32, "BF16"),
    ];
    let number = file.get("general.file_type").and_then(whole);
    let named = NAMES.iter().find(|(known, _)| Some(*known) == number);
    if let Some((_, name)) = named {
        return (*name).to_owned();
    }
    let mut bytes: BTreeMap<String, usize> = BTreeMap::new();
    for tensor in file.tensors() {
        let len = tensor.bytes.as_ref().map_or(0, bytes::Bytes::len);
        *bytes.entry(tensor.kind.to_string()).or_default() += len;
    }
    bytes.into_iter().max_by_key(|(_, len)| *len).map_or_else(String::new, |(name, _)| name)
}

/// The metadata of a model of an architecture.
#[derive(Debug, Clone, Copy)]
struct Metadata<'a> {
    file: &'a Gguf,
    architecture: &'a str,
}

impl<'a> Metadata<'a> {
    /// The value of a key of the architecture.
    fn own(&self, key: &str) -> Option<&'a GgufValue> {
        self.file.get(&format!("{}.{key}", self.architecture))
    }

    /// A size of the architecture; a list of one and the same for every layer is as good.
    fn size(&self, key: &str) -> Result<Option<u64>, Error> {
        let Some(value) = self.own(key) else { return Ok(None) };
        let found = match value {
            GgufValue::Array(list) => {
                let mut all = list.values().map(|value| whole(&value));
                let first = all.next().flatten();
                first.filter(|_| all.all(|other| other == first))
            }
            value => whole(value),
        };
        found.map(Some).ok_or_else(|| {
            self.refuse(key, value, "a whole number from 0, the same for every layer")
        })
    }

    fn needed(&self, key: &str) -> Result<u64, Error> {
        self.size(key)?
            .ok_or_else(|| Error::Model(format!("the metadata has no {}.{key}", self.architecture)))
    }

    fn float(&self, key: &str) -> Result<Option<f32>, Error> {
        let Some(value) = self.own(key) else { return Ok(None) };
        float(value).map(Some).ok_or_else(|| self.refuse(key, value, "a finite number"))
    }

    fn refuse(&self, key: &str, found: &GgufValue, expected: &str) -> Error {
        let own = self.architecture;
        Error::Model(format!("{own}.{key} is {}, expected {expected}", shown(found)))
    }
}

/// A whole number from 0 of any type.
fn whole(value: &GgufValue) -> Option<u64> {
    match *value {
        GgufValue::U8(number) => Some(number.into()),
        GgufValue::U16(number) => Some(number.into()),
        GgufValue::U32(number) => Some(number.into()),
        GgufValue::U64(number) => Some(number),
        GgufValue::I8(number) => number.try_into().ok(),
        GgufValue::I16(number) => number.try_into().ok(),
        GgufValue::I32(number) => number.try_into().ok(),
        GgufValue::I64(number) => number.try_into().ok(),
        _ => None,
    }
}

/// A finite number of any type.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "rounding to f32 is meant"
)]
fn float(value: &GgufValue) -> Option<f32> {
    let number = match *value {
        GgufValue::F32(number) => number,
        GgufValue::F64(number) => number as f32,
        ref other => whole(other)? as f32,
    };
    number.is_finite().then_some(number)
}

/// Longest value that a message repeats, in characters.
const LONGEST: usize = 80;

/// A value for a message.
fn shown(value: &GgufValue) -> String {
    let text = match value {
        GgufValue::U8(v) => v.to_string(),
        GgufValue::I8(v) => v.to_string(),
        GgufValue::U16(v) => v.to_string(),
        GgufValue::I16(v) => v.to_string(),
        GgufValue::U32(v) => v.to_string(),
        GgufValue::I32(v) => v.to_string(),
        GgufValue::U64(v) => v.to_string(),
        GgufValue::I64(v) => v.to_string(),
        GgufValue::F32(v) => v.to_string(),
        GgufValue::F64(v) => v.to_string(),
        GgufValue::Bool(v) => v.to_string(),
        GgufValue::String(v) => format!("{:?}", v.chars().take(LONGEST).collect::<String>()),
        GgufValue::Array(list) => format!("a list of {} {}", list.len(), list.element().name()),
    };
    text
}

#[cfg(test)]
pub(crate) mod tests;
