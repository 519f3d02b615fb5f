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

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use defrost_loader::Snapshot;
use defrost_model::spec::{Description, OnnxSpec};
use defrost_model::{
    Answers, Error, Grouping, Head, LoadOptions, Planned, Runner, Runtime, Tokens, Wanted, isa,
};
use ort::value::{TensorElementType, ValueType};
use session::Held;

/// ONNX Runtime, for functions to link.
pub static RUNTIME: OnnxRuntime = OnnxRuntime;

/// What runs ONNX models.
#[derive(Debug, Clone, Copy)]
pub struct OnnxRuntime;

impl Runtime for OnnxRuntime {
    fn name(&self) -> &'static str {
        "ort"
    }

    /// The portable layout: ONNX Runtime packs weights for the processor by itself.
    fn isa(&self) -> &'static str {
        isa::PORTABLE
    }

    fn runs(&self, description: &Description) -> bool {
        matches!(description, Description::Onnx(_))
    }

    fn load(
        &self,
        snapshot: &Snapshot,
        description: Description,
        options: &LoadOptions,
    ) -> Result<Box<dyn Runner>, Error> {
        let Description::Onnx(spec) = description else {
            return Err(Error::Model("ONNX Runtime runs ONNX models only".into()));
        };
        Ok(Box::new(OrtModel::load(snapshot, &spec, options)?))
    }
}

/// An ONNX model that is ready to run.
#[derive(Debug)]
struct OrtModel {
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
    threads: usize,
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
    fn load(snapshot: &Snapshot, spec: &OnnxSpec, options: &LoadOptions) -> Result<Self, Error> {
        let threads = options.threads.unwrap_or_else(default_threads).max(1);
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
            threads,
            notes: built.notes,
        })
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
            .ok_or_else(|| runtime(format!("the model gave no output {:?}", self.output)))?;
        let (shape, values) = output.try_extract_tensor::<f32>().map_err(fault)?;
        batch::answers(self.head, self.width, shape, values, &padded.lengths)
    }
}

impl Runner for OrtModel {
    fn outputs(&self) -> usize {
        self.width
    }

    fn threads(&self) -> usize {
        self.threads
    }

    fn kernel(&self) -> &'static str {
        "onnxruntime"
    }

    fn grouping(&self, _: Wanted) -> Grouping<'_> {
        if self.alone && !self.together { Grouping::OneByOne } else { Grouping::ByLength }
    }

    fn run(&self, sequences: &[Planned<'_>], wanted: Wanted) -> Result<Vec<Answers>, Error> {
        if wanted != Wanted::default() {
            return Err(Error::Model(
                "an ONNX model answers for sequences only, not for every token".into(),
            ));
        }
        let members: Vec<&Tokens> = sequences.iter().map(|sequence| sequence.tokens).collect();
        let mut lengths = members.iter().map(|member| member.ids.len());
        if let Some(len) = lengths.find(|&len| len > self.max_positions) {
            return Err(Error::Model(format!(
                "a sequence has {len} tokens, expected at most {}",
                self.max_positions
            )));
        }
        let rows = self.forward(&members)?;
        if let Some(mapped) = &self.mapped {
            mapped.intact()?;
        }
        let answer = |row: &[f32]| Answers { pooled: row.to_vec(), ..Answers::default() };
        Ok(rows.chunks_exact(self.width).map(answer).collect())
    }

    /// Runs the work on threads of its own: those of ONNX Runtime take no other work.
    fn for_each(&self, count: usize, work: &(dyn Fn(usize) + Sync)) {
        let next = AtomicUsize::new(0);
        let work_on = || {
            while let Some(at) = Some(next.fetch_add(1, Ordering::Relaxed)).filter(|&at| at < count)
            {
                work(at);
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..self.threads.min(count) {
                // Where the system gives no thread, the others do its share.
                let _ = std::thread::Builder::new().spawn_scoped(scope, work_on);
            }
            work_on();
        });
    }

    fn set_together(&mut self, together: bool) {
        self.together = together;
    }

    /// Gives up the file of the compiled graph; see [`Snapshot::detach`].
    fn before_snapshot(&self) -> Result<(), Error> {
        Ok(self.mapped.as_ref().map_or(Ok(()), Snapshot::detach)?)
    }

    /// Which library, and how the graph was optimised.
    fn notes(&self) -> &[String] {
        &self.notes
    }
}

/// Physical cores, no more than the affinity mask and the cgroup's quota allow.
fn default_threads() -> usize {
    let allowed = std::thread::available_parallelism().map_or(1, usize::from);
    num_cpus::get_physical().clamp(1, allowed.max(1))
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
    runtime(error.message().to_owned())
}

/// What is wrong with ONNX Runtime, or with what it says.
fn runtime(message: String) -> Error {
    Error::Library { name: "ONNX Runtime", message }
}
