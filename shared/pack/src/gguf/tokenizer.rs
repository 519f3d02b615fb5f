//! The tokenizer of a GGUF file as tokenizer.json.
//!
//! | `tokenizer.ggml.model` | what it is | becomes |
//! |---|---|---|
//! | `gpt2` | byte-level byte pairs, `merges`; `pre` names the rule by which texts are cut | BPE of byte symbols, as Hugging Face has it |
//! | `llama` | SentencePiece: pieces with scores, `▁` for blanks, bytes for what is unknown | BPE with byte fallback, its merges made of the scores as Hugging Face's converter does |
//!
//! Control tokens become special ones; those that users defined are found in texts as well. What a rule of cutting is, is a
//! table ([`rule`]): files only name it, and with another one texts become other tokens.

use std::collections::{BTreeMap, HashMap};

use serde_json::{Map, Value, json};

use super::{Metadata, float, shown, whole};
use crate::Error;
use crate::formats::{GgufArray, GgufValue};

/// Longest token, in bytes. The longest of published vocabularies have some dozens; what is made of a token grows with the
/// square of its length.
const LONGEST: usize = 1024;

/// Numbers of `tokenizer.ggml.token_type`.
const NORMAL: u64 = 1;
const UNKNOWN: u64 = 2;
const CONTROL: u64 = 3;
const USER_DEFINED: u64 = 4;
const UNUSED: u64 = 5;
const BYTE: u64 = 6;

const GPT2_SPLIT: bool = true;
const QWEN: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// How texts are cut before byte pairs are merged.
#[derive(Debug, Clone, Copy, Default)]
struct CutRule {
    /// Composed characters, as Qwen's own tokenizer has it.
    nfc: bool,
    /// A pattern; `None`: GPT-2's.
    split: Option<&'static str>,
    /// Whether digits are cut one by one before that.
    digits: bool,
    /// Whether a piece that is a word is that word, whatever merges would make of it.
    whole_words: bool,
    /// Whether the first token is put in front where the file does not say it.
    adds_bos: bool,
}

/// Names of rules that are known.
pub(super) const RULES: [&str; 9] = [
    "gpt-2",
    "qwen2",
    "deepseek-r1-qwen",
    "llama-bpe",
    "llama3",
    "llama-v3",
    "smollm",
    "tekken",
    "olmo",
];

/// The rule of a name of `tokenizer.ggml.pre`, as llama.cpp has them; only Qwen's normal form is Hugging Face's own.
fn rule(pre: &str) -> Option<CutRule> {
    let plain = CutRule::default();
    let llama3 = CutRule { split: Some(LLAMA3), whole_words: true, adds_bos: true, ..plain };
    Some(match pre {
        "gpt-2" | "olmo" => plain,
        "qwen2" | "deepseek-r1-qwen" => CutRule { nfc: true, split: Some(QWEN), ..plain },
        "llama-bpe" | "llama3" | "llama-v3" => llama3,
        "smollm" => CutRule { digits: true, ..plain },
        "tekken" => CutRule { split: Some(TEKKEN), ..llama3 },
        _ => return None,
    })
}

/// What is made of the file's lists.
#[derive(Debug)]
pub(super) struct Tokenizer {
    pub(super) json: Value,
    tokens: Vec<(String, u64)>,
}

impl Tokenizer {
    /// The id of a token that the file names, such as `bos`.
    pub(super) fn named(&self, meta: &Metadata<'_>, name: &str) -> Result<Option<u32>, Error> {
        named(meta, name, self.tokens.len())
    }

    /// The text of a token, unless it is a word that stands for bytes.
    pub(super) fn special_text(&self, id: u32) -> Option<&str> {
        let (text, kind) = self.tokens.get(id as usize)?;
        [UNKNOWN, CONTROL, USER_DEFINED].contains(kind).then_some(text.as_str())
    }

    /// The id of the control token of this text.
    pub(super) fn special_id(&self, text: &str) -> Option<u32> {
        let at = self.tokens.iter().position(|(own, kind)| own == text && *kind == CONTROL)?;
        u32::try_from(at).ok()
    }
}

