//! Answers, one type a shape.
//!
//! The canonical body was checked against every client of reference/api.md section 3: a
//! `document` is left out rather than null (`LiteLLM` refuses null), and is an object in `results`
//! but a string in `data` (Voyage's and the older services' place for the same numbers).

use serde::Serialize;

use crate::rank::rank;
use crate::request::{Normalization, RerankRequest, Shape};

/// One document's score as it is returned.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scored {
    /// The score after normalisation; finite.
    pub score: f64,
    /// Tokens of the pair as run.
    pub tokens: usize,
    /// Whether the pair was cut to fit.
    pub truncated: bool,
}

/// What an answer says beside the scores.
#[derive(Debug, Clone, Default)]
pub struct Facts<'a> {
    /// The answer's id.
    pub id: &'a str,
    /// Unix time in seconds.
    pub created: u64,
    /// The served model's name.
    pub model: &'a str,
    /// What the scores are: `sigmoid`, `logit` and so on.
    pub score_type: &'a str,
    /// Whether scores were mapped into `[0, 1]`.
    pub normalized: bool,
    /// Most results unless the request says otherwise; canonical and mixedbread shapes only.
    pub default_top_n: Option<usize>,
    /// Add `data` to every canonical answer.
    pub always_data: bool,
    /// Characters of the query and of the first document, for [`Shape::BaaiSingle`].
    pub lengths: (usize, usize),
}

/// The JSON of an answer.
#[derive(Debug, Clone, Serialize)]
#[serde(untagged)]
#[allow(
    clippy::large_enum_variant,
    reason = "one lives for the length of one answer"
)]
pub enum Answer<'a> {
    /// [`Shape::Canonical`].
    Canonical(Canonical<'a>),
    /// [`Shape::Tei`].
    Tei(Vec<TeiRank<'a>>),
    /// [`Shape::BaaiSingle`].
    BaaiSingle(BaaiSingle),
    /// [`Shape::BaaiBatch`].
    BaaiBatch(BaaiBatch),
    /// [`Shape::BaaiQuery`].
    BaaiQuery(BaaiQuery<'a>),
    /// [`Shape::Mixedbread`].
    Mixedbread(Mixedbread<'a>),
}

/// The body that Cohere's, Jina's, vLLM's, infinity's and Voyage's clients all read.
#[derive(Debug, Clone, Serialize)]
pub struct Canonical<'a> {
    id: &'a str,
    object: &'static str,
    created: u64,
    model: &'a str,
    results: Vec<RankedDocument<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Vec<DataEntry<'a>>>,
    score_type: &'a str,
    usage: Usage,
    meta: Meta,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
}

#[derive(Debug, Clone, Serialize)]
struct RankedDocument<'a> {
    index: usize,
    relevance_score: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    document: Option<DocumentText<'a>>,
}

#[derive(Debug, Clone, Serialize)]
struct DocumentText<'a> {
    text: &'a str,
}

#[derive(Debug, Clone, Serialize)]
struct DataEntry<'a> {
    index: usize,
    relevance_score: f64,
    score: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    document: Option<&'a str>,
}

#[derive(Debug, Clone, Serialize)]
struct Usage {
    prompt_tokens: usize,
    total_tokens: usize,
}

#[derive(Debug, Clone, Serialize)]
struct Meta {
    api_version: ApiVersion,
    billed_units: BilledUnits,
    tokens: MetaTokens,
}

#[derive(Debug, Clone, Serialize)]
struct ApiVersion {
    version: &'static str,
}

#[derive(Debug, Clone, Serialize)]
struct BilledUnits {
    search_units: usize,
}

#[derive(Debug, Clone, Serialize)]
struct MetaTokens {
    input_tokens: usize,
    output_tokens: usize,
}

/// One entry of TEI's array.
#[derive(Debug, Clone, Serialize)]
pub struct TeiRank<'a> {
    index: usize,
    score: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
}

/// The BAAI service's answer to one pair; lengths are in characters.
#[derive(Debug, Clone, Serialize)]
pub struct BaaiSingle {
    score: f64,
    normalized: bool,
    query_length: usize,
    passage_length: usize,
}

/// The BAAI service's answer to `/rerank/batch`, in input order.
#[derive(Debug, Clone, Serialize)]
pub struct BaaiBatch {
    scores: Vec<f64>,
    normalized: bool,
    pairs_count: usize,
}

/// The BAAI service's answer to `/rerank/query`, best first.
#[derive(Debug, Clone, Serialize)]
pub struct BaaiQuery<'a> {
    re_ranked: Vec<RankedPassage<'a>>,
}

