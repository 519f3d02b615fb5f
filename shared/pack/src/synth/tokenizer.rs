//! A byte-level tokenizer for made-up models: every byte is a token, nothing has to be shipped.
//!
//! Real tokenizers give a third to a fifth as many tokens for the same text, so speed per document
//! must be measured with the real file (`defrost synth --tokenizer`).

use defrost_model::ModelConfig;
use serde_json::{Value, json};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;

use crate::Error;

/// Special tokens come first, so that they fit any vocabulary.
const SPECIAL: [&str; 6] = ["<s>", "<|endoftext|>", "</s>", "<unk>", "<|im_start|>", "<|im_end|>"];
/// Words that Qwen3-Reranker's answer needs as one token, with the merges that make them.
const WORDS: [&str; 3] = ["ye", "yes", "no"];
const MERGES: [[&str; 2]; 3] = [["y", "e"], ["ye", "s"], ["n", "o"]];

/// The bytes of its tokenizer.json.
pub(super) fn byte_level(config: &ModelConfig) -> Result<Vec<u8>, Error> {
    let mut alphabet: Vec<String> =
        ByteLevel::alphabet().into_iter().map(|symbol| symbol.to_string()).collect();
    alphabet.sort_unstable();
    let words = WORDS.iter().map(|&word| word.to_owned());
    let names: Vec<String> =
        SPECIAL.iter().map(|&name| name.to_owned()).chain(alphabet).chain(words).collect();
    if names.len() > config.vocab {
        return Err(Error::Model(format!(
            "the byte-level tokenizer needs {} words, the model has {}; give a tokenizer.json",
            names.len(),
            config.vocab
        )));
    }
    let vocab: serde_json::Map<String, Value> =
        names.iter().enumerate().map(|(id, name)| (name.clone(), json!(id))).collect();
    let added: Vec<Value> = SPECIAL
        .iter()
        .enumerate()
        .map(|(id, content)| {
            json!({"id": id, "content": content, "single_word": false, "lstrip": false,
                   "rstrip": false, "normalized": false, "special": true})
        })
        .collect();
    let byte_level = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
    let post_processor = if config.family.blueprint.causal {
        Value::Null
    } else {
        let special = |id: &str| json!({"SpecialToken": {"id": id, "type_id": 0}});
        let text = |id: &str| json!({"Sequence": {"id": id, "type_id": 0}});
        json!({
            "type": "TemplateProcessing",
            "single": [special("<s>"), text("A"), special("</s>")],
            "pair": [special("<s>"), text("A"), special("</s>"), text("B"), special("</s>")],
            "special_tokens": {
                "<s>": {"id": "<s>", "ids": [0], "tokens": ["<s>"]},
                "</s>": {"id": "</s>", "ids": [2], "tokens": ["</s>"]},
            },
        })
    };
    let mut tokenizer = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added,
        "normalizer": null, "pre_tokenizer": byte_level, "post_processor": post_processor,
        "decoder": byte_level,
        "model": {"type": "BPE", "dropout": null, "unk_token": null,
                  "continuing_subword_prefix": null, "end_of_word_suffix": null,
                  "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
                  "vocab": vocab, "merges": MERGES},
    });
    tokenizer.sort_all_objects();
    serde_json::to_vec(&tokenizer).map_err(|err| Error::Model(err.to_string()))
}
