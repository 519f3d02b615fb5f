//! The GPU as a [`Runtime`], for functions to link.
//!
//! ```text
//! prepare   a thread: driver, context, kernels ──────────┐
//!           meanwhile the snapshot is found and mapped    │
//! load      plan of the arena, tokenizer ... ─ waits for it ┴─> Arena, Upload, GpuModel
//! ```
//!
//! A context takes a quarter of a second and needs nothing of the model, so it is begun before the snapshot is looked for.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use defrost_loader::Snapshot;
use defrost_model::spec::Description;
use defrost_model::{Error, LoadOptions, Precision, Runner, Runtime, isa};

use crate::device::{self, Device};
use crate::kernels::Half;
use crate::runner::{GpuModel, Settings};

/// The GPU.
pub static RUNTIME: Gpu = Gpu { opening: Mutex::new(None) };

/// This project's own kernels on a CUDA device.
#[derive(Debug)]
pub struct Gpu {
    opening: Mutex<Option<Opening>>,
}

/// A device that a thread opens.
#[derive(Debug)]
struct Opening {
    /// As `DEVICE` names it.
    name: Option<String>,
    thread: JoinHandle<Result<Opened, device::Error>>,
}

/// A device, and what opening it was made of.
#[derive(Debug, Clone)]
struct Opened {
    device: Arc<dyn Device>,
    context: Duration,
}

fn open(name: Option<&str>) -> Result<Opened, device::Error> {
    let began = Instant::now();
    let device = device::open(name)?;
    Ok(Opened { device, context: began.elapsed() })
}

impl Gpu {
    /// The device of that name: the one that is being opened, or another.
    fn opened(&self, name: Option<&str>) -> Result<Opened, device::Error> {
        let opening = self.opening.lock().unwrap_or_else(PoisonError::into_inner).take();
        match opening.filter(|opening| opening.name.as_deref() == name) {
            None => open(name),
            Some(opening) => opening.thread.join().unwrap_or_else(|_| open(name)),
        }
    }
}

impl Runtime for Gpu {
    fn name(&self) -> &'static str {
        "gpu"
    }

    /// Rows one after the other are what tensor cores read; there is no layout of the device's own.
    fn isa(&self) -> &'static str {
        isa::PORTABLE
    }

    fn runs(&self, description: &Description) -> bool {
        matches!(description, Description::Parts(_))
    }

    fn prepare(&self, options: &LoadOptions) {
        let name = options.device.clone();
        let own = name.clone();
        let thread = thread::Builder::new().name("cuda".into()).spawn(move || open(own.as_deref()));
        // Without the thread, loading opens it.
        let opening = thread.ok().map(|thread| Opening { name, thread });
        *self.opening.lock().unwrap_or_else(PoisonError::into_inner) = opening;
    }

    fn load(
        &self,
        snapshot: &Snapshot,
        description: Description,
        options: &LoadOptions,
    ) -> Result<Box<dyn Runner>, Error> {
        let Description::Parts(spec) = description else {
            return Err(Error::Model("the GPU's kernels run no ONNX models".into()));
        };
        if snapshot.isa() != isa::PORTABLE {
            return Err(Error::Model(format!(
                "snapshot {} is laid out for {}, expected {} for a GPU: pack the model with `defrost pack --isa {}`",
                snapshot.path().display(),
                snapshot.isa(),
                isa::PORTABLE,
                isa::PORTABLE
            )));
        }
        let half = match options.compute {
            None => None,
            Some(Precision::Bf16) => Some(Half::Bf16),
            Some(Precision::F16) => Some(Half::F16),
            Some(other) => {
                let name = other.name();
                return Err(Error::Config(format!(
                    "a GPU computes in bf16 or f16, found DTYPE={name}"
                )));
            }
        };
        let usual = Settings::default();
        let memory_fraction = options.memory_fraction.unwrap_or(usual.memory_fraction);
        let Opened { device, context } = self.opened(options.device.as_deref())?;
        let settings = Settings { half, memory_fraction };
        let mut model =
            GpuModel::load(&device, snapshot, spec.config, spec.stored_prefix, settings)?;
        model.note_phase("context", context);
        Ok(Box::new(model))
    }
}
