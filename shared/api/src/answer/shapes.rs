//! The answers' JSON, one type a shape.
//!
//! The canonical body is one that every client takes (docs/api-rows.md names the checks): a
//! `document` is left out rather than null (`LiteLLM` refuses null), and is an object in `results`
//! but a string in `data` (Voyage's and the older services' place for the same numbers).

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::predict::{Classes, Prediction};

/// The JSON of an answer.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(untagged)]
#[allow(clippy::large_enum_variant, reason = "one lives for the length of one answer")]
pub enum Answer<'a> {
    /// [`crate::Shape::Canonical`].
    Canonical(Canonical<'a>),
    /// [`crate::Shape::Tei`].
    Tei(Vec<TeiRank<'a>>),
    /// [`crate::Shape::BaaiSingle`].
    BaaiSingle(BaaiSingle),
    /// [`crate::Shape::BaaiBatch`].
    BaaiBatch(BaaiBatch),
    /// [`crate::Shape::BaaiQuery`].
    BaaiQuery(BaaiQuery<'a>),
    /// [`crate::Shape::Mixedbread`].
    Mixedbread(Mixedbread<'a>),
    /// [`crate::Shape::Sglang`].
    Sglang(Vec<SglangRank<'a>>),
    /// [`crate::Shape::Score`].
    Scores(Scores<'a>),
    /// [`crate::Shape::Prediction`].
    Prediction(Vec<Prediction>),
    /// [`crate::Shape::Predictions`].
    Predictions(Vec<Vec<Prediction>>),
    /// [`crate::Shape::Classification`].
    Classes(Classes<'a>),
}

/// The body that Cohere's, Jina's, vLLM's, infinity's and Voyage's clients all read.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Canonical<'a> {
    /// `rerank-` and the request's id.
    pub(super) id: &'a str,
    /// Always `rerank`.
    #[schemars(extend("const" = "rerank"))]
    pub(super) object: &'static str,
    /// Unix time in seconds.
    pub(super) created: u64,
    /// The served model's name.
    pub(super) model: &'a str,
    /// The documents, best first.
    pub(super) results: Vec<RankedDocument<'a>>,
    /// The same ranking for clients of Voyage; present when the request has `top_k` or `truncation`, or `model` and nothing
    /// that Voyage has not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) data: Option<Vec<DataEntry<'a>>>,
    /// What the scores are: `sigmoid`, `logit` and so on.
    pub(super) score_type: &'a str,
    /// Tokens read.
    pub(super) usage: Usage,
    /// The same counts for clients of Cohere.
    pub(super) meta: Meta,
    /// Parts of the request that were not honoured; absent when there are none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) warnings: Vec<String>,
}

#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(super) struct RankedDocument<'a> {
    /// The document's place in the request.
    pub(super) index: usize,
    /// How relevant the document is to the query.
    pub(super) relevance_score: f64,
    /// The same number under its old name, on servers with `LEGACY_RESULTS`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) score: Option<f64>,
    /// Present when the request asks for documents.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) document: Option<Document<'a>>,
}

/// A document in an answer: the object that came, one around the text that came, or the text itself on servers with
/// `LEGACY_RESULTS`.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(untagged)]
pub(super) enum Document<'a> {
    Object(DocumentText<'a>),
    Fields(&'a Map<String, Value>),
    Text(&'a str),
}

/// A document as it came.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(untagged)]
pub(super) enum Original<'a> {
    Fields(&'a Map<String, Value>),
    Text(&'a str),
}

#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(super) struct DocumentText<'a> {
    /// The document's text.
    pub(super) text: &'a str,
}

#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(super) struct DataEntry<'a> {
    /// The document's place in the request.
    pub(super) index: usize,
    /// How relevant the document is to the query.
    pub(super) relevance_score: f64,
    /// The same score under an older name.
    pub(super) score: f64,
    /// The document's text, when the request asks for texts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) document: Option<&'a str>,
}

#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(super) struct Usage {
    /// Tokens of all pairs as run.
    pub(super) prompt_tokens: usize,
    /// The same number.
    pub(super) total_tokens: usize,
}

#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(super) struct Meta {
    /// Cohere's version.
    pub(super) api_version: ApiVersion,
    /// Nothing is billed; clients read it all the same.
    pub(super) billed_units: BilledUnits,
    /// Tokens read.
    pub(super) tokens: MetaTokens,
}

#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(super) struct ApiVersion {
    pub(super) version: &'static str,
}

#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(super) struct BilledUnits {
    /// Always 1.
    pub(super) search_units: usize,
}

#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(super) struct MetaTokens {
    /// Tokens of all pairs as run.
    pub(super) input_tokens: usize,
    /// Always 0.
    pub(super) output_tokens: usize,
}