fn named(meta: &Metadata<'_>, name: &str, count: usize) -> Result<Option<u32>, Error> {
    let key = format!("tokenizer.ggml.{name}_token_id");
    let Some(value) = meta.file.get(&key) else { return Ok(None) };
    // Older converters wrote that for none.
    if matches!(value, GgufValue::U32(u32::MAX) | GgufValue::I32(-1) | GgufValue::I64(-1)) {
        return Ok(None);
    }
    let id = whole(value).filter(|&id| id < count as u64).and_then(|id| u32::try_from(id).ok());
    id.map(Some).ok_or_else(|| {
        Error::Model(format!("{key} is {}, expected an id below the {count} tokens", shown(value)))
    })
}

/// Makes it.
pub(super) fn read(meta: &Metadata<'_>) -> Result<Tokenizer, Error> {
    let model = text(meta, "ggml.model")?.ok_or_else(|| missing("ggml.model"))?;
    let tokens = tokens(meta)?;
    let flag = |key: &str| match meta.file.get(&format!("tokenizer.{key}")) {
        None => Ok(None),
        Some(GgufValue::Bool(flag)) => Ok(Some(*flag)),
        Some(other) => Err(Error::Model(format!(
            "tokenizer.{key} is {}, expected true or false",
            shown(other)
        ))),
    };
    let bos = named(meta, "bos", tokens.len())?;
    let adds_bos = flag("ggml.add_bos_token")?;
    let (mut json, usual) = match model {
        "gpt2" => byte_pairs(meta, &tokens)?,
        "llama" => {
            let prefix = flag("ggml.add_space_prefix")?.unwrap_or(true);
            (pieces(meta, &tokens, prefix)?, true)
        }
        other => {
            return Err(Error::Model(format!(
                "tokenizer.ggml.model is {other:?}, expected gpt2 (byte pairs) or llama (SentencePiece)"
            )));
        }
    };
    json["version"] = "1.0".into();
    json["truncation"] = Value::Null;
    json["padding"] = Value::Null;
    json["added_tokens"] = added(&tokens);
    json["post_processor"] = Value::Null;
    if adds_bos.unwrap_or(usual) {
        let Some(id) = bos else {
            return Err(Error::Model(
                "tokenizer.ggml.add_bos_token is true, and there is no tokenizer.ggml.bos_token_id: expected both".to_owned(),
            ));
        };
        let content = &tokens[id as usize].0;
        let first = |kind: u32| json!({"SpecialToken": {"id": content, "type_id": kind}});
        let part = |id: &str, kind: u32| json!({"Sequence": {"id": id, "type_id": kind}});
        let mut special = Map::new();
        special.insert(content.clone(), json!({"id": content, "ids": [id], "tokens": [content]}));
        json["post_processor"] = json!({
            "type": "TemplateProcessing",
            "single": [first(0), part("A", 0)],
            "pair": [first(0), part("A", 0), first(1), part("B", 1)],
            "special_tokens": special,
        });
    }
    Ok(Tokenizer { json, tokens })
}

fn missing(key: &str) -> Error {
    Error::Model(format!("the metadata has no tokenizer.{key}: expected a file with its tokenizer"))
}

fn text<'a>(meta: &Metadata<'a>, key: &str) -> Result<Option<&'a str>, Error> {
    match meta.file.get(&format!("tokenizer.{key}")) {
        None => Ok(None),
        Some(GgufValue::String(text)) => Ok(Some(text)),
        Some(other) => {
            Err(Error::Model(format!("tokenizer.{key} is {}, expected a text", shown(other))))
        }
    }
}

fn list<'a>(meta: &Metadata<'a>, key: &str) -> Result<Option<&'a GgufArray>, Error> {
    match meta.file.get(&format!("tokenizer.{key}")) {
        None => Ok(None),
        Some(GgufValue::Array(list)) => Ok(Some(list)),
        Some(other) => {
            Err(Error::Model(format!("tokenizer.{key} is {}, expected a list", shown(other))))
        }
    }
}

