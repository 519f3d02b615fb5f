//! Checkpoints as users have them: the folders of `data`, and variants of them with the vectors that sentence-transformers
//! computed (`scripts/golden/golden_cases.py`).

use std::path::Path;

use serde::Deserialize;
use serde_json::{Map, Value};
use tempfile::TempDir;

use crate::golden::repository;

/// A copy of a folder of `data` that may be changed.
///
/// # Panics
/// If the folder cannot be copied.
pub fn copied(folder: &str) -> TempDir {
    let dir = tempfile::tempdir().expect("a folder");
    copy(&repository("data").join(folder), dir.path());
    dir
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder");
    for entry in
        std::fs::read_dir(from).expect("a folder of data").map(|entry| entry.expect("an entry"))
    {
        let target = to.join(entry.file_name());
        if entry.file_type().expect("a type").is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).expect("a copy");
        }
    }
}

/// Variants of checkpoints, and the texts that all of them embed.
#[derive(Debug, Deserialize)]
pub struct Variants {
    /// The texts that are embedded.
    pub texts: Vec<String>,
    /// The variants.
    pub cases: Vec<Variant>,
}

/// A folder of `data` with some files changed.
#[derive(Debug, Deserialize)]
pub struct Variant {
    /// The peculiarity of the variant, which is its name.
    pub name: String,
    /// The folder, below `data`.
    pub base: String,
    /// Files to write into a copy of the folder, by name.
    pub files: Map<String, Value>,
    /// The vectors that sentence-transformers makes of the texts.
    pub vectors: Vec<Vec<f32>>,
}

impl Variants {
    /// The variants of `data/cases/sentence_transformers.json`.
    ///
    /// # Panics
    /// If the file cannot be read.
    pub fn of_sentence_transformers() -> Self {
        let path = repository("data/cases/sentence_transformers.json");
        let bytes = std::fs::read(path).expect("the file of variants");
        serde_json::from_slice(&bytes).expect("variants")
    }
}

impl Variant {
    /// The checkpoint, in a folder of its own.
    ///
    /// # Panics
    /// If a file cannot be written.
    pub fn checkpoint(&self) -> TempDir {
        let dir = copied(&self.base);
        for (file, content) in &self.files {
            let path = dir.path().join(file);
            std::fs::create_dir_all(path.parent().expect("a file in a folder")).expect("a folder");
            std::fs::write(path, content.to_string()).expect("a file");
        }
        if self.files.contains_key("3_Dense/config.json") {
            let weights = repository("data/cases/second-dense/model.safetensors");
            std::fs::copy(weights, dir.path().join("3_Dense/model.safetensors")).expect("a copy");
        }
        dir
    }
}
