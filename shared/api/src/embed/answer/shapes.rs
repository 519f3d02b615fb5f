//! The answers' JSON, one type a shape.

use serde::Serialize;

use super::vectors::{
    ByType, Dense, DenseList, HiddenList, RowList, Similarities, SparseList, SparseMap,
};

/// The JSON of an answer.
#[derive(Debug, Clone, Serialize)]
#[serde(untagged)]
#[allow(clippy::large_enum_variant, reason = "one lives for the length of one answer")]
pub enum EmbedAnswer<'a> {
    /// [`crate::EmbedShape::OpenAi`].
    OpenAi(OpenAiEmbeddings<'a>),
    /// [`crate::EmbedShape::Tei`].
    Tei(DenseList<'a>),
    /// [`crate::EmbedShape::TeiSparse`].
    TeiSparse(SparseList<'a>),
    /// [`crate::EmbedShape::TeiAll`].
    TeiAll(HiddenList<'a>),
    /// [`crate::EmbedShape::TeiSimilarity`].
    TeiSimilarity(Similarities<'a>),
    /// [`crate::EmbedShape::Baai`].
    Baai(BaaiEmbeddings<'a>),
    /// [`crate::EmbedShape::Mlx`].
    Mlx(MlxEmbedding<'a>),
    /// [`crate::EmbedShape::MlxBatch`].
    MlxBatch(MlxBatchEmbedding<'a>),
    /// Cohere's three shapes.
    Cohere(CohereEmbeddings<'a>),
}

/// The body that `OpenAI`'s, vLLM's, Jina's, Voyage's and infinity's clients all read.
#[derive(Debug, Clone, Serialize)]
pub struct OpenAiEmbeddings<'a> {
    pub(super) id: &'a str,
    pub(super) object: &'static str,
    pub(super) created: u64,
    pub(super) model: &'a str,
    pub(super) data: Vec<Entry<'a>>,
    pub(super) usage: Usage,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) warnings: Vec<String>,
}

#[derive(Debug, Clone, Serialize)]
pub(super) struct Entry<'a> {
    pub(super) object: &'static str,
    pub(super) index: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) embedding: Option<Dense<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) sparse_embedding: Option<SparseMap<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) colbert_embedding: Option<RowList<'a>>,
}

#[derive(Debug, Clone, Serialize)]
pub(super) struct Usage {
    pub(super) prompt_tokens: usize,
    pub(super) total_tokens: usize,
}

/// The BAAI service's answer.
#[derive(Debug, Clone, Serialize)]
pub struct BaaiEmbeddings<'a> {
    pub(super) embeddings: DenseList<'a>,
    pub(super) dimensions: usize,
    pub(super) texts_count: usize,
    pub(super) model: &'a str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) warnings: Vec<String>,
}

/// The MLX service's answer to one text.
#[derive(Debug, Clone, Serialize)]
pub struct MlxEmbedding<'a> {
    pub(super) embedding: Dense<'a>,
    pub(super) model: &'a str,
    pub(super) dim: usize,
    pub(super) normalized: bool,
    pub(super) processing_time_ms: f64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) warnings: Vec<String>,
}

/// The MLX service's answer to several texts.
#[derive(Debug, Clone, Serialize)]
pub struct MlxBatchEmbedding<'a> {
    pub(super) embeddings: DenseList<'a>,
    pub(super) model: &'a str,
    pub(super) dim: usize,
    pub(super) count: usize,
    pub(super) normalized: bool,
    pub(super) processing_time_ms: f64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) warnings: Vec<String>,
}

/// Cohere's answer, v1 and v2. Cohere's own has no `model`; its clients let it pass.
#[derive(Debug, Clone, Serialize)]
pub struct CohereEmbeddings<'a> {
    pub(super) id: &'a str,
    pub(super) embeddings: CohereVectors<'a>,
    pub(super) texts: &'a [&'a str],
    pub(super) model: &'a str,
    pub(super) meta: CohereMeta,
    pub(super) response_type: &'static str,
}

#[derive(Debug, Clone, Serialize)]
#[serde(untagged)]
pub(super) enum CohereVectors<'a> {
    Floats(DenseList<'a>),
    ByType(ByType<'a>),
}

#[derive(Debug, Clone, Serialize)]
pub(super) struct CohereMeta {
    pub(super) api_version: ApiVersion,
    pub(super) billed_units: BilledUnits,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) warnings: Vec<String>,
}

#[derive(Debug, Clone, Serialize)]
pub(super) struct ApiVersion {
    pub(super) version: &'static str,
}

#[derive(Debug, Clone, Serialize)]
pub(super) struct BilledUnits {
    pub(super) input_tokens: usize,
}
