//! Golden outputs of `transformers` on tiny random models, made by scripts/golden/golden.py.

use std::path::PathBuf;

use serde::Deserialize;

/// The tiny models that score pairs.
pub const PAIR_MODELS: [&str; 7] = [
    "bert-classifier",
    "xlm-roberta-classifier",
    "roberta-classifier",
    "camembert-classifier",
    "distilbert-classifier",
    "qwen2-mxbai",
    "qwen3-reranker",
];
/// The tiny models that embed.
pub const EMBEDDING_MODELS: [&str; 6] = [
    "bert-embedding",
    "xlmr-embedding",
    "xlmr-m3",
    "roberta-mean",
    "distilbert-cls",
    "qwen3-embedding",
];
/// The model among them with sparse and `ColBERT` heads.
pub const TOKEN_HEADS_MODEL: &str = "xlmr-m3";

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
#[derive(Debug, Clone, Deserialize)]
pub struct Case {
    /// The subject of the case.
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
    /// The place from which tokens have type 1; `None` where the model has one type.
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

/// The embeddings.json of an embedding model, made by `scripts/golden/golden_embeddings.py`.
#[derive(Debug, Deserialize)]
pub struct Embeddings {
    /// The task of the prompt `instruct`.
    pub task: String,
    /// The most tokens of a text.
    pub max_length: usize,
    /// Length of [`EmbeddingCase::short`].
    pub short_dimensions: usize,
    /// Texts and their vectors.
    pub cases: Vec<EmbeddingCase>,
    /// Chunks of one text; of models that take means of tokens.
    #[serde(default)]
    pub chunks: Vec<ChunksCase>,
}

/// Chunks of one text and what the model makes of each in the context of all.
#[derive(Debug, Deserialize)]
pub struct ChunksCase {
    /// The chunks.
    pub texts: Vec<String>,
    /// The prompt: `none`, `query` or `document`.
    pub prompt: String,
    /// The ids that the model is run on.
    pub ids: Vec<u32>,
    /// The mean over each chunk's own tokens, of length 1.
    pub dense: Vec<Vec<f32>>,
}

/// One text and its vectors.
#[derive(Debug, Deserialize)]
pub struct EmbeddingCase {
    /// The subject of the case.
    pub name: String,
    /// The text.
    pub text: String,
    /// The prompt: `none`, `query`, `document` or `instruct`.
    pub prompt: String,
    /// The ids that the model is run on, special tokens included.
    pub ids: Vec<u32>,
    /// The pooled vector, of length 1.
    pub dense: Vec<f32>,
    /// The pooled vector, cut before it is brought to length 1.
    pub short: Vec<f32>,
    /// Weights of tokens, ascending by id; empty without the head.
    #[serde(default)]
    pub sparse: Vec<(u32, f32)>,
    /// Rows of the `ColBERT` head: all, or the first two and the last two; empty without the head.
    #[serde(default)]
    pub colbert: Vec<Vec<f32>>,
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
    parse(model, "golden.json")
}

/// The vectors of a tiny embedding model.
///
/// # Panics
/// If the file is missing or malformed: the repository is broken then.
pub fn embeddings(model: &str) -> Embeddings {
    parse(model, "embeddings.json")
}

fn parse<T: for<'de> Deserialize<'de>>(model: &str, name: &str) -> T {
    let path = checkpoint(model).join(name);
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
