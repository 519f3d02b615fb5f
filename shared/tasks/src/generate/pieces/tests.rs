use defrost_testing::golden::{self, EMBEDDING_MODELS, PAIR_MODELS};
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::tokenizer::TextTokenizer;

fn compiled(json: &serde_json::Value) -> Result<Pieces, Error> {
    Pieces::open(Pieces::compile(json.to_string().as_bytes())?.into())
}

fn file(vocab: &serde_json::Value, decoder: &serde_json::Value) -> serde_json::Value {
    json!({
        "version": "1.0",
        "added_tokens": [{"id": 7, "content": "<|im_end|>", "special": true}, {"id": 8, "content": "▁▁"}],
        "pre_tokenizer": null,
        "decoder": decoder,
        "model": {"type": "BPE", "vocab": vocab, "merges": [["a", "b"]]},
    })
}

/// As llama's and gemma's files have them: blanks are `▁`, and a byte that no word has is `<0x..>`.
#[test]
fn bytes_fall_back_to_their_numbers() {
    let decoder = json!({"type": "Sequence", "decoders": [
        {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
        {"type": "ByteFallback"}, {"type": "Fuse"},
        {"type": "Strip", "content": " ", "start": 1, "stop": 0},
    ]});
    let vocab = json!({"▁a": 0, "<0xE4>": 1, "<0xb8>": 2, "<0xAD>": 3, "<0xG1>": 4, "a": 6});
    let pieces = compiled(&file(&vocab, &decoder)).unwrap();
    assert_eq!(pieces.len(), 9);
    assert_eq!(pieces.bytes(0), b" a");
    assert_eq!(pieces.text(&[1, 2, 3], true), "中");
    assert_eq!((pieces.bytes(4), pieces.bytes(5)), (&b"<0xG1>"[..], &b""[..]));
    assert_eq!((pieces.bytes(8), pieces.bytes(9)), (&b"  "[..], &b""[..]));
    assert_eq!(pieces.special(), BTreeSet::from([7]));
    assert!(!pieces.is_special(99));
    assert_eq!(pieces.text(&[6, 7], true), "a");
    assert_eq!(pieces.text(&[6, 7], false), "a<|im_end|>");
}

#[test]
fn lists_with_scores_are_read_too() {
    let unigram = json!({
        "model": {"type": "Unigram", "vocab": [["<unk>", 0.0], ["▁\u{e9}", -1.5]]},
        "decoder": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always"},
    });
    assert_eq!(compiled(&unigram).unwrap().bytes(1), " é".as_bytes());
}

#[test]
fn decoders_that_join_tokens_in_other_ways_are_refused() {
    for decoder in [
        json!(null),
        json!({"type": "WordPiece", "prefix": "##"}),
        json!({"type": "CTC"}),
        json!({"type": "Replace", "pattern": {"Regex": "a+"}, "content": ""}),
        json!({"type": "Replace", "pattern": {"String": ""}, "content": ""}),
        json!({"type": "Sequence"}),
        json!(7),
    ] {
        let error = compiled(&file(&json!({"a": 0}), &decoder)).unwrap_err().to_string();
        assert!(error.contains("decoder: expected ByteLevel"), "{error}");
    }
    for wrong in ["", "{}", r#"{"model":{"vocab":7}}"#, r#"{"model":{"vocab":{"a":-1}}}"#] {
        assert!(Pieces::compile(wrong.as_bytes()).is_err(), "{wrong}");
    }
    let huge = file(&json!({"a": 4_000_000_000_u32}), &json!({"type": "ByteLevel"}));
    assert!(compiled(&huge).unwrap_err().to_string().contains("too large"));
}

/// What texts become and what these become again, with the golden tokenizers, and the real ones where they lie beside this
/// checkout: the text as it was where the tokenizer only cuts it, else as the `tokenizers` crate decodes it.
#[test]
fn tokens_join_into_the_text_that_they_were_cut_from() {
    let golden = PAIR_MODELS.into_iter().chain(EMBEDDING_MODELS).map(golden::checkpoint);
    let real =
        ["qwen2.5", "qwen3"].map(|name| golden::repository("../shared/data/tokenizers").join(name));
    let text = "Where do plants get their food? 中文字符 e\u{301} \n\tfn main() {}  😀<|im_end|>x";
    let mut tried = 0;
    for dir in golden.chain(real) {
        let Ok(json) = std::fs::read(dir.join("tokenizer.json")) else { continue };
        let Ok(image) = Pieces::compile(&json) else { continue };
        let pieces = Pieces::open(image.into()).unwrap();
        let tokenizer = TextTokenizer::from_json(&json).unwrap();
        let ids = tokenizer.ids(text, usize::MAX).unwrap();
        let file: serde_json::Value = serde_json::from_slice(&json).unwrap();
        let whole = tokenizers::Tokenizer::from_bytes(&json).unwrap();
        for skip in [true, false] {
            let theirs = if file["decoder"].is_null() {
                // The crate puts blanks between the words as they are called.
                text.replace("e\u{301}", "é").replace(if skip { "<|im_end|>" } else { "\0" }, "")
            } else {
                whole.decode(&ids, skip).unwrap()
            };
            let ours = pieces.text(&ids, skip);
            assert_eq!(ours.trim_start(), theirs.trim_start(), "{}", dir.display());
        }
        tried += 1;
    }
    assert!(tried >= 3, "{tried} tokenizers");
}

proptest! {
    #[test]
    fn every_byte_has_a_character(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
        // The alphabet as GPT-2's code makes it: bytes that print are themselves, the others follow in order.
        let prints = |byte: u8| matches!(byte, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
        let others: Vec<u8> = (0..=255).filter(|&byte| !prints(byte)).collect();
        let character = |&byte: &u8| match others.iter().position(|&other| other == byte) {
            Some(at) => char::from_u32(256 + u32::try_from(at).unwrap()).unwrap(),
            None => char::from(byte),
        };
        let word: String = bytes.iter().map(character).collect();
        let vocab = json!({ word: 0 });
        let pieces = compiled(&file(&vocab, &json!({"type": "ByteLevel"}))).unwrap();
        prop_assert_eq!(pieces.bytes(0), bytes);
    }

    #[test]
    fn damaged_tables_are_refused_or_read_without_a_panic(at in any::<usize>(), byte in any::<u8>(), len in any::<usize>()) {
        let vocab = json!({"a": 0, "bcd": 1});
        let image = Pieces::compile(file(&vocab, &json!({"type": "ByteLevel"})).to_string().as_bytes()).unwrap();
        let mut damaged = image.clone();
        damaged[at % image.len()] = byte;
        damaged.truncate(1 + len % image.len());
        if let Ok(pieces) = Pieces::open(damaged.into()) {
            for id in (0..20).chain([u32::MAX]) {
                let _ = (pieces.bytes(id), pieces.is_special(id));
            }
        }
    }
}
