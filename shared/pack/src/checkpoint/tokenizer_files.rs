//! The tokenizer as `transformers` would load it: tokenizer.json, changed where `tokenizer_config.json` overrules it.
//!
//! - BERT's tokenizer classes take lower case, accents and Chinese characters from `tokenizer_config.json` (or their own
//!   defaults: lower case), whatever the normalizer in tokenizer.json says.
//! - `add_prefix_space` that says otherwise than tokenizer.json is refused where the class would follow it.
//! - `model_max_length` bounds texts, or `max_len`, its older name; 10^30 stands for no bound.
//! - Tokens that it and files beside it name are added ([`super::tokens`]).
//! - `model_input_names` without `token_type_ids`, or a class that has none, leaves token types out.
//! - A padding token that was added after the model had its vocabulary has an id that the model has no row for. No text
//!   needs it: it is left out.

use defrost_model::Family;
use defrost_tasks::TextTokenizer;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::keys::{self, File};
use super::told::Told;
use super::{optional_beside_weights, tokens};
use crate::Error;
use crate::formats::Checkpoint;

const FILE: &str = "tokenizer_config.json";
const JSON: &str = "tokenizer.json";

/// Tokens of the vocabulary itself that may lie beyond the model's: a file of another model has hundreds.
const MOST_BEYOND: usize = 8;

/// No model has as many positions: larger values of `model_max_length` stand for no bound.
const NO_BOUND: f64 = 1e9;

/// Classes that set BERT's normalizer.
const BERT_LIKE: [&str; 8] =
    ["Bert", "DistilBert", "Electra", "MobileBert", "ConvBert", "Funnel", "LayoutLM", "MPNet"];

/// Classes that have no token types.
const TYPELESS: [&str; 6] = ["XLMRoberta", "Roberta", "Camembert", "Qwen2", "DistilBert", "MPNet"];

/// Classes that take tokenizer.json as it is.
const PLAIN: [&str; 12] = [
    "PreTrained",
    "TokenizersBackend",
    "Albert",
    "Bart",
    "Deberta",
    "DebertaV2",
    "GPT2",
    "GPTNeoX",
    "Gemma",
    "Llama",
    "T5",
    "XLNet",
];

/// The classes among these that stand for whatever tokenizer.json is.
const AS_IT_IS: [&str; 2] = ["PreTrained", "TokenizersBackend"];

/// Classes that put a blank before every part of a text, if before any.
const ALWAYS: [&str; 3] = ["XLMRoberta", "Camembert", "Albert"];

