//! inspect and pack on files of other formats. The files are seeds of pack's fuzz targets.

use std::fs;
use std::path::{Path, PathBuf};

use defrost_testing::golden;

use super::support::run;

fn seed(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../pack/fuzz/corpus").join(name)
}

fn with(name: &str, source: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::copy(seed(source), dir.path().join(name)).unwrap();
    dir
}

#[test]
fn gguf_by_its_magic_whatever_its_name() {
    let dir = with("model.bin", "gguf/seed-v3");
    let shown = run(dir.path(), &["inspect", "model.bin", "--json"]).json();
    assert_eq!((&shown["format"], &shown["version"]), (&"gguf".into(), &3.into()));
    assert_eq!(shown["metadata"]["general.architecture"], "bert");
    assert_eq!(shown["metadata"]["tokenizer.ggml.tokens"]["length"], 3);
    assert_eq!(shown["metadata"]["tokenizer.ggml.tokens"]["first"][1], "ü");
    let tensors = shown["tensors"].as_array().unwrap();
    assert_eq!(tensors.len(), 5);
    assert_eq!((&tensors[0]["dtype"], &tensors[0]["bytes"]), (&"Q8_0".into(), &68.into()));
    assert_eq!((&tensors[4]["dtype"], &tensors[4]["bytes"]), (&"kind 20".into(), &().into()));

    let text = run(dir.path(), &["inspect", "model.bin"]).text();
    assert!(text.starts_with("format  GGUF 3 (alignment 64)\n"), "{text}");
    assert!(text.contains("\ngeneral.architecture = \"bert\"\n"), "{text}");
    assert!(text.ends_with("\n5 tensors, 82 B\n"), "{text}");
    let long = run(dir.path(), &["inspect", "model.bin", "--tensors"]).text();
    assert_eq!(long.lines().count(), text.lines().count() + 5);
    assert!(long.contains("token_embd.weight") && !text.contains("token_embd.weight"), "{long}");
}

#[test]
fn onnx_by_its_name() {
    let dir = with("model.onnx", "onnx/seed-sample");
    let shown = run(dir.path(), &["inspect", "model.onnx", "--json"]).json();
    assert_eq!((&shown["format"], &shown["producer"]), (&"onnx".into(), &"pytorch".into()));
    assert_eq!(
        (&shown["opsets"][0]["version"], &shown["inputs"][0]),
        (&17.into(), &"input_ids".into())
    );
    assert_eq!(shown["tensors"][3]["place"], "model.onnx_data at byte 4096");
    let text = run(dir.path(), &["inspect", "model.onnx", "--tensors"]).text();
    assert!(text.starts_with("format  ONNX, IR 8, 1 nodes, by \"pytorch\" \"2.9\"\n"), "{text}");
    assert!(text.ends_with("\n6 tensors, 32.0 kB\n"), "{text}");
}

#[test]
fn safetensors_of_a_real_checkpoint() {
    let dir = golden::checkpoint("bert-classifier");
    let shown = run(&dir, &["inspect", "model.safetensors", "--json"]).json();
    assert_eq!(shown["format"], "safetensors");
    let tensors = shown["tensors"].as_array().unwrap();
    let total: u64 = tensors.iter().map(|tensor| tensor["bytes"].as_u64().unwrap()).sum();
    let file = fs::metadata(dir.join("model.safetensors")).unwrap().len();
    assert!(total < file && total > file / 2, "{total} of {file}");
    let text = run(&dir, &["inspect", "model.safetensors"]).text();
    assert!(text.starts_with("format  safetensors\n"), "{text}");
    assert!(text.contains(&format!("\n{} tensors, ", tensors.len())), "{text}");
}

#[test]
fn damage_is_one_line_that_says_where() {
    let dir = tempfile::tempdir().unwrap();
    for (name, source) in [("a.gguf", "gguf/seed-v3"), ("a.onnx", "onnx/seed-sample")] {
        let bytes = fs::read(seed(source)).unwrap();
        fs::write(dir.path().join(name), &bytes[..100]).unwrap();
        let done = run(dir.path(), &["inspect", name]);
        let line = done.failure();
        assert!(line.starts_with(&format!("{name}: ")) && line.contains(" at byte "), "{line}");
    }
    for name in ["b.gguf", "b.onnx", "b.safetensors"] {
        fs::write(dir.path().join(name), "text").unwrap();
        let done = run(dir.path(), &["inspect", name]);
        assert!(done.failure().starts_with(&format!("{name}: not ")), "{done:?}");
    }
}

#[test]
fn pack_says_what_was_found_and_what_to_give() {
    let dir = with("fp16.onnx", "onnx/seed-sample");
    let done = run(dir.path(), &["pack", "."]);
    let says = "found a directory with fp16.onnx; to pack fp16.onnx for the ort backend, name the file itself";
    assert!(done.failure().starts_with(".: no weights: expected model.safetensors"), "{done:?}");
    assert!(done.failure().contains(says), "{done:?}");
    // The file of a folder is as good as named itself.
    let dir = with("model.gguf", "gguf/seed-v3");
    for source in [".", "model.gguf"] {
        let done = run(dir.path(), &["pack", source]);
        let says = "general.architecture is \"bert\", expected one of";
        assert!(done.failure().contains(says), "{done:?}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}

#[test]
fn an_onnx_model_is_packed_and_named_after_its_folder() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["config.json", "tokenizer.json", "model_int8.onnx"] {
        let from = defrost_testing::golden::repository("data/onnx/classifier").join(name);
        fs::copy(from, dir.path().join(name)).unwrap();
    }
    run(dir.path(), &["pack", "model_int8.onnx", "--out", "out.snap"]).text();
    let shown = run(dir.path(), &["inspect", "out.snap"]).text();
    let folder = dir.path().file_name().unwrap().to_str().unwrap();
    for line in [
        "backend = \"ort\"",
        "onnx.alone = \"true\"",
        "precision = \"int8\"",
        &format!("model.name = \"{folder}\""),
    ] {
        assert!(shown.contains(line), "{line}: {shown}");
    }
    run(dir.path(), &["verify", "out.snap"]).text();
    fs::remove_file(dir.path().join("tokenizer.json")).unwrap();
    let done = run(dir.path(), &["pack", "model_int8.onnx"]);
    assert!(done.failure().contains("has no tokenizer.json"), "{done:?}");
}
