//! Scores query-document pairs with a model restored from a snapshot.

use defrost_loader::Snapshot;

use crate::{Error, Normalization, RerankerKind};

/// Settings that do not come from the snapshot.
#[derive(Debug, Clone)]
pub struct RerankerOptions {
    /// Most tokens of one pair, template included; `None`: the model's own default.
    pub max_length: Option<usize>,
    /// Token budget of one forward pass. Bounds memory, never changes scores.
    pub max_batch_tokens: usize,
    /// Worker threads; `None`: physical cores within the cgroup's quota.
    pub num_threads: Option<usize>,
}

/// What is known about the model once it is restored.
#[derive(Debug, Clone)]
pub struct ModelInfo {
    /// The name given at pack time, such as `mixedbread-ai/mxbai-rerank-base-v2`.
    pub name: String,
    /// `bert`, `xlm-roberta`, `qwen2` or `qwen3`.
    pub family: String,
    /// How pairs are scored.
    pub kind: RerankerKind,
    /// `int8`, `bf16` or `f32`.
    pub precision: String,
    /// Width of the hidden states.
    pub hidden: usize,
    /// Transformer layers.
    pub layers: usize,
    /// Most tokens of one pair.
    pub max_length: usize,
    /// Whether `instruction` changes anything for this model.
    pub takes_instruction: bool,
    /// Largest logit the model's authors expect, for [`Normalization::Mxbai`].
    pub estimated_max: f32,
    /// Kernel set chosen for this CPU, such as `avx512-vnni`.
    pub kernel: &'static str,
    /// Worker threads.
    pub threads: usize,
    /// The snapshot's root hash in hex.
    pub snapshot: String,
    /// Normalisation used unless a request says otherwise.
    pub default_normalization: Normalization,
}

/// How over-long texts of one request are handled.
#[derive(Debug, Clone, Default)]
pub struct Truncation {
    /// Cut the query to this many tokens first.
    pub max_tokens_per_query: Option<usize>,
    /// Cut each document to this many tokens first.
    pub max_tokens_per_doc: Option<usize>,
    /// Refuse instead of truncating to the model's length.
    pub forbidden: bool,
}

/// One query with the documents to score against it.
#[derive(Debug, Clone, Default)]
pub struct ScoreRequest {
    /// The query text.
    pub query: String,
    /// The document texts.
    pub documents: Vec<String>,
    /// Task description for models that take one.
    pub instruction: Option<String>,
    /// Over-long texts.
    pub truncation: Truncation,
}

/// The score of one document.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Score {
    /// Logit, or cosine for embedding similarity.
    pub raw: f32,
    /// Tokens of the pair as run, template included.
    pub tokens: usize,
    /// Whether the query or the document was cut to fit.
    pub truncated: bool,
}

/// A model that is ready to score.
#[derive(Debug)]
pub struct Reranker {
    info: ModelInfo,
}

impl Reranker {
    /// Builds the model over the snapshot's mapped weights.
    pub fn load(_snapshot: &Snapshot, _options: &RerankerOptions) -> Result<Self, Error> {
        Err(Error::Model("skeleton".into()))
    }

    /// Facts about the model.
    pub fn info(&self) -> &ModelInfo {
        &self.info
    }

    /// Scores every document of every request, in input order. `cancelled` is asked between
    /// micro-batches. A pair's score depends on the pair alone, never on the rest of the batch.
    pub fn score(
        &self,
        _requests: &[ScoreRequest],
        _cancelled: &(dyn Fn() -> bool + Sync),
    ) -> Result<Vec<Vec<Score>>, Error> {
        Err(Error::Cancelled)
    }
}
