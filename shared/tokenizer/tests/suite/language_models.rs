//! The tokenizers of language models: Llama 3's pattern with words that no merge makes, `SmolLM`'s digits, and character pairs
//! with bytes for what is unknown (Llama 2, Mistral, Gemma), in every form in which files ask for them.

use std::sync::LazyLock;

use defrost_testing::golden::repository;
use defrost_tokenizer::compile;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::common::{Both, is_thorough, real};
use super::made_up::{Source, long_texts, text};
use super::real_texts::texts;

const FAMILIES: [&str; 6] = ["llama", "smollm", "tinyllama", "gemma3", "qwen2", "qwen3"];

/// Texts that only some of them cut in a way of their own.
const TEXTS: [&str; 14] = [
    "1 12 123 1234 12345 a1234567b 12\u{b2}3\u{bd}\u{2460}\u{ff11}\u{ff12}\u{ff13}\u{ff14}",
    "a  5   6 7a  ",
    "  \n 5 \n\n 5x's5's",
    "\u{2581}a \u{2581}\u{2581} b\u{2581}",
    " leading and trailing ",
    "   ",
    "\u{1f600}\u{10ffff}\0\u{7f}\u{4e2d}",
    "<0x41><0x0A><0x",
    "<s>a</s> b<s>",
    "<bos><start_of_turn>user\nHi<end_of_turn>\n<start_of_turn>model\n",
    "<|begin_of_text|>a<|eot_id|>1234",
    "<|im_start|>user\nHow  much is 12345?<|im_end|>\n",
    "e\u{301}\u{323} \u{212b}",
    "the 1,000,000th \u{661}\u{662}\u{663}\u{664} \u{3007}\u{4e00}\u{5341}",
];

