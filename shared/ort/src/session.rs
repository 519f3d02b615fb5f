//! From a snapshot to a session.
//!
//! | there is | `FAST_BOOT=true` | `FAST_BOOT=false` |
//! |---|---|---|
//! | a compiled graph for this library and processor | it, as it is | it, as it is |
//! | none | the stored graph, basic optimisation | all optimisations, and the result is stored |
//!
//! So one start with `FAST_BOOT=false` makes every later one compiled. Where the result cannot be stored (no room, no
//! permission, more than the 2 GB of its format), the session is built all the same and a note says why.
//!
//! Sequences differ in length from run to run, so ONNX Runtime's plan of memory for one shape is switched off.

use std::fmt;

use defrost_loader::{Dtype, Snapshot, Tensor as Stored};
use defrost_model::stored::{GRAPH, ONNX_WEIGHT as WEIGHT};
use defrost_model::{Error, LoadOptions};
use half::{bf16, f16};
use ort::session::builder::{GraphOptimizationLevel, SessionBuilder};
use ort::session::{InMemorySession, Session, SessionInputValue, SessionOutputs};
use ort::value::{DynValue, Outlet, Tensor};

use super::compiled::Place;
use super::fault;
use super::library::{self, Library};

/// A session and what it needs to live.
pub(super) struct Built {
    pub(super) held: Held,
    /// The snapshot whose mapped bytes the session reads while it runs.
    pub(super) mapped: Option<Snapshot>,
    pub(super) notes: Vec<String>,
}

/// A session with its weights in memory of its own, or in mapped bytes.
pub(super) enum Held {
    Own(Session),
    Mapped(InMemorySession<'static>),
}

impl Held {
    pub(super) fn inputs(&self) -> &[Outlet] {
        match self {
            Self::Own(session) => session.inputs(),
            Self::Mapped(session) => session.inputs(),
        }
    }

    pub(super) fn outputs(&self) -> &[Outlet] {
        match self {
            Self::Own(session) => session.outputs(),
            Self::Mapped(session) => session.outputs(),
        }
    }

    pub(super) fn run(
        &mut self,
        inputs: Vec<(String, SessionInputValue<'static>)>,
    ) -> ort::Result<SessionOutputs<'_>> {
        match self {
            Self::Own(session) => session.run(inputs),
            Self::Mapped(session) => session.run(inputs),
        }
    }
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Own(_) => "Held::Own",
            Self::Mapped(_) => "Held::Mapped",
        })
    }
}

/// Builds the session for a snapshot that holds an ONNX graph.
pub(super) fn build(
    snapshot: &Snapshot,
    threads: usize,
    options: &LoadOptions,
) -> Result<Built, Error> {
    let library = library::open(options.library.as_deref())?;
    let mut notes = vec![format!("ONNX Runtime of {} ({})", library.path.display(), library.build)];
    let place = Place::of(snapshot, library.build, &options.cache_dir);
    if let Some(copy) = place.open() {
        match mapped(&library, &copy, threads) {
            Ok(held) => {
                notes.push(format!("compiled graph {}", copy.path().display()));
                return Ok(Built { held, mapped: Some(copy), notes });
            }
            // As good as none: everything that it was made from is at hand.
            Err(error) => notes.push(format!("the compiled graph is of no use: {error}")),
        }
    }
    if options.compile {
        match compile(&library, snapshot, threads, &place) {
            Ok(session) => {
                notes.push(format!("graph compiled and stored as {}", place.path().display()));
                return Ok(Built { held: Held::Own(session), mapped: None, notes });
            }
            Err(error) => notes.push(format!(
                "the compiled graph cannot be stored, so every start compiles anew: {error}"
            )),
        }
    }
    let level =
        if options.compile { GraphOptimizationLevel::All } else { GraphOptimizationLevel::Level1 };
    let builder = builder(&library, threads, level)?;
    let session = commit(builder, snapshot)?;
    Ok(Built { held: Held::Own(session), mapped: None, notes })
}

/// Optimises fully, stores the result, and returns the session that came out of it.
fn compile(
    library: &Library,
    snapshot: &Snapshot,
    threads: usize,
    place: &Place,
) -> Result<Session, Error> {
    let file = place.scratch()?;
    let builder = builder(library, threads, GraphOptimizationLevel::All)?
        .with_optimized_model_path(file.path())
        .map_err(fault)?
        .with_config_entry("session.save_model_format", "ORT")
        .map_err(fault)?;
    let session = commit(builder, snapshot)?;
    place.store(file.path())?;
    Ok(session)
}

/// A session that reads graph and weights where they are mapped.
fn mapped(library: &Library, copy: &Snapshot, threads: usize) -> Result<Held, Error> {
    let tensor = copy.tensor(super::compiled::COMPILED)?;
    // The session's weights point into these bytes, and it may live as long as the process. So they are never unmapped;
    // a process loads few models, most of them one.
    let bytes: &'static [u8] = Box::leak(Box::new(tensor.bytes));
    let mut builder = builder(library, threads, GraphOptimizationLevel::Disable)?;
    Ok(Held::Mapped(builder.commit_from_memory_directly(bytes).map_err(fault)?))
}

fn builder(
    library: &Library,
    threads: usize,
    level: GraphOptimizationLevel,
) -> Result<SessionBuilder, Error> {
    let builder = Session::builder(&library.environment).map_err(fault)?;
    let builder = builder.with_intra_threads(threads).map_err(fault)?;
    let builder = builder.with_optimization_level(level).map_err(fault)?;
    builder.with_memory_pattern(false).map_err(fault)
}

/// Hands over the weights, then the graph.
fn commit(mut builder: SessionBuilder, snapshot: &Snapshot) -> Result<Session, Error> {
    let names = snapshot.manifest().tensors.iter().map(|tensor| &tensor.name);
    for name in names.filter(|name| name.starts_with(WEIGHT)) {
        let tensor = snapshot.tensor(name)?;
        builder = builder
            .with_external_initializer(&name[WEIGHT.len()..], value(&tensor)?)
            .map_err(fault)?;
    }
    let graph = snapshot.tensor(GRAPH)?;
    let session = builder.commit_from_memory(&graph.bytes).map_err(fault)?;
    // Everything has been copied by now; what was copied must have been the snapshot's.
    snapshot.intact()?;
    Ok(session)
}

/// A weight as a value that owns its elements.
fn value(tensor: &Stored) -> Result<DynValue, Error> {
    fn owned<T>(tensor: &Stored) -> Result<DynValue, Error>
    where
        T: bytemuck::Pod + ort::value::PrimitiveTensorElementType + fmt::Debug,
    {
        let elements: Box<[T]> = bytemuck::try_cast_slice(&tensor.bytes)
            .map_err(|err| Error::Model(format!("weight {:?}: {err}", tensor.name)))?
            .into();
        Ok(Tensor::from_array((tensor.shape.clone(), elements)).map_err(fault)?.into_dyn())
    }
    match tensor.dtype {
        Dtype::U8 => owned::<u8>(tensor),
        Dtype::I8 => owned::<i8>(tensor),
        Dtype::I32 => owned::<i32>(tensor),
        Dtype::U32 => owned::<u32>(tensor),
        Dtype::F16 => owned::<f16>(tensor),
        Dtype::Bf16 => owned::<bf16>(tensor),
        Dtype::F32 => owned::<f32>(tensor),
        other => {
            Err(Error::Model(format!("weight {:?} has the unknown type {other}", tensor.name)))
        }
    }
}
