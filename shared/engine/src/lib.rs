//! The CPU runtime: int8, bf16 and f32 kernels, and the forward pass over mapped weights.
//!
//! ```text
//! token ids -> Batch (packed, no padding) -> Model::forward -> one logit or vector a sequence,
//!                                              |            and vectors a token where asked for
//!                                              |- Linear: quantise rows, panels x tiles, epilogue
//!                                              |- attention: tiles of query rows, as many as the kernel set's
//!                                              `- norms, rotation, gate: plain loops, vectorised
//! next tokens of sequences -> PagedDecoder::step -> the same pass, keys and values in pages -> logits
//! ```
//!
//! Two promises hold everywhere: a sequence's answer is the same to the last bit whatever else is in
//! the batch, in whatever order and with however many threads; and nothing here knows a tokenizer or
//! speaks HTTP.

// Numeric code converts between widths on purpose, within ranges its comments state.
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    reason = "indices and codes whose ranges are stated where they are made"
)]
#![allow(
    clippy::inline_always,
    reason = "bodies must be inlined into target_feature functions to be compiled for them"
)]

mod attention;
pub mod blocks;
mod buffer;
mod decode;
mod encode;
mod gate;
mod gemm;
mod kernel;
pub mod layout;
mod math;
#[doc(hidden)]
pub mod measure;
mod model;
mod native;
mod norm;
mod product;
mod quantize;
mod rope;
mod runner;
mod snapshot_weights;
mod threads;
mod weights;

pub use decode::PagedDecoder;
pub(crate) use defrost_model::{Answers, Batch, DenseActivation, Error, Head, ModelConfig, Wanted};
pub use encode::Encoding;
pub use gate::{Open, ReadinessGate};
pub use kernel::Kernel;
pub use model::{LayerPass, Model, Probe, ProbedProduct};
pub use product::Int8Matrix;
pub use runner::{Engine, RUNTIME};
pub use threads::Threads;
pub use weights::Weights;