/// Text and type of each token.
fn tokens(meta: &Metadata<'_>) -> Result<Vec<(String, u64)>, Error> {
    let texts = list(meta, "ggml.tokens")?.ok_or_else(|| missing("ggml.tokens"))?;
    let kinds = list(meta, "ggml.token_type")?.ok_or_else(|| missing("ggml.token_type"))?;
    if texts.len() != kinds.len() {
        return Err(Error::Model(format!(
            "tokenizer.ggml.token_type has {} entries, expected one for each of the {} tokens",
            kinds.len(),
            texts.len()
        )));
    }
    let mut tokens = Vec::new();
    for (at, (text, kind)) in texts.values().zip(kinds.values()).enumerate() {
        let GgufValue::String(text) = text else {
            return Err(Error::Model(format!("tokenizer.ggml.tokens: {at} is no text")));
        };
        if text.len() > LONGEST {
            return Err(Error::Model(format!(
                "tokenizer.ggml.tokens: {at} has {} bytes, expected at most {LONGEST}",
                text.len()
            )));
        }
        let known = NORMAL..=BYTE;
        let kind = whole(&kind).filter(|kind| known.contains(kind)).ok_or_else(|| {
            Error::Model(format!(
                "tokenizer.ggml.token_type: {at} is {}, expected 1 to 6",
                shown(&kind)
            ))
        })?;
        tokens.push((text, kind));
    }
    Ok(tokens)
}

/// The special tokens and those that users defined.
fn added(tokens: &[(String, u64)]) -> Value {
    let of_interest = |kind: u64| [UNKNOWN, CONTROL, USER_DEFINED].contains(&kind);
    let all = tokens
        .iter()
        .enumerate()
        .filter(|(_, (text, kind))| of_interest(*kind) && !text.is_empty());
    all.map(|(id, (text, kind))| {
        json!({"id": id, "content": text, "single_word": false, "lstrip": false, "rstrip": false,
               "normalized": false, "special": *kind != USER_DEFINED})
    })
    .collect()
}

/// The words, each once.
fn vocabulary(tokens: &[(String, u64)], wanted: impl Fn(u64) -> bool) -> Result<Value, Error> {
    let mut words: BTreeMap<&str, usize> = BTreeMap::new();
    for (id, (text, kind)) in tokens.iter().enumerate() {
        if wanted(*kind)
            && let Some(other) = words.insert(text, id)
        {
            return Err(Error::Model(format!(
                "tokenizer.ggml.tokens: {other} and {id} are both {text:?}: expected each text once"
            )));
        }
    }
    let words = words.into_iter().map(|(text, id)| (text.to_owned(), json!(id)));
    Ok(Value::Object(words.collect()))
}

/// Byte-level byte pairs, and whether the first token is put in front.
fn byte_pairs(meta: &Metadata<'_>, tokens: &[(String, u64)]) -> Result<(Value, bool), Error> {
    let pre = text(meta, "ggml.pre")?.unwrap_or("missing");
    let rule = rule(pre).ok_or_else(|| {
        Error::Model(format!(
            "tokenizer.ggml.pre is {pre}, and how that cuts texts is not known here: expected one of {}. A file without it is \
             of an old converter: convert the model again",
            RULES.join(", ")
        ))
    })?;
    let merges = list(meta, "ggml.merges")?.ok_or_else(|| missing("ggml.merges"))?;
    let mut pairs = Vec::new();
    for (at, merge) in merges.values().enumerate() {
        let pair = match &merge {
            // A blank in a token is another symbol, so that the first one parts the two.
            GgufValue::String(text) => text.split_once(' ').map(|(l, r)| json!([l, r])),
            _ => None,
        };
        pairs.push(pair.ok_or_else(|| {
            Error::Model(format!(
                "tokenizer.ggml.merges: {at} is {}, expected two words",
                shown(&merge)
            ))
        })?);
    }
    let bytes = |use_regex: bool| json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": use_regex});
    let cut = match (rule.split, rule.digits) {
        (Some(pattern), _) => {
            let split = json!({"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated",
                               "invert": false});
            json!({"type": "Sequence", "pretokenizers": [split, bytes(!GPT2_SPLIT)]})
        }
        (None, true) => {
            let digits = json!({"type": "Digits", "individual_digits": true});
            json!({"type": "Sequence", "pretokenizers": [digits, bytes(GPT2_SPLIT)]})
        }
        (None, false) => bytes(GPT2_SPLIT),
    };
    let json = json!({
        "normalizer": if rule.nfc { json!({"type": "NFC"}) } else { Value::Null },
        "pre_tokenizer": cut,
        "decoder": bytes(GPT2_SPLIT),
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false,
            "ignore_merges": rule.whole_words,
            "vocab": vocabulary(tokens, |kind| [NORMAL, UNKNOWN, BYTE].contains(&kind))?,
            "merges": pairs,
        },
    });
    Ok((json, rule.adds_bos))
}