/// What the files make of texts.
#[derive(Debug)]
pub(crate) struct TokenizerFiles {
    /// tokenizer.json, as it is to be used.
    pub(crate) json: Vec<u8>,
    /// The most tokens, and which key says so.
    pub(crate) max_length: Option<(usize, &'static str)>,
    /// Whether `transformers` is told to cut the texts of Mistral's models otherwise than tokenizer.json does.
    pub(crate) fixes_mistral: bool,
    /// Whether the model is told token types.
    pub(crate) token_types: bool,
    pub(crate) told: Vec<Told>,
}

#[derive(Debug, Default, Deserialize)]
struct Raw {
    tokenizer_class: Option<String>,
    do_lower_case: Option<bool>,
    strip_accents: Option<bool>,
    tokenize_chinese_chars: Option<bool>,
    model_max_length: Option<f64>,
    max_len: Option<f64>,
    model_input_names: Option<Vec<String>>,
    auto_map: Option<Value>,
    add_bos_token: Option<bool>,
    add_eos_token: Option<bool>,
    fix_mistral_regex: Option<bool>,
}

/// Reads both files. `class` is what config.json says of the tokenizer's class.
pub(crate) fn read(
    checkpoint: &Checkpoint,
    family: Option<Family>,
    class: Option<&str>,
) -> Result<TokenizerFiles, Error> {
    let json = checkpoint.file_beside_weights(JSON)?.ok_or_else(|| {
        Error::Model("the checkpoint has no tokenizer.json (the fast tokenizer's file); save it with `AutoTokenizer.from_pretrained(...).save_pretrained(...)`".into())
    })?;
    let config: Map<String, Value> = optional_beside_weights(checkpoint, FILE)?.unwrap_or_default();
    keys::check(File::Tokenizer, FILE, &config)?;
    let raw: Raw = serde_json::from_value(Value::Object(config.clone()))
        .map_err(|error| Error::Model(format!("{FILE}: {error}")))?;
    if let Some(code) = raw.auto_map.as_ref().filter(|map| map.get("AutoTokenizer").is_some()) {
        return Err(Error::Model(format!(
            "{FILE}: auto_map is {code}, code that may make other tokens than {JSON} and is not run: expected a tokenizer \
             of `transformers`. If {JSON} gives the same tokens, take auto_map out of {FILE} in a copy of the folder"
        )));
    }
    let class = class_of(raw.tokenizer_class.as_deref().or(class), family)?;
    let mut told = Vec::new();
    let mut whole = parse(&json)?;
    check_prefix_space(&config, class, &whole)?;
    if BERT_LIKE.contains(&class) {
        lower_case(&config, &raw, &mut whole, &mut told)?;
    }
    tokens::apply(checkpoint, &config, class, &json, &mut whole, &mut told)?;
    // Each step changes the one value and tells every change, so where nothing is told the file is as it was.
    let json = if told.is_empty() {
        json
    } else {
        // The same bytes whatever the order of keys in the file.
        whole.sort_all_objects();
        serde_json::to_vec(&whole).map_err(|error| Error::Tokenizer(format!("{JSON}: {error}")))?
    };
    // The older name counts where the newer one is not there at all.
    let max_length = match (config.contains_key("model_max_length"), raw.max_len) {
        (false, Some(length)) => max_length("max_len", Some(length))?,
        _ => max_length("model_max_length", raw.model_max_length)?,
    };
    let token_types = match &raw.model_input_names {
        Some(names) => names.iter().any(|name| name == "token_type_ids"),
        None => !TYPELESS.contains(&class),
    };
    check_ends(&json, &raw)?;
    let fixes_mistral = raw.fix_mistral_regex == Some(true);
    Ok(TokenizerFiles { json, max_length, fixes_mistral, token_types, told })
}

/// The class without `Tokenizer` and `Fast`; of the family where no file names one.
fn class_of(named: Option<&str>, family: Option<Family>) -> Result<&'static str, Error> {
    let Some(named) = named else {
        return Ok(family.map_or("PreTrained", |family| family.files.tokenizer));
    };
    let short = named.strip_suffix("Fast").unwrap_or(named);
    let short = short.strip_suffix("Tokenizer").unwrap_or(short);
    let known = || BERT_LIKE.iter().chain(&TYPELESS).chain(&PLAIN);
    known().find(|class| **class == short).copied().ok_or_else(|| {
        let known: Vec<&str> = known().copied().collect();
        Error::Model(format!(
            "{FILE}: tokenizer_class is {named:?}, and what that class does beside {JSON} is not known: expected the class \
             of one of {}, or PreTrainedTokenizerFast, which takes {JSON} as it is",
            known.join(", ")
        ))
    })
}

fn parse(json: &[u8]) -> Result<Value, Error> {
    serde_json::from_slice(json).map_err(|error| Error::Tokenizer(format!("{JSON}: {error}")))
}

