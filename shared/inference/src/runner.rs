//! What runs a model: the engine, or ONNX Runtime for snapshots that hold an ONNX graph.
//!
//! The snapshot decides, since its weights are laid out for one of them; `BACKEND` can only insist. Each brings its own
//! way to batch: the engine packs sequences without padding in input order, ONNX Runtime pads sequences of like length.

use defrost_engine::{Model, Threads, measure};
use defrost_loader::Snapshot;

use crate::prepared::Grouping;
use crate::tokenizer::Tokens;
use crate::{Error, batches, onnx};

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
    Engine {
        model: Box<Model>,
        /// Ids of its stored prefix.
        stored_prefix: Vec<u32>,
    },
    #[cfg(feature = "ort")]
    Ort(Box<crate::ort::OrtModel>),
}

impl Runner {
    /// Numbers in one answer.
    pub(crate) fn outputs(&self) -> usize {
        match self {
            Self::Engine { model, .. } => model.outputs(),
            #[cfg(feature = "ort")]
            Self::Ort(model) => model.outputs(),
        }
    }

    /// How it likes sequences grouped.
    pub(crate) fn grouping(&self) -> Grouping<'_> {
        match self {
            Self::Engine { model, stored_prefix } if model.config().shares_prefixes() => {
                Grouping::ByBeginning(stored_prefix)
            }
            Self::Engine { .. } => Grouping::AsTheyCome,
            #[cfg(feature = "ort")]
            Self::Ort(_) => Grouping::ByLength,
        }
    }

    /// See [`crate::Reranker::limit_tokens_per_s`].
    pub(crate) fn limit_tokens_per_s(&self, threads: &Threads) -> Option<f64> {
        match self {
            Self::Engine { model, .. } => {
                let measured = (0..5).filter_map(|_| measure::peak(model.kernel(), threads));
                let fastest = measured.fold(0.0, f64::max);
                let a_token = model.config().multiply_adds() as f64;
                (fastest > 0.0).then_some(fastest / a_token)
            }
            #[cfg(feature = "ort")]
            Self::Ort(_) => None,
        }
    }

    /// The answers to these sequences, in passes of at most `max_batch_tokens` tokens.
    pub(crate) fn run(
        &self,
        sequences: &[&Tokens],
        max_batch_tokens: usize,
    ) -> Result<Vec<Vec<f32>>, Error> {
        let answers = match self {
            Self::Engine { model, .. } => {
                let stored = match self.grouping() {
                    Grouping::ByBeginning(stored) => Some(stored),
                    Grouping::AsTheyCome | Grouping::ByLength => None,
                };
                let mut answers = Vec::with_capacity(sequences.len() * model.outputs());
                for batch in batches::plan(sequences, max_batch_tokens, stored) {
                    answers.extend(model.forward(&batch)?);
                }
                answers
            }
            #[cfg(feature = "ort")]
            Self::Ort(model) => model.run(sequences, max_batch_tokens)?,
        };
        Ok(answers.chunks_exact(self.outputs()).map(<[f32]>::to_vec).collect())
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
            Self::Engine { .. } => {}
            #[cfg(feature = "ort")]
            Self::Ort(model) => model.set_together(together),
        }
    }

    /// Gives up files that the backend itself holds; see [`Snapshot::detach`].
    #[cfg_attr(
        not(feature = "ort"),
        allow(unused_variables, clippy::unnecessary_wraps, reason = "only ort holds files")
    )]
    pub(crate) fn detach(&self) -> Result<(), Error> {
        match self {
            Self::Engine { .. } => Ok(()),
            #[cfg(feature = "ort")]
            Self::Ort(model) => model.detach(),
        }
    }

    /// What the operator should know about how it runs.
    pub(crate) fn notes(&self) -> &[String] {
        match self {
            Self::Engine { .. } => &[],
            #[cfg(feature = "ort")]
            Self::Ort(model) => model.notes(),
        }
    }
}
