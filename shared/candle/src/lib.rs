//! Runs snapshots with [candle](https://github.com/huggingface/candle): its own implementations of the architectures, of
//! which this crate writes none, so that what it answers is a second opinion on what the engine does.
//!
//! ```text
//! device    DEVICE -> the processor, or a card in builds with the feature `cuda`
//! weights   a snapshot's tensors, of either layout -> tensors there, under the names of Hugging Face checkpoints
//! body      those tensors -> a model of candle-transformers; token ids -> last hidden states
//! head      hidden states -> answers: classifier, yes and no, poolings, dense layers, sparse and ColBERT
//! model     threads, and one sequence after the other
//! ```
//!
//! It is slower than the engine and takes more memory: for comparing, and for models of architectures that the engine does
//! not have yet. What follows from how candle is made:
//!
//! - Snapshots are f32, bf16 or f16; int8 ones are refused, as candle has no such layers. Whichever they are, it computes in
//!   f32, and weights take four bytes each in memory, unless it is asked for bf16 or f16. Those it has right for some
//!   models only (`body` says which), and refuses for others; on CPU its products would widen the weights on every call,
//!   so functions ask for them on a card only. Heads are in f32 always.
//! - Each sequence is run by itself: nothing is padded, and an answer depends on its own tokens alone.
//! - A stored prefix is not used: its keys and values are computed again.
//! - On a card, weights and passes take what memory they need: `GPU_MEMORY_FRACTION` is not known to it.
//! - Attention of encoders and of Qwen2, and on a card of Qwen3 too, keeps all scores of a layer: `heads * tokens * tokens` values.
//! - Qwen3's attention has threads of candle's own, whose number is that of `CANDLE_NUM_THREADS` or of physical cores.

#![cfg(feature = "candle")]

mod body;
mod device;
mod head;
mod model;
mod weights;

use defrost_loader::Snapshot;
use defrost_model::spec::Description;
use defrost_model::{Error, LoadOptions, Runner, Runtime, isa};

/// candle, for functions to link.
pub static RUNTIME: Candle = Candle;

/// The framework candle, on CPU or, in builds with the feature `cuda`, on a card.
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
        matches!(description, Description::Parts(spec) if spec.config.is_plain())
    }

    fn devices(&self) -> &'static [&'static str] {
        if cfg!(feature = "cuda") { &["cuda"] } else { &[] }
    }

    /// Only whether there is such a device: candle opens one within its time for loading.
    fn prepare(&self, options: &LoadOptions) -> Result<(), Error> {
        device::Place::parse(options.device.as_deref())?.check()
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

/// Words of errors of CUDA's libraries that there is no memory, and those after which a process can use a card no more.
const OUT_OF_MEMORY: [&str; 2] = ["CUDA_ERROR_OUT_OF_MEMORY", "CUBLAS_STATUS_ALLOC_FAILED"];
const LOST: [&str; 5] = [
    "CUDA_ERROR_ECC_UNCORRECTABLE",
    "CUDA_ERROR_HARDWARE_STACK_ERROR",
    "CUDA_ERROR_ILLEGAL_ADDRESS",
    "CUDA_ERROR_LAUNCH_FAILED",
    "CUDA_ERROR_LAUNCH_TIMEOUT",
];

/// What candle says is wrong, in our error.
#[allow(clippy::needless_pass_by_value, reason = "the shape map_err wants")]
fn fault(error: candle_core::Error) -> Error {
    let text = error.to_string();
    // Where backtraces are on, the lines after the first are one.
    let message = text.lines().next().unwrap_or_default();
    let is = |words: &[&str]| words.iter().any(|word| message.contains(word));
    if is(&OUT_OF_MEMORY) {
        return Error::OutOfMemory(format!("candle: the card's memory is full: {message}"));
    }
    if is(&LOST) {
        return Error::Lost(format!("candle: the card is lost: {message}"));
    }
    Error::Library { name: "candle", message: message.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_card_says_is_told_apart() {
        let told = |text: &str| fault(candle_core::Error::Cuda(text.into()));
        let full = told("DriverError(CUDA_ERROR_OUT_OF_MEMORY, \"out of memory\")");
        assert!(
            matches!(&full, Error::OutOfMemory(text) if text.contains("out of memory")),
            "{full}"
        );
        assert!(matches!(told("CublasError(CUBLAS_STATUS_ALLOC_FAILED)"), Error::OutOfMemory(_)));
        for code in LOST {
            assert!(matches!(told(code), Error::Lost(text) if text.contains(code)));
        }
        let other = told("CUBLAS_STATUS_NOT_SUPPORTED\n  at the place");
        assert_eq!(other.to_string(), "candle: CUBLAS_STATUS_NOT_SUPPORTED");
    }
}
