//! What `defrost pack` is told about a model over what the model's files say.

use clap::ValueEnum;
use defrost_pack::{AttentionMask, ModelKind};

/// Options that decide what a model is.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct Decisions {
    /// What the model is for, whatever its files say; without it `pack` prints what it took it for, and by which file.
    #[arg(long, visible_alias = "task", value_enum)]
    pub(crate) kind: Option<KindArg>,
    /// How an embedder makes one vector of its tokens', whatever its files say.
    #[arg(long, value_parser = ["mean", "cls", "lasttoken", "max", "mean_sqrt_len_tokens", "weightedmean"])]
    pub(crate) pooling: Option<String>,
    /// What a token sees, whatever the files say: what precedes it, or all of its text.
    #[arg(long, value_enum)]
    pub(crate) attention: Option<AttentionArg>,
}

/// `--kind`.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum KindArg {
    /// It scores pairs of a query and a document.
    #[value(alias = "rerank")]
    Reranker,
    /// It gives vectors.
    #[value(alias = "embed")]
    Embedder,
    /// It continues texts and answers messages.
    #[value(alias = "generate")]
    Chat,
}

impl From<ModelKind> for KindArg {
    fn from(kind: ModelKind) -> Self {
        match kind {
            ModelKind::Reranker => Self::Reranker,
            ModelKind::Embedder => Self::Embedder,
            ModelKind::Chat => Self::Chat,
        }
    }
}

impl From<KindArg> for ModelKind {
    fn from(arg: KindArg) -> Self {
        match arg {
            KindArg::Reranker => Self::Reranker,
            KindArg::Embedder => Self::Embedder,
            KindArg::Chat => Self::Chat,
        }
    }
}

/// `--attention`.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum AttentionArg {
    /// What precedes it.
    Causal,
    /// All of its text.
    Bidirectional,
}

impl From<AttentionArg> for AttentionMask {
    fn from(arg: AttentionArg) -> Self {
        match arg {
            AttentionArg::Causal => Self::Causal,
            AttentionArg::Bidirectional => Self::Bidirectional,
        }
    }
}
