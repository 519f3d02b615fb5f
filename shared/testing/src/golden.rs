//! Golden outputs of `transformers` on tiny random models, made by scripts/golden.py.

use std::path::PathBuf;

use serde::Deserialize;

/// The tiny models that score pairs.
pub const PAIR_MODELS: [&str; 4] =
    ["bert-classifier", "xlm-roberta-classifier", "qwen2-mxbai", "qwen3-reranker"];
/// The tiny models that embed.
pub const EMBEDDING_MODELS: [&str; 3] = ["bert-embedding", "xlmr-embedding", "qwen3-embedding"];

/// The golden file of one model.
#[derive(Debug, Deserialize)]
pub struct Golden {
    /// `cross-encoder`, `yes-no-logit` or `embedding-similarity`.
    pub kind: String,
    /// Maximum length the reference pipeline was run with.
    pub max_length: usize,
    /// Texts and what they score.
    pub cases: Vec<Case>,
    /// Pairs of exactly 512 ids, where the model scores pairs.
    #[serde(default)]
    pub long_pairs: Vec<LongPair>,
}

/// One query and document.
#[derive(Debug, Deserialize)]
pub struct Case {
    /// What it is about.
    pub name: String,
    /// The query.
    pub query: String,
    /// The document.
    pub document: String,
    /// Task description.
    pub instruction: Option<String>,
    /// Ids of the whole pair; empty for embedding models.
    #[serde(default)]
    pub ids: Vec<u32>,
    /// Token types of the pair.
    #[serde(default)]
    pub type_ids: Vec<u32>,
    /// Ids of the query alone, for embedding models.
    #[serde(default)]
    pub query_ids: Vec<u32>,
    /// Ids of the document alone, for embedding models.
    #[serde(default)]
    pub document_ids: Vec<u32>,
    /// The logit, or the cosine.
    pub raw: f32,
    /// The document's normalised embedding, where recorded.
    pub embedding: Option<Vec<f32>>,
}

/// 512 ids and their logit.
#[derive(Debug, Deserialize)]
pub struct LongPair {
    /// Token ids.
    pub ids: Vec<u32>,
    /// Where tokens of type 1 begin; `None` where the model has one type.
    pub second_start: Option<usize>,
    /// The logit.
    pub raw: f32,
}

impl LongPair {
    /// The token types, empty for all zero.
    pub fn types(&self) -> Vec<u32> {
        self.second_start.map_or_else(Vec::new, |start| {
            (0..self.ids.len()).map(|at| u32::from(at >= start)).collect()
        })
    }
}

/// A folder of the repository.
pub fn repository(folder: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../..")).join(folder)
}

/// The checkpoint directory of a tiny model.
pub fn checkpoint(model: &str) -> PathBuf {
    repository("data/golden").join(model)
}

/// The golden outputs of a tiny model.
///
/// # Panics
/// If the file is missing or malformed: the repository is broken then.
pub fn read(model: &str) -> Golden {
    let path = checkpoint(model).join("golden.json");
    let text = std::fs::read(&path).unwrap_or_else(|err| panic!("{}: {err}", path.display()));
    serde_json::from_slice(&text).unwrap_or_else(|err| panic!("{}: {err}", path.display()))
}

/// Pearson's correlation.
pub fn pearson(a: &[f32], b: &[f32]) -> f64 {
    let mean = |values: &[f32]| {
        values.iter().map(|&value| f64::from(value)).sum::<f64>() / values.len() as f64
    };
    let (mean_a, mean_b) = (mean(a), mean(b));
    let mut sums = [0.0f64; 3];
    for (&a, &b) in a.iter().zip(b) {
        let (a, b) = (f64::from(a) - mean_a, f64::from(b) - mean_b);
        sums[0] += a * b;
        sums[1] += a * a;
        sums[2] += b * b;
    }
    sums[0] / (sums[1] * sums[2]).sqrt()
}
