use std::fs;

use super::*;

/// A safetensors file: length, JSON header, data.
fn safetensors(header: &str, data: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), data].concat()
}

fn one(name: &str, dtype: &str, shape: &str, data: &[u8]) -> Vec<u8> {
    let header = format!(
        r#"{{"{name}":{{"dtype":"{dtype}","shape":{shape},"data_offsets":[0,{}]}}}}"#,
        data.len()
    );
    safetensors(&header, data)
}

fn with(files: &[(&str, &[u8])]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        fs::write(dir.path().join(name), bytes).unwrap();
    }
    dir
}

#[track_caller]
fn refused(files: &[(&str, &[u8])], kind: Kind, part: &str) {
    let dir = with(files);
    let error = Checkpoint::open(dir.path()).unwrap_err();
    assert_eq!(error.kind(), kind, "{error}");
    assert!(error.to_string().contains(part), "{error}");
}

#[test]
fn a_single_file_and_the_files_beside_it() {
    let dir = with(&[
        (SINGLE, &one("w", "F32", "[2]", &[0, 0, 128, 63, 0, 0, 0, 64])),
        ("config.json", b"{}"),
    ]);
    fs::create_dir(dir.path().join("1_Pooling")).unwrap();
    fs::write(dir.path().join("1_Pooling/config.json"), "p").unwrap();
    let checkpoint = Checkpoint::open(dir.path()).unwrap();
    assert_eq!(checkpoint.names().collect::<Vec<_>>(), ["w"]);
    let tensor = checkpoint.get("w").unwrap();
    assert_eq!((tensor.dtype, &tensor.shape[..]), (CheckpointDtype::F32, &[2][..]));
    assert_eq!(to_f32(&tensor).unwrap(), [1.0, 2.0]);
    assert!(checkpoint.get("v").is_none());
    assert_eq!(checkpoint.file("config.json").unwrap().unwrap(), b"{}");
    assert_eq!(checkpoint.file("1_Pooling/config.json").unwrap().unwrap(), b"p");
    assert!(checkpoint.file("tokenizer.json").unwrap().is_none());
    for outside in ["", "/etc/passwd", "../x", "a/../../x", "./x"] {
        assert_eq!(checkpoint.file(outside).unwrap_err().kind(), Kind::Invalid, "{outside}");
    }
}

#[test]
fn a_file_of_any_name_alone() {
    let header =
        r#"{"__metadata__":{"format":"pt"},"w":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}"#;
    let dir = with(&[("a.safetensors", &safetensors(header, b"x"))]);
    let checkpoint = Checkpoint::open_file(&dir.path().join("a.safetensors")).unwrap();
    assert_eq!(checkpoint.dir(), dir.path());
    assert_eq!(&checkpoint.get("w").unwrap().bytes[..], b"x");
    assert_eq!(checkpoint.metadata().get("format").map(String::as_str), Some("pt"));
}

