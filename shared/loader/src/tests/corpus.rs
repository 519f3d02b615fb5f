//! The committed inputs of the fuzz targets, run without a fuzzer; and the test that writes their seeds.

use std::fs;
use std::path::{Path, PathBuf};

use super::support::Sample;
use crate::fuzzing;

type Target = (&'static str, fn(&[u8]));

const TARGETS: [Target; 3] = [
    ("manifest", fuzzing::manifest),
    ("snapshot_file", fuzzing::snapshot_file),
    ("superblock", fuzzing::superblock),
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

/// `cargo test -p defrost-loader write_seeds -- --ignored` after a change of a format.
#[test]
#[ignore = "writes into the source tree"]
fn write_seeds() {
    for (target, name, bytes) in seeds() {
        fs::create_dir_all(corpus(target)).unwrap();
        fs::write(corpus(target).join(format!("seed-{name}")), bytes).unwrap();
    }
}

#[test]
fn seeds_are_committed_as_they_are_made() {
    for (target, name, bytes) in seeds() {
        let committed = fs::read(corpus(target).join(format!("seed-{name}"))).unwrap_or_default();
        assert!(committed == bytes, "{target}/seed-{name} differs: run write_seeds");
    }
}

fn seeds() -> Vec<(&'static str, String, Vec<u8>)> {
    let mut seeds = Vec::new();
    let mut small = Sample::empty();
    small.segment("files");
    small.tensor("tokenizer.json", crate::Dtype::U8, "file", &[70]);
    small.segment("layer.0");
    small.tensor("layer.0.weight", crate::Dtype::I8, "row-major", &[8, 9]);
    small.tensor("layer.0.bias", crate::Dtype::F32, "row-major", &[8]);
    for (name, sample) in [("empty", Sample::empty()), ("small", small)] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.snap");
        sample.write(&path);
        let file = fs::read(&path).unwrap();
        let manifest = crate::inspect(&path).unwrap().1;
        let file_len = manifest.file_len().to_le_bytes();
        seeds.push((
            "manifest",
            name.to_owned(),
            [&file_len[..], &manifest.encode().unwrap()].concat(),
        ));
        seeds.push(("superblock", name.to_owned(), [&file_len[..], &file[..80]].concat()));
        let mut compact = fuzzing::compact(&file).unwrap();
        seeds.push(("snapshot_file", name.to_owned(), compact.clone()));
        compact[0] |= 4;
        seeds.push(("snapshot_file", format!("{name}-background"), compact));
    }
    seeds
}
