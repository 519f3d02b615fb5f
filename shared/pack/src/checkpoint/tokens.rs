//! Tokens that other files than tokenizer.json name, as `transformers` takes them into a fast tokenizer.
//!
//! A token that is added is found in texts before all else is tokenised, so one that is added, or found by other rules,
//! changes ids. `transformers` loads tokenizer.json and then adds
//!
//! 1. each entry of `added_tokens_decoder` in `tokenizer_config.json` whose rules (`lstrip`, `normalized`, …) tokenizer.json
//!    does not have: such an entry replaces what is there;
//! 2. each token that `cls_token` and the other names give, and each of `extra_special_tokens` and its older names, that is
//!    not an added token yet: of one that is, the rules there count.
//!
//! Without `added_tokens_decoder` (files of versions before 4.34) it takes `added_tokens.json` in its place, and
//! `special_tokens_map.json` over the names in `tokenizer_config.json`; with it neither is read. All this is done here by
//! changing tokenizer.json. Refused is what cannot be done so: a token that tokenizer.json has no word for would get an id
//! that the model was not trained with; one that it has under another id is another token; and BERT's and RoBERTa's classes
//! put their own `cls_token`, `sep_token` and `unk_token` in place of those in tokenizer.json, of which the older versions of
//! `transformers` took the one and the newer ones the other.

use defrost_tasks::TextTokenizer;
use serde_json::{Map, Value, json};

use super::keys::{self, File};
use super::optional_beside_weights;
use super::told::Told;
use crate::Error;
use crate::formats::Checkpoint;

const CONFIG: &str = "tokenizer_config.json";
const JSON: &str = "tokenizer.json";
const SPECIAL: &str = "special_tokens_map.json";
const ADDED: &str = "added_tokens.json";

/// Keys that name one token.
const NAMED: [&str; 7] =
    ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

/// Keys that name several.
const SEVERAL: [&str; 3] =
    ["extra_special_tokens", "additional_special_tokens", "model_specific_special_tokens"];

/// Rules by which a token is found in a text.
const RULES: [&str; 4] = ["single_word", "lstrip", "rstrip", "normalized"];

/// A token that a file names.
struct Token {
    content: String,
    /// The rules that the file sets, in the order of [`RULES`].
    rules: [bool; 4],
    special: bool,
    /// The id that the file gives it.
    id: Option<u64>,
    /// The file and the key that name it.
    from: String,
}

impl Token {
    /// The token of a text, or of an object as `AddedToken` is written; `None` for null and the empty text.
    fn new(
        value: &Value,
        special: bool,
        id: Option<u64>,
        from: String,
    ) -> Result<Option<Self>, Error> {
        let content = match value {
            Value::Null => return Ok(None),
            Value::Object(token) => token.get("content").and_then(Value::as_str),
            other => other.as_str(),
        };
        let Some(content) = content else {
            return Err(Error::Model(format!("{from} is {value}, expected a token")));
        };
        if content.is_empty() {
            return Ok(None);
        }
        let rule = |key: &str| value.get(key).and_then(Value::as_bool);
        let special = rule("special").unwrap_or(special);
        let rules = RULES.map(|key| rule(key).unwrap_or(key == "normalized" && !special));
        Ok(Some(Self { content: content.to_owned(), rules, special, id, from }))
    }
}

/// What tokenizer.json becomes by the other files' tokens. `config` is `tokenizer_config.json`, `json` tokenizer.json, and
/// `whole` what has become of it already.
pub(crate) fn apply(
    checkpoint: &Checkpoint,
    config: &Map<String, Value>,
    class: &str,
    json: &[u8],
    whole: &mut Value,
    told: &mut Vec<Told>,
) -> Result<(), Error> {
    let special: Map<String, Value> =
        optional_beside_weights(checkpoint, SPECIAL)?.unwrap_or_default();
    keys::check(File::SpecialTokens, SPECIAL, &special)?;
    let decoder = config.get("added_tokens_decoder").filter(|decoder| !decoder.is_null());
    let legacy = if decoder.is_some() { Map::new() } else { special };
    let named = |key: &str| match (legacy.get(key), config.get(key)) {
        (Some(value), _) => Some((value, format!("{SPECIAL}: {key}"))),
        (None, Some(value)) => Some((value, format!("{CONFIG}: {key}"))),
        (None, None) => None,
    };
    let mut names = Vec::new();
    for key in NAMED {
        if let Some((value, from)) = named(key) {
            names.extend(Token::new(value, true, None, from)?.map(|token| (key, token)));
        }
    }
    let mut several = Vec::new();
    for key in SEVERAL {
        let Some((value, from)) = named(key) else { continue };
        let values: Vec<&Value> = match value {
            Value::Null => Vec::new(),
            Value::Array(values) => values.iter().collect(),
            Value::Object(values) => values.values().collect(),
            other => {
                return Err(Error::Model(format!("{from} is {other}, expected a list of tokens")));
            }
        };
        for value in values {
            several.extend(Token::new(value, true, None, from.clone())?);
        }
    }
    let is_special = |content: &str| {
        names.iter().map(|(_, token)| token).chain(&several).any(|token| token.content == content)
    };
    let decoded = match decoder {
        Some(decoder) => decoded(decoder)?,
        None => added(checkpoint, is_special)?,
    };
    if decoded.is_empty() && names.is_empty() && several.is_empty() {
        return Ok(());
    }
    check_class(class, &names, json, whole)?;
    for token in decoded {
        replace(whole, token, told)?;
    }
    for token in names.into_iter().map(|(_, token)| token).chain(several) {
        if entry(whole, &token.content).is_none() {
            replace(whole, token, told)?;
        }
    }
    Ok(())
}