/// One entry of TEI's array.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct TeiRank<'a> {
    /// The text's place in the request.
    pub(super) index: usize,
    /// How relevant the text is to the query.
    pub(super) score: f64,
    /// Present when the request has `return_text`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) text: Option<&'a str>,
}

/// The BAAI service's answer to one pair; lengths are in characters.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct BaaiSingle {
    /// How relevant the passage is to the query.
    pub(super) score: f64,
    /// Whether the score was mapped into `[0, 1]`.
    pub(super) normalized: bool,
    /// Characters of the query.
    pub(super) query_length: usize,
    /// Characters of the passage.
    pub(super) passage_length: usize,
}

/// The BAAI service's answer to `/rerank/batch`, in input order.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct BaaiBatch {
    /// One score a pair, in the order of the request.
    pub(super) scores: Vec<f64>,
    /// Whether scores were mapped into `[0, 1]`.
    pub(super) normalized: bool,
    /// How many pairs there were.
    pub(super) pairs_count: usize,
}

/// The BAAI service's answer to `/rerank/query`, best first.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct BaaiQuery<'a> {
    /// The passages, best first.
    pub(super) re_ranked: Vec<RankedPassage<'a>>,
}

#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(super) struct RankedPassage<'a> {
    /// The text.
    pub(super) passage: &'a str,
    /// How relevant it is to the query.
    pub(super) score: f64,
}

/// Mixedbread's answer.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Mixedbread<'a> {
    /// Tokens read.
    pub(super) usage: Usage,
    /// The served model's name.
    pub(super) model: &'a str,
    /// The documents, best first.
    pub(super) data: Vec<MixedbreadRank<'a>>,
    /// Always `list`.
    #[schemars(extend("const" = "list"))]
    pub(super) object: &'static str,
    /// How many documents are returned.
    pub(super) top_k: usize,
    /// Whether texts are returned.
    pub(super) return_input: bool,
    /// What the scores are: `sigmoid`, `logit` and so on.
    pub(super) score_type: &'a str,
    /// Parts of the request that were not honoured; absent when there are none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) warnings: Vec<String>,
}

#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(super) struct MixedbreadRank<'a> {
    /// The document's place in the request.
    pub(super) index: usize,
    /// How relevant the document is to the query.
    pub(super) score: f64,
    /// The document as it came, when the request has `return_input`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) input: Option<Original<'a>>,
    /// Always `rank_result`.
    #[schemars(extend("const" = "rank_result"))]
    pub(super) object: &'static str,
}

/// One entry of `SGLang`'s array.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct SglangRank<'a> {
    /// How relevant the document is to the query.
    pub(super) score: f64,
    /// The document as it came, unless the request has `return_documents: false`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) document: Option<Original<'a>>,
    /// The document's place in the request.
    pub(super) index: usize,
    /// About the run.
    pub(super) meta_info: MetaInfo<'a>,
}

#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(super) struct MetaInfo<'a> {
    /// The request's id.
    pub(super) id: &'a str,
    /// Tokens of the pair as run.
    pub(super) prompt_tokens: usize,
}

/// vLLM's answer to `/score`, in input order.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Scores<'a> {
    /// The answer's id.
    pub(super) id: &'a str,
    /// Always `list`.
    #[schemars(extend("const" = "list"))]
    pub(super) object: &'static str,
    /// Unix time in seconds.
    pub(super) created: u64,
    /// The served model's name.
    pub(super) model: &'a str,
    /// One score a pair.
    pub(super) data: Vec<ScoreEntry>,
    /// What the scores are: `sigmoid`, `logit` or another mapping.
    pub(super) score_type: &'a str,
    /// Tokens that were run.
    pub(super) usage: Usage,
    /// Texts that were cut; absent when there are none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) warnings: Vec<String>,
}

#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(super) struct ScoreEntry {
    /// The pair's place in the request.
    pub(super) index: usize,
    /// Always `score`.
    #[schemars(extend("const" = "score"))]
    pub(super) object: &'static str,
    /// How relevant the right text is to the left one.
    pub(super) score: f64,
}
