//! The seam to what runs a model: a [`Runtime`] loads snapshots, a [`Runner`] is one that it has loaded.
//!
//! A function links the runtimes that it names; nothing else in the house knows which there are. The snapshot decides which
//! one is used, since its weights are made for one of them; `BACKEND` can insist on another that takes them too.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use defrost_loader::Snapshot;

use crate::planning::{Grouping, Planned};
use crate::spec::Description;
use crate::{Answers, Decoder, Error, Precision, Wanted};

/// The names of all runtimes that there are, linked or not.
pub const NAMES: [&str; 4] = ["engine", "ort", "candle", "gpu"];

/// The name of a runtime as one of [`NAMES`].
pub fn by_name(name: &str) -> Option<&'static str> {
    NAMES.into_iter().find(|known| *known == name)
}

/// What loads models.
pub trait Runtime: Send + Sync + fmt::Debug {
    /// The value of `BACKEND` that means it.
    fn name(&self) -> &'static str;

    /// The layout that the runtime reads weights in: [`crate::isa::PORTABLE`], or what [`Runtime::lay_out`] writes.
    fn isa(&self) -> &'static str;

    /// Whether the runtime runs such models.
    fn runs(&self, description: &Description) -> bool;

    /// The kinds of devices that it runs on beside the processor, as `DEVICE` names them. A function that links a runtime
    /// with any has the settings of devices.
    fn devices(&self) -> &'static [&'static str] {
        &[]
    }

    /// Begins what loading takes and needs no snapshot for, such as a device's context, while the snapshot is restored. To
    /// be called before the process has other threads.
    ///
    /// # Errors
    /// If loading would fail, as far as that is seen at once.
    fn prepare(&self, options: &LoadOptions) -> Result<(), Error> {
        let _ = options;
        Ok(())
    }

    /// What its device does at the moment, for metrics.
    fn gauges(&self) -> Vec<DeviceGauge> {
        Vec::new()
    }

    /// Writes a portable snapshot's weights to `out` in its own layout, if that is another.
    ///
    /// # Errors
    /// If the snapshot is not what its metadata say, or cannot be written.
    fn lay_out(&self, portable: &Snapshot, out: &Path) -> Result<(), Error> {
        let (name, found) = (self.name(), portable.path().display());
        Err(Error::Model(format!(
            "{found} is run by {name} as it is, {} is not needed",
            out.display()
        )))
    }

    /// Whether a snapshot is what [`Runtime::lay_out`] made of this one.
    fn is_laid_out(&self, copy: &Snapshot, portable: &Snapshot) -> bool {
        let _ = (copy, portable);
        false
    }

    /// Builds the model over the snapshot's weights, which may still be on their way.
    ///
    /// # Errors
    /// If weights are missing or not what the description implies, or if the runtime lacks something.
    fn load(
        &self,
        snapshot: &Snapshot,
        description: Description,
        options: &LoadOptions,
    ) -> Result<Box<dyn Runner>, Error>;
}

/// A number that a device tells of itself, under the name that others know it by.
#[derive(Debug, Clone, PartialEq)]
pub struct DeviceGauge {
    /// The whole name of the metric.
    pub name: &'static str,
    /// What it means.
    pub help: &'static str,
    /// Which device it is of.
    pub labels: Vec<(&'static str, String)>,
    /// Its value now.
    pub value: f64,
}

/// How to load.
#[derive(Debug, Clone, Default)]
pub struct LoadOptions {
    /// Worker threads; `None`: physical cores within the cgroup's quota.
    pub threads: Option<usize>,
    /// Kernel set by its name; `None`: the best of this processor.
    pub kernel: Option<&'static str>,
    /// Optimise fully for this processor, and store the result for the next start, where the runtime compiles anything.
    pub compile: bool,
    /// The runtime's own library, or the folder that holds it, where it opens one; `None`: it is looked for.
    pub library: Option<PathBuf>,
    /// The directory in which compiled models are kept.
    pub cache_dir: PathBuf,
    /// Which device runs the model, as `DEVICE` names it, where the runtime has devices; `None`: the first that fits.
    pub device: Option<String>,
    /// The type that is computed in, where runtime and snapshot leave a choice.
    pub compute: Option<Precision>,
    /// The part of the device's memory that may be used, from 0 to 1; `None`: the runtime's own default.
    pub memory_fraction: Option<f64>,
    /// Tokens whose keys and values there is memory for, of a model that continues sequences; `None`: the runtime's own
    /// default.
    pub kv_tokens: Option<usize>,
    /// The most tokens of one such sequence; `None`: the model's.
    pub context: Option<usize>,
}

/// A model that is ready to run. Passes of one model run one at a time.
pub trait Runner: Send + Sync + fmt::Debug {
    /// Values in the answer to a sequence: 1 logit, or the length of the pooled vector.
    fn outputs(&self) -> usize;