#[derive(Debug, Clone, Serialize)]
struct RankedPassage<'a> {
    passage: &'a str,
    score: f64,
}

/// Mixedbread's answer.
#[derive(Debug, Clone, Serialize)]
pub struct Mixedbread<'a> {
    usage: Usage,
    model: &'a str,
    data: Vec<MixedbreadRank<'a>>,
    object: &'static str,
    top_k: usize,
    return_input: bool,
    score_type: &'a str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
}

#[derive(Debug, Clone, Serialize)]
struct MixedbreadRank<'a> {
    index: usize,
    score: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    input: Option<&'a str>,
    object: &'static str,
}

/// Puts scores, given in the order of the request's documents, into the request's shape.
/// `texts` are the documents in the same order; they are read only where they are returned.
pub fn answer<'a>(
    request: &RerankRequest,
    scored: &[Scored],
    texts: &[&'a str],
    facts: &Facts<'a>,
) -> Answer<'a> {
    let top_n = request.top_n.or(match request.shape {
        Shape::Canonical | Shape::Mixedbread => facts.default_top_n,
        _ => None,
    });
    let order = || rank(scored.iter().map(|one| one.score), top_n);
    let text = |index: usize| {
        request
            .return_documents
            .then(|| texts.get(index).copied())
            .flatten()
    };
    let first_score = || scored.first().map_or(0.0, |one| one.score);
    let tokens = scored.iter().map(|one| one.tokens).sum();
    let usage = Usage {
        prompt_tokens: tokens,
        total_tokens: tokens,
    };
    let warnings = || {
        let truncated = scored.iter().filter(|one| one.truncated).count();
        let mut warnings = request.warnings.clone();
        if truncated > 0 {
            warnings.push(format!(
                "{truncated} of {} documents were truncated to the model's length",
                scored.len()
            ));
        }
        warnings
    };
    match request.shape {
        Shape::Canonical => {
            let order = order();
            let entry = |&index: &usize| RankedDocument {
                index,
                relevance_score: scored[index].score,
                document: text(index).map(|text| DocumentText { text }),
            };
            let data_entry = |&index: &usize| DataEntry {
                index,
                relevance_score: scored[index].score,
                score: scored[index].score,
                document: text(index),
            };
            let with_data = request.wants_data || facts.always_data;
            Answer::Canonical(Canonical {
                id: facts.id,
                object: "rerank",
                created: facts.created,
                model: facts.model,
                results: order.iter().map(entry).collect(),
                data: with_data.then(|| order.iter().map(data_entry).collect()),
                score_type: facts.score_type,
                usage,
                meta: Meta {
                    api_version: ApiVersion { version: "2" },
                    billed_units: BilledUnits { search_units: 1 },
                    tokens: MetaTokens {
                        input_tokens: tokens,
                        output_tokens: 0,
                    },
                },
                warnings: warnings(),
            })
        }
        Shape::Tei => Answer::Tei(
            order()
                .into_iter()
                .map(|index| TeiRank {
                    index,
                    score: scored[index].score,
                    text: text(index),
                })
                .collect(),
        ),
        Shape::BaaiSingle => Answer::BaaiSingle(BaaiSingle {
            score: first_score(),
            normalized: facts.normalized,
            query_length: facts.lengths.0,
            passage_length: facts.lengths.1,
        }),
        Shape::BaaiBatch => Answer::BaaiBatch(BaaiBatch {
            scores: scored.iter().map(|one| one.score).collect(),
            normalized: facts.normalized,
            pairs_count: scored.len(),
        }),
        Shape::BaaiQuery => Answer::BaaiQuery(BaaiQuery {
            re_ranked: order()
                .into_iter()
                .map(|index| RankedPassage {
                    passage: text(index).unwrap_or_default(),
                    score: scored[index].score,
                })
                .collect(),
        }),
        Shape::Mixedbread => {
            let data: Vec<_> = order()
                .into_iter()
                .map(|index| MixedbreadRank {
                    index,
                    score: scored[index].score,
                    input: text(index),
                    object: "rank_result",
                })
                .collect();
            Answer::Mixedbread(Mixedbread {
                usage,
                model: facts.model,
                top_k: data.len(),
                data,
                object: "list",
                return_input: request.return_documents,
                score_type: facts.score_type,
                warnings: warnings(),
            })
        }
    }
}

impl Normalization {
    /// False for [`Normalization::Raw`] alone.
    pub fn is_normalized(self) -> bool {
        self != Self::Raw
    }
}