/// The entries of `added_tokens_decoder`, by id.
fn decoded(decoder: &Value) -> Result<Vec<Token>, Error> {
    let from = format!("{CONFIG}: added_tokens_decoder");
    let wrong = || Error::Model(format!("{from} is not a map from ids to tokens"));
    let mut tokens = Vec::new();
    for (id, value) in decoder.as_object().ok_or_else(wrong)? {
        let id = id.parse().map_err(|_| wrong())?;
        tokens.extend(Token::new(value, false, Some(id), format!("{from}, {id}"))?);
    }
    tokens.sort_by_key(|token| token.id);
    Ok(tokens)
}

/// The entries of `added_tokens.json`, by id.
fn added(checkpoint: &Checkpoint, is_special: impl Fn(&str) -> bool) -> Result<Vec<Token>, Error> {
    let ids: Map<String, Value> = optional_beside_weights(checkpoint, ADDED)?.unwrap_or_default();
    let mut tokens = Vec::new();
    for (content, id) in ids {
        let number = id.as_u64().ok_or_else(|| {
            Error::Model(format!("{ADDED}: {content:?} is {id}, expected a token's id"))
        })?;
        let special = is_special(&content);
        let from = format!("{ADDED}: {content:?}");
        tokens.extend(Token::new(&content.into(), special, Some(number), from)?);
    }
    tokens.sort_by_key(|token| token.id);
    Ok(tokens)
}

/// Adds a token, in the place of the one of its name.
fn replace(whole: &mut Value, token: Token, told: &mut Vec<Told>) -> Result<(), Error> {
    let Token { content, rules, special, id, from } = token;
    let known = entry(whole, &content);
    let known = known.map(|known| (known["id"].as_u64(), RULES.map(|key| known[key] == true)));
    let found = known.and_then(|(id, _)| id).or_else(|| word(&whole["model"]["vocab"], &content));
    let Some(found) = found else {
        return Err(Error::Model(format!(
            "{from}: the token {content:?} is not in {JSON}, where `transformers` would add it under an id that the model \
             has not learnt: expected the same tokens in both. Save the tokenizer again \
             (`AutoTokenizer.from_pretrained(...).save_pretrained(...)`), or take the token out of the one file"
        )));
    };
    if let Some(id) = id.filter(|&id| id != found) {
        return Err(Error::Model(format!(
            "{from}: the token {content:?} has the id {id} there and {found} in {JSON}: expected one id. The files belong to \
             different tokenizers: get all of them again, or save the tokenizer again"
        )));
    }
    if known.is_some_and(|(_, own)| own == rules) {
        return Ok(());
    }
    let set: Vec<&str> =
        RULES.into_iter().zip(rules).filter(|rule| rule.1).map(|(key, _)| key).collect();
    let how = if set.is_empty() { String::new() } else { format!(", {}", set.join(", ")) };
    told.push(Told::new(
        "tokenizer",
        format!("{content:?} is a token{how}"),
        format!("{from}, over {JSON}"),
    ));
    let mut new = json!({"id": found, "content": content, "special": special});
    for (key, rule) in RULES.into_iter().zip(rules) {
        new[key] = rule.into();
    }
    match entry(whole, &content) {
        Some(known) => *known = new,
        None => match &mut whole["added_tokens"] {
            // Readers of the file expect them by id.
            Value::Array(tokens) => {
                let at = tokens.partition_point(|other| other["id"].as_u64() < Some(found));
                tokens.insert(at, new);
            }
            none => *none = json!([new]),
        },
    }
    Ok(())
}

/// The added token of this text.
fn entry<'a>(whole: &'a mut Value, content: &str) -> Option<&'a mut Value> {
    let tokens = whole.get_mut("added_tokens")?.as_array_mut()?;
    tokens.iter_mut().find(|token| token["content"] == content)
}

