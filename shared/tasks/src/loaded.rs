//! What rerankers and embedders have in common: a snapshot's description and tokenizer, and the model that runs over its
//! weights.
//!
//! Loading has two stages, so that a prompt can be made, and refused, in between: [`Opened`] is everything but the
//! weights, whichever runtime the snapshot is made for; [`Opened::start`] brings threads and the model.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use defrost_loader::{Snapshot, default_cache};
use defrost_model::spec::{Common, Description};
use defrost_model::stored::{COMPILED_TOKENIZER, TOKENIZER};
use defrost_model::{LoadOptions, Precision, Runner, Runtime, runtime};

use crate::Error;
use crate::running::Running;
use crate::tokenizer::TextTokenizer;

/// Settings that do not come from the snapshot.
#[derive(Debug, Clone)]
pub struct ModelOptions {
    /// The most tokens of one sequence, template included; `None`: the model's own default.
    pub max_length: Option<usize>,
    /// Token budget of one forward pass. Bounds memory, never changes answers.
    pub max_batch_tokens: usize,
    /// The number of worker threads; `None`: physical cores within the cgroup's quota.
    pub num_threads: Option<usize>,
    /// Kernel set by its name; `None`: the best of this processor.
    pub kernel: Option<&'static str>,
    /// The name of the runtime that must run the model; `None`: what the snapshot is made for.
    pub backend: Option<&'static str>,
    /// Optimise fully for this processor and store the result for the next start, where the runtime compiles models.
    pub compile: bool,
    /// The library that the runtime opens, or its folder; `None`: it is looked for.
    pub library: Option<PathBuf>,
    /// The directory in which compiled models are kept; `None`: [`default_cache`].
    pub cache_dir: Option<PathBuf>,
    /// Which device runs the model, where the runtime has devices; `None`: the first that fits.
    pub device: Option<String>,
    /// The type that is computed in, where runtime and snapshot leave a choice.
    pub compute: Option<Precision>,
    /// The part of the device's memory that may be used, from 0 to 1.
    pub memory_fraction: Option<f64>,
    /// Tokens whose keys and values there is memory for, of a model that generates; `None`: the runtime's own default.
    pub kv_tokens: Option<usize>,
    /// The most tokens of one sequence of such a model, prompt and completion together; `None`: the model's own.
    pub context: Option<usize>,
}

impl ModelOptions {
    /// The part of them that runtimes are told.
    pub fn for_runtime(&self) -> LoadOptions {
        LoadOptions {
            threads: self.num_threads,
            kernel: self.kernel,
            compile: self.compile,
            library: self.library.clone(),
            cache_dir: self.cache_dir.clone().unwrap_or_else(default_cache),
            device: self.device.clone(),
            compute: self.compute,
            memory_fraction: self.memory_fraction,
            kv_tokens: self.kv_tokens,
            context: self.context,
        }
    }
}

impl Default for ModelOptions {
    fn default() -> Self {
        // 2048 tokens: weights are read once per 2048 tokens, which costs a few percent of the
        // arithmetic on them, and the widest buffers of a 0.5B model stay below 60 MB.
        Self {
            max_length: None,
            max_batch_tokens: 2048,
            num_threads: None,
            kernel: None,
            backend: None,
            compile: false,
            library: None,
            cache_dir: None,
            device: None,
            compute: None,
            memory_fraction: None,
            kv_tokens: None,
            context: None,
        }
    }
}

/// Where the time of loading went.
#[derive(Debug, Clone, Copy, Default)]
pub struct LoadTimings {
    /// Opening the tokenizer, or reading tokenizer.json, and preparing the prompt.
    pub tokenizer: Duration,
    /// Building the model over the mapped weights, and starting threads.
    pub engine: Duration,
}

/// A snapshot of whose weights none has been asked for yet.
pub(crate) struct Opened {
    pub(crate) common: Common,
    pub(crate) tokenizer: TextTokenizer,
    /// Name of the runtime that will run it.
    pub(crate) backend: &'static str,
    pub(crate) rest: Rest,
}

/// What starting takes.
pub(crate) struct Rest {
    snapshot: Snapshot,
    description: Description,
    runtime: &'static dyn Runtime,
    start: Instant,
}

/// A model that runs.
#[derive(Debug)]
pub(crate) struct Started {
    pub(crate) model: Running,
    pub(crate) timings: LoadTimings,
}

impl Opened {
    /// Reads the metadata and opens the tokenizer.
    pub(crate) fn open(
        linked: &[&'static dyn Runtime],
        snapshot: &Snapshot,
        options: &ModelOptions,
    ) -> Result<Self, Error> {
        let start = Instant::now();
        let description = Description::of(snapshot)?;
        let runtime = runtime::choose(linked, options.backend, &description, snapshot.path())?;
        let common = description.common(snapshot);
        let tokenizer = tokenizer(snapshot)?.with_rules(common.text);
        let backend = runtime.name();
        let rest = Rest { snapshot: snapshot.clone(), description, runtime, start };
        Ok(Self { common, tokenizer, backend, rest })
    }
}

impl Rest {
    /// Starts threads and builds the model over the mapped weights.
    pub(crate) fn start(self, options: &ModelOptions) -> Result<Started, Error> {
        let tokenizer_ready = Instant::now();
        let model = self.runtime.load(&self.snapshot, self.description, &options.for_runtime())?;
        let timings = LoadTimings {
            tokenizer: tokenizer_ready - self.start,
            engine: tokenizer_ready.elapsed(),
        };
        Ok(Started { model: Running::new(model, options.max_batch_tokens), timings })
    }
}

/// The tokenizer of a snapshot: compiled, unless the snapshot has none that this version reads.
fn tokenizer(snapshot: &Snapshot) -> Result<TextTokenizer, Error> {
    if snapshot.has(COMPILED_TOKENIZER) {
        let image = snapshot.tensor(COMPILED_TOKENIZER)?.bytes;
        if let Ok(tokenizer) = TextTokenizer::from_image(image) {
            return Ok(tokenizer);
        }
    }
    TextTokenizer::from_json(&snapshot.tensor(TOKENIZER)?.bytes)
}

/// Runs `work` on every item on the model's threads, which are idle until the last one is done.
pub(crate) fn in_parallel<T: Sync, R: Send>(
    runner: &dyn Runner,
    items: &[T],
    work: impl Fn(&T) -> Result<R, Error> + Sync,
) -> Result<Vec<R>, Error> {
    let slots: Vec<Mutex<Option<Result<R, Error>>>> =
        items.iter().map(|_| Mutex::default()).collect();
    runner.for_each(items.len(), &|at| {
        let done = work(&items[at]);
        *slots[at].lock().unwrap_or_else(PoisonError::into_inner) = Some(done);
    });
    slots
        .into_iter()
        .filter_map(|slot| slot.into_inner().unwrap_or_else(PoisonError::into_inner))
        .collect()
}
