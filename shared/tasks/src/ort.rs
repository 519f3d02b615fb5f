//! Runs snapshots of ONNX models with ONNX Runtime.
//!
//! ```text
//! library   finds libonnxruntime.so and opens it, once for the process
//! session   graph and weights -> session, optimised as FAST_BOOT says
//! compiled  the optimised graph beside the snapshot, mapped by the next start
//! batch     sequences -> padded micro-batches -> answers in input order
//! ```
//!
//! The graph comes out of the snapshot as it is; weights are handed over by name. The `ort` crate takes only tensors that
//! own their memory, so each weight is copied once; a compiled graph is read where it is mapped, without a copy.
//!
//! Models that are quantised dynamically take one scale for the activations of a whole run, so a pair's score would
//! depend on the pairs beside it. Those are run one sequence at a time ([`OnnxSpec::alone`]): slower by a fifth on short
//! texts, and the same score for the same pair always.

mod batch;
mod compiled;
mod library;
mod session;

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use defrost_engine::Head;
use defrost_loader::Snapshot;
use ort::value::{TensorElementType, ValueType};

use crate::Error;
use crate::onnx::spec::OnnxSpec;
use crate::tokenizer::Tokens;
use session::Held;

/// Settings of ONNX Runtime.
#[derive(Debug, Clone, Default)]
pub struct OrtOptions {
    /// The library `libonnxruntime.so`, or a folder that holds it; `None`: it is looked for.
    pub library: Option<PathBuf>,
    /// Optimise fully for this processor and store the result for the next start; otherwise only what is cheap.
    pub compile: bool,
    /// Where compiled graphs are kept; `None`: [`crate::default_cache`].
    pub cache_dir: Option<PathBuf>,
}

/// An ONNX model that is ready to run.
#[derive(Debug)]
pub(crate) struct OrtModel {
    session: Mutex<Held>,
    inputs: Vec<Input>,
    output: String,
    head: Head,
    width: usize,
    max_positions: usize,
    pad_id: u32,
    alone: bool,
    /// Run together all the same, for measurements.
    together: bool,
    /// Whose bytes are read while it runs: the compiled graph's, if there is one.
    mapped: Option<Snapshot>,
    notes: Vec<String>,
}

/// What the model wants to know about a micro-batch.
#[derive(Debug, Clone)]
struct Input {
    name: String,
    kind: InputKind,
    is_i32: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum InputKind {
    Ids,
    Mask,
    Types,
    Positions,
}

impl OrtModel {
    /// Builds a session over the snapshot's graph and weights.
    pub(crate) fn load(
        snapshot: &Snapshot,
        spec: &OnnxSpec,
        threads: usize,
        options: &OrtOptions,
    ) -> Result<Self, Error> {
        let built = session::build(snapshot, threads, options)?;
        let inputs = inputs(&built.held)?;
        let width = width(&built.held, spec)?;
        Ok(Self {
            session: Mutex::new(built.held),
            inputs,
            output: spec.output.clone(),
            head: spec.head,
            width,
            max_positions: spec.max_positions,
            pad_id: spec.pad_id,
            alone: spec.alone,
            together: false,
            mapped: built.mapped,
            notes: built.notes,
        })
    }

    /// Numbers in one answer: one logit, or the width of an embedding.
    pub(crate) fn outputs(&self) -> usize {
        self.width
    }

    /// Runs sequences together even if the model quantises their activations together, or not.
    pub(crate) fn set_together(&mut self, together: bool) {
        self.together = together;
    }

    /// What the operator should know: which library, and how the graph was optimised.
    pub(crate) fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Gives up the file of the compiled graph; see [`Snapshot::detach`].
    pub(crate) fn detach(&self) -> Result<(), Error> {
        Ok(self.mapped.as_ref().map_or(Ok(()), Snapshot::detach)?)
    }

