//! One meaning for every shape: which service's request this is, and what it asks for.
//!
//! Order of the decision on `/rerank` and its aliases: `texts` is TEI, `passage` is a BAAI pair,
//! `input` is mixedbread, `instruct` is `SGLang`'s, anything else is canonical. `/rerank/batch` and
//! `/rerank/query` are BAAI's alone. A body with two keys that both carry documents contradicts
//! itself and is refused: guessing would score the wrong texts.

mod options;
mod texts;

pub use options::MAX_CHUNKS_PER_DOC;
pub use texts::MAX_RANK_FIELDS;
pub(crate) use texts::grouped;

use serde_json::{Map, Value};

use crate::body::RerankBody;
use crate::checks;
use crate::error::{ErrorStyle, Invalid};

/// The names that clients use for `/v1/rerank`.
pub const RERANK_PATHS: [&str; 6] =
    ["/v1/rerank", "/rerank", "/v2/rerank", "/reranking", "/v1/reranking", "/invocations"];

/// The names that clients use for `/v1/score`.
pub const SCORE_PATHS: [&str; 2] = ["/v1/score", "/score"];

/// The names that clients use for `/predict`.
pub const PREDICT_PATHS: [&str; 2] = ["/predict", "/classify"];

/// The rerank routes that read a body differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// `/v1/rerank` and its aliases.
    Rerank,
    /// `/rerank/batch`: BAAI pairs.
    Batch,
    /// `/rerank/query`: BAAI passages of one query.
    Query,
}

/// Whose request it is, and so in what shape the answer goes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// Cohere, Jina, vLLM, infinity, Voyage.
    Canonical,
    /// An array, as Text Embeddings Inference answers.
    Tei,
    /// One query, one passage, one score.
    BaaiSingle,
    /// Scores of pairs in input order.
    BaaiBatch,
    /// Passages with scores, best first.
    BaaiQuery,
    /// Mixedbread's `/v1/reranking`.
    Mixedbread,
    /// An array, as `SGLang` answers.
    Sglang,
    /// vLLM's `/score`: scores of pairs in input order.
    Score,
    /// TEI's `/predict` of one pair: its class.
    Prediction,
    /// TEI's `/predict` of several pairs: the class of each.
    Predictions,
    /// vLLM's `/classify`.
    Classification,
}

impl Shape {
    /// How clients of this shape expect errors.
    pub fn error_style(self) -> ErrorStyle {
        match self {
            Self::Canonical
            | Self::Mixedbread
            | Self::Sglang
            | Self::Score
            | Self::Classification => ErrorStyle::OpenAi,
            Self::Tei | Self::Prediction | Self::Predictions => ErrorStyle::Tei,
            Self::BaaiSingle | Self::BaaiBatch | Self::BaaiQuery => ErrorStyle::FastApi,
        }
    }
}

/// How scores are to be mapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Normalization {
    /// Scores go into `[0, 1]`, by the server's own choice of mapping.
    Normalized,
    /// Scores go into `[0, 1]` by a sigmoid.
    Sigmoid,
    /// Scores stay what they are: logits or cosines.
    Raw,
    /// Scores are mapped as the `mxbai_rerank` package does with `normalize=True`.
    Mxbai,
}

impl Normalization {
    /// Whether scores come out in `[0, 1]`.
    pub fn is_normalized(self) -> bool {
        self != Self::Raw
    }

    fn named(name: &str) -> Option<Self> {
        match name {
            "sigmoid" => Some(Self::Sigmoid),
            "raw" => Some(Self::Raw),
            "mxbai" => Some(Self::Mxbai),
            _ => None,
        }
    }
}

/// How over-long texts are handled.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RerankTruncation {
    /// Refuse instead of cutting.
    pub forbidden: bool,
    /// Cut the query to this many tokens first.
    pub max_tokens_per_query: Option<usize>,
    /// Cut each document to this many tokens first.
    pub max_tokens_per_doc: Option<usize>,
    /// Score a document that does not fit in so many pieces and take the best; `None`: cut it.
    pub max_chunks_per_doc: Option<usize>,
    /// Read at most this many tokens of each pair; `None`: what the model reads.
    pub max_tokens: Option<usize>,
    /// Cut texts at their start, so that their end is read.
    pub from_start: bool,
}

/// One query with the documents to score against it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct QueryGroup {
    /// The query text.
    pub query: String,
    /// The document texts.
    pub documents: Vec<String>,
    /// Where each document stood in the request.
    pub positions: Vec<usize>,
}

