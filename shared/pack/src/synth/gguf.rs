//! Random models as GGUF files, with the kinds of blocks that llama.cpp's `llama-quantize` gives each tensor.
//!
//! | name     | most matrices | head | values, way down |
//! |----------|---------------|------|------------------|
//! | `f16`, `bf16`, `f32`, `q8_0` | all the same | the same | the same |
//! | `q4_0`, `q4_1`, `q5_0`, `q5_1`, `q6_k` | its own | `q6_k` | its own |
//! | `q4_k_m`, `q5_k_m` | `q4_k`, `q5_k` | `q6_k` | `q6_k` in the first and last eighth of the layers and every third between |
//!
//! A tied table of words is the head. Rows that are no multiple of 256 cannot be in K kinds: `q4_k` becomes `q5_0`, `q5_k` `q5_1`
//! and `q6_k` `q8_0`. Values are those of a checkpoint that is made up with the same seed, before they are rounded.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use defrost_engine::blocks;
use defrost_model::architecture::Gguf as Form;
use defrost_model::parts::{Naming, plan};
use defrost_model::{Head, ModelConfig, RopeScaling};
use half::{bf16, f16};
use safetensors::View;
use serde_json::Value;

use super::{RandomTensor, Shape, language_model, random_tensors, tokenizer};
use crate::Error;
use crate::formats::gguf::head::{head, len, padded};
use crate::formats::{GgufArray, GgufKind, GgufType, GgufValue};

/// What a file is quantised to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quantization {
    /// Its name in lower case, such as `q4_k_m`.
    pub name: &'static str,
    /// The number in `general.file_type`.
    number: u32,
    /// The kind of most matrices.
    most: GgufKind,
    /// Whether values and ways down of some layers are finer.
    mixed: bool,
}

const fn quantization(
    name: &'static str,
    number: u32,
    most: GgufKind,
    mixed: bool,
) -> Quantization {
    Quantization { name, number, most, mixed }
}

/// All that are known.
const ALL: [Quantization; 11] = [
    quantization("f32", 0, GgufKind::F32, false),
    quantization("f16", 1, GgufKind::F16, false),
    quantization("bf16", 32, GgufKind::Bf16, false),
    quantization("q8_0", 7, GgufKind::Q8_0, false),
    quantization("q4_0", 2, GgufKind::Q4_0, false),
    quantization("q4_1", 3, GgufKind::Q4_1, false),
    quantization("q5_0", 8, GgufKind::Q5_0, false),
    quantization("q5_1", 9, GgufKind::Q5_1, false),
    quantization("q4_k_m", 15, GgufKind::Q4K, true),
    quantization("q5_k_m", 17, GgufKind::Q5K, true),
    quantization("q6_k", 18, GgufKind::Q6K, false),
];

/// A place in the model that has a kind of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Head,
    /// Values or the way down, of a layer.
    Fine(usize),
    Other,
}

impl Quantization {
    /// Every name.
    pub fn names() -> impl Iterator<Item = &'static str> {
        ALL.iter().map(|one| one.name)
    }

    /// The one of that name, in either case.
    pub fn by_name(name: &str) -> Option<Self> {
        ALL.into_iter().find(|one| one.name.eq_ignore_ascii_case(name))
    }

    /// The kind of a matrix with rows of `k`, in a model of so many layers.
    pub(crate) fn kind(self, role: Role, layers: usize, k: usize) -> GgufKind {
        let is_float = self.most.blocks().is_none();
        let fine = |layer: usize| {
            let eighth = layers / 8;
            layer < eighth || layer >= 7 * layers / 8 || (layer - eighth) % 3 == 2
        };
        let kind = match role {
            _ if is_float || self.most == GgufKind::Q8_0 => self.most,
            Role::Head => GgufKind::Q6K,
            Role::Fine(layer) if self.mixed && fine(layer) => GgufKind::Q6K,
            _ => self.most,
        };
        let block = kind.block().map_or(1, |(of, _)| of);
        match kind {
            _ if (k as u64).is_multiple_of(block) => kind,
            GgufKind::Q4K => GgufKind::Q5_0,
            GgufKind::Q5K => GgufKind::Q5_1,
            GgufKind::Q6K => GgufKind::Q8_0,
            _ => GgufKind::F16,
        }
    }
}