/// Sets BERT's normalizer as the tokenizer's class does.
fn lower_case(
    config: &Map<String, Value>,
    raw: &Raw,
    whole: &mut Value,
    told: &mut Vec<Told>,
) -> Result<(), Error> {
    let normalizer = &mut whole["normalizer"];
    if normalizer["type"] != "BertNormalizer" {
        return Ok(());
    }
    // No version of `transformers` loads a fast tokenizer with these: neither true nor false.
    for (key, own) in
        [("do_lower_case", "lowercase"), ("tokenize_chinese_chars", "handle_chinese_chars")]
    {
        if config.get(key) == Some(&Value::Null) && normalizer[own] == true {
            return Err(Error::Model(format!(
                "{FILE}: {key} is null, and the normalizer in {JSON} has {own} true, so what the model was trained with \
                 cannot be told: expected true or false. Set it in a copy of the folder"
            )));
        }
    }
    let set = |key: &str, value: Option<bool>| value.unwrap_or_else(|| !config.contains_key(key));
    let lower = set("do_lower_case", raw.do_lower_case);
    let chinese = set("tokenize_chinese_chars", raw.tokenize_chinese_chars);
    let wanted: [(&str, Value, &str); 3] = [
        ("lowercase", lower.into(), "do_lower_case"),
        ("strip_accents", raw.strip_accents.map_or(Value::Null, Value::from), "strip_accents"),
        ("handle_chinese_chars", chinese.into(), "tokenize_chinese_chars"),
    ];
    for (key, value, name) in wanted {
        if normalizer[key] != value {
            let from = format!("{FILE}: {name}, over {JSON}");
            told.push(Told::new("tokenizer", format!("{key} {value}"), from));
            normalizer[key] = value;
        }
    }
    Ok(())
}

/// Refuses an `add_prefix_space` by which the class would make another pre-tokenizer than tokenizer.json has. Classes of
/// `transformers` 5 build their own from that key and take the vocabulary alone from the file; BERT's have no such blank,
/// and the classes for any tokenizer take the file's. To those that build one null is as false.
fn check_prefix_space(
    config: &Map<String, Value>,
    class: &str,
    whole: &Value,
) -> Result<(), Error> {
    const KEY: &str = "add_prefix_space";
    let reads = !BERT_LIKE.contains(&class) && !AS_IT_IS.contains(&class);
    let Some(said) = config.get(KEY).filter(|_| reads) else {
        return Ok(());
    };
    let wanted = match said {
        Value::Null => Some(false),
        said => said.as_bool(),
    };
    let own = prefix_space(whole);
    let same = match own {
        PrefixSpace::Never => wanted == Some(false),
        PrefixSpace::First => wanted == Some(true) && !ALWAYS.contains(&class),
        PrefixSpace::Always => wanted == Some(true),
    };
    if same {
        return Ok(());
    }
    let found = match own {
        PrefixSpace::Never => "no text",
        PrefixSpace::First => "the first part of a text alone",
        PrefixSpace::Always => "every text",
    };
    Err(Error::Model(format!(
        "{FILE}: {KEY} is {said}, and {JSON} puts a blank before {found}, so `transformers` would make other tokens than \
         {JSON}: expected both to say the same. Save the tokenizer again \
         (`AutoTokenizer.from_pretrained(...).save_pretrained(...)`), or take {KEY} out in a copy of the folder if the \
         model was trained with {JSON} as it is"
    )))
}

/// The parts of a text before which a tokenizer puts a blank.
#[derive(Debug, Clone, Copy)]
enum PrefixSpace {
    Never,
    /// A text, and not what follows an added token in it.
    First,
    Always,
}

fn prefix_space(whole: &Value) -> PrefixSpace {
    let parts = |value: &Value, several: &str| match value[several].as_array() {
        Some(parts) => parts.clone(),
        None => vec![value.clone()],
    };
    let adds = |part: &Value| part["add_prefix_space"] != Value::Bool(false);
    for part in parts(&whole["pre_tokenizer"], "pretokenizers") {
        match (part["type"].as_str(), part["prepend_scheme"].as_str()) {
            (Some("Metaspace"), Some("first")) => return PrefixSpace::First,
            (Some("Metaspace"), Some("never")) => {}
            (Some("Metaspace"), Some(_)) => return PrefixSpace::Always,
            (Some("Metaspace" | "ByteLevel"), None) if adds(&part) => return PrefixSpace::Always,
            _ => {}
        }
    }
    if parts(&whole["normalizer"], "normalizers").iter().any(|part| part["type"] == "Prepend") {
        return PrefixSpace::Always;
    }
    PrefixSpace::Never
}