/// What a request asks for, whatever its shape.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RerankRequest {
    /// Whose request it is.
    pub shape: Shape,
    /// The model it names.
    pub model: Option<String>,
    /// The texts; more than one entry only for shapes of pairs.
    pub groups: Vec<QueryGroup>,
    /// Most results to return; `None`: not said, `Some(0)`: all.
    pub top_n: Option<usize>,
    /// Return the documents.
    pub return_documents: bool,
    /// The objects that documents came as, where these are to be returned; empty if there are none.
    pub originals: Vec<Option<Map<String, Value>>>,
    /// How to map scores; `None`: not said.
    pub normalization: Option<Normalization>,
    /// Task description for models that take one.
    pub instruction: Option<String>,
    /// How over-long texts are handled.
    pub truncation: RerankTruncation,
    /// The client reads `data` (Voyage) beside `results`.
    pub wants_data: bool,
    /// Parts of the request that are not honoured, in words for the client.
    pub warnings: Vec<String>,
}

impl RerankRequest {
    /// How many documents are to be scored.
    pub fn document_count(&self) -> usize {
        self.groups.iter().map(|group| group.documents.len()).sum()
    }
}

/// Bounds on one request.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Most documents, and the name of the setting to raise.
    pub max_documents: usize,
    /// Most pairs or passages on BAAI's routes.
    pub max_pairs: usize,
    /// Most characters of one text in BAAI's shapes.
    pub max_text_chars: usize,
}

impl Default for Limits {
    /// 1,000 documents as Voyage allows; 100 pairs of 10,000 characters as the BAAI service does.
    fn default() -> Self {
        Self { max_documents: 1000, max_pairs: 100, max_text_chars: 10_000 }
    }
}

impl RerankBody {
    /// Decides the shape and checks the body against its rules.
    pub fn into_request(self, route: Route, limits: &Limits) -> Result<RerankRequest, Invalid> {
        let shape = self.shape(route);
        self.build(route, shape, limits).map_err(|invalid| invalid.styled(shape.error_style()))
    }

    fn shape(&self, route: Route) -> Shape {
        match route {
            Route::Batch => Shape::BaaiBatch,
            Route::Query => Shape::BaaiQuery,
            Route::Rerank if self.texts.is_some() => Shape::Tei,
            Route::Rerank if self.passage.is_some() => Shape::BaaiSingle,
            Route::Rerank if self.input.is_some() => Shape::Mixedbread,
            Route::Rerank if self.names.has("instruct") => Shape::Sglang,
            Route::Rerank => Shape::Canonical,
        }
    }

    fn build(
        mut self,
        route: Route,
        shape: Shape,
        limits: &Limits,
    ) -> Result<RerankRequest, Invalid> {
        self.refuse_contradictions(route, shape)?;
        let normalization = self.normalization()?;
        let truncation = self.truncation()?;
        let top_n = self.top_n()?;
        let flag = |flag: Option<crate::Flag>| flag.is_some_and(|flag| flag.0);
        // SGLang returns documents unless it is told not to.
        let by_default = shape == Shape::Sglang && self.return_documents.is_none();
        let return_documents = by_default
            || flag(self.return_documents)
            || flag(self.return_text)
            || flag(self.return_input);
        let given = |text: Option<String>| text.filter(|text| !text.trim().is_empty());
        let instruction = checks::agreed([
            ("instruction", given(self.instruction.take())),
            ("instruct", given(self.instruct.take())),
        ])?;
        let model = self.model.take();
        let warnings = self.names.unread::<Self>();
        let wants_data = self.wants_data();
        let texts::Texts { groups, originals } = self.groups(shape, limits, return_documents)?;
        Ok(RerankRequest {
            shape,
            model,
            groups,
            top_n,
            return_documents,
            originals,
            normalization,
            instruction,
            truncation,
            wants_data,
            warnings,
        })
    }

    /// Whether the client may be one of Voyage: it sends what only Voyage has, or nothing but what
    /// Voyage has.
    fn wants_data(&self) -> bool {
        const VOYAGE: [&str; 5] =
            ["query", "documents", "model", "return_documents", "returnDocuments"];
        self.top_k.is_some()
            || self.truncation.is_some()
            || (self.names.has("model") && self.names.are_among(&VOYAGE))
    }
}
