//! CPU engine: int8, bf16 and f32 kernels, and the forward passes of BERT, XLM-RoBERTa, Qwen2 and
//! Qwen3 over weights that somebody else maps.
//!
//! ```text
//! token ids -> Batch (packed, no padding) -> Model::forward -> one logit or vector a sequence,
//!                                              |            and vectors a token where asked for
//!                                              |- Linear: quantise rows, panels x tiles, epilogue
//!                                              |- attention: tiles of six query rows
//!                                              `- norms, rotation, gate: plain loops, vectorised
//! ```
//!
//! Two promises hold everywhere: a sequence's answer is the same to the last bit whatever else is in
//! the batch, in whatever order and with however many threads; and nothing here reads a file, knows
//! a tokenizer or speaks HTTP.

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
mod batch;
mod buffer;
mod config;
mod error;
mod gate;
mod gemm;
mod kernel;
pub mod layout;
mod math;
#[doc(hidden)]
pub mod measure;
mod model;
mod norm;
pub mod plan;
mod product;
mod quantize;
mod rope;
mod threads;
mod weights;

pub use batch::{Batch, Prefix};
pub use config::{DenseActivation, DenseLayer, Family, Head, ModelConfig, TokenHeads};
pub use error::Error;
pub use gate::{Gate, Open};
pub use kernel::Kernel;
pub use model::{Answers, Model, PrefixPass, Wanted};
pub use product::Int8Matrix;
pub use threads::Threads;
pub use weights::{Element, WeightView, Weights};
