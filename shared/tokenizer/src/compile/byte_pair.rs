//! Compiles byte-level BPE models: the id of each byte, and the merges as a hash table.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::json::Object;
use super::vocabulary::ids;
use crate::byte_pair::{BITS, EMPTY, MAX, MAX_PROBES, first_slot, key};
use crate::error::CompileError;
use crate::image::{Section, Writer, model};

const FIELDS: [&str; 10] = [
    "type",
    "dropout",
    "unk_token",
    "continuing_subword_prefix",
    "end_of_word_suffix",
    "fuse_unk",
    "byte_fallback",
    "ignore_merges",
    "vocab",
    "merges",
];

pub(super) fn compile(model: Object<'_>, writer: &mut Writer) -> Result<(), CompileError> {
    model.only(&FIELDS)?;
    // What is done with unknown symbols does not matter: all 256 are known, or the file is refused.
    model.absent_or("dropout", &[json!(0.0), json!(0)])?;
    model.absent_or("continuing_subword_prefix", &[json!("")])?;
    model.absent_or("end_of_word_suffix", &[json!("")])?;
    model.absent_or("ignore_merges", &[json!(false)])?;
    let vocab = ids(model.object("vocab")?)?;
    if vocab.values().any(|&id| id >= MAX) {
        return Err(CompileError::unsupported(format!("an id of {MAX} or more")));
    }
    let mut bytes = Vec::with_capacity(256 * size_of::<u32>());
    for symbol in byte_symbols() {
        let id = vocab.get(symbol.to_string().as_str());
        let id = id.ok_or_else(|| CompileError::unsupported("a vocabulary without all bytes"))?;
        bytes.extend(id.to_le_bytes());
    }
    let mut merged = Vec::new();
    let mut pairs = BTreeMap::new();
    for merge in model.list("merges")? {
        let Some((left, right)) = halves(merge)? else { continue };
        let rank = u32::try_from(merged.len() / size_of::<u32>()).unwrap_or(MAX);
        let found = (vocab.get(left), vocab.get(right), vocab.get([left, right].concat().as_str()));
        let (Some(&left), Some(&right), Some(new)) = found else {
            return Err(CompileError::unsupported("a merge of tokens that do not exist"));
        };
        if rank >= MAX {
            return Err(CompileError::unsupported(format!("{MAX} merges or more")));
        }
        merged.extend(new.to_le_bytes());
        // Of a pair that is there twice, the last counts.
        pairs.insert(key(left, right), rank);
    }
    writer.settings.model = model::BYTE_PAIR;
    writer.set(Section::Bytes, bytes);
    writer.set(Section::Merged, merged);
    writer.set(Section::Pairs, table(&pairs));
    Ok(())
}

/// The characters that stand for bytes in vocabularies, as GPT-2 has them: those that can be printed stand for
/// themselves, the others are those from U+0100 on.
fn byte_symbols() -> impl Iterator<Item = char> {
    let mut others = (0x100u32..).filter_map(char::from_u32);
    (0..=255u8).filter_map(move |byte| match byte {
        b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff => Some(char::from(byte)),
        _ => others.next(),
    })
}

/// `["a", "b"]`, in old files `"a b"`; `None` for their first line.
fn halves(merge: &Value) -> Result<Option<(&str, &str)>, CompileError> {
    let found = match merge {
        Value::String(text) if text.starts_with("#version") => return Ok(None),
        Value::String(text) => text.split_once(' ').filter(|(_, right)| !right.contains(' ')),
        Value::Array(list) => match list.as_slice() {
            [left, right] => left.as_str().zip(right.as_str()),
            _ => None,
        },
        _ => None,
    };
    found.map(Some).ok_or_else(|| CompileError::unsupported("a merge that is no pair"))
}

/// The hash table, two thirds full at most, and larger if some pair would lie too far from its slot.
fn table(pairs: &BTreeMap<u64, u32>) -> Vec<u8> {
    if pairs.is_empty() {
        return Vec::new();
    }
    // The most frequent pairs come first, to lie where they are looked for.
    let mut by_rank: Vec<(u32, u64)> = pairs.iter().map(|(&key, &rank)| (rank, key)).collect();
    by_rank.sort_unstable();
    let mut slots = (pairs.len() * 3 / 2 + 1).next_power_of_two();
    loop {
        if let Some(table) = fill(&by_rank, slots) {
            return table.iter().flat_map(|slot| slot.to_le_bytes()).collect();
        }
        slots *= 2;
    }
}

fn fill(by_rank: &[(u32, u64)], slots: usize) -> Option<Vec<u64>> {
    let mut table = vec![EMPTY; slots];
    for &(rank, key) in by_rank {
        let first = first_slot(key, slots);
        let mut free = (0..MAX_PROBES).map(|step| (first + step) % slots);
        let at = free.find(|&at| table[at] == EMPTY)?;
        table[at] = key << BITS | u64::from(rank);
    }
    Some(table)
}
