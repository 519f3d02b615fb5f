//! The request body as it arrives: every field of every shape, all optional.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::error::{ErrorStyle, Invalid};
use crate::fields;
use crate::json;
use crate::lenient::{Count, Documents, Flag, FlagOrName, Text};
use crate::request::{MAX_CHUNKS_PER_DOC, Route};

/// Every field that a rerank client may send. Other fields are told in the answer, null means absent. Names of several
/// words are also read as clients in JavaScript write them.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default)]
pub struct RerankBody {
    /// Name of the model, any name unless the server is strict.
    pub model: Option<String>,
    /// The query text.
    pub query: Option<Text>,
    /// Canonical (Cohere, Jina, vLLM, Voyage) documents.
    pub documents: Option<Documents>,
    /// TEI's documents.
    pub texts: Option<Documents>,
    /// Mixedbread's documents.
    pub input: Option<Documents>,
    /// BAAI: the one text to score.
    pub passage: Option<Text>,
    /// BAAI `/rerank/query`: texts to score.
    pub passages: Option<Vec<Text>>,
    /// BAAI `/rerank/batch`: pairs to score.
    pub pairs: Option<Vec<Pair>>,
    /// Most results to return.
    #[serde(alias = "topN")]
    pub top_n: Option<Count>,
    /// Voyage's and mixedbread's name of `top_n`.
    // The outer `Option` tells a null from absence.
    #[serde(alias = "topK", deserialize_with = "json::present")]
    pub top_k: Option<Option<Count>>,
    /// Return each document as it came.
    #[serde(alias = "returnDocuments")]
    pub return_documents: Option<Flag>,
    /// TEI's name of `return_documents`.
    pub return_text: Option<Flag>,
    /// Mixedbread's name of `return_documents`.
    pub return_input: Option<Flag>,
    /// Fields of document objects to rank by.
    #[serde(alias = "rankFields")]
    pub rank_fields: Option<Vec<String>>,
    /// TEI, infinity: logits instead of `[0, 1]`.
    pub raw_scores: Option<Flag>,
    /// vLLM: false asks for logits.
    pub use_activation: Option<Flag>,
    /// BAAI: false asks for raw scores; also a name of [`crate::Normalization`].
    pub normalize: Option<FlagOrName>,
    /// How scores are mapped: `sigmoid`, `raw`, or `mxbai` where the model is made for it.
    pub normalization: Option<String>,
    /// Task description for models that take one.
    pub instruction: Option<String>,
    /// `SGLang`'s name of `instruction`; a request with it is answered with a list.
    pub instruct: Option<String>,
    /// Voyage: false refuses over-long texts.
    // The outer `Option` tells a null from absence.
    #[serde(deserialize_with = "json::present")]
    pub truncation: Option<Option<Flag>>,
    /// TEI and Cohere: `false` or `"NONE"` refuses over-long texts, `"START"` cuts them at their start.
    pub truncate: Option<FlagOrName>,
    /// TEI: `"Left"` cuts over-long texts at their start, so that their end is read.
    #[serde(alias = "truncationDirection")]
    pub truncation_direction: Option<String>,
    /// vLLM's name of `truncation_direction`.
    #[serde(alias = "truncationSide")]
    pub truncation_side: Option<String>,
    /// vLLM: read this many tokens of each pair; -1: what the model reads.
    #[serde(alias = "truncatePromptTokens")]
    #[schemars(extend("minimum" = -1))]
    pub truncate_prompt_tokens: Option<Count>,
    /// Cut the query to this many tokens.
    #[serde(alias = "maxTokensPerQuery")]
    pub max_tokens_per_query: Option<Count>,
    /// Cut each document to this many tokens.
    #[serde(alias = "maxTokensPerDoc")]
    pub max_tokens_per_doc: Option<Count>,
    /// Cohere v1: score a long document in this many pieces.
    #[serde(alias = "maxChunksPerDoc")]
    #[schemars(extend("maximum" = MAX_CHUNKS_PER_DOC))]
    pub max_chunks_per_doc: Option<Count>,

    /// The names of all fields that came.
    #[serde(skip)]
    #[schemars(skip)]
    pub(crate) names: fields::Names,
}

/// One query with its passage; as an object, or as a list of two as in `FlagEmbedding`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Pair {
    /// The query text.
    pub query: Option<Text>,
    /// The text to score.
    pub passage: Option<Text>,
}

impl RerankBody {
    /// Reads a JSON body.
    pub fn parse(bytes: &[u8]) -> Result<Self, Invalid> {
        Self::parse_on(Route::Rerank, bytes)
    }

    /// Reads a JSON body; an error takes the style that clients of this route and shape expect.
    pub fn parse_on(route: Route, bytes: &[u8]) -> Result<Self, Invalid> {
        let mut body: Self = json::read(bytes, r#"{"query":…,"documents":[…]}"#)
            .map_err(|invalid| invalid.styled(style_hint(route, bytes)))?;
        body.names = fields::Names::of(bytes);
        Ok(body)
    }
}

/// Which keys a body has, whatever their values: tells the shape of one that cannot be read.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Keys {
    texts: Option<serde::de::IgnoredAny>,
    passage: Option<serde::de::IgnoredAny>,
}

fn style_hint(route: Route, bytes: &[u8]) -> ErrorStyle {
    if route != Route::Rerank {
        return ErrorStyle::FastApi;
    }
    match serde_json::from_slice(bytes) {
        Ok(Keys { texts: Some(_), .. }) => ErrorStyle::Tei,
        Ok(Keys { passage: Some(_), .. }) => ErrorStyle::FastApi,
        _ => ErrorStyle::OpenAi,
    }
}