/// SentencePiece's pieces.
fn pieces(meta: &Metadata<'_>, tokens: &[(String, u64)], prefix: bool) -> Result<Value, Error> {
    const BLANK: &str = "\u{2581}";
    let scores = list(meta, "ggml.scores")?.ok_or_else(|| missing("ggml.scores"))?;
    if scores.len() != tokens.len() as u64 {
        return Err(Error::Model(format!(
            "tokenizer.ggml.scores has {} entries, expected one for each of the {} tokens",
            scores.len(),
            tokens.len()
        )));
    }
    let scores = scores.values().enumerate().map(|(at, score)| {
        float(&score).ok_or_else(|| {
            Error::Model(format!(
                "tokenizer.ggml.scores: {at} is {}, expected a finite number",
                shown(&score)
            ))
        })
    });
    let scores = scores.collect::<Result<Vec<f32>, Error>>()?;
    let bytes = tokens.iter().filter(|(_, kind)| *kind == BYTE).count();
    let unknown = tokens.iter().find(|(_, kind)| *kind == UNKNOWN).map(|(text, _)| text);
    let replace = json!({"type": "Replace", "pattern": {"String": " "}, "content": BLANK});
    let normalizer = if prefix {
        let prepend = json!({"type": "Prepend", "prepend": BLANK});
        json!({"type": "Sequence", "normalizers": [prepend, replace]})
    } else {
        replace
    };
    let mut decoders = vec![
        json!({"type": "Replace", "pattern": {"String": BLANK}, "content": " "}),
        json!({"type": "ByteFallback"}),
        json!({"type": "Fuse"}),
    ];
    if prefix {
        decoders.push(json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}));
    }
    Ok(json!({
        "normalizer": normalizer,
        "pre_tokenizer": null,
        "decoder": {"type": "Sequence", "decoders": decoders},
        "model": {
            "type": "BPE", "dropout": null, "unk_token": unknown, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": true, "byte_fallback": bytes == 256,
            "ignore_merges": false,
            "vocab": vocabulary(tokens, |kind| kind != UNUSED)?,
            "merges": merges(tokens, &scores),
        },
    }))
}

/// The pairs that make pieces, the piece of the highest score first, of one piece the pair with the lower ids: the order of
/// Hugging Face's converter.
fn merges(tokens: &[(String, u64)], scores: &[f32]) -> Vec<Value> {
    let normal = || tokens.iter().enumerate().filter(|(_, (_, kind))| *kind == NORMAL);
    let ids: HashMap<&str, usize> = normal().map(|(id, (text, _))| (text.as_str(), id)).collect();
    let mut all: Vec<(f32, usize, usize)> = Vec::new();
    for (id, (text, _)) in normal() {
        let cuts = text.char_indices().skip(1).filter_map(|(at, _)| {
            let (left, right) = text.split_at(at);
            Some((*ids.get(left)?, *ids.get(right)?))
        });
        let mut cuts: Vec<(usize, usize)> = cuts.collect();
        cuts.sort_unstable();
        all.extend(cuts.into_iter().map(|(left, right)| (scores[id], left, right)));
    }
    // Stable: of equal scores the piece with the lower id comes first.
    all.sort_by(|one, other| other.0.total_cmp(&one.0));
    all.into_iter().map(|(_, left, right)| json!([tokens[left].0, tokens[right].0])).collect()
}
