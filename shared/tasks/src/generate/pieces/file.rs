//! What of a tokenizer.json says what its tokens are called.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use crate::Error;

/// A token as the file has it.
#[derive(Debug)]
pub(super) struct Token {
    pub(super) text: String,
    /// Whether it was added to the vocabulary: it then stands for its text as it is.
    pub(super) is_added: bool,
    pub(super) is_special: bool,
}

/// The file, as far as it matters here.
#[derive(Debug)]
pub(super) struct File {
    pub(super) tokens: BTreeMap<u32, Token>,
    pub(super) decoder: Option<Value>,
    /// Whether texts are cut into tokens byte by byte, which files say in one of three places.
    pub(super) is_byte_level: bool,
}

#[derive(Deserialize)]
struct Json<'a> {
    #[serde(borrow)]
    model: Model<'a>,
    #[serde(default)]
    added_tokens: Vec<Added>,
    decoder: Option<Value>,
    pre_tokenizer: Option<Value>,
}

#[derive(Deserialize)]
struct Model<'a> {
    #[serde(borrow)]
    vocab: Vocab<'a>,
}

#[derive(Deserialize)]
struct Added {
    id: u32,
    content: String,
    #[serde(default)]
    special: bool,
}

/// Ids by their words, or words with their scores in the order of their ids.
struct Vocab<'a>(Vec<(u32, Cow<'a, str>)>);

impl<'de: 'a, 'a> Deserialize<'de> for Vocab<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Words)
    }
}

struct Words;

impl<'de> Visitor<'de> for Words {
    type Value = Vocab<'de>;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("words with their ids, or a list of words with their scores")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = Vec::new();
        while let Some((Word(word), id)) = map.next_entry()? {
            found.push((id, word));
        }
        Ok(Vocab(found))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut found = Vec::new();
        for id in 0.. {
            let Some((Word(word), _)) = seq.next_element::<(Word<'de>, IgnoredAny)>()? else {
                break;
            };
            found.push((id, word));
        }
        Ok(Vocab(found))
    }
}

/// Borrowed where nothing in it is escaped.
#[derive(Deserialize)]
struct Word<'a>(#[serde(borrow)] Cow<'a, str>);

pub(super) fn read(json: &[u8]) -> Result<File, Error> {
    let json: Json<'_> = serde_json::from_slice(json)
        .map_err(|error| Error::Tokenizer(format!("tokenizer.json: {error}")))?;
    let word = |(id, text): (u32, Cow<'_, str>)| {
        (id, Token { text: text.into_owned(), is_added: false, is_special: false })
    };
    let mut tokens: BTreeMap<u32, Token> = json.model.vocab.0.into_iter().map(word).collect();
    tokens.extend(json.added_tokens.into_iter().map(|Added { id, content, special }| {
        (id, Token { text: content, is_added: true, is_special: special })
    }));
    let is_byte_level = json.pre_tokenizer.as_ref().is_some_and(is_byte_level);
    Ok(File { tokens, decoder: json.decoder, is_byte_level })
}

fn is_byte_level(pre_tokenizer: &Value) -> bool {
    let list = pre_tokenizer.get("pretokenizers").and_then(Value::as_array);
    pre_tokenizer.get("type").is_some_and(|kind| kind == "ByteLevel")
        || list.is_some_and(|list| list.iter().any(is_byte_level))
}
