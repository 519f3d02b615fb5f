//! The committed inputs of the fuzz targets, run without a fuzzer.

use std::fs;
use std::path::{Path, PathBuf};

use super::*;

type Target = (&'static str, fn(&[u8]));

const TARGETS: [Target; 2] = [("grammar", grammar), ("template", template)];

fn inputs(target: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let entries =
        fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut inputs: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    inputs.sort();
    inputs
}

#[test]
fn committed_inputs_hold() {
    for (target, run) in TARGETS {
        let inputs = inputs(target);
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
    for (target, _) in TARGETS {
        for input in inputs(target) {
            if !input.file_name().is_some_and(|name| name.to_string_lossy().starts_with("seed-")) {
                continue;
            }
            let text = fs::read_to_string(&input).unwrap();
            let is_accepted = if target == "grammar" {
                let (kind, rest) = text.split_at(1);
                let grammar =
                    grammar_of(kind, rest).expect("a kind").unwrap().expect("it restricts");
                COMPILER.compile(&grammar).is_ok()
            } else {
                let source = text.split('\0').next().unwrap_or_default();
                Template::new(source, SpecialTexts::default()).is_ok()
            };
            assert!(is_accepted, "{}", input.display());
        }
    }
}