/// The id of a token by its text, whether it is an added one or a word of the vocabulary.
pub(crate) fn id_of(whole: &Value, content: &str) -> Option<u32> {
    let added = whole["added_tokens"].as_array().into_iter().flatten();
    let added = added.into_iter().find(|token| token["content"] == content);
    let id = added.and_then(|token| token["id"].as_u64());
    let id = id.or_else(|| word(&whole["model"]["vocab"], content))?;
    u32::try_from(id).ok()
}

/// The id of a word of the vocabulary, which is a map, or of Unigram a list.
fn word(vocab: &Value, content: &str) -> Option<u64> {
    match vocab {
        Value::Object(words) => words.get(content)?.as_u64(),
        Value::Array(words) => {
            let at = words.iter().position(|word| word[0] == content)?;
            u64::try_from(at).ok()
        }
        _ => None,
    }
}

/// Refuses names of tokens that a class puts in place of those in tokenizer.json.
fn check_class(
    class: &str,
    names: &[(&str, Token)],
    json: &[u8],
    whole: &Value,
) -> Result<(), Error> {
    let (first, last) = match class {
        "Bert" | "DistilBert" | "Electra" | "MobileBert" | "ConvBert" | "Funnel" | "LayoutLM"
        | "MPNet" | "Roberta" | "Camembert" => ("cls_token", "sep_token"),
        "XLMRoberta" => ("bos_token", "eos_token"),
        _ => return Ok(()),
    };
    let name = |key: &str| names.iter().find(|(name, _)| *name == key).map(|(_, token)| token);
    let differs = |token: &Token, own: &str| {
        Err(Error::Model(format!(
            "{}: it is {:?}, and {JSON} has {own} in its place: expected both to say the same, as versions of `transformers` \
             take the one or the other. Save the tokenizer again \
             (`AutoTokenizer.from_pretrained(...).save_pretrained(...)`)",
            token.from, token.content
        )))
    };
    let model = &whole["model"];
    if let (Some(token), Some(own)) = (name("unk_token"), model["unk_token"].as_str())
        && token.content != own
    {
        return differs(token, &format!("{own:?}"));
    }
    let wanted = [(name(first), true), (name(last), false)];
    if wanted.iter().all(|(token, _)| token.is_none()) {
        return Ok(());
    }
    let ends = TextTokenizer::from_json(json)?.single(&[])?.ids;
    for (token, is_first) in wanted {
        let own = if is_first { ends.first() } else { ends.last() };
        let (Some(token), Some(&own)) = (token, own) else { continue };
        let tokens = whole["added_tokens"].as_array();
        let added = tokens.into_iter().flatten().find(|known| known["content"] == *token.content);
        let id = added.and_then(|known| known["id"].as_u64());
        let id = id.or_else(|| word(&model["vocab"], &token.content));
        // One that is nowhere gets the message that says so.
        if id.is_some_and(|id| id != u64::from(own)) {
            return differs(token, &format!("the token of id {own}"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use defrost_testing::golden::repository;

    use super::super::tokenizer_files;
    use super::*;

    /// Published tokenizers, with the files that their models have beside them, change nothing. They lie beside this
    /// checkout, if at all.
    #[test]
    fn published_tokenizers_are_taken_as_they_are() {
        for (tokenizer, config) in [
            ("tokenizers/xlm-roberta", "configs/BAAI_bge-m3"),
            ("tokenizers/qwen3-embedding", "configs/Qwen_Qwen3-Embedding-0.6B"),
            (
                "configs/cross-encoder_ms-marco-MiniLM-L-6-v2",
                "configs/cross-encoder_ms-marco-MiniLM-L-6-v2",
            ),
            (
                "configs/sentence-transformers_all-MiniLM-L6-v2",
                "configs/sentence-transformers_all-MiniLM-L6-v2",
            ),
        ] {
            let data = repository("../shared/data");
            let Ok(json) = std::fs::read(data.join(tokenizer).join(JSON)) else {
                continue;
            };
            let dir = tempfile::tempdir().unwrap();
            std::fs::write(dir.path().join(JSON), &json).unwrap();
            for with_decoder in [true, false] {
                for file in [CONFIG, SPECIAL] {
                    let Ok(text) = std::fs::read_to_string(data.join(config).join(file)) else {
                        continue;
                    };
                    let mut keys: Map<String, Value> = serde_json::from_str(&text).unwrap();
                    if !with_decoder {
                        keys.remove("added_tokens_decoder");
                    }
                    let text = serde_json::to_string(&keys).unwrap();
                    std::fs::write(dir.path().join(file), text).unwrap();
                }
                let checkpoint = Checkpoint::without_weights(dir.path());
                let read = tokenizer_files(&checkpoint, None, None).unwrap();
                assert_eq!(read.told, [], "{config}");
                assert!(read.json == json, "{config}");
            }
        }
    }
}
