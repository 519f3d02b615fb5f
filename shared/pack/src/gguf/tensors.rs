//! The tensors of a GGUF file under the names of Hugging Face's.

use std::collections::BTreeMap;

use bytes::Bytes;
use defrost_model::architecture::{Gguf as Form, Names};
use defrost_model::{BlockKind, Family};

use super::Metadata;
use crate::Error;
use crate::formats::{CheckpointDtype, CheckpointTensor, GgufKind, GgufTensor, to_f32};

/// Factors by which the frequencies of positions are divided; no part of Hugging Face's checkpoints.
const ROPE_FACTORS: &str = "rope_freqs.weight";
const HEAD: &str = "output.weight";

/// What there is.
#[derive(Debug)]
pub(super) struct Tensors {
    pub(super) by_name: BTreeMap<String, CheckpointTensor>,
    /// The rows of the table of words.
    pub(super) vocab: usize,
    /// Whether the table of words is the head.
    pub(super) tied: bool,
    pub(super) rope_factors: Option<Vec<f32>>,
}

/// Renames all, and puts heads in Hugging Face's order.
pub(super) fn read(meta: &Metadata<'_>, family: Family) -> Result<Tensors, Error> {
    let Some(form) = &family.files.gguf else {
        return Err(Error::Model(format!("{} models are not read from GGUF files", family.name)));
    };
    let words = format!("{}.weight", form.names.words);
    let mut tensors =
        Tensors { by_name: BTreeMap::new(), vocab: 0, tied: true, rope_factors: None };
    for tensor in meta.file.tensors() {
        let mut found = converted(tensor)?;
        if tensor.name == ROPE_FACTORS {
            tensors.rope_factors = Some(to_f32(&found)?);
            continue;
        }
        let name = if tensor.name == HEAD {
            tensors.tied = false;
            "lm_head.weight".to_owned()
        } else {
            renamed(&tensor.name, family, form).ok_or_else(|| {
                Error::Model(format!(
                    "tensor {:?} is none of a {} model's: it computes something else, or is not supported",
                    tensor.name, meta.architecture
                ))
            })?
        };
        if tensor.name == words {
            tensors.vocab = found.shape.first().copied().unwrap_or_default();
        }
        if form.paired_heads {
            let rows = |name: &str| tensor.name.ends_with(&format!("{name}.weight"));
            let [query, key, _] = form.names.qkv;
            if rows(query) {
                found = unpaired(found, meta.needed("attention.head_count")?, &tensor.name)?;
            } else if rows(key) {
                let heads = meta.size("attention.head_count_kv")?;
                let heads = heads.map_or_else(|| meta.needed("attention.head_count"), Ok)?;
                found = unpaired(found, heads, &tensor.name)?;
            }
        }
        tensors.by_name.insert(name, found);
    }
    if tensors.vocab == 0 {
        return Err(Error::Model(format!("the file has no tensor {words:?} with rows")));
    }
    Ok(tensors)
}

fn converted(tensor: &GgufTensor) -> Result<CheckpointTensor, Error> {
    let refuse = || {
        Error::Model(format!(
            "tensor {:?} is in {}, which this version does not multiply: expected F32, F16, BF16 or {}. Quantise the model \
             again (`llama-quantize MODEL-F16.gguf OUT.gguf Q4_K_M`)",
            tensor.name,
            tensor.kind,
            BlockKind::ALL.map(|kind| kind.name().to_uppercase()).join(", ")
        ))
    };
    let bytes = tensor.bytes.clone().ok_or_else(refuse)?;
    let (dtype, blocks) = match tensor.kind {
        GgufKind::F32 => (CheckpointDtype::F32, None),
        GgufKind::F16 => (CheckpointDtype::F16, None),
        GgufKind::Bf16 => (CheckpointDtype::BF16, None),
        other => (CheckpointDtype::U8, Some(other.blocks().ok_or_else(refuse)?)),
    };
    Ok(CheckpointTensor { dtype, shape: tensor.shape.clone(), bytes, blocks })
}

/// The name that Hugging Face's checkpoints of the family have.
fn renamed(name: &str, family: Family, form: &Form) -> Option<String> {
    let (own, theirs) = (form.names, &family.files.names);
    let prefix = family.files.prefixes.first()?;
    let (stem, end) = name.rsplit_once('.').filter(|(_, end)| ["weight", "bias"].contains(end))?;
    for (from, to) in [(own.words, theirs.words), (own.final_norm, theirs.final_norm)] {
        if stem == from {
            return Some(format!("{prefix}{to}.{end}"));
        }
    }
    let (before, after) = own.layer.split_once("{}")?;
    let rest = stem.strip_prefix(before)?;
    let (layer, part) = rest.split_once(after)?;
    let is_number = !layer.is_empty() && layer.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number || (layer.len() > 1 && layer.starts_with('0')) {
        return None;
    }
    let to = parts(own).zip(parts(theirs)).find(|(from, _)| *from == part)?.1;
    Some(format!("{prefix}{}{to}.{end}", theirs.layer.replace("{}", layer)))
}

/// What a GGUF file calls a tensor of Hugging Face's checkpoints, both without `.weight`; `None` of what it has no name for.
pub(crate) fn own_name(stem: &str, family: Family, form: &Form) -> Option<String> {
    let (own, theirs) = (form.names, &family.files.names);
    let rest = stem.strip_prefix(family.files.prefixes.first()?)?;
    for (to, from) in [(own.words, theirs.words), (own.final_norm, theirs.final_norm)] {
        if rest == from {
            return Some(to.to_owned());
        }
    }
    let (before, after) = theirs.layer.split_once("{}")?;
    let (layer, part) = rest.strip_prefix(before)?.split_once(after)?;
    let to = parts(own).zip(parts(theirs)).find(|(_, from)| *from == part)?.0;
    Some(format!("{}{to}", own.layer.replace("{}", layer)))
}

/// The names of a layer's parts.
fn parts(names: &Names) -> impl Iterator<Item = &'static str> + use<> {
    let ends = [names.out, names.attention_norm, names.after_attention_norm, names.down];
    let more = [names.output_norm, names.after_feed_forward_norm];
    let all = names.qkv.into_iter().chain(ends).chain(more).chain(names.head_norms);
    all.chain(names.up.iter().copied()).map(|name| if name.is_empty() { "\0" } else { name })
}

/// The rows of heads in Hugging Face's order: llama.cpp's files have the two that are turned together side by side.
fn unpaired(tensor: CheckpointTensor, heads: u64, name: &str) -> Result<CheckpointTensor, Error> {
    let rows = tensor.shape.first().copied().unwrap_or_default();
    let heads = usize::try_from(heads).unwrap_or_default();
    if heads == 0 || !rows.is_multiple_of(2 * heads) || tensor.shape.len() != 2 {
        return Err(Error::Model(format!(
            "tensor {name:?} has shape {:?}, expected rows that {heads} heads of pairs share",
            tensor.shape
        )));
    }
    let len = tensor.bytes.len() / rows.max(1);
    let half = rows / heads / 2;
    let mut bytes = Vec::with_capacity(tensor.bytes.len());
    for head in 0..heads {
        for part in 0..2 {
            for pair in 0..half {
                let row = (head * half + pair) * 2 + part;
                bytes.extend_from_slice(&tensor.bytes[row * len..(row + 1) * len]);
            }
        }
    }
    Ok(CheckpointTensor { bytes: Bytes::from(bytes), ..tensor })
}
