//! What runs a model: the engine, or ONNX Runtime for snapshots that hold an ONNX graph.
//!
//! The snapshot decides, since its weights are laid out for one of them; `BACKEND` can only insist. Each brings its own
//! way to batch: the engine packs sequences without padding in input order, ONNX Runtime pads sequences of like length.

use std::ops::Range;

use defrost_engine::{Answers, Batch, Model, Threads, Wanted, measure};
use defrost_loader::Snapshot;

use crate::prepared::{Grouping, Prepared};
use crate::schedule::{Schedule, Turn};
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
        notes: Vec<String>,
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
    pub(crate) fn grouping(&self, wanted: Wanted) -> Grouping<'_> {
        let pooled_only = wanted == Wanted::default();
        match self {
            Self::Engine { model, stored_prefix, .. }
                if pooled_only && model.config().shares_prefixes() =>
            {
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

    /// The answer to each of these sequences, in passes of at most `max_batch_tokens` tokens. Where something is wanted of
    /// every token, sequences do not share beginnings, whose tokens would belong to several.
    pub(crate) fn run(
        &self,
        sequences: &[&Tokens],
        max_batch_tokens: usize,
        wanted: Wanted,
    ) -> Result<Vec<Answers>, Error> {
        match self {
            Self::Engine { model, .. } => {
                let stored = match self.grouping(wanted) {
                    Grouping::ByBeginning(stored) => Some(stored),
                    Grouping::AsTheyCome | Grouping::ByLength => None,
                };
                let mut left = sequences;
                let mut answers = Vec::with_capacity(sequences.len());
                for batch in batches::plan(sequences, max_batch_tokens, stored) {
                    let (members, rest) = left.split_at(batch.len());
                    left = rest;
                    let all = model.forward_with(&batch, wanted)?;
                    answers.extend(shares(&all, members, &batch, wanted));
                }
                Ok(answers)
            }
            #[cfg(feature = "ort")]
            Self::Ort(model) => {
                let pooled = model.run(sequences, max_batch_tokens)?;
                let answer =
                    |pooled: &[f32]| Answers { pooled: pooled.to_vec(), ..Answers::default() };
                Ok(pooled.chunks_exact(model.outputs()).map(answer).collect())
            }
        }
    }

    /// The answers to all sequences of a request, micro-batch by micro-batch.
    pub(crate) fn run_all<T>(
        &self,
        prepared: &Prepared<T>,
        max_batch_tokens: usize,
        cancelled: &(dyn Fn() -> bool + Sync),
    ) -> Result<Vec<Answers>, Error> {
        let mut schedule = Schedule::new(max_batch_tokens);
        schedule.push(0, 0, prepared.costs());
        let mut answers = Vec::new();
        while let Some(Turn { sequences, .. }) = schedule.next_batch().pop() {
            if cancelled() {
                return Err(Error::Cancelled);
            }
            let batch: Vec<&Tokens> = prepared.sequences()[sequences].iter().collect();
            answers.extend(self.run(&batch, max_batch_tokens, prepared.wanted())?);
        }
        Ok(answers)
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
            Self::Engine { notes, .. } => notes,
            #[cfg(feature = "ort")]
            Self::Ort(model) => model.notes(),
        }
    }
}

/// Each member's share of what the model said: a row of what is pooled, and its tokens' rows of the rest.
fn shares(all: &Answers, members: &[&Tokens], batch: &Batch, wanted: Wanted) -> Vec<Answers> {
    let mut end = 0;
    members
        .iter()
        .enumerate()
        .map(|(at, member)| {
            let tokens = end..end + member.ids.len();
            end = tokens.end;
            let row = |values: &[f32], rows: Range<usize>, all: usize| {
                let width = values.len() / all;
                values[rows.start * width..rows.end * width].to_vec()
            };
            let pooled = row(&all.pooled, at..at + 1, members.len());
            if wanted == Wanted::default() {
                // Sequences that share beginnings have more tokens than the batch.
                return Answers { pooled, ..Answers::default() };
            }
            let of_tokens = |values: &[f32]| row(values, tokens.clone(), batch.tokens());
            Answers {
                pooled,
                hidden: of_tokens(&all.hidden),
                sparse: of_tokens(&all.sparse),
                colbert: of_tokens(&all.colbert),
            }
        })
        .collect()
}