    /// The answers to these sequences, one after the other, in input order.
    pub(crate) fn run(
        &self,
        sequences: &[&Tokens],
        max_batch_tokens: usize,
    ) -> Result<Vec<f32>, Error> {
        let lengths: Vec<usize> = sequences.iter().map(|sequence| sequence.ids.len()).collect();
        if let Some(len) = lengths.iter().find(|&&len| len > self.max_positions) {
            return Err(Error::Model(format!(
                "a sequence has {len} tokens, expected at most {}",
                self.max_positions
            )));
        }
        // An empty text under a tokenizer that adds nothing: no hidden state, a zero vector.
        let mut answers = vec![0.0; sequences.len() * self.width];
        let budget = if self.alone && !self.together { 1 } else { max_batch_tokens };
        for batch in batch::plan(&lengths, budget) {
            let members: Vec<&Tokens> = batch.iter().map(|&at| sequences[at]).collect();
            let rows = self.forward(&members)?;
            for (&at, row) in batch.iter().zip(rows.chunks_exact(self.width)) {
                answers[at * self.width..][..self.width].copy_from_slice(row);
            }
        }
        if let Some(mapped) = &self.mapped {
            mapped.intact()?;
        }
        Ok(answers)
    }

    fn forward(&self, members: &[&Tokens]) -> Result<Vec<f32>, Error> {
        let padded = batch::Padded::new(members, self.pad_id);
        let inputs = self
            .inputs
            .iter()
            .map(|input| Ok((input.name.clone(), padded.value(input.kind, input.is_i32)?)))
            .collect::<Result<Vec<_>, Error>>()?;
        let mut session = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        let outputs = session.run(inputs).map_err(fault)?;
        let output = outputs
            .get(&self.output)
            .ok_or_else(|| Error::Runtime(format!("the model gave no output {:?}", self.output)))?;
        let (shape, values) = output.try_extract_tensor::<f32>().map_err(fault)?;
        batch::answers(self.head, self.width, shape, values, &padded.lengths)
    }
}

fn inputs(session: &Held) -> Result<Vec<Input>, Error> {
    session
        .inputs()
        .iter()
        .map(|given| {
            let name = given.name();
            let kind = match name {
                "input_ids" => InputKind::Ids,
                "attention_mask" => InputKind::Mask,
                "token_type_ids" => InputKind::Types,
                "position_ids" => InputKind::Positions,
                _ => {
                    return Err(Error::Model(format!(
                        "the model wants an input {name:?}, expected input_ids, attention_mask, token_type_ids and \
                         position_ids only: export it without a cache of keys and values"
                    )));
                }
            };
            let is_i32 = match given.dtype() {
                ValueType::Tensor { ty: TensorElementType::Int64, .. } => false,
                ValueType::Tensor { ty: TensorElementType::Int32, .. } => true,
                other => {
                    return Err(Error::Model(format!(
                        "the model's input {name:?} is {other}, expected int64 or int32"
                    )));
                }
            };
            Ok(Input { name: name.to_owned(), kind, is_i32 })
        })
        .collect()
}

/// Checks the output's type and shape as far as they are known; returns how many numbers of it are one answer.
fn width(session: &Held, spec: &OnnxSpec) -> Result<usize, Error> {
    let outputs = session.outputs();
    let Some(output) = outputs.iter().find(|output| output.name() == spec.output) else {
        return Err(Error::Model(format!("the model has no output {:?}", spec.output)));
    };
    let ValueType::Tensor { ty: TensorElementType::Float32, shape, .. } = output.dtype() else {
        return Err(Error::Model(format!(
            "the model's output {:?} is {}, expected a tensor of float32: export it with f32 outputs",
            spec.output,
            output.dtype()
        )));
    };
    let last = shape.last().copied().and_then(|dim| usize::try_from(dim).ok());
    if matches!(spec.head, Head::Classifier | Head::YesNo) {
        // A scalar for each pair has one dimension only, the batch.
        let scores = if shape.len() == 1 { 1 } else { last.unwrap_or(1) };
        if shape.len() > 2 || scores != 1 {
            return Err(Error::Model(format!(
                "the model's output {:?} has shape {shape:?}, expected [batch, 1]: one score for each pair \
                 (scripts/golden/export_onnx.py makes it so)",
                spec.output
            )));
        }
        return Ok(1);
    }
    last.or(Some(spec.hidden)).filter(|&width| width > 0).ok_or_else(|| {
        Error::Model(format!(
            "the width of the model's output {:?} is not known: neither the graph nor hidden_size of config.json says it",
            spec.output
        ))
    })
}

/// An error of ONNX Runtime in our words.
#[allow(clippy::needless_pass_by_value, reason = "the shape map_err wants")]
fn fault<R>(error: ort::Error<R>) -> Error {
    Error::Runtime(error.message().to_owned())
}
