//! The committed inputs of the fuzz targets, run without a fuzzer; and the test that writes their seeds.

mod formats;

use std::path::PathBuf;

use defrost_testing::golden;

use super::*;
use crate::checkpoint::prepare;

type Target = (&'static str, fn(&[u8]));

const TARGETS: [Target; 8] = [
    ("config", config),
    ("gguf", gguf),
    ("gguf_model", gguf_model),
    ("onnx", onnx),
    ("safetensors", safetensors),
    ("shard_index", shard_index),
    ("snapshot_meta", snapshot_meta),
    ("tokenizer", tokenizer),
];

const MODELS: [&str; 6] = [
    "bert-embedding",
    "qwen2-mxbai",
    "qwen3-embedding",
    "qwen3-reranker",
    "xlm-roberta-classifier",
    "xlmr-m3",
];

fn corpus(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target)
}

#[test]
fn committed_inputs_hold() {
    for (target, run) in TARGETS {
        let mut inputs: Vec<PathBuf> =
            fs::read_dir(corpus(target)).unwrap().map(|entry| entry.unwrap().path()).collect();
        inputs.sort();
        assert!(!inputs.is_empty(), "{target} has no inputs");
        for input in inputs {
            // Shown if the test fails: the input at fault is the last one.
            println!("{}", input.display());
            run(&fs::read(&input).unwrap());
        }
    }
}

/// Seeds that everything refuses would show the fuzzer nothing.
#[test]
fn seeds_are_accepted() {
    for (target, name, bytes) in seeds() {
        let text = String::from_utf8_lossy(&bytes);
        let meta: HashMap<&str, &str> =
            text.lines().filter_map(|line| line.split_once('=')).collect();
        let accepted = match target {
            "snapshot_meta" => {
                ModelSpec::from_meta(Path::new("m"), &|key| meta.get(key).copied()).is_ok()
            }
            "tokenizer" => {
                let json = bytes.split(|&byte| byte == 0).next().unwrap_or_default();
                TextTokenizer::from_json(json).is_ok()
            }
            "gguf_model" => {
                let file = Gguf::parse(bytes.into()).unwrap();
                let opened = gguf_checkpoint(&file, Path::new("m.gguf")).unwrap();
                read(&prepare(&opened).unwrap(), &SpecOptions::default()).is_ok()
            }
            _ => true,
        };
        assert!(accepted, "{target}/{name}");
    }
}

/// `cargo test -p defrost-pack write_seeds -- --ignored` after a change of the golden models or of a format.
#[test]
#[ignore = "writes into the source tree"]
fn write_seeds() {
    for (target, name, bytes) in seeds() {
        fs::create_dir_all(corpus(target)).unwrap();
        fs::write(corpus(target).join(format!("seed-{name}")), bytes).unwrap();
    }
}

#[test]
fn seeds_of_formats_are_committed_as_they_are_made() {
    for (target, name, bytes) in formats::seeds() {
        let committed = fs::read(corpus(target).join(format!("seed-{name}"))).unwrap_or_default();
        assert!(committed == bytes, "{target}/seed-{name} differs: run write_seeds");
    }
}

fn seeds() -> Vec<(&'static str, String, Vec<u8>)> {
    let mut seeds = formats::seeds();
    for model in MODELS {
        let dir = golden::checkpoint(model);
        let file = |name: &str| fs::read(dir.join(name)).unwrap_or_default();
        let mut config: serde_json::Value = serde_json::from_slice(&file(FILES[0])).unwrap();
        // Room for the words of the target's tokenizer is all that `read` asks of the vocabulary.
        config["vocab_size"] = 5.into();
        let mut files = vec![serde_json::to_vec(&config).unwrap()];
        files.extend(FILES[1..].iter().map(|name| file(name)));
        seeds.push(("config", model.to_owned(), files.join(&0)));

        let checkpoint = Checkpoint::open(&dir).unwrap();
        let options = SpecOptions { name: model.to_owned(), ..SpecOptions::default() };
        let checkpoint = prepare(&checkpoint).unwrap();
        let meta = read(&checkpoint, &options).unwrap().spec.to_meta();
        let lines: Vec<String> = meta.iter().map(|(key, value)| format!("{key}={value}")).collect();
        seeds.push(("snapshot_meta", model.to_owned(), lines.join("\n").into_bytes()));
    }
    for (name, json) in small_tokenizers() {
        seeds.push(("tokenizer", name.to_owned(), json.to_string().into_bytes()));
    }
    seeds.push(("tokenizer", "text".to_owned(), [TOKENIZER, b"\0no yes"].concat()));
    seeds
}

