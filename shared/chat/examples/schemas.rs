//! Holds grammars to schemas, for `scripts/check/check_schemas`.
//!
//! Standard input has a schema a line, `{"id", "schema", "tests": [{"description", "data", "valid"}]}`, and so has the
//! output: `{"id", "refused"}`, or `{"id", "accepts", "refuses", "walks"}`, whose lists are empty where all is well.
//! With `--tokenizer tokenizer.json` (byte-level) it measures instead, with that vocabulary: `{"id", "compile_us",
//! "masks_us"}`.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program for scripts")]
#![allow(clippy::cast_possible_truncation, reason = "ids, bytes and times are small")]

#[path = "../tests/suite/mod.rs"]
mod suite;
#[path = "../tests/walking/mod.rs"]
#[allow(dead_code, reason = "tests use the rest")]
mod walking;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use defrost_chat::{GrammarCompiler, VocabularyToken};
use defrost_model::Constraint as _;
use serde_json::{Value, json};
use suite::{Case, Verdict, What};
use walking::{Chance, Vocabulary};

/// Walks of each schema.
const WALKS: usize = 20;
/// Tokens of each walk that is measured.
const STEPS: usize = 300;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let cases = std::io::stdin()
        .lines()
        .map(|line| serde_json::from_str::<Case>(&line.expect("text")).expect("a schema a line"));
    match &arguments[..] {
        [] => check(cases),
        [flag, path] if flag == "--tokenizer" => measure(path, cases),
        _ => panic!("expected nothing or --tokenizer PATH, found {arguments:?}"),
    }
}

fn check(cases: impl Iterator<Item = Case>) {
    let vocabulary = Vocabulary::new();
    let compiler = vocabulary.compiler();
    let mut chance = Chance(0x5DEE_CE66_D1A4_B5C9);
    for case in cases {
        let verdict = suite::check(&vocabulary, &compiler, &case, WALKS, &mut chance);
        let line = match verdict {
            Verdict::Refused(why) => json!({"id": case.id, "refused": why}),
            Verdict::Kept(faults) => {
                let of = |what: What| -> Vec<&str> {
                    let faults = faults.iter().filter(|fault| fault.what == what);
                    faults.map(|fault| &*fault.document).collect()
                };
                json!({"id": case.id, "accepts": of(What::Accepts), "refuses": of(What::Refuses)})
            }
        };
        println!("{line}");
    }
}

/// The bytes of tokens as byte-level tokenizers write them.
fn bytes_of(word: &str) -> Option<Vec<u8>> {
    let printable = |byte: u32| matches!(byte, 33..=126 | 161..=172 | 174..=255);
    let byte = |letter: char| {
        let code = u32::from(letter);
        if printable(code) {
            return u8::try_from(code).ok();
        }
        (0..256)
            .filter(|&byte| !printable(byte))
            .nth(code.checked_sub(256)? as usize)
            .map(|it| it as u8)
    };
    word.chars().map(byte).collect()
}

fn measure(path: &str, cases: impl Iterator<Item = Case>) {
    let file: Value =
        serde_json::from_str(&std::fs::read_to_string(path).expect("a file")).expect("JSON");
    let words = file["model"]["vocab"].as_object().expect("a byte-level tokenizer");
    let specials = file["added_tokens"].as_array().expect("special tokens");
    let mut tokens: Vec<Vec<u8>> = vec![Vec::new(); words.len() + specials.len()];
    for (word, id) in words {
        tokens[id.as_u64().expect("an id") as usize] = bytes_of(word).expect("bytes");
    }
    let named: Vec<VocabularyToken<'_>> = tokens
        .iter()
        .enumerate()
        .map(|(id, bytes)| {
            let special = specials.iter().find(|it| it["id"] == id);
            match special.and_then(|it| it["content"].as_str()) {
                Some(name) => VocabularyToken::Special(name),
                None if bytes.is_empty() => VocabularyToken::None,
                None => VocabularyToken::Bytes(bytes),
            }
        })
        .collect();
    let end = specials.iter().find(|it| it["content"] == "<|im_end|>").expect("an end");
    let end = end["id"].as_u64().expect("an id") as u32;
    let ids: HashMap<Vec<u8>, u32> =
        tokens.iter().cloned().zip(0..).filter(|(word, _)| !word.is_empty()).collect();
    let longest = ids.keys().map(Vec::len).max().unwrap_or(1).min(64);
    let tokenize = move |text: &str| {
        let (mut rest, mut made) = (text.as_bytes(), Vec::new());
        while !rest.is_empty() {
            let mut lengths = (1..=rest.len().min(longest)).rev();
            let len = lengths.find(|&len| ids.contains_key(&rest[..len])).expect("every byte");
            made.push(ids[&rest[..len]]);
            rest = &rest[len..];
        }
        made
    };
    let begun = Instant::now();
    let compiler = GrammarCompiler::new(&named, &[end], Some(Arc::new(tokenize))).expect("tokens");
    eprintln!("compiler: {:?} for {} tokens", begun.elapsed(), named.len());
    let mut chance = Chance(42);
    for case in cases {
        let begun = Instant::now();
        let compiled = suite::compile(&compiler, &case.schema);
        let compile_us = begun.elapsed().as_micros() as u64;
        let mut line = json!({"id": case.id, "compile_us": compile_us});
        match compiled {
            Ok(mut constraint) => {
                let mut masks = Vec::new();
                for _ in 0..STEPS {
                    if constraint.is_done() {
                        break;
                    }
                    let begun = Instant::now();
                    let mask = constraint.mask();
                    masks.push(begun.elapsed().as_micros() as u64);
                    let mask = match mask {
                        Ok(mask) => mask.expect("one that restricts"),
                        Err(error) => {
                            line["fails"] = json!(error.to_string());
                            break;
                        }
                    };
                    let ids: Vec<u32> = mask.iter().filter(|&id| id != end).collect();
                    if ids.is_empty() {
                        break;
                    }
                    if constraint.accept(ids[chance.below(ids.len())]).is_err() {
                        break;
                    }
                }
                line["masks_us"] = json!(masks);
            }
            Err(error) => line["refused"] = json!(error.to_string()),
        }
        println!("{line}");
    }
}