/// Writes a random model as the file `out`. `tokenizer` are the bytes of a tokenizer.json of byte pairs whose ids fit the
/// vocabulary; without one, a byte-level tokenizer is made up.
///
/// # Errors
/// If the family is not written as GGUF, the dimensions contradict each other, the tokenizer is of another kind, or the file
/// cannot be written.
pub fn synthesize_gguf(
    shape: &Shape,
    quantization: Quantization,
    tokenizer: Option<&[u8]>,
    seed: u64,
    out: &Path,
) -> Result<(), Error> {
    let config = &shape.config;
    config.validate()?;
    let form = config.family.files.gguf.as_ref().filter(|_| config.head == Head::LanguageModel);
    let Some(form) = form else {
        return Err(Error::Model(format!(
            "GGUF files are made up of language models alone, this is a {} model with the head {}: expected a model such as \
             qwen2.5-0.5b-instruct",
            config.family.name,
            config.head.name()
        )));
    };
    let tokenizer = match tokenizer {
        Some(bytes) => bytes.to_vec(),
        None => tokenizer::byte_level(config)?,
    };
    let metadata = metadata(config, form, quantization, &tokenizer)?;
    let tensors = tensors(config, form, quantization, seed);
    let table: Vec<_> = tensors
        .iter()
        .map(|one| (one.name.clone(), one.kind, one.values.shape().to_vec()))
        .collect();
    let io = |err: std::io::Error| Error::Model(format!("cannot write {}: {err}", out.display()));
    let mut file = BufWriter::new(File::create(out).map_err(io)?);
    file.write_all(&head(3, &metadata, &table)).map_err(io)?;
    for (tensor, (_, kind, shape)) in tensors.iter().zip(&table) {
        for row in 0..shape[0] {
            file.write_all(&tensor.row(row)).map_err(io)?;
        }
        let len = len(*kind, shape);
        let rest = padded(len, 32) - len;
        file.write_all(&[0; 32][..usize::try_from(rest).unwrap_or_default()]).map_err(io)?;
    }
    file.flush().map_err(io)
}

struct Tensor {
    name: String,
    kind: GgufKind,
    values: RandomTensor,
    /// Which row of the made-up checkpoint each row is, if they are in another order.
    head: Option<usize>,
}

impl Tensor {
    fn row(&self, at: usize) -> Vec<u8> {
        if self.values.shape().len() == 1 {
            // A vector is one row of floats, written value by value.
            return self.values.value(at as u64).to_le_bytes().to_vec();
        }
        let from = match self.head {
            None => at,
            // Those that are turned together lie side by side.
            Some(width) => {
                let (head, inner) = (at / width, at % width);
                head * width + inner % 2 * (width / 2) + inner / 2
            }
        };
        let values = self.values.plain(from);
        match (self.kind.blocks(), self.kind) {
            (Some(kind), _) => blocks::quantize(kind, &values, values.len()),
            (None, GgufKind::F16) => {
                values.iter().flat_map(|&value| f16::from_f32(value).to_le_bytes()).collect()
            }
            (None, GgufKind::Bf16) => {
                values.iter().flat_map(|&value| bf16::from_f32(value).to_le_bytes()).collect()
            }
            _ => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
        }
    }
}

/// All tensors, in the order in which a pass reads them.
fn tensors(
    config: &ModelConfig,
    form: &Form,
    quantization: Quantization,
    seed: u64,
) -> Vec<Tensor> {
    let files = &config.family.files;
    let prefix = files.prefixes.first().copied().unwrap_or_default();
    let naming = Naming {
        prefix: prefix.to_owned(),
        lm_head: "lm_head.weight".to_owned(),
        ..Naming::default()
    };
    let groups = plan(config, &naming);
    let parts = groups.iter().flat_map(|group| &group.parts);
    let all = parts.flat_map(|part| random_tensors(config, part, seed));
    let mut tensors = Vec::new();
    for (name, mut values) in all {
        // Files have norms as they are multiplied.
        if values.constant.is_some() {
            values.constant = Some(1.0);
        }
        let (stem, end) = name.rsplit_once('.').unwrap_or((&name, ""));
        let part = |names: &'static str| !names.is_empty() && stem.ends_with(names);
        let layer = stem.split('.').find_map(|piece| piece.parse::<usize>().ok());
        let words = format!("{prefix}{}", files.names.words);
        let own = crate::gguf::own_name(stem, config.family, form);
        let name = own.map_or_else(|| "output".to_owned(), |own| own);
        let role = match layer {
            _ if name == "output" || (config.tied && stem == words) => Role::Head,
            Some(layer) if part(files.names.qkv[2]) || part(files.names.down) => Role::Fine(layer),
            _ => Role::Other,
        };
        let is_matrix = values.shape().len() > 1;
        let k = values.shape().last().copied().unwrap_or(1);
        let kind =
            if is_matrix { quantization.kind(role, config.layers, k) } else { GgufKind::F32 };
        let paired = form.paired_heads && (part(files.names.qkv[0]) || part(files.names.qkv[1]));
        let head = (paired && is_matrix).then_some(config.head_dim);
        tensors.push(Tensor { name: format!("{name}.{end}"), kind, values, head });
    }
    if let RopeScaling::Llama3 { .. } = config.attention.rope {
        tensors.insert(0, rope_factors(config));
    }
    tensors
}

