//! Compiles BPE models over bytes, and over characters with bytes for those that are no tokens: the id of each byte, the
//! merges as a hash table, and a trie of what does not come of these.

use std::collections::{BTreeMap, HashMap};

use serde_json::{Value, json};

use super::json::Object;
use super::trie;
use super::vocabulary::ids;
use crate::byte_pair::{BITS, EMPTY, MAX, MAX_PROBES, Merges, first_slot, key};
use crate::error::CompileError;
use crate::image::{Section, Writer, model};
use crate::trie::Trie;
use crate::view::{Longs, Words};

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
    let vocab = ids(model.object("vocab")?)?;
    if vocab.values().any(|&id| id >= MAX) {
        return Err(CompileError::unsupported(format!("an id of {MAX} or more")));
    }
    let fallbacks = (0..=255u8).map(|byte| format!("<0x{byte:02X}>"));
    let fallbacks = byte_ids(&vocab, fallbacks);
    let is_characters = model.boolean("byte_fallback", Some(false))? && fallbacks.is_some();
    let bytes = match fallbacks {
        Some(bytes) if is_characters => bytes,
        _ => byte_ids(&vocab, byte_symbols().map(String::from))
            .ok_or_else(|| CompileError::unsupported("a vocabulary without all bytes"))?,
    };
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
    let pairs = table(&pairs);
    let is_whole_words = model.boolean("ignore_merges", Some(false))?;
    writer.settings.model = if is_characters {
        if is_whole_words {
            return Err(model.wrong("ignore_merges"));
        }
        writer.set(Section::Trie, trie::build(&characters(&vocab))?);
        model::CHARACTER_PAIR
    } else {
        if is_whole_words {
            let merges = Merges {
                bytes: Words::new(&bytes),
                merged: Words::new(&merged),
                pairs: Longs::new(&pairs),
                trie: Trie::new(&[]),
            };
            writer.set(Section::Trie, trie::build(&unmerged(&vocab, merges))?);
        }
        model::BYTE_PAIR
    };
    writer.set(Section::Bytes, bytes);
    writer.set(Section::Merged, merged);
    writer.set(Section::Pairs, pairs);
    Ok(())
}

/// The ids of the tokens that stand for bytes, if all are there.
fn byte_ids(vocab: &BTreeMap<&str, u32>, names: impl Iterator<Item = String>) -> Option<Vec<u8>> {
    let ids = names.map(|name| vocab.get(name.as_str()).map(|id| id.to_le_bytes()));
    Some(ids.collect::<Option<Vec<_>>>()?.concat())
}

/// The tokens of one character.
fn characters(vocab: &BTreeMap<&str, u32>) -> BTreeMap<Vec<u8>, u32> {
    let alone = vocab.iter().filter(|(token, _)| token.chars().count() == 1);
    alone.map(|(token, &id)| (token.as_bytes().to_vec(), id)).collect()
}

/// The tokens that merges do not make of their own bytes.
fn unmerged(vocab: &BTreeMap<&str, u32>, merges: Merges<'_>) -> BTreeMap<Vec<u8>, u32> {
    let of: HashMap<char, u8> = byte_symbols().zip(0..=255).collect();
    let mut symbols = Vec::new();
    let mut found = BTreeMap::new();
    for (token, &id) in vocab {
        // With another character it is no piece of any text.
        let bytes: Option<Vec<u8>> = token.chars().map(|c| of.get(&c).copied()).collect();
        let Some(bytes) = bytes.filter(|bytes| !bytes.is_empty()) else { continue };
        merges.encode(&bytes, &mut symbols);
        if !matches!(symbols[..], [one] if one.id == id) {
            found.insert(bytes, id);
        }
    }
    found
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
