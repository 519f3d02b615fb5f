//! The answers' JSON, one type a shape.

use schemars::JsonSchema;
use serde::Serialize;

use super::vectors::{
    ByType, Dense, DenseList, HiddenList, RowList, Similarities, SparseList, SparseMap,
};

/// The JSON of an answer.
#[derive(Debug, Clone, Serialize, JsonSchema)]
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
    /// [`crate::EmbedShape::Llama`].
    Llama(Vec<LlamaEmbedding<'a>>),
    /// [`crate::EmbedShape::Pooling`].
    Pooling(PooledList<'a>),
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
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct OpenAiEmbeddings<'a> {
    /// The request's id.
    pub(super) id: &'a str,
    /// Always `list`.
    #[schemars(extend("const" = "list"))]
    pub(super) object: &'static str,
    /// Unix time in seconds.
    pub(super) created: u64,
    /// The served model's name.
    pub(super) model: &'a str,
    /// One entry an input, in the order of the request.
    pub(super) data: Vec<Entry<'a>>,
    /// Tokens read.
    pub(super) usage: Usage,
    /// Parts of the request that were not honoured; absent when there are none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) warnings: Vec<String>,
}

#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(super) struct Entry<'a> {
    /// Always `embedding`.
    #[schemars(extend("const" = "embedding"))]
    pub(super) object: &'static str,
    /// The input's place in the request.
    pub(super) index: usize,
    /// The vector, as a list of numbers or as their bytes in base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) embedding: Option<Dense<'a>>,
    /// Lexical weights by token id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) sparse_embedding: Option<SparseMap<'a>>,
    /// One vector a token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) colbert_embedding: Option<RowList<'a>>,
}

#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(super) struct Usage {
    /// Tokens of all inputs as run.
    pub(super) prompt_tokens: usize,
    /// The same number.
    pub(super) total_tokens: usize,
}

/// One entry of llama.cpp's own answer.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct LlamaEmbedding<'a> {
    /// The input's place in the request.
    pub(super) index: usize,
    /// One vector: there are more of them only for models that do not pool.
    pub(super) embedding: [Dense<'a>; 1],
}

/// vLLM's answer to `/pooling`.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct PooledList<'a> {
    /// The request's id.
    pub(super) id: &'a str,
    /// Always `list`.
    #[schemars(extend("const" = "list"))]
    pub(super) object: &'static str,
    /// Unix time in seconds.
    pub(super) created: u64,
    /// The served model's name.
    pub(super) model: &'a str,
    /// One entry an input, in the order of the request.
    pub(super) data: Vec<Pooled<'a>>,
    /// Tokens read.
    pub(super) usage: Usage,
    /// Parts of the request that were not honoured; absent when there are none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) warnings: Vec<String>,
}

#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(super) struct Pooled<'a> {
    /// The input's place in the request.
    pub(super) index: usize,
    /// Always `pooling`.
    #[schemars(extend("const" = "pooling"))]
    pub(super) object: &'static str,
    /// The vector.
    pub(super) data: Dense<'a>,
}

/// The BAAI service's answer.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct BaaiEmbeddings<'a> {
    /// One vector a text.
    pub(super) embeddings: DenseList<'a>,
    /// Numbers of a vector.
    pub(super) dimensions: usize,
    /// How many texts there were.
    pub(super) texts_count: usize,
    /// The served model's name.
    pub(super) model: &'a str,
    /// Parts of the request that were not honoured; absent when there are none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) warnings: Vec<String>,
}

/// The MLX service's answer to one text.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct MlxEmbedding<'a> {
    /// The vector.
    pub(super) embedding: Dense<'a>,
    /// The served model's name.
    pub(super) model: &'a str,
    /// Numbers of the vector.
    pub(super) dim: usize,
    /// Whether the vector has length 1.
    pub(super) normalized: bool,
    /// Time taken.
    pub(super) processing_time_ms: f64,
    /// Parts of the request that were not honoured; absent when there are none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) warnings: Vec<String>,
}

/// The MLX service's answer to several texts.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct MlxBatchEmbedding<'a> {
    /// One vector a text.
    pub(super) embeddings: DenseList<'a>,
    /// The served model's name.
    pub(super) model: &'a str,
    /// Numbers of a vector.
    pub(super) dim: usize,
    /// How many texts there were.
    pub(super) count: usize,
    /// Whether vectors have length 1.
    pub(super) normalized: bool,
    /// Time taken.
    pub(super) processing_time_ms: f64,
    /// Parts of the request that were not honoured; absent when there are none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) warnings: Vec<String>,
}

/// Cohere's answer, v1 and v2. Cohere's own has no `model`; its clients let it pass.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct CohereEmbeddings<'a> {
    /// The request's id.
    pub(super) id: &'a str,
    /// A list of vectors, or lists by number type when `embedding_types` was sent.
    pub(super) embeddings: CohereVectors<'a>,
    /// The inputs.
    pub(super) texts: &'a [&'a str],
    /// The served model's name.
    pub(super) model: &'a str,
    /// Version, tokens and warnings.
    pub(super) meta: CohereMeta,
    /// Which form `embeddings` has.
    #[schemars(extend("enum" = ["embeddings_floats", "embeddings_by_type"]))]
    pub(super) response_type: &'static str,
}

#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(untagged)]
pub(super) enum CohereVectors<'a> {
    Floats(DenseList<'a>),
    ByType(ByType<'a>),
}

#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(super) struct CohereMeta {
    /// Cohere's version.
    pub(super) api_version: ApiVersion,
    /// Tokens read.
    pub(super) billed_units: BilledUnits,
    /// Parts of the request that were not honoured; absent when there are none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) warnings: Vec<String>,
}

#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(super) struct ApiVersion {
    pub(super) version: &'static str,
}

#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(super) struct BilledUnits {
    pub(super) input_tokens: usize,
}