/// The tensor by which llama.cpp divides frequencies.
fn rope_factors(config: &ModelConfig) -> Tensor {
    let half = config.head_dim / 2;
    let factors = crate::gguf::rope_factors(config.attention.rope, config.rope_theta, half);
    let mut values = RandomTensor::constant(vec![half], 1.0);
    values.given = Some(factors);
    Tensor { name: "rope_freqs.weight".to_owned(), kind: GgufKind::F32, values, head: None }
}

fn metadata(
    config: &ModelConfig,
    form: &Form,
    quantization: Quantization,
    tokenizer: &[u8],
) -> Result<Vec<(String, GgufValue)>, Error> {
    let own = form.architectures.first().copied().unwrap_or_default();
    let size = |value: usize| GgufValue::U32(u32::try_from(value).unwrap_or(u32::MAX));
    let text = |text: &str| GgufValue::String(text.to_owned());
    let mut all = vec![
        ("general.architecture".to_owned(), text(own)),
        ("general.type".to_owned(), text("model")),
        ("general.name".to_owned(), text("a made-up model")),
        ("general.file_type".to_owned(), GgufValue::U32(quantization.number)),
        ("general.quantization_version".to_owned(), GgufValue::U32(2)),
    ];
    let mut put = |key: &str, value: GgufValue| all.push((format!("{own}.{key}"), value));
    put("vocab_size", size(config.vocab));
    put("context_length", size(config.max_positions));
    put("embedding_length", size(config.hidden));
    put("block_count", size(config.layers));
    put("feed_forward_length", size(config.intermediate));
    put("attention.head_count", size(config.heads));
    put("attention.head_count_kv", size(config.kv_heads));
    put("attention.key_length", size(config.head_dim));
    put("attention.value_length", size(config.head_dim));
    put("rope.dimension_count", size(config.head_dim));
    put("attention.layer_norm_rms_epsilon", GgufValue::F32(config.norm_eps));
    put("rope.freq_base", GgufValue::F32(config.rope_theta));
    if let RopeScaling::Linear { factor } = config.attention.rope {
        put("rope.scaling.type", text("linear"));
        put("rope.scaling.factor", GgufValue::F32(factor));
    }
    if let Some(local) = config.attention.local {
        put("attention.sliding_window", size(local.window));
        put("attention.sliding_window_pattern", size(local.every));
        put("rope.freq_base_swa", GgufValue::F32(local.theta));
    }
    all.extend(vocabulary(config, tokenizer)?);
    all.push(("tokenizer.chat_template".to_owned(), text(language_model::TEMPLATE)));
    Ok(all)
}

