//! The GPU as a [`Runtime`], for functions to link.
//!
//! ```text
//! prepare   a thread: driver, context, kernels ──────────┐
//!           meanwhile the snapshot is found and mapped    │
//! load      plan of the arena, tokenizer ... ─ waits for it ┴─> Arena, Upload, GpuModel
//! ```
//!
//! A context takes a quarter of a second and needs nothing of the model, so it is begun before the snapshot is looked for.

use std::sync::Arc;

use defrost_loader::Snapshot;
use defrost_model::runtime::DeviceGauge;
use defrost_model::spec::Description;
use defrost_model::{Error, LoadOptions, Precision, Runner, Runtime, isa};

use crate::device::Opening;
use crate::kernels::Half;
use crate::runner::{GpuModel, Settings, Tune};

/// The GPU.
pub static RUNTIME: Gpu = Gpu { opening: Opening::new() };

/// This project's own kernels on a CUDA device.
#[derive(Debug)]
pub struct Gpu {
    opening: Opening,
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
        matches!(description, Description::Parts(spec) if spec.config.is_plain())
    }

    fn devices(&self) -> &'static [&'static str] {
        if cfg!(feature = "emulated") { &["cuda", "emulated"] } else { &["cuda"] }
    }

    fn prepare(&self, options: &LoadOptions) -> Result<(), Error> {
        Ok(self.opening.begin(options.device.as_deref())?)
    }

    fn gauges(&self) -> Vec<DeviceGauge> {
        self.opening.gauges()
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
            // int8 is no wish, but what the snapshot is.
            None | Some(Precision::Int8) => None,
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
        let device: Arc<_> = self.opening.device(options.device.as_deref())?;
        let tune = match (options.compile, device.limits().is_timed) {
            (true, _) => Tune::Before,
            (false, true) => Tune::Behind,
            (false, false) => Tune::Never,
        };
        let cache_dir = Some(options.cache_dir.clone());
        // Where times mean nothing, measuring is only to be proved.
        let most_rows = if device.limits().is_timed { usual.most_rows } else { 16 };
        let settings = Settings { half, memory_fraction, tune, most_rows, cache_dir };
        let mut model =
            GpuModel::load(&device, snapshot, spec.config, spec.stored_prefix, &settings)?;
        for (phase, took) in device.phases() {
            model.note_phase(phase, took);
        }
        Ok(Box::new(model))
    }
}
