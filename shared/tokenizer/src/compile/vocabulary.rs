//! Compiles the `model` of a tokenizer.json.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::json::Object;
use super::{byte_pair, trie};
use crate::error::CompileError;
use crate::image::{MAX_PREFIX, Section, Writer, model};

/// What an unknown character scores below the worst token.
const UNKNOWN_PENALTY: f64 = 10.0;

pub(super) fn compile(model: Object<'_>, writer: &mut Writer) -> Result<(), CompileError> {
    // Old files do not say which it is; `reference` checks that the crate guesses as is done here.
    let has = |key| model.get(key).is_some();
    match model.get("type").and_then(Value::as_str) {
        Some("BPE") => byte_pair::compile(model, writer),
        Some("Unigram") => unigram(model, writer),
        Some("WordPiece") => word_piece(model, writer),
        None if !has("type") && has("max_input_chars_per_word") => word_piece(model, writer),
        None if !has("type") && has("merges") => byte_pair::compile(model, writer),
        _ => Err(model.wrong("type")),
    }
}

fn unigram(model: Object<'_>, writer: &mut Writer) -> Result<(), CompileError> {
    model.only(&["type", "unk_id", "vocab", "byte_fallback"])?;
    model.absent_or("byte_fallback", &[json!(false)])?;
    let vocab = model.list("vocab")?;
    let mut keys = BTreeMap::new();
    let mut scores = Vec::with_capacity(vocab.len() * size_of::<f64>());
    let mut worst = f64::INFINITY;
    for (id, entry) in vocab.iter().enumerate() {
        let (token, score) = match entry.as_array().map(Vec::as_slice) {
            Some([token, score]) => token.as_str().zip(score.as_f64()),
            _ => None,
        }
        .ok_or_else(|| CompileError::unsupported(format!("entry {id} of the vocabulary")))?;
        let id = u32::try_from(id).map_err(|_| model.wrong("vocab"))?;
        // The empty token can never be found.
        if !token.is_empty() {
            keys.insert(token.as_bytes().to_vec(), id);
        }
        scores.extend(score.to_bits().to_le_bytes());
        if score < worst {
            worst = score;
        }
    }
    let unknown = model.number("unk_id")?;
    if unknown as usize >= vocab.len() {
        return Err(model.wrong("unk_id"));
    }
    writer.settings.model = model::UNIGRAM;
    writer.settings.unknown = unknown;
    writer.settings.unknown_score = worst - UNKNOWN_PENALTY;
    writer.set(Section::Trie, trie::build(&keys)?);
    writer.set(Section::Scores, scores);
    Ok(())
}

fn word_piece(model: Object<'_>, writer: &mut Writer) -> Result<(), CompileError> {
    let prefix_key = "continuing_subword_prefix";
    model.only(&["type", "unk_token", prefix_key, "max_input_chars_per_word", "vocab"])?;
    let vocab = ids(model.object("vocab")?)?;
    let unknown = vocab.get(model.text("unk_token")?).ok_or_else(|| model.wrong("unk_token"))?;
    let prefix = model.text(prefix_key)?;
    if prefix.len() > MAX_PREFIX {
        return Err(model.wrong(prefix_key));
    }
    let keys = vocab.iter().filter(|(token, _)| !token.is_empty());
    let keys = keys.map(|(token, &id)| (token.as_bytes().to_vec(), id)).collect();
    let settings = &mut writer.settings;
    settings.model = model::WORD_PIECE;
    settings.unknown = *unknown;
    settings.longest_word = model.number("max_input_chars_per_word")?;
    settings.prefix[..prefix.len()].copy_from_slice(prefix.as_bytes());
    settings.prefix_len = u32::try_from(prefix.len()).map_err(|_| model.wrong(prefix_key))?;
    writer.set(Section::Trie, trie::build(&keys)?);
    Ok(())
}

/// A vocabulary in which each token has its own id.
pub(super) fn ids(vocab: Object<'_>) -> Result<BTreeMap<&str, u32>, CompileError> {
    let mut ids = BTreeMap::new();
    for (token, id) in vocab.entries() {
        let id = id.as_u64().and_then(|id| u32::try_from(id).ok());
        ids.insert(token.as_str(), id.ok_or_else(|| vocab.wrong(token))?);
    }
    let mut seen: Vec<u32> = ids.values().copied().collect();
    seen.sort_unstable();
    if seen.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err(CompileError::unsupported("two tokens with one id"));
    }
    Ok(ids)
}