/// The lists of a tokenizer of byte pairs.
fn vocabulary(config: &ModelConfig, json: &[u8]) -> Result<Vec<(String, GgufValue)>, Error> {
    let whole: Value = serde_json::from_slice(json)
        .map_err(|error| Error::Tokenizer(format!("tokenizer.json: {error}")))?;
    let wrong = |what: &str| {
        Error::Tokenizer(format!(
            "tokenizer.json: {what}: expected the byte pairs of Qwen or GPT-2"
        ))
    };
    let words = whole["model"]["vocab"].as_object().ok_or_else(|| wrong("no vocabulary"))?;
    let merges = whole["model"]["merges"].as_array().ok_or_else(|| wrong("no merges"))?;
    // Rows without a token are there in real files as well.
    let mut tokens: Vec<(String, i32)> =
        (0..config.vocab).map(|id| (format!("[PAD{id}]"), 5)).collect();
    let mut set = |id: Option<u64>, text: &str, kind: i32| {
        let slot = id.and_then(|id| tokens.get_mut(usize::try_from(id).ok()?));
        let slot =
            slot.ok_or_else(|| wrong(&format!("{text:?} has no id below the vocabulary's")))?;
        *slot = (text.to_owned(), kind);
        Ok::<(), Error>(())
    };
    for (text, id) in words {
        set(id.as_u64(), text, 1)?;
    }
    for token in whole["added_tokens"].as_array().into_iter().flatten() {
        let text = token["content"].as_str().unwrap_or_default();
        set(token["id"].as_u64(), text, if token["special"] == true { 3 } else { 4 })?;
    }
    let pairs = merges.iter().map(|merge| match merge {
        Value::String(text) => Some(text.clone()),
        Value::Array(pair) => {
            Some(format!("{} {}", pair.first()?.as_str()?, pair.get(1)?.as_str()?))
        }
        _ => None,
    });
    let pairs =
        pairs.collect::<Option<Vec<_>>>().ok_or_else(|| wrong("a merge that is no pair"))?;
    let id = |text: &str| {
        let at = tokens.iter().position(|(own, kind)| own == text && *kind == 3);
        at.and_then(|at| u32::try_from(at).ok()).map(GgufValue::U32)
    };
    let end =
        id("<|im_end|>").or_else(|| id("<|endoftext|>")).ok_or_else(|| wrong("no <|im_end|>"))?;
    let splits = whole["pre_tokenizer"].to_string();
    let pre = if splits.contains(r#""Split""#) { "qwen2" } else { "gpt-2" };
    let texts = |list: Vec<String>| {
        let list: Vec<GgufValue> = list.into_iter().map(GgufValue::String).collect();
        GgufValue::Array(GgufArray::of(GgufType::String, &list))
    };
    let kinds: Vec<GgufValue> = tokens.iter().map(|(_, kind)| GgufValue::I32(*kind)).collect();
    let names: Vec<String> = tokens.iter().map(|(text, _)| text.clone()).collect();
    let own = [
        ("model", GgufValue::String("gpt2".into())),
        ("pre", GgufValue::String(pre.into())),
        ("tokens", texts(names)),
        ("token_type", GgufValue::Array(GgufArray::of(GgufType::I32, &kinds))),
        ("merges", texts(pairs)),
        ("eos_token_id", end),
        ("add_bos_token", GgufValue::Bool(false)),
    ];
    Ok(own.map(|(key, value)| (format!("tokenizer.ggml.{key}"), value)).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `llama-quantize` makes of Qwen2.5-0.5B, whose rows of 896 are no multiple of 256, and of a model whose rows are.
    #[test]
    fn tensors_get_the_kinds_that_llama_cpp_gives_them() {
        let kind = |name: &str, role, layers, k| {
            Quantization::by_name(name).unwrap().kind(role, layers, k).to_string()
        };
        for (name, role, k, expected) in [
            ("Q4_K_M", Role::Head, 896, "Q8_0"),
            ("Q4_K_M", Role::Head, 1024, "Q6_K"),
            ("Q4_K_M", Role::Other, 896, "Q5_0"),
            ("Q4_K_M", Role::Other, 1024, "Q4_K"),
            ("Q4_K_M", Role::Fine(0), 1024, "Q6_K"),
            ("Q4_K_M", Role::Fine(0), 896, "Q8_0"),
            ("Q4_K_M", Role::Fine(3), 4864, "Q4_K"),
            ("Q4_K_M", Role::Fine(5), 4864, "Q6_K"),
            ("Q4_K_M", Role::Fine(19), 4864, "Q4_K"),
            ("Q4_K_M", Role::Fine(21), 4864, "Q6_K"),
            ("q5_k_m", Role::Other, 896, "Q5_1"),
            ("q5_k_m", Role::Other, 1024, "Q5_K"),
            ("q8_0", Role::Head, 1024, "Q8_0"),
            ("q4_0", Role::Head, 1024, "Q6_K"),
            ("q4_0", Role::Fine(0), 1024, "Q4_0"),
            ("q6_k", Role::Other, 896, "Q8_0"),
            ("f16", Role::Head, 896, "F16"),
            ("q4_0", Role::Other, 40, "F16"),
        ] {
            assert_eq!(kind(name, role, 24, k), expected, "{name} {role:?} {k}");
        }
        assert!(Quantization::names().all(|name| Quantization::by_name(name).is_some()));
        assert_eq!(Quantization::by_name("iq2_xs"), None);
    }
}