/// One of each kind of model, normalizer, pre-tokenizer and post-processor that checkpoints use, a few words each: the
/// golden ones are too long to mutate.
fn small_tokenizers() -> Vec<(&'static str, serde_json::Value)> {
    use serde_json::json;

    let special = |id: u32, content: &str| {
        json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
               "normalized": false, "special": true})
    };
    let whole = |added: Vec<serde_json::Value>, parts: [serde_json::Value; 4]| {
        let [normalizer, pre_tokenizer, post_processor, model] = parts;
        json!({"version": "1.0", "truncation": null, "padding": null, "added_tokens": added,
               "normalizer": normalizer, "pre_tokenizer": pre_tokenizer,
               "post_processor": post_processor, "decoder": null, "model": model})
    };
    let id = |id: &str, type_id: u32| json!({"SpecialToken": {"id": id, "type_id": type_id}});
    let text = |id: &str, type_id: u32| json!({"Sequence": {"id": id, "type_id": type_id}});
    let word_piece = whole(
        vec![special(0, "[PAD]"), special(1, "[UNK]"), special(2, "[CLS]"), special(3, "[SEP]")],
        [
            json!({"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true,
                   "strip_accents": null, "lowercase": true}),
            json!({"type": "BertPreTokenizer"}),
            json!({"type": "TemplateProcessing",
                   "single": [id("[CLS]", 0), text("A", 0), id("[SEP]", 0)],
                   "pair": [id("[CLS]", 0), text("A", 0), id("[SEP]", 0), text("B", 1), id("[SEP]", 1)],
                   "special_tokens": {
                       "[CLS]": {"id": "[CLS]", "ids": [2], "tokens": ["[CLS]"]},
                       "[SEP]": {"id": "[SEP]", "ids": [3], "tokens": ["[SEP]"]}}}),
            json!({"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                   "max_input_chars_per_word": 100,
                   "vocab": {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "food": 4, "pl": 5,
                             "##ant": 6, "##s": 7, "?": 8}}),
        ],
    );
    let byte_level = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false,
                            "use_regex": false});
    let split = json!({"type": "Split", "pattern": {"Regex": "(?i:'s|'t)|\\p{N}|\\s+(?!\\S)|\\s+"},
                       "behavior": "Isolated", "invert": false});
    let bpe = whole(
        vec![special(6, "<|im_end|>")],
        [
            json!({"type": "NFC"}),
            json!({"type": "Sequence", "pretokenizers": [split, byte_level.clone()]}),
            byte_level,
            json!({"type": "BPE", "dropout": null, "unk_token": null,
                   "continuing_subword_prefix": "", "end_of_word_suffix": "", "fuse_unk": false,
                   "byte_fallback": false, "ignore_merges": false,
                   "vocab": {"f": 0, "o": 1, "d": 2, "fo": 3, "od": 4, "food": 5},
                   "merges": [["f", "o"], ["o", "d"], ["fo", "od"]]}),
        ],
    );
    let unigram = whole(
        vec![special(0, "<s>"), special(1, "</s>")],
        [
            json!({"type": "Sequence", "normalizers": [
                {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "},
                {"type": "Strip", "strip_left": false, "strip_right": true}]}),
            json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": true}),
            json!({"type": "RobertaProcessing", "sep": ["</s>", 1], "cls": ["<s>", 0],
                   "trim_offsets": true, "add_prefix_space": false}),
            json!({"type": "Unigram", "unk_id": 2, "byte_fallback": false,
                   "vocab": [["<s>", 0.0], ["</s>", 0.0], ["<unk>", 0.0], ["▁", -2.5],
                             ["▁food", -6.0], ["o", -4.0]]}),
        ],
    );
    let mut charsmap = unigram.clone();
    // A trie of 256 units that match nothing, and an empty replacement.
    let table = format!("AAQA{}", "AAAA".repeat(342));
    charsmap["normalizer"] = json!({"type": "Precompiled", "precompiled_charsmap": table});
    vec![("word-piece", word_piece), ("bpe", bpe), ("unigram", unigram), ("charsmap", charsmap)]
}
