//! What a model is: its dimensions and variants as plain values, its tensors in execution order, what a snapshot says about
//! it, and the seam to whatever runs it.
//!
//! ```text
//! Architecture, ModelConfig --parts--> tensors    read by pack, by synth and by every runtime that loads a model
//! ModelSpec, OnnxSpec <-> a snapshot's metadata   --describe--> Description
//! Runtime --load--> Runner --run--> Answers       the engine, ONNX Runtime, candle
//!                        `--Decoder--step--> Logits                               sequences that go on after a pass
//! ```
//!
//! Nothing here multiplies, reads a checkpoint or knows a tokenizer.

mod answers;
pub mod architecture;
mod attention;
mod batch;
mod blocks;
mod config;
mod constraint;
mod decoding;
mod error;
mod head;
pub mod isa;
pub mod parts;
pub mod planning;
mod precision;
pub mod runtime;
pub mod spec;
pub mod stored;
mod tokens;

pub use answers::{Answers, Wanted};
pub use architecture::{Blueprint, Family};
pub use attention::{Attention, LocalLayers, RopeScaling};
pub use batch::{Batch, Prefix, Sequence};
pub use blocks::BlockKind;
pub use config::ModelConfig;
pub use constraint::Constraint;
pub use decoding::{
    Decoder, Logits, LogitsOf, OpenedSequence, Piece, Room, SequenceId, TokenMask, USUAL_ROOM_BYTES,
};
pub use error::Error;
pub use head::{DenseActivation, DenseLayer, Head, TokenHeads};
pub use planning::{Cost, Grouping, Measure, Planned, Share};
pub use precision::Precision;
pub use runtime::{LoadOptions, Runner, Runtime};
pub use spec::{
    ChatSpec, EmbeddingSpec, Matryoshka, ModelSpec, RerankerKind, SamplingDefaults, Template,
    TextRules,
};
pub use tokens::Tokens;
