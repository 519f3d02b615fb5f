//! From texts to scores and vectors: pack checkpoints, restore snapshots, tokenise, prompt, batch, run the
//! engine, score or embed.
//!
//! ```text
//! Checkpoint --pack--> snapshot --restore--> Snapshot --Reranker::load--> Reranker::score
//!                                                     `-Embedder::load--> Embedder::embed
//! ```

mod batches;
mod bounds;
mod embedder;
mod encode;
mod error;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
pub mod isa;
mod loaded;
mod onnx;
#[cfg(feature = "ort")]
mod ort;
mod pack;
mod prefix;
mod prepared;
mod prompt;
mod quality;
mod reranker;
mod restore;
mod runner;
mod schedule;
mod score;
mod snapshot_weights;
mod spec;
mod synth;
mod text_tokens;
mod tokenizer;

pub use bounds::{Bounds, Preparing};
pub use defrost_engine::{Answers, Wanted};
pub use embedder::{
    EmbedPreparing, EmbedRequest, EmbedTruncation, Embedder, EmbedderInfo, EmbedderOptions,
    Embedding, Input, Outputs, Overflow, PromptChoice,
};
pub use encode::Precision;
pub use error::Error;
pub use loaded::{LoadTimings, ModelOptions};
pub use onnx::{OnnxSource, PackedOnnx, pack_onnx};
#[cfg(feature = "ort")]
pub use ort::OrtOptions;
pub use pack::{PackOptions, Packed, pack};
pub use prepared::{Grouping, Prepared, Said};
pub use quality::{Outliers, summary as quality_summary};
pub use reranker::{
    ModelInfo, Reranker, RerankerOptions, Score, ScorePreparing, ScoreRequest, Truncation,
};
pub use restore::{RestoreOptions, default_cache, restore};
pub use runner::BackendKind;
pub use schedule::{Cost, Schedule, Turn};
pub use score::{Normalization, RerankerKind};
pub use spec::checkpoint::{AttentionMask, ModelKind, SpecOptions, Told, open_checkpoint};
pub use spec::{EmbeddingSpec, Matryoshka, ModelSpec, Template};
pub use synth::{Shape, synthesize};
pub use text_tokens::TextToken;
pub use tokenizer::{TextRules, TextTokenizer, Tokens};