/// tokenizer.json without the tokens whose ids the model has no row for, if they are few and no merge makes them; `None`
/// if there are none of that kind.
pub(crate) fn within(json: &[u8], vocab: usize) -> Result<Option<(Vec<u8>, Told)>, Error> {
    let beyond = |id: &Value| id.as_u64().is_some_and(|id| id >= vocab as u64);
    let mut whole = parse(json)?;
    let mut left_out: Vec<String> = Vec::new();
    if let Some(added) = whole["added_tokens"].as_array_mut() {
        added.retain(|token| {
            let keep = !beyond(&token["id"]);
            if !keep {
                left_out.push(token["content"].to_string());
            }
            keep
        });
    }
    let model = &mut whole["model"];
    let merged = model["merges"].as_array().is_some_and(|merges| !merges.is_empty());
    match &mut model["vocab"] {
        Value::Object(words) if !merged => {
            let names: Vec<String> =
                words.iter().filter(|(_, id)| beyond(id)).map(|(word, _)| word.clone()).collect();
            if names.len() <= MOST_BEYOND {
                for word in names {
                    words.remove(&word);
                    left_out.push(format!("{word:?}"));
                }
            }
        }
        Value::Array(words) if (1..=MOST_BEYOND).contains(&words.len().saturating_sub(vocab)) => {
            left_out.extend(words.split_off(vocab).iter().map(|word| word[0].to_string()));
        }
        _ => {}
    }
    if left_out.is_empty() {
        return Ok(None);
    }
    left_out.sort();
    left_out.dedup();
    let from = format!("{JSON}: ids beyond the {vocab} words of config.json");
    let told = Told::new("tokenizer", format!("without {}", left_out.join(", ")), from);
    whole.sort_all_objects();
    let json = serde_json::to_vec(&whole).map_err(|error| Error::Tokenizer(error.to_string()))?;
    Ok(Some((json, told)))
}

fn max_length(
    key: &'static str,
    given: Option<f64>,
) -> Result<Option<(usize, &'static str)>, Error> {
    match given {
        None => Ok(None),
        Some(length) if length >= NO_BOUND => Ok(None),
        Some(length) if length >= 1.0 => {
            #[allow(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "from 1 to 10^9"
            )]
            let length = length as usize;
            Ok(Some((length, key)))
        }
        Some(length) => Err(Error::Model(format!(
            "{FILE}: {key} is {length}, expected a number of tokens from 1"
        ))),
    }
}

/// Refuses special tokens that the class would add and tokenizer.json does not.
fn check_ends(json: &[u8], raw: &Raw) -> Result<(), Error> {
    if raw.add_bos_token != Some(true) && raw.add_eos_token != Some(true) {
        return Ok(());
    }
    let tokenizer = TextTokenizer::from_json(json)?;
    let bare = tokenizer.single(&[])?.ids;
    let id = (0..=u32::MAX).find(|id| !bare.contains(id)).unwrap_or_default();
    let whole = tokenizer.single(&[id])?.ids;
    for (key, wanted, missing) in [
        ("add_bos_token", raw.add_bos_token, whole.first() == Some(&id)),
        ("add_eos_token", raw.add_eos_token, whole.last() == Some(&id)),
    ] {
        if wanted == Some(true) && missing {
            return Err(Error::Model(format!(
                "{FILE}: {key} is true, but the template in {JSON} adds no such token: expected both to say the same. Save \
                 the tokenizer again (`AutoTokenizer.from_pretrained(...).save_pretrained(...)`), or set {key} to false \
                 if the model was trained without it"
            )));
        }
    }
    Ok(())
}
