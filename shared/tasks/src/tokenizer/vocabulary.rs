//! From ids back to texts, for the few callers that ask.
//!
//! Compiled tokenizers know ids only. What the tokens are called, which of them are special and how they join into a text
//! is read from tokenizer.json at the first question, by the `tokenizers` crate, which takes up to a second and 50 MB.

use std::collections::HashSet;
use std::sync::OnceLock;

use defrost_loader::Snapshot;
use defrost_model::stored::TOKENIZER;
use serde::Deserialize;
use serde_json::Value;
use tokenizers::{DecoderWrapper, Tokenizer};

use super::{fault, file};
use crate::Error;

/// The decoders of the crate. Of one that is not well formed it makes a panic, so they are looked at first.
const DECODERS: [&str; 10] = [
    "BPEDecoder",
    "ByteFallback",
    "ByteLevel",
    "CTC",
    "Fuse",
    "Metaspace",
    "Replace",
    "Sequence",
    "Strip",
    "WordPiece",
];

/// The words of a snapshot's tokenizer.
#[derive(Debug)]
pub(crate) struct Vocabulary {
    snapshot: Snapshot,
    read: OnceLock<Result<Words, String>>,
}

#[derive(Debug)]
struct Words {
    tokenizer: Tokenizer,
    special: HashSet<u32>,
}

#[derive(Deserialize)]
struct File {
    decoder: Option<Value>,
}

impl Vocabulary {
    pub(crate) fn new(snapshot: Snapshot) -> Self {
        Self { snapshot, read: OnceLock::new() }
    }

    /// What the token is called, such as `##ing` or `▁the`; empty if there is none of that id.
    pub(crate) fn piece(&self, id: u32) -> Result<String, Error> {
        Ok(self.words()?.tokenizer.id_to_token(id).unwrap_or_default())
    }

    /// Whether the token stands for no text.
    pub(crate) fn is_special(&self, id: u32) -> Result<bool, Error> {
        Ok(self.words()?.special.contains(&id))
    }

    /// The text that the ids stand for; unknown ids are passed over.
    pub(crate) fn decode(&self, ids: &[u32], skip_special: bool) -> Result<String, Error> {
        self.words()?.tokenizer.decode(ids, skip_special).map_err(fault)
    }

    fn words(&self) -> Result<&Words, Error> {
        let read = self.read.get_or_init(|| self.read().map_err(|error| error.to_string()));
        read.as_ref().map_err(|what| Error::Tokenizer(what.clone()))
    }

    fn read(&self) -> Result<Words, Error> {
        words(&self.snapshot.tensor(TOKENIZER)?.bytes)
    }
}

fn words(json: &[u8]) -> Result<Words, Error> {
    let wrong = |what: String| Error::Tokenizer(format!("tokenizer.json: decoder: {what}"));
    let mut tokenizer = file::read(json)?;
    let file: File = serde_json::from_slice(json).map_err(|error| wrong(error.to_string()))?;
    if let Some(decoder) = file.decoder {
        if !is_known(&decoder) {
            return Err(wrong(format!("expected one of {}", DECODERS.join(", "))));
        }
        let decoder: DecoderWrapper =
            serde_json::from_value(decoder).map_err(|error| wrong(error.to_string()))?;
        tokenizer.with_decoder(Some(decoder));
    }
    let added = tokenizer.get_added_tokens_decoder();
    let special = added.into_iter().filter(|(_, token)| token.special).map(|(id, _)| id).collect();
    Ok(Words { tokenizer, special })
}

fn is_known(decoder: &Value) -> bool {
    let kind = decoder.get("type").and_then(Value::as_str);
    kind.is_some_and(|kind| DECODERS.contains(&kind))
        && decoder
            .get("decoders")
            .is_none_or(|inner| inner.as_array().is_some_and(|inner| inner.iter().all(is_known)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(decoder: &str) -> String {
        format!(
            r#"{{"version":"1.0","added_tokens":[{{"id":1,"content":"</s>","single_word":false,"lstrip":false,"rstrip":false,"normalized":false,"special":true}}],"decoder":{decoder},"model":{{"type":"WordLevel","vocab":{{"a":0,"</s>":1}},"unk_token":"a"}}}}"#
        )
    }

    #[test]
    fn ids_become_texts() {
        let words = words(with(r#"{"type":"Sequence","decoders":[{"type":"Fuse"}]}"#).as_bytes());
        let words = words.unwrap();
        assert_eq!(words.tokenizer.decode(&[0, 0, 1], true).unwrap(), "aa");
        assert_eq!(words.tokenizer.decode(&[0, 1, 9], false).unwrap(), "a</s>");
        assert!(words.special.contains(&1) && !words.special.contains(&0));
    }

    /// Each of the first four makes the crate panic or guess.
    #[test]
    fn damaged_decoders_are_refused_without_a_panic() {
        for decoder in [
            "1",
            r#"{"type":"no such decoder"}"#,
            r#"{"type":"Sequence","decoders":[{"type":7}]}"#,
            r#"{"type":"Sequence","decoders":{}}"#,
            r#"{"type":"Strip"}"#,
            r#"{"type":"Replace","pattern":{"Regex":"("},"content":""}"#,
        ] {
            let error = words(with(decoder).as_bytes()).unwrap_err().to_string();
            assert!(error.contains("decoder: "), "{decoder}: {error}");
        }
    }
}