#[test]
fn shards_are_joined() {
    let index = br#"{"metadata":{"total_size":5},"weight_map":{"a":"model-1.safetensors","b":"model-2.safetensors"}}"#;
    let (a, b) = (one("a", "U8", "[3]", b"abc"), one("b", "I8", "[1,2]", b"de"));
    let dir = with(&[(INDEX, index), ("model-1.safetensors", &a), ("model-2.safetensors", &b)]);
    let checkpoint = Checkpoint::open(dir.path()).unwrap();
    assert_eq!(checkpoint.names().collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(&checkpoint.get("b").unwrap().bytes[..], b"de");
    assert_eq!(to_f32(&checkpoint.get("a").unwrap()).unwrap_err().kind(), Kind::Unsupported);
}

#[test]
fn shards_that_contradict_the_index() {
    let a = one("a", "U8", "[1]", b"a");
    let missing = br#"{"weight_map":{"a":"1.safetensors","b":"1.safetensors"}}"#;
    refused(&[(INDEX, missing), ("1.safetensors", &a)], Kind::Corrupt, "tensor \"b\" is missing");
    let twice = br#"{"weight_map":{"a":"1.safetensors","b":"2.safetensors"}}"#;
    refused(
        &[(INDEX, twice), ("1.safetensors", &a), ("2.safetensors", &a)],
        Kind::Corrupt,
        "two shards",
    );
    refused(&[(INDEX, twice), ("1.safetensors", &a)], Kind::NotFound, "2.safetensors");
    refused(&[(INDEX, b"[]")], Kind::Corrupt, "not an index");
    for outside in
        ["../1.safetensors", "/1.safetensors", "a/1.safetensors", "..", "", "a\\\\b", "./x", "x/"]
    {
        let index = format!(r#"{{"weight_map":{{"a":"{outside}"}}}}"#);
        refused(&[(INDEX, index.as_bytes())], Kind::Corrupt, "plain file name");
    }
}

#[test]
fn no_weights_says_what_was_looked_for() {
    refused(&[], Kind::NotFound, "expected model.safetensors or model.safetensors.index.json");
    refused(&[("pytorch_model.bin", b"")], Kind::NotFound, "convert it to safetensors");
    refused(
        &[("b.onnx", b""), ("a.gguf", b""), ("config.json", b"{}")],
        Kind::NotFound,
        "found a directory with a.gguf; to pack a.gguf, name the file itself",
    );
    let dir = with(&[("model.gguf", b"")]);
    let error = Checkpoint::open(&dir.path().join("model.gguf")).unwrap_err();
    assert!(error.to_string().contains("found a file"), "{error}");
    let dir = with(&[]);
    fs::create_dir(dir.path().join("onnx")).unwrap();
    fs::write(dir.path().join("onnx/model.onnx"), "").unwrap();
    let error = Checkpoint::open(dir.path()).unwrap_err();
    assert!(error.to_string().contains("a directory with model.onnx"), "{error}");
    let error = Checkpoint::open(Path::new("/nonexistent/model")).unwrap_err();
    assert!(error.to_string().starts_with("/nonexistent/model: no weights"), "{error}");
    assert!(error.to_string().contains("no directory"), "{error}");
}

#[test]
fn damaged_weights() {
    let whole = one("w", "F32", "[2]", &[0; 8]);
    for cut in 0..whole.len() {
        refused(&[(SINGLE, &whole[..cut])], Kind::Corrupt, "not a safetensors file");
    }
    refused(&[(SINGLE, &one("w", "F32", "[3]", &[0; 8]))], Kind::Corrupt, "not a safetensors file");
    refused(&[(SINGLE, &[0xff; 64])], Kind::Corrupt, "not a safetensors file");
}

#[test]
fn floats_become_f32() {
    let tensor = |dtype, bytes: &[u8]| CheckpointTensor {
        dtype,
        shape: vec![bytes.len()],
        bytes: Bytes::copy_from_slice(bytes),
        blocks: None,
    };
    let values = [1.5, -0.25, 65504.0, 0.0, f32::INFINITY];
    let f16s: Vec<u8> = values.iter().flat_map(|&v| f16::from_f32(v).to_le_bytes()).collect();
    let bf16s: Vec<u8> = values.iter().flat_map(|&v| bf16::from_f32(v).to_le_bytes()).collect();
    let f64s: Vec<u8> = values.iter().flat_map(|&v| f64::from(v).to_le_bytes()).collect();
    assert_eq!(to_f32(&tensor(CheckpointDtype::F16, &f16s)).unwrap(), values);
    let rounded = values.map(|v| bf16::from_f32(v).to_f32());
    assert_eq!(to_f32(&tensor(CheckpointDtype::BF16, &bf16s)).unwrap(), rounded);
    assert_eq!(to_f32(&tensor(CheckpointDtype::F64, &f64s)).unwrap(), values);
    assert_eq!(to_f32(&tensor(CheckpointDtype::F32, &[0; 3])).unwrap_err().kind(), Kind::Corrupt);
}
