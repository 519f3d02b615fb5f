//! Each row of the table, tried on checkpoints that have the file.

use std::path::{Path, PathBuf};

use defrost_testing::golden::repository;
use serde_json::json;

use super::*;
use crate::SpecOptions;
use crate::checkpoint::{prepare, read};
use crate::formats::Checkpoint;

/// Folders of `data` that a file's rows are tried on, and where the file lies in them.
fn folders(file: File) -> (&'static [&'static str], &'static str) {
    match file {
        File::Config => (
            &[
                "golden/bert-embedding",
                "golden/qwen3-reranker",
                "golden/qwen2-mxbai",
                "golden/bert-classifier",
            ],
            "config.json",
        ),
        File::Transformer => (&["golden/bert-embedding"], "sentence_bert_config.json"),
        File::SentenceTransformers => (
            &["golden/qwen3-embedding", "golden/qwen3-reranker"],
            "config_sentence_transformers.json",
        ),
        File::Modules => (&["golden/bert-embedding"], "modules.json"),
        File::Pooling => (&["golden/bert-embedding"], "1_Pooling/config.json"),
        File::Dense => (&["cases/G1-dense-module"], "2_Dense/config.json"),
        File::Normalize => (&["golden/bert-embedding"], "2_Normalize/config.json"),
        File::LogitScore => (&["cases/F1b-logit-score"], "1_LogitScore/config.json"),
        File::Tokenizer => (
            &["golden/bert-embedding", "golden/qwen3-embedding", "golden/qwen2-mxbai"],
            "tokenizer_config.json",
        ),
        File::SpecialTokens => (&["golden/bert-embedding"], "special_tokens_map.json"),
    }
}

/// A copy of a folder whose files may be changed.
struct Folder {
    dir: tempfile::TempDir,
    path: PathBuf,
    before: Value,
}

impl Folder {
    fn new(folder: &str, file: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        copy(&repository("data").join(folder), dir.path());
        // The modules of that case share a name, so that the one is passed over.
        let modules = dir.path().join("modules.json");
        if let Ok(text) = std::fs::read_to_string(&modules) {
            std::fs::write(&modules, text.replace(r#""name": "2""#, r#""name": null"#)).unwrap();
        }
        if file.starts_with("1_Pooling") {
            let prompts = r#"{"prompts":{"query":"query: "}}"#;
            std::fs::write(dir.path().join("config_sentence_transformers.json"), prompts).unwrap();
        }
        let path = dir.path().join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let before = std::fs::read(&path)
            .map_or_else(|_| json!({}), |text| serde_json::from_slice(&text).unwrap());
        Self { dir, path, before }
    }

    /// Everything that is read of the folder once the key has this value, as text.
    fn with(&self, key: &str, value: &Value) -> Result<String, String> {
        let mut edited = self.before.clone();
        // Of modules.json the entry of the pooling.
        let target = if edited.is_array() { &mut edited[1] } else { &mut edited };
        target[key] = value.clone();
        std::fs::write(&self.path, edited.to_string()).unwrap();
        self.read()
    }

    fn read(&self) -> Result<String, String> {
        let checkpoint = Checkpoint::open(self.dir.path()).map_err(|error| error.to_string())?;
        let checkpoint = prepare(&checkpoint).map_err(|error| error.to_string())?;
        let found =
            read(&checkpoint, &SpecOptions::default()).map_err(|error| error.to_string())?;
        Ok(format!("{found:?}"))
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Every row of one file: harmless keys change nothing, whatever their value; of others only the named values do not, and
/// the message about any other names file and key; what is read makes some model another, or is refused.
fn rows_hold(file: File) {
    let (folders, name) = folders(file);
    let folders: Vec<Folder> = folders.iter().map(|folder| Folder::new(folder, name)).collect();
    let before: Vec<String> = folders.iter().map(|folder| folder.read().unwrap()).collect();
    let odd = [json!(true), json!({"odd": ["x", 7.5]})];
    for (_, key, rule) in KEYS.iter().filter(|row| row.0 == file) {
        let each = || folders.iter().zip(&before);
        match rule {
            Harmless => {
                for ((folder, before), odd) in
                    each().take(2).flat_map(|one| odd.iter().map(move |odd| (one, odd)))
                {
                    assert_eq!(folder.with(key, odd).as_ref(), Ok(before), "{name} {key} {odd}");
                }
            }
            Only(values) => {
                let (folder, before) = each().next().unwrap();
                for value in values.iter().chain(&["null"]) {
                    let value = serde_json::from_str(value).unwrap();
                    assert_eq!(
                        folder.with(key, &value).as_ref(),
                        Ok(before),
                        "{name} {key} {value}"
                    );
                }
                for odd in [json!("odd"), json!({"odd": true})] {
                    let error = folder.with(key, &odd).unwrap_err();
                    assert!(error.contains(name) && error.contains(key), "{key}: {error}");
                }
            }
            Parts(parts) => {
                let (folder, before) = each().next().unwrap();
                let part = |(inner, values): &(&str, &[&str])| {
                    let all = values.iter().map(|value| serde_json::from_str(value).unwrap());
                    all.map(|value: Value| json!({ *inner: value })).collect::<Vec<_>>()
                };
                let mut all = parts.iter().flat_map(part).collect::<Vec<_>>();
                let first = |(inner, values): &(&str, &[&str])| {
                    ((*inner).to_owned(), serde_json::from_str(values[0]).unwrap())
                };
                all.push(Value::Object(parts.iter().map(first).collect()));
                all.extend([json!({}), Value::Null]);
                for value in all {
                    let found = folder.with(key, &value);
                    assert_eq!(found.as_ref(), Ok(before), "{name} {key} {value}");
                }
                for odd in [json!("odd"), json!({"odd": true}), json!({ parts[0].0: "odd" })] {
                    let error = folder.with(key, &odd).unwrap_err();
                    assert!(error.contains(name) && error.contains(key), "{key}: {error}");
                }
            }
            Read(value) => {
                let value: Value = serde_json::from_str(value).unwrap();
                let changes =
                    each().any(|(folder, before)| folder.with(key, &value).as_ref() != Ok(before));
                assert!(changes, "{name}: {key} {value} changes nothing");
            }
        }
        for folder in &folders {
            std::fs::write(&folder.path, folder.before.to_string()).unwrap();
        }
    }
    let error = folders[0].with("no_such_key", &json!({"a": 1})).unwrap_err();
    assert!(error.contains(name) && error.contains(r#"no_such_key is {"a":1}"#), "{error}");
    assert_eq!(folders[0].with("no_such_key", &Value::Null).as_ref(), Ok(&before[0]));
}

#[test]
fn rows_of_config_json() {
    rows_hold(File::Config);
}

#[test]
fn rows_of_the_files_of_sentence_transformers() {
    rows_hold(File::Transformer);
    rows_hold(File::SentenceTransformers);
}

#[test]
fn rows_of_modules_and_their_files() {
    for file in [File::Modules, File::Pooling, File::Dense, File::Normalize, File::LogitScore] {
        rows_hold(file);
    }
}

#[test]
fn rows_of_tokenizer_config_json() {
    rows_hold(File::Tokenizer);
    rows_hold(File::SpecialTokens);
}

#[test]
fn the_table_has_each_key_once_and_in_order() {
    let keys: Vec<(u8, &str)> = KEYS.iter().map(|row| (row.0 as u8, row.1)).collect();
    assert!(keys.is_sorted_by(|a, b| a < b), "{keys:?}");
}
