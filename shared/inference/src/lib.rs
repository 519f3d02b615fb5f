//! From texts to scores: pack checkpoints, restore snapshots, tokenise, prompt, batch, run the
//! engine, score.
//!
//! ```text
//! Checkpoint --pack--> snapshot --restore--> Snapshot --Reranker::load--> Reranker::score
//! ```

mod batches;
mod encode;
mod error;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
pub mod isa;
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
mod tokenizer;

pub use encode::Precision;
pub use error::Error;
pub use onnx::{OnnxSource, pack_onnx};
#[cfg(feature = "ort")]
pub use ort::OrtOptions;
pub use pack::{PackOptions, Packed, pack};
pub use prepared::{Grouping, Prepared};
pub use quality::{Outliers, summary as quality_summary};
pub use reranker::{
    LoadTimings, ModelInfo, Reranker, RerankerOptions, Score, ScoreRequest, Truncation,
};
pub use restore::{RestoreOptions, default_cache, restore};
pub use runner::BackendKind;
pub use schedule::{Cost, Schedule, Turn};
pub use score::{Normalization, RerankerKind};
pub use spec::checkpoint::SpecOptions;
pub use spec::{ModelSpec, Template};
pub use synth::{Shape, synthesize};
pub use tokenizer::{TextTokenizer, Tokens};
