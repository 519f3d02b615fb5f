//! The answers' JSON, one type a shape.
//!
//! The canonical body was checked against every client of reference/api.md section 3: a
//! `document` is left out rather than null (`LiteLLM` refuses null), and is an object in `results`
//! but a string in `data` (Voyage's and the older services' place for the same numbers).

use serde::Serialize;

/// The JSON of an answer.
#[derive(Debug, Clone, Serialize)]
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
    /// [`crate::Shape::Score`].
    Scores(Scores<'a>),
}

/// The body that Cohere's, Jina's, vLLM's, infinity's and Voyage's clients all read.
#[derive(Debug, Clone, Serialize)]
pub struct Canonical<'a> {
    pub(super) id: &'a str,
    pub(super) object: &'static str,
    pub(super) created: u64,
    pub(super) model: &'a str,
    pub(super) results: Vec<RankedDocument<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) data: Option<Vec<DataEntry<'a>>>,
    pub(super) score_type: &'a str,
    pub(super) usage: Usage,
    pub(super) meta: Meta,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) warnings: Vec<String>,
}

#[derive(Debug, Clone, Serialize)]
pub(super) struct RankedDocument<'a> {
    pub(super) index: usize,
    pub(super) relevance_score: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) document: Option<DocumentText<'a>>,
}

#[derive(Debug, Clone, Serialize)]
pub(super) struct DocumentText<'a> {
    pub(super) text: &'a str,
}

#[derive(Debug, Clone, Serialize)]
pub(super) struct DataEntry<'a> {
    pub(super) index: usize,
    pub(super) relevance_score: f64,
    pub(super) score: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) document: Option<&'a str>,
}

#[derive(Debug, Clone, Serialize)]
pub(super) struct Usage {
    pub(super) prompt_tokens: usize,
    pub(super) total_tokens: usize,
}

#[derive(Debug, Clone, Serialize)]
pub(super) struct Meta {
    pub(super) api_version: ApiVersion,
    pub(super) billed_units: BilledUnits,
    pub(super) tokens: MetaTokens,
}

#[derive(Debug, Clone, Serialize)]
pub(super) struct ApiVersion {
    pub(super) version: &'static str,
}

#[derive(Debug, Clone, Serialize)]
pub(super) struct BilledUnits {
    pub(super) search_units: usize,
}

#[derive(Debug, Clone, Serialize)]
pub(super) struct MetaTokens {
    pub(super) input_tokens: usize,
    pub(super) output_tokens: usize,
}

/// One entry of TEI's array.
#[derive(Debug, Clone, Serialize)]
pub struct TeiRank<'a> {
    pub(super) index: usize,
    pub(super) score: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) text: Option<&'a str>,
}

/// The BAAI service's answer to one pair; lengths are in characters.
#[derive(Debug, Clone, Serialize)]
pub struct BaaiSingle {
    pub(super) score: f64,
    pub(super) normalized: bool,
    pub(super) query_length: usize,
    pub(super) passage_length: usize,
}

/// The BAAI service's answer to `/rerank/batch`, in input order.
#[derive(Debug, Clone, Serialize)]
pub struct BaaiBatch {
    pub(super) scores: Vec<f64>,
    pub(super) normalized: bool,
    pub(super) pairs_count: usize,
}

/// The BAAI service's answer to `/rerank/query`, best first.
#[derive(Debug, Clone, Serialize)]
pub struct BaaiQuery<'a> {
    pub(super) re_ranked: Vec<RankedPassage<'a>>,
}

#[derive(Debug, Clone, Serialize)]
pub(super) struct RankedPassage<'a> {
    pub(super) passage: &'a str,
    pub(super) score: f64,
}

/// Mixedbread's answer.
#[derive(Debug, Clone, Serialize)]
pub struct Mixedbread<'a> {
    pub(super) usage: Usage,
    pub(super) model: &'a str,
    pub(super) data: Vec<MixedbreadRank<'a>>,
    pub(super) object: &'static str,
    pub(super) top_k: usize,
    pub(super) return_input: bool,
    pub(super) score_type: &'a str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) warnings: Vec<String>,
}

#[derive(Debug, Clone, Serialize)]
pub(super) struct MixedbreadRank<'a> {
    pub(super) index: usize,
    pub(super) score: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) input: Option<&'a str>,
    pub(super) object: &'static str,
}

/// vLLM's answer to `/score`, in input order.
#[derive(Debug, Clone, Serialize)]
pub struct Scores<'a> {
    pub(super) id: &'a str,
    pub(super) object: &'static str,
    pub(super) created: u64,
    pub(super) model: &'a str,
    pub(super) data: Vec<ScoreEntry>,
    pub(super) score_type: &'a str,
    pub(super) usage: Usage,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) warnings: Vec<String>,
}

#[derive(Debug, Clone, Serialize)]
pub(super) struct ScoreEntry {
    pub(super) index: usize,
    pub(super) object: &'static str,
    pub(super) score: f64,
}