    /// Worker threads.
    fn threads(&self) -> usize;

    /// The kernel set, such as `avx512-vnni`, or what chooses by itself.
    fn kernel(&self) -> &'static str;

    /// How sequences are to be grouped. With [`crate::planning::shares`] it says what each of them costs.
    fn grouping(&self, wanted: Wanted) -> Grouping<'_>;

    /// Runs one pass over the sequences: the answer to each, in order.
    ///
    /// # Errors
    /// If a sequence has a token or a length that the model does not know, or the weights cannot be had.
    fn run(&self, sequences: &[Planned<'_>], wanted: Wanted) -> Result<Vec<Answers>, Error>;

    /// The model as one that continues sequences, where it has a language-model head and the runtime can.
    fn decoder(&self) -> Option<&dyn Decoder> {
        None
    }

    /// Calls `work` with each number below `count` on its threads, which are idle between passes.
    fn for_each(&self, count: usize, work: &(dyn Fn(usize) + Sync));

    /// Tokens a second if the processor did nothing but the multiply-adds of the linear layers, where that can be told.
    fn limit_tokens_per_s(&self) -> Option<f64> {
        None
    }

    /// Runs sequences together even if that makes their answers depend on each other, or not: for measurements.
    fn set_together(&mut self, together: bool) {
        let _ = together;
    }

    /// Gives up what a copy of the process's memory could not bring back: files, mappings of files.
    ///
    /// # Errors
    /// If what they hold cannot be read.
    fn before_snapshot(&self) -> Result<(), Error> {
        Ok(())
    }

    /// What loading was made of, beside what the caller can time: names of phases and how long they took, those that are over.
    fn phases(&self) -> Vec<(&'static str, Duration)> {
        Vec::new()
    }

    /// What the operator should know about how it runs; mostly nothing.
    fn notes(&self) -> &[String] {
        &[]
    }
}

/// Chooses what runs a model, of those `linked`: what is `wanted`, or the first that runs it.
///
/// # Errors
/// If the wanted one is not linked or does not run such models, or none does.
pub fn choose<'a>(
    linked: &[&'a dyn Runtime],
    wanted: Option<&str>,
    description: &Description,
    path: &Path,
) -> Result<&'a dyn Runtime, Error> {
    let snapshot = path.display();
    let fit = linked.iter().copied().find(|runtime| runtime.runs(description));
    let Some(name) = wanted else {
        return fit.ok_or_else(|| {
            let made_for = description.made_for();
            Error::Model(format!(
                "{snapshot} holds {} model, which this binary cannot run: it was built without the feature `{made_for}` \
                 (cargo build --features {made_for})",
                if made_for == "ort" { "an ONNX" } else { "an engine's" },
            ))
        });
    };
    let Some(found) = linked.iter().copied().find(|runtime| runtime.name() == name) else {
        let known: Vec<&str> = linked.iter().map(|runtime| runtime.name()).collect();
        return Err(Error::Model(format!(
            "BACKEND={name}: {name} is not built in (cargo build --features {name}): expected {}, or leave BACKEND unset",
            known.join(" or ")
        )));
    };
    if found.runs(description) {
        return Ok(found);
    }
    let made_for = description.made_for();
    let advice = match name {
        "ort" => "pack the model's ONNX export",
        _ => "pack the model's safetensors",
    };
    Err(Error::Model(format!(
        "BACKEND={name}: snapshot {snapshot} is made for {made_for}; {advice}, or leave BACKEND unset"
    )))
}
