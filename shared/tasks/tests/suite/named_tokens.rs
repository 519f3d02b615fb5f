//! Tokens that files beside tokenizer.json name. The ids are those that `transformers` 5.24 gives for the same files.

use std::path::Path;

use defrost_model::Precision;
use defrost_pack::SpecOptions;
use defrost_tasks::{Reranker, RerankerOptions, ScoreTask};
use serde_json::{Value, json};

use super::cases::{copied, packed, refused};
use super::checkpoints::edit;
use super::common::LINKED;

const BERT: &str = "golden/bert-embedding";
const CONFIG: &str = "tokenizer_config.json";

fn none() -> SpecOptions {
    SpecOptions::default()
}

/// Ids of texts, and what was told of the tokenizer.
fn ids(dir: &Path, texts: &[&str]) -> (Vec<Vec<u32>>, String) {
    let (packed, snapshot) = packed(dir, Precision::F32, none()).unwrap();
    let reranker = Reranker::load(LINKED, &snapshot, &RerankerOptions::default()).unwrap();
    let request = ScoreTask {
        query: "a".into(),
        documents: texts.iter().map(|&text| text.into()).collect(),
        ..ScoreTask::default()
    };
    // An embedder's texts are encoded alone: the query's first, then the documents'.
    let tokens = reranker.encode(&request).unwrap();
    let told = packed.told.iter().filter(|told| told.what == "tokenizer");
    let told: Vec<String> = told.map(ToString::to_string).collect();
    (tokens.into_iter().map(|tokens| tokens.ids).skip(1).collect(), told.join("\n"))
}

fn token(content: &str, more: &Value) -> Value {
    let mut token = json!({
        "content": content, "lstrip": false, "rstrip": false, "single_word": false, "normalized": false, "special": true
    });
    for (key, value) in more.as_object().unwrap() {
        token[key] = value.clone();
    }
    token
}

const TEXTS: [&str; 3] = ["a [MASK] b", "a [mask] b", "scorequery x"];
const PLAIN: [&[u32]; 3] = [&[2, 22, 4, 29, 3], &[2, 22, 1, 25, 192, 34, 1, 29, 3], &[2, 1, 1, 3]];
const FOUND: &[u32] = &[2, 168, 190, 1, 3];
const FOLDED: &[u32] = &[2, 22, 4, 29, 3];

