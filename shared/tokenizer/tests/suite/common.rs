//! Tokenizers to compare, and the comparison.

use std::path::PathBuf;

use bytes::Bytes;
use defrost_testing::golden::{self, EMBEDDING_MODELS, PAIR_MODELS, repository};
use defrost_tokenizer::{Compiled, compile};
use serde_json::Value;
use tokenizers::{DecoderWrapper, PostProcessor, Tokenizer};

/// One tokenizer in both forms.
pub(super) struct Both {
    pub(super) name: String,
    pub(super) json: Vec<u8>,
    pub(super) compiled: Compiled,
    pub(super) reference: Tokenizer,
}

impl Both {
    pub(super) fn new(name: &str, json: Vec<u8>) -> Self {
        let image = compile(&json).unwrap_or_else(|error| panic!("{name}: {error}"));
        let compiled = Compiled::open(Bytes::from(image)).unwrap();
        let mut reference = Tokenizer::from_bytes(&json).unwrap();
        reference.with_truncation(None).unwrap();
        reference.with_padding(None);
        reference.with_decoder(None::<DecoderWrapper>);
        Self { name: name.to_owned(), json, compiled, reference }
    }

    /// Ids, offsets, and what becomes of the text alone and in a pair with itself.
    pub(super) fn difference(&self, text: &str) -> Option<String> {
        let expected = self.reference.encode(text, false).unwrap();
        let found = self.compiled.encode(text);
        if found.ids != expected.get_ids() || self.compiled.ids(text) != found.ids {
            return Some(format!(
                "{}: ids of {text:?}: {:?}, expected {:?}",
                self.name,
                found.ids,
                expected.get_ids()
            ));
        }
        if found.offsets != expected.get_offsets() {
            return Some(format!(
                "{}: offsets in {text:?}: {:?}, expected {:?}",
                self.name,
                found.offsets,
                expected.get_offsets()
            ));
        }
        let single = self.reference.post_process(expected.clone(), None, true).unwrap();
        let pair =
            self.reference.post_process(expected.clone(), Some(expected.clone()), true).unwrap();
        let (one, two) =
            (self.compiled.single(&found.ids), self.compiled.pair(&found.ids, &found.ids));
        if (&one.ids[..], &one.types[..]) != (single.get_ids(), single.get_type_ids())
            || (&two.ids[..], &two.types[..]) != (pair.get_ids(), pair.get_type_ids())
        {
            return Some(format!("{}: post-processing of {text:?}", self.name));
        }
        None
    }

    #[track_caller]
    pub(super) fn assert_same(&self, text: &str) {
        if let Some(difference) = self.difference(text) {
            panic!("{difference}");
        }
    }

    pub(super) fn added(&self, pair: bool) -> usize {
        self.reference.get_post_processor().map_or(0, |post| post.added_tokens(pair))
    }

    /// The texts of its added tokens, in order of their ids.
    pub(super) fn added_tokens(&self) -> Vec<String> {
        let mut tokens: Vec<(u32, String)> = self
            .reference
            .get_added_tokens_decoder()
            .into_iter()
            .map(|(id, token)| (id, token.content))
            .collect();
        tokens.sort_unstable();
        tokens.into_iter().map(|(_, content)| content).collect()
    }
}

/// Whether to try everything, which takes a quarter of an hour, instead of a part of it: `TOKENIZER_THOROUGH` is set.
pub(super) fn is_thorough() -> bool {
    std::env::var_os("TOKENIZER_THOROUGH").is_some()
}

/// The tokenizers of the tiny golden models, each once.
pub(super) fn golden_tokenizers() -> Vec<Both> {
    let mut all: Vec<Both> = Vec::new();
    for model in PAIR_MODELS.into_iter().chain(EMBEDDING_MODELS) {
        let json = std::fs::read(golden::checkpoint(model).join("tokenizer.json")).unwrap();
        if all.iter().all(|both| both.json != json) {
            all.push(Both::new(model, json));
        }
    }
    all
}

/// The tokenizer of a golden model with another value at one place.
pub(super) fn edited(model: &str, pointer: &str, value: Value) -> Vec<u8> {
    let json = std::fs::read(golden::checkpoint(model).join("tokenizer.json")).unwrap();
    let mut file: Value = serde_json::from_slice(&json).unwrap();
    *file.pointer_mut(pointer).unwrap_or_else(|| panic!("{pointer} in {model}")) = value;
    serde_json::to_vec(&file).unwrap()
}

/// A file of the reference data beside a development checkout; `None`, with a word about it, where that is absent.
pub(super) fn data(path: &str) -> Option<PathBuf> {
    let found = repository("../shared/data").join(path);
    if found.exists() {
        return Some(found);
    }
    println!("not run: {path} is not beside this checkout");
    None
}

/// The real tokenizers that are there.
pub(super) fn real_tokenizers() -> Vec<Both> {
    let files = [
        "tokenizers/bert-base-uncased",
        "tokenizers/qwen2.5",
        "tokenizers/qwen3",
        "tokenizers/qwen3-embedding",
        "tokenizers/xlm-roberta",
        "tokenizers/roberta-base",
        "tokenizers/distilroberta-base",
        "configs/cross-encoder_ms-marco-MiniLM-L-6-v2",
    ];
    files.into_iter().filter_map(real).collect()
}

/// One of them.
pub(super) fn real(name: &str) -> Option<Both> {
    let path = data(&format!("{name}/tokenizer.json"))?;
    Some(Both::new(name, std::fs::read(path).unwrap()))
}

/// All, golden and real.
pub(super) fn every_tokenizer() -> Vec<Both> {
    golden_tokenizers().into_iter().chain(real_tokenizers()).collect()
}