fn file(family: &str) -> Value {
    let path = repository(&format!("data/golden/generate-{family}/tokenizer.json"));
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// A family's file with other values.
fn edited(family: &str, edits: &[(&str, Value)]) -> Vec<u8> {
    let mut file = file(family);
    for (pointer, value) in edits {
        *file.pointer_mut(pointer).unwrap_or_else(|| panic!("{pointer} in {family}")) =
            value.clone();
    }
    serde_json::to_vec(&file).unwrap()
}

fn metaspace(scheme: &str) -> Value {
    json!({"type": "Metaspace", "replacement": "\u{2581}", "prepend_scheme": scheme, "split": false})
}

/// The file without every third merge, most of whose words no merge makes then.
fn with_fewer_merges(mut file: Value) -> Vec<u8> {
    let merges = file["model"]["merges"].as_array_mut().unwrap();
    let mut at = 0;
    merges.retain(|_| {
        at += 1;
        at % 3 != 0
    });
    file["model"]["ignore_merges"] = json!(true);
    serde_json::to_vec(&file).unwrap()
}

static ALL: LazyLock<Vec<Both>> = LazyLock::new(|| {
    let plain = FAMILIES.map(|family| (family.to_owned(), edited(family, &[])));
    let scheme = |family: &str, name: &str| {
        let edits = [("/normalizer", Value::Null), ("/pre_tokenizer", metaspace(name))];
        (format!("{family}, {name}"), edited(family, &edits))
    };
    let made = [
        scheme("tinyllama", "first"),
        scheme("tinyllama", "always"),
        scheme("gemma3", "never"),
        ("llama, fewer merges".to_owned(), with_fewer_merges(file("llama"))),
        ("smollm, fewer merges".to_owned(), with_fewer_merges(file("smollm"))),
    ];
    plain.into_iter().chain(made).map(|(name, json)| Both::new(&name, json)).collect()
});

#[test]
fn every_family_gives_the_tokens_of_the_crate() {
    for both in &*ALL {
        let special = both.added_tokens();
        for text in TEXTS {
            both.assert_same(text);
            both.assert_same(&format!("{text}{text}"));
            for token in &special {
                both.assert_same(&format!("{text}{token}{text} {token} {text}"));
            }
        }
        for seed in 0..1000 {
            both.assert_same(&text(&mut Source::new(seed), &special, &[]));
        }
    }
}

#[test]
fn every_code_point_gives_the_tokens_of_the_crate() {
    let all: Vec<char> = (0..=0x10_ffff).filter_map(char::from_u32).collect();
    for both in &*ALL {
        let is_tried = |at: usize| is_thorough() || at < 8 || at.is_multiple_of(397);
        for (_, some) in all.chunks(512).enumerate().filter(|&(at, _)| is_tried(at)) {
            let texts: [fn(char) -> String; 2] =
                [|c| format!("a{c}b 1{c}2 {c}{c}\n"), |c| format!("{c}\u{301} ")];
            for make in texts {
                let together: String = some.iter().map(|&c| make(c)).collect();
                both.assert_same(&together);
            }
        }
    }
}

/// A text that is one piece takes time by its length, not by the square of it.
#[test]
fn long_texts_are_done_in_time() {
    for both in &*ALL {
        for text in long_texts() {
            let part = text.len() / 16 / 60 * 60;
            let expected = both.reference.encode_fast(&text[..part], false).unwrap();
            assert_eq!(both.compiled.ids(&text[..part]), expected.get_ids(), "{}", both.name);
            let start = std::time::Instant::now();
            std::hint::black_box(both.compiled.ids(&text));
            assert!(start.elapsed().as_secs() < 5, "{}", both.name);
        }
    }
}

/// Vocabularies of true size, with the parts of other families' files.
#[test]
fn large_vocabularies_give_the_tokens_of_the_crate() {
    let Some(qwen) = real("tokenizers/qwen2.5") else { return };
    let qwen: Value = serde_json::from_slice(&qwen.json).unwrap();
    let part = |family: &str, key: &str| file(family)[key].clone();
    let mut llama = qwen.clone();
    llama["normalizer"] = Value::Null;
    llama["pre_tokenizer"] = part("llama", "pre_tokenizer");
    let mut smollm = qwen;
    smollm["normalizer"] = Value::Null;
    smollm["pre_tokenizer"] = part("smollm", "pre_tokenizer");
    let all = [
        Both::new("llama, large", with_fewer_merges(llama)),
        Both::new("smollm, large", serde_json::to_vec(&smollm).unwrap()),
    ];
    let texts = texts();
    let step = if is_thorough() { 1 } else { 29 };
    for both in all {
        for text in texts.iter().step_by(step) {
            both.assert_same(text);
        }
        for text in TEXTS {
            both.assert_same(text);
        }
    }
}

#[test]
fn equal_files_give_equal_images() {
    for both in &*ALL {
        assert_eq!(compile(&both.json).unwrap(), compile(&both.json).unwrap(), "{}", both.name);
    }
}

/// What is near to these and not reproduced.
#[test]
fn what_departs_from_the_families_is_refused_by_name() {
    let digits = json!({"type": "Sequence", "pretokenizers": [
        {"type": "Digits", "individual_digits": false},
        {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true}]});
    let strict = json!({"type": "Metaspace", "replacement": "\u{2581}", "prepend_scheme": "first", "split": true});
    for (family, pointer, value, part) in [
        ("smollm", "/pre_tokenizer", digits, "individual_digits"),
        ("tinyllama", "/pre_tokenizer", strict, "another kind"),
        ("tinyllama", "/normalizer/normalizers/0/prepend", json!("x"), "prepend"),
        ("tinyllama", "/normalizer/normalizers/1/content", json!("_"), "pattern"),
        ("tinyllama", "/normalizer", json!({"type": "NFC"}), "another kind"),
        ("tinyllama", "/model/byte_fallback", json!(false), "all bytes"),
        ("tinyllama", "/model/ignore_merges", json!(true), "ignore_merges"),
        ("gemma3", "/normalizer", Value::Null, "Split"),
        ("gemma3", "/pre_tokenizer/pattern", json!({"String": "x"}), "pattern"),
        ("llama", "/normalizer", json!({"type": "Prepend", "prepend": "\u{2581}"}), "another kind"),
    ] {
        let error = compile(&edited(family, &[(pointer, value)])).unwrap_err().to_string();
        assert!(error.contains(part), "{family} {pointer}: {error}");
    }
}

proptest! {
    #[test]
    fn any_text_gives_the_tokens_of_the_crate(
        text in ".{0,60}|[ -~\n]{0,80}|[a-z 0-9'\u{e0}-\u{ff}\u{300}-\u{330}\u{2581}]{0,60}|(<s>|[0-9]{1,7}| |\n|the|\u{2581}){0,14}"
    ) {
        for both in &*ALL {
            prop_assert_eq!(both.difference(&text), None);
        }
    }
}
