//! Runs snapshots with [candle](https://github.com/huggingface/candle): its own implementations of the architectures, of
//! which this crate writes none, so that what it answers is a second opinion on what the engine does.
//!
//! ```text
//! weights   a snapshot's tensors, of either layout -> f32 tensors under the names of Hugging Face checkpoints
//! body      those tensors -> a model of candle-transformers; token ids -> last hidden states
//! head      hidden states -> answers: classifier, yes and no, poolings, dense layers, sparse and ColBERT
//! model     threads, and one sequence after the other
//! ```
//!
//! It is slower than the engine and takes more memory: for comparing, and for models of architectures that the engine does
//! not have yet. What follows from how candle is made:
//!
//! - Snapshots are f32, bf16 or f16; int8 ones are refused, as candle has no such layers. Either way it computes in f32, and
//!   weights take four bytes each in memory. Candle's products in bf16 on CPU would widen the weights on every call, its
//!   XLM-RoBERTa counts positions in the type of the weights, and its Qwen2 makes rotary angles in it, which in bf16 is
//!   wrong from 257 tokens on.
//! - Each sequence is run by itself: nothing is padded, and an answer depends on its own tokens alone.
//! - A stored prefix is not used: its keys and values are computed again.
//! - Attention of encoders and of Qwen2 keeps all scores of a layer: `heads * tokens * tokens` values.
//! - Qwen3's attention has threads of candle's own, whose number is that of `CANDLE_NUM_THREADS` or of physical cores.

#![cfg(feature = "candle")]

mod body;
mod head;
mod model;
mod weights;

use defrost_loader::Snapshot;
use defrost_model::spec::Description;
use defrost_model::{Error, LoadOptions, Runner, Runtime, isa};

/// candle, for functions to link.
pub static RUNTIME: Candle = Candle;

/// The framework candle, on CPU.
#[derive(Debug, Clone, Copy)]
pub struct Candle;

impl Runtime for Candle {
    fn name(&self) -> &'static str {
        "candle"
    }

    /// Row-major weights are taken as they are; the engine's panels are undone.
    fn isa(&self) -> &'static str {
        isa::PORTABLE
    }

    /// All models that are stored part by part. Which of them it lacks is said on loading, where it can be said why.
    fn runs(&self, description: &Description) -> bool {
        matches!(description, Description::Parts(_))
    }

    fn load(
        &self,
        snapshot: &Snapshot,
        description: Description,
        options: &LoadOptions,
    ) -> Result<Box<dyn Runner>, Error> {
        let Description::Parts(spec) = description else {
            return Err(Error::Model("candle runs no ONNX models".into()));
        };
        Ok(Box::new(model::CandleModel::load(snapshot, spec.config, options)?))
    }
}

/// What candle says is wrong, in our error.
#[allow(clippy::needless_pass_by_value, reason = "the shape map_err wants")]
fn fault(error: candle_core::Error) -> Error {
    Error::Library { name: "candle", message: error.to_string() }
}
