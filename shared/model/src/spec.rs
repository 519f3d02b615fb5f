//! What a snapshot says about its model: dimensions, how pairs become token ids, how they are scored.
//!
//! `pack` reads it from a checkpoint's files once and writes it into the snapshot's
//! metadata as plain `key = value` strings, so that nothing is parsed as JSON at boot.

mod chat;
mod description;
mod embedding;
mod meta;
mod onnx;

use crate::{Head, ModelConfig};

pub use chat::{ChatSpec, SamplingDefaults};
pub use description::{Common, Description, refuse_language_model};
pub use embedding::{EmbeddingSpec, MOST_PROMPTS, Matryoshka};
pub use meta::Lookup;
pub use onnx::{OnnxSpec, holds_graph};

/// What a model's other files say about its texts and tokens, beside tokenizer.json.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TextRules {
    /// Whether texts are put in lower case before all else.
    pub lowercase: bool,
    /// Whether the model is told the types of tokens. Tokenizers give the second text of a pair the type 1, also those of
    /// models that know one type only, and those whose pipelines leave the types out.
    pub token_types: bool,
}

impl Default for TextRules {
    fn default() -> Self {
        Self { lowercase: false, token_types: true }
    }
}

/// How a query and a document become token ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Template {
    /// The tokenizer's own pair encoding: `[CLS] q [SEP] d [SEP]`, `<s> q </s></s> d </s>`.
    Pair,
    /// The chat prompt of `mixedbread-ai/mxbai-rerank-*-v2`, put together from segments.
    MxbaiRerankV2,
    /// The chat prompt of `Qwen/Qwen3-Reranker-*`.
    Qwen3Reranker,
    /// Each text alone, after a prompt.
    Embedding {
        /// The text before queries, such as `Instruct: …\nQuery:`; may be empty.
        query_prompt: String,
        /// The text before documents; mostly empty.
        document_prompt: String,
    },
    /// Messages go through the model's own template ([`ChatSpec`]); pairs have none.
    Chat,
}

impl Template {
    /// The name of the template in snapshots and on the command line.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Pair => "pair",
            Self::MxbaiRerankV2 => "mxbai-rerank-v2",
            Self::Qwen3Reranker => "qwen3-reranker",
            Self::Embedding { .. } => "embedding",
            Self::Chat => "chat",
        }
    }

    /// Texts whose single token answers no and yes.
    pub fn no_yes(&self) -> Option<[&'static str; 2]> {
        match self {
            Self::MxbaiRerankV2 => Some(["0", "1"]),
            Self::Qwen3Reranker => Some(["no", "yes"]),
            Self::Pair | Self::Embedding { .. } | Self::Chat => None,
        }
    }
}

/// Everything but the weights.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelSpec {
    /// Name shown to clients, such as `BAAI/bge-reranker-v2-m3`.
    pub name: String,
    /// The dimensions of the model.
    pub config: ModelConfig,
    /// Ids of the stored prefix ([`ModelConfig::stored_prefix`]): what prompts begin with, as far as it is always the same.
    pub stored_prefix: Vec<u32>,
    /// The rules for texts and tokens beside those of tokenizer.json.
    pub text: TextRules,
    /// The template by which pairs become token ids.
    pub template: Template,
    /// The most tokens of a pair (for mxbai-rerank-v2 without its template), unless configured otherwise.
    pub max_length: usize,
    /// Largest logit the authors expect; see `ScoreScale::Mxbai` of the tasks.
    pub estimated_max: f32,
    /// The rules of embedding texts. `None` for models that score pairs, and in snapshots that were packed before this
    /// was recorded.
    pub embedding: Option<EmbeddingSpec>,
    /// How a language model converses; `None` for all others, and in what is read of metadata alone.
    pub chat: Option<ChatSpec>,
}

impl ModelSpec {
    /// What the tokenizer has to be told: a model of one token type is told none.
    pub fn text_rules(&self) -> TextRules {
        TextRules { token_types: self.text.token_types && self.config.type_vocab > 1, ..self.text }
    }

    /// How pairs are scored.
    pub fn kind(&self) -> RerankerKind {
        self.config.head.reranker_kind()
    }
}

impl Head {
    /// How a model with this head scores pairs.
    pub fn reranker_kind(self) -> RerankerKind {
        match self {
            Self::Classifier => RerankerKind::CrossEncoder,
            Self::YesNo => RerankerKind::YesNoLogit,
            _ => RerankerKind::EmbeddingSimilarity,
        }
    }
}

/// The three kinds of reranker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RerankerKind {
    /// One classification logit on the pair (`bge-reranker`, `ms-marco-MiniLM`).
    CrossEncoder,
    /// Difference of two vocabulary logits at the last position (`mxbai-rerank-v2`, `Qwen3-Reranker`).
    YesNoLogit,
    /// Cosine of two pooled embeddings (`all-MiniLM-L6-v2`, `bge-m3`).
    EmbeddingSimilarity,
}