/// A file and its content.
type File = (&'static str, Value);

/// Files, the ids of the texts with them, and what is told, if anything changes.
type Case = (Vec<File>, [&'static [u32]; 3], &'static str);

fn odd() -> Value {
    token("[MASK]", &json!({"lstrip": true, "normalized": true}))
}

fn changing() -> Vec<Case> {
    let (mut loose, mut found) = (PLAIN, PLAIN);
    loose[1] = FOLDED;
    found[2] = FOUND;
    vec![
        (vec![(CONFIG, json!({"extra_special_tokens": ["score"]}))], found, "\"score\" is a token"),
        (
            vec![(CONFIG, json!({"extra_special_tokens": {"own": "score"}}))],
            found,
            "extra_special_tokens",
        ),
        (
            vec![(CONFIG, json!({"additional_special_tokens": ["score"]}))],
            found,
            "additional_special_tokens",
        ),
        (
            vec![(CONFIG, json!({"model_specific_special_tokens": {"own": "score"}}))],
            found,
            "model_specific",
        ),
        (vec![(CONFIG, json!({"pad_token": "score"}))], found, "tokenizer_config.json: pad_token"),
        (
            vec![(CONFIG, json!({"added_tokens_decoder": {"168": token("score", &json!({}))}}))],
            found,
            "added_tokens_decoder, 168",
        ),
        (
            vec![(CONFIG, json!({"added_tokens_decoder": {"4": odd()}}))],
            loose,
            "\"[MASK]\" is a token, lstrip, normalized",
        ),
    ]
}

fn agreeing() -> Vec<Case> {
    let mut found = PLAIN;
    found[2] = FOUND;
    vec![
        (vec![], PLAIN, ""),
        // Of a token that is there already the rules there count, unless the decoder has others.
        (vec![(CONFIG, json!({"mask_token": odd()}))], PLAIN, ""),
        (vec![("special_tokens_map.json", json!({"mask_token": odd()}))], PLAIN, ""),
        (
            vec![(
                CONFIG,
                json!({"added_tokens_decoder": {"4": token("[MASK]", &json!({"special": false}))}}),
            )],
            PLAIN,
            "",
        ),
        (
            vec![("special_tokens_map.json", json!({"additional_special_tokens": ["score"]}))],
            found,
            "special_tokens_map.json",
        ),
        (vec![("added_tokens.json", json!({"score": 168}))], found, "added_tokens.json"),
        // Files of old versions, which are not read beside the decoder.
        (
            vec![
                (CONFIG, json!({"added_tokens_decoder": {}})),
                ("added_tokens.json", json!({"score": 168})),
            ],
            PLAIN,
            "",
        ),
        (
            vec![
                (CONFIG, json!({"added_tokens_decoder": {}})),
                ("special_tokens_map.json", json!({"additional_special_tokens": ["score"]})),
            ],
            PLAIN,
            "",
        ),
        // What agrees, in every way of saying it.
        (
            vec![
                (
                    CONFIG,
                    json!({
                        "cls_token": "[CLS]", "sep_token": token("[SEP]", &json!({"__type": "AddedToken"})),
                        "unk_token": "[UNK]", "mask_token": "[MASK]", "pad_token": "[PAD]", "bos_token": null,
                        "extra_special_tokens": {}, "additional_special_tokens": ["[MASK]"],
                    }),
                ),
                (
                    "special_tokens_map.json",
                    json!({"cls_token": "[CLS]", "mask_token": token("[MASK]", &json!({}))}),
                ),
                ("added_tokens.json", json!({"[MASK]": 4})),
            ],
            PLAIN,
            "",
        ),
    ]
}

#[test]
fn tokens_are_found_as_transformers_finds_them() {
    let expected = packed(copied(BERT).path(), Precision::F32, none()).unwrap().0.root;
    for (files, expected_ids, part) in changing().into_iter().chain(agreeing()) {
        for class in ["PreTrainedTokenizerFast", "BertTokenizer"] {
            let dir = copied(BERT);
            edit(dir.path(), CONFIG, json!({"tokenizer_class": class}));
            for (file, keys) in &files {
                edit(dir.path(), file, keys.clone());
            }
            let (found, told) = ids(dir.path(), &TEXTS);
            assert_eq!(found, expected_ids, "{files:?}");
            assert!(told.contains(part), "{files:?}: {told}");
            // What changes nothing is neither told nor seen.
            let root = packed(dir.path(), Precision::F32, none()).unwrap().0.root;
            assert_eq!(
                (told.is_empty(), root == expected),
                (part.is_empty(), part.is_empty()),
                "{files:?}: {told}"
            );
        }
    }
}

#[test]
fn tokens_that_contradict_the_tokenizer_are_refused() {
    let cases: [(&str, &str, Value, &[&str]); 11] = [
        (
            "Bert",
            CONFIG,
            json!({"extra_special_tokens": ["[EXTRA]"]}),
            &[
                "extra_special_tokens",
                "\"[EXTRA]\" is not in tokenizer.json",
                "Save the tokenizer again",
            ],
        ),
        (
            "Bert",
            CONFIG,
            json!({"added_tokens_decoder": {"480": token("[EXTRA]", &json!({}))}}),
            &["added_tokens_decoder, 480", "\"[EXTRA]\""],
        ),
        (
            "Bert",
            CONFIG,
            json!({"added_tokens_decoder": {"7": token("score", &json!({}))}}),
            &["added_tokens_decoder, 7", "the id 7 there and 168"],
        ),
        (
            "Bert",
            "added_tokens.json",
            json!({"[MASK]": 9}),
            &["added_tokens.json", "the id 9 there and 4"],
        ),
        (
            "Bert",
            CONFIG,
            json!({"cls_token": "[PAD]"}),
            &["tokenizer_config.json: cls_token", "\"[PAD]\"", "the token of id 2"],
        ),
        (
            "Bert",
            "special_tokens_map.json",
            json!({"sep_token": "score"}),
            &["special_tokens_map.json: sep_token", "the token of id 3"],
        ),
        (
            "Bert",
            CONFIG,
            json!({"unk_token": "[PAD]"}),
            &["tokenizer_config.json: unk_token", "\"[UNK]\""],
        ),
        ("MPNet", CONFIG, json!({"sep_token": "[MASK]"}), &["sep_token"]),
        ("Bert", CONFIG, json!({"mask_token": 7}), &["mask_token is 7, expected a token"]),
        (
            "Bert",
            CONFIG,
            json!({"added_tokens_decoder": ["[MASK]"]}),
            &["added_tokens_decoder is not a map"],
        ),
        (
            "Bert",
            "special_tokens_map.json",
            json!({"own": "[MASK]"}),
            &["special_tokens_map.json: own is"],
        ),
    ];
    for (class, file, keys, parts) in cases {
        let dir = copied(BERT);
        edit(dir.path(), CONFIG, json!({"tokenizer_class": format!("{class}Tokenizer")}));
        edit(dir.path(), file, keys);
        let error = refused(dir.path(), none());
        for part in parts {
            assert!(error.contains(part), "{part}: {error}");
        }
    }
    // A class that takes tokenizer.json as it is only finds them.
    let dir = copied(BERT);
    let names = json!({"cls_token": "[PAD]", "unk_token": "[PAD]"});
    edit(dir.path(), CONFIG, json!({"tokenizer_class": "PreTrainedTokenizerFast"}));
    edit(dir.path(), CONFIG, names);
    assert_eq!(ids(dir.path(), &TEXTS).0, PLAIN);
    // Published tokenizers name all of their tokens.
    for (folder, names) in [
        (
            "golden/xlm-roberta-classifier",
            json!({"bos_token": "<s>", "eos_token": "</s>", "cls_token": "<s>", "unk_token": "<unk>"}),
        ),
        (
            "golden/qwen3-embedding",
            json!({"eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>"}),
        ),
    ] {
        let dir = copied(folder);
        let before = packed(dir.path(), Precision::F32, none()).unwrap().0.root;
        edit(dir.path(), CONFIG, names);
        assert_eq!(packed(dir.path(), Precision::F32, none()).unwrap().0.root, before, "{folder}");
    }
    let dir = copied("golden/xlm-roberta-classifier");
    edit(dir.path(), CONFIG, json!({"bos_token": "<unk>"}));
    assert!(refused(dir.path(), none()).contains("bos_token: it is \"<unk>\""));
}

#[test]
fn a_length_goes_by_two_names_and_null_is_no_yes() {
    for (keys, expected) in [
        (json!({"max_len": 17}), 17),
        (json!({"max_len": 17, "model_max_length": 19}), 19),
        (json!({"max_len": 1e30}), 256),
    ] {
        let dir = copied(BERT);
        std::fs::remove_file(dir.path().join("sentence_bert_config.json")).unwrap();
        edit(dir.path(), CONFIG, keys.clone());
        let (packed, _) = packed(dir.path(), Precision::F32, none()).unwrap();
        assert_eq!(packed.spec.max_length, expected, "{keys}");
        let told = packed.told.iter().find(|told| told.what == "length").map(ToString::to_string);
        let key = if expected == 17 { "max_len" } else { "model_max_length" };
        assert!(expected == 256 || told.unwrap().contains(key), "{keys}");
    }
    for key in ["do_lower_case", "tokenize_chinese_chars"] {
        let dir = copied(BERT);
        std::fs::write(dir.path().join(CONFIG), format!(r#"{{"{key}":null}}"#)).unwrap();
        let error = refused(dir.path(), none());
        assert!(error.contains(key) && error.contains("is null"), "{error}");
    }
    for value in ["null", "false"] {
        let dir = copied(BERT);
        let path = dir.path().join("tokenizer.json");
        let mut json: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        json["normalizer"]["lowercase"] = false.into();
        std::fs::write(&path, json.to_string()).unwrap();
        std::fs::write(dir.path().join(CONFIG), format!(r#"{{"do_lower_case":{value}}}"#)).unwrap();
        edit(dir.path(), "sentence_bert_config.json", json!({"do_lower_case": false}));
        let (found, told) = ids(dir.path(), &["THE"]);
        assert!(told.is_empty(), "{told}");
        let lowered = ids(copied(BERT).path(), &["the"]).0;
        assert_ne!(found, lowered, "{value}");
    }
}

/// Each way of changing BERT's normalizer, with tokens that are listed and change nothing, with none, and with one that
/// changes something: what is told is what is done.
#[test]
fn the_normalizer_follows_the_class_whatever_tokens_are_listed() {
    let odd = json!({"added_tokens_decoder": {"4": odd()}});
    let texts = ["THE caf\u{e9}", "\u{4e2d}\u{6587}", "a [MASK] b", "a [mask] b"];
    for (folder, overrides) in [
        (BERT, json!({"do_lower_case": false})),
        (BERT, json!({"strip_accents": false})),
        (BERT, json!({"strip_accents": true, "do_lower_case": false})),
        (BERT, json!({"tokenize_chinese_chars": false})),
        ("cases/F3-do-lower-case", json!({"do_lower_case": true})),
        ("cases/F3-do-lower-case", json!({})),
    ] {
        let base = || {
            let dir = copied(folder);
            edit(dir.path(), "sentence_bert_config.json", json!({"do_lower_case": false}));
            edit(dir.path(), CONFIG, json!({"tokenizer_class": "BertTokenizer"}));
            edit(dir.path(), CONFIG, overrides.clone());
            dir
        };
        let plain = base();
        let (expected, told) = ids(plain.path(), &texts);
        assert!(told.contains("tokenizer_config.json: "), "{overrides}: {told}");
        for (file, keys) in [
            (CONFIG, json!({"cls_token": "[CLS]"})),
            (CONFIG, json!({"sep_token": "[SEP]", "pad_token": "[PAD]", "mask_token": "[MASK]"})),
            (CONFIG, json!({"unk_token": "[UNK]"})),
            (CONFIG, json!({"additional_special_tokens": ["[MASK]"]})),
            (CONFIG, json!({"added_tokens_decoder": {"4": token("[MASK]", &json!({}))}})),
            ("special_tokens_map.json", json!({"cls_token": "[CLS]"})),
        ] {
            let dir = base();
            edit(dir.path(), file, keys.clone());
            let found = ids(dir.path(), &texts);
            assert_eq!(found, (expected.clone(), told.clone()), "{overrides} {keys}");
        }
        // A token that changes something comes on top.
        let dir = base();
        edit(dir.path(), CONFIG, odd.clone());
        let (found, both) = ids(dir.path(), &texts);
        assert_eq!(found[..2], expected[..2], "{overrides}");
        assert!(both.contains(&told) && both.contains("\"[MASK]\" is a token, lstrip"), "{both}");
        if folder == BERT && overrides.get("do_lower_case").is_none() {
            assert_eq!((&*found[3], &*expected[3]), (FOLDED, PLAIN[1]), "{overrides}");
        }
    }
    // And each changes the ids of some text.
    let before = ids(copied(BERT).path(), &texts).0;
    for (key, at) in [("do_lower_case", 0), ("strip_accents", 0), ("tokenize_chinese_chars", 1)] {
        let dir = copied(BERT);
        edit(dir.path(), CONFIG, json!({key: false, "cls_token": "[CLS]"}));
        assert_ne!(ids(dir.path(), &texts).0[at], before[at], "{key}");
    }
}

#[test]
fn a_blank_before_texts_is_as_tokenizer_json_has_it() {
    const XLMR: &str = "golden/xlmr-embedding";
    const QWEN3: &str = "golden/qwen3-embedding";
    let both: [Value; 2] = [true.into(), false.into()];
    for (folder, class, fits) in [
        (QWEN3, json!(null), &both[1..]),
        (QWEN3, json!("Qwen2Tokenizer"), &both[1..]),
        (QWEN3, json!("PreTrainedTokenizerFast"), &both[..]),
        (XLMR, json!(null), &both[..1]),
        (XLMR, json!("XLMRobertaTokenizerFast"), &both[..1]),
        (XLMR, json!("PreTrainedTokenizerFast"), &both[..]),
        (BERT, json!("BertTokenizer"), &both[..]),
    ] {
        let base = || {
            let dir = copied(folder);
            edit(dir.path(), CONFIG, json!({"tokenizer_class": class}));
            dir
        };
        let root = |dir: &Path| packed(dir, Precision::F32, none()).unwrap().0.root;
        let expected = root(base().path());
        for said in &both {
            let dir = base();
            edit(dir.path(), CONFIG, json!({"add_prefix_space": said}));
            if fits.contains(said) {
                assert_eq!(root(dir.path()), expected, "{class} {said}");
            } else {
                let error = refused(dir.path(), none());
                for part in [&format!("add_prefix_space is {said}"), "Save the tokenizer again"] {
                    assert!(error.contains(part), "{class}: {error}");
                }
            }
        }
        // Null is false to the classes that read it.
        let dir = base();
        let null = json!({"tokenizer_class": class, "add_prefix_space": null});
        std::fs::write(dir.path().join(CONFIG), null.to_string()).unwrap();
        let found = packed(dir.path(), Precision::F32, none());
        assert_eq!(found.is_ok(), fits.contains(&both[1]), "{class}");
    }
    // A blank before the first part alone is not one before every part.
    let dir = copied(XLMR);
    let path = dir.path().join("tokenizer.json");
    let mut json: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    json["pre_tokenizer"]["prepend_scheme"] = "first".into();
    std::fs::write(&path, json.to_string()).unwrap();
    for said in both {
        edit(dir.path(), CONFIG, json!({"add_prefix_space": said}));
        assert!(refused(dir.path(), none()).contains("the first part of a text alone"));
    }
}
