//! What runs a model: the engine, or ONNX Runtime for snapshots that hold an ONNX graph.
//!
//! The snapshot decides, since its weights are laid out for one of them; `BACKEND` can only insist. Each brings its own
//! way to batch: the engine packs sequences without padding in input order, ONNX Runtime pads sequences of like length.

use defrost_engine::{Answers, Batch, Model, Threads, Wanted, measure};
use defrost_loader::Snapshot;

use crate::tokenizer::Tokens;
use crate::{Error, onnx};

/// What runs a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BackendKind {
    /// This project's own engine.
    Engine,
    /// ONNX Runtime.
    Ort,
    /// The candle framework.
    Candle,
}

impl BackendKind {
    /// `engine`, `ort` or `candle`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Engine => "engine",
            Self::Ort => "ort",
            Self::Candle => "candle",
        }
    }

    /// What the snapshot is made for, if this build has it and nothing else is `wanted`.
    pub(crate) fn of(snapshot: &Snapshot, wanted: Option<Self>) -> Result<Self, Error> {
        let found = if onnx::holds_graph(snapshot) { Self::Ort } else { Self::Engine };
        match (wanted.unwrap_or(found), found) {
            (Self::Candle, _) => Err(Error::Model(
                "BACKEND=candle: candle is not built in; use engine, or ort for snapshots of ONNX models".into(),
            )),
            (Self::Ort, _) if cfg!(not(feature = "ort")) => Err(Error::Model(format!(
                "{} holds an ONNX model, which this binary cannot run: it was built without the feature `ort` \
                 (cargo build --features ort)",
                snapshot.path().display()
            ))),
            (wanted, found) if wanted == found => Ok(found),
            (wanted, found) => Err(Error::Model(format!(
                "BACKEND={}: snapshot {} is made for {}; {}",
                wanted.name(),
                snapshot.path().display(),
                found.name(),
                match wanted {
                    Self::Ort => "pack the model's ONNX export, or leave BACKEND unset",
                    _ => "pack the model's safetensors, or leave BACKEND unset",
                }
            ))),
        }
    }
}

/// A model and what runs it.
#[derive(Debug)]
pub(crate) enum Runner {
    Engine(Box<Model>),
    #[cfg(feature = "ort")]
    Ort(Box<crate::ort::OrtModel>),
}

impl Runner {
    /// Numbers in one answer.
    pub(crate) fn outputs(&self) -> usize {
        match self {
            Self::Engine(model) => model.outputs(),
            #[cfg(feature = "ort")]
            Self::Ort(model) => model.outputs(),
        }
    }

    /// Whether sequences that begin alike may share that.
    pub(crate) fn shares_prefixes(&self) -> bool {
        match self {
            Self::Engine(model) => model.config().shares_prefixes(),
            #[cfg(feature = "ort")]
            Self::Ort(_) => false,
        }
    }

    /// See [`crate::Reranker::limit_tokens_per_s`].
    pub(crate) fn limit_tokens_per_s(&self, threads: &Threads) -> Option<f64> {
        match self {
            Self::Engine(model) => {
                let measured = (0..5).filter_map(|_| measure::peak(model.kernel(), threads));
                let fastest = measured.fold(0.0, f64::max);
                let a_token = model.config().multiply_adds() as f64;
                (fastest > 0.0).then_some(fastest / a_token)
            }
            #[cfg(feature = "ort")]
            Self::Ort(_) => None,
        }
    }

    /// The answers to these sequences, if it batches by itself.
    #[cfg_attr(
        not(feature = "ort"),
        allow(unused_variables, clippy::unnecessary_wraps, reason = "only ort batches by itself")
    )]
    pub(crate) fn run_all(
        &self,
        sequences: &mut dyn Iterator<Item = &Tokens>,
        max_batch_tokens: usize,
        cancelled: &(dyn Fn() -> bool + Sync),
    ) -> Option<Result<Vec<f32>, Error>> {
        match self {
            Self::Engine(_) => None,
            #[cfg(feature = "ort")]
            Self::Ort(model) => {
                let sequences: Vec<&Tokens> = sequences.collect();
                Some(model.run(&sequences, max_batch_tokens, cancelled))
            }
        }
    }

    /// See [`crate::Reranker::set_batching`].
    #[cfg_attr(
        not(feature = "ort"),
        allow(
            unused_variables,
            clippy::unnecessary_wraps,
            reason = "only ort quantises sequences together"
        )
    )]
    pub(crate) fn set_together(&mut self, together: bool) {
        match self {
            // Its scales are those of a token, so nothing depends on anything.
            Self::Engine(_) => {}
            #[cfg(feature = "ort")]
            Self::Ort(model) => model.set_together(together),
        }
    }

    /// The engine's answers to one packed batch.
    pub(crate) fn forward(&self, batch: &Batch) -> Result<Vec<f32>, Error> {
        Ok(self.forward_with(batch, Wanted::default())?.pooled)
    }

    /// As [`Runner::forward`], with what is wanted of every token.
    #[cfg_attr(
        not(feature = "ort"),
        allow(clippy::unnecessary_wraps, reason = "only the engine packs batches")
    )]
    pub(crate) fn forward_with(&self, batch: &Batch, wanted: Wanted) -> Result<Answers, Error> {
        match self {
            Self::Engine(model) => Ok(model.forward_with(batch, wanted)?),
            #[cfg(feature = "ort")]
            Self::Ort(_) => Err(Error::Runtime("packed batches are the engine's".into())),
        }
    }

    /// Gives up files that the backend itself holds; see [`Snapshot::detach`].
    #[cfg_attr(
        not(feature = "ort"),
        allow(unused_variables, clippy::unnecessary_wraps, reason = "only ort holds files")
    )]
    pub(crate) fn detach(&self) -> Result<(), Error> {
        match self {
            Self::Engine(_) => Ok(()),
            #[cfg(feature = "ort")]
            Self::Ort(model) => model.detach(),
        }
    }

    /// What the operator should know about how it runs.
    pub(crate) fn notes(&self) -> &[String] {
        match self {
            Self::Engine(_) => &[],
            #[cfg(feature = "ort")]
            Self::Ort(model) => model.notes(),
        }
    }
}
