//! Nothing in the house asks which family a model is of, but the files that declare families: read off the sources.

use std::path::{Path, PathBuf};

use defrost_model::Family;

/// The sources of every crate and function, without tests and without the files that declare families.
fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).expect("a folder of sources").flatten() {
        let path = entry.path();
        let name = entry.file_name().to_string_lossy().into_owned();
        let declares = path.ends_with("model/src/architecture");
        let is_test = ["tests", "fuzz", "examples", "benches", "interleavings", "target"];
        if path.is_dir() && !is_test.contains(&&*name) && !declares {
            sources(&path, found);
        } else if path.extension().is_some_and(|end| end == "rs")
            && !["tests.rs", "architecture.rs", "build.rs"].contains(&&*name)
        {
            found.push(path);
        }
    }
}

/// The lines that name a family as a string, or a family by a path, and are neither comments nor tests.
fn named(text: &str) -> Vec<String> {
    let code = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
    let names: Vec<String> = Family::all().map(|family| format!("\"{}\"", family.name)).collect();
    code.lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .filter(|line| names.iter().any(|name| line.contains(name.as_str())))
        .map(str::to_owned)
        .collect()
}

#[test]
fn families_are_named_in_their_own_files_only() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut files = Vec::new();
    for room in ["shared", "functions"] {
        sources(&root.join(room), &mut files);
    }
    assert!(files.len() > 200, "{} files were read", files.len());
    for file in files {
        let others = [
            // Writes a file of another format that has the key `general.architecture`, for tests.
            "formats/gguf/writing.rs",
            // Read or write what kind of tokenizer such a file has, whose names are some of families too.
            "pack/src/gguf/keys.rs",
            "pack/src/gguf/tokenizer.rs",
            "pack/src/synth/gguf.rs",
            // Says whose tensors the models of candle read.
            "candle/src/body.rs",
        ];
        if others.iter().any(|other| file.ends_with(other)) {
            continue;
        }
        let text = std::fs::read_to_string(&file).expect("a source");
        let lines = named(&text);
        assert!(lines.is_empty(), "{}: {lines:#?}", file.display());
    }
}

#[test]
fn a_planted_one_is_found() {
    let planted = "fn f(name: &str) -> bool {\n    matches!(name, \"qwen2\" | \"bert\")\n}\n";
    assert_eq!(named(planted).len(), 1);
    assert!(named("/// `\"bert\"` in a comment").is_empty() && named("// \"bert\"").is_empty());
}
