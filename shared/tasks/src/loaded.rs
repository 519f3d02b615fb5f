//! What rerankers and embedders have in common: a snapshot's description and tokenizer, and the model that runs over its
//! weights.
//!
//! Loading has two stages, so that a prompt can be made, and refused, in between: [`Opened`] is everything but the
//! weights, whichever backend the snapshot is made for; [`Opened::start`] brings threads and the model.

use std::sync::Arc;
use std::time::{Duration, Instant};

use defrost_engine::{Head, Kernel, Model, ModelConfig, Threads, TokenHeads};
use defrost_loader::Snapshot;

use crate::Error;
use crate::pack::{COMPILED_TOKENIZER, TOKENIZER};
use crate::runner::{BackendKind, Runner};
use crate::snapshot_weights::SnapshotWeights;
use crate::spec::{EmbeddingSpec, ModelSpec, Template};
use crate::tokenizer::TextTokenizer;

/// Settings that do not come from the snapshot.
#[derive(Debug, Clone)]
pub struct ModelOptions {
    /// Most tokens of one sequence, template included; `None`: the model's own default.
    pub max_length: Option<usize>,
    /// Token budget of one forward pass. Bounds memory, never changes answers.
    pub max_batch_tokens: usize,
    /// Worker threads; `None`: physical cores within the cgroup's quota.
    pub num_threads: Option<usize>,
    /// Kernel set; `None`: the best of this processor.
    pub kernel: Option<Kernel>,
    /// What must run it; `None`: what the snapshot is made for.
    pub backend: Option<BackendKind>,
    /// For snapshots of ONNX models.
    #[cfg(feature = "ort")]
    pub ort: crate::OrtOptions,
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
            #[cfg(feature = "ort")]
            ort: crate::OrtOptions::default(),
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

/// What a snapshot says about its model, whoever runs it.
#[derive(Debug, Clone)]
pub(crate) struct Facts {
    pub(crate) name: String,
    pub(crate) family: String,
    pub(crate) template: Template,
    pub(crate) head: Head,
    pub(crate) token_heads: TokenHeads,
    /// Whether layers follow the pooling.
    pub(crate) dense: bool,
    pub(crate) precision: String,
    pub(crate) hidden: usize,
    pub(crate) layers: usize,
    /// Ids from this one on have no meaning.
    pub(crate) vocab: usize,
    pub(crate) max_positions: usize,
    pub(crate) max_length: usize,
    pub(crate) estimated_max: f32,
    pub(crate) embedding: Option<EmbeddingSpec>,
    pub(crate) backend: BackendKind,
}

/// A snapshot whose weights nobody has asked for yet.
pub(crate) struct Opened {
    pub(crate) facts: Facts,
    pub(crate) tokenizer: TextTokenizer,
    pub(crate) rest: Rest,
}

/// What starting takes.
pub(crate) struct Rest {
    snapshot: Snapshot,
    model: ToRun,
    start: Instant,
}

enum ToRun {
    Engine {
        config: Box<ModelConfig>,
        stored_prefix: Vec<u32>,
    },
    #[cfg(feature = "ort")]
    Onnx(Box<crate::onnx::spec::OnnxSpec>),
}

/// A model that runs.
#[derive(Debug)]
pub(crate) struct Started {
    pub(crate) model: Runner,
    pub(crate) threads: Arc<Threads>,
    /// Kernel set, or `onnxruntime`, which chooses by itself.
    pub(crate) kernel: &'static str,
    pub(crate) timings: LoadTimings,
}

impl Opened {
    /// Reads the metadata and opens the tokenizer.
    pub(crate) fn open(snapshot: &Snapshot, options: &ModelOptions) -> Result<Self, Error> {
        let start = Instant::now();
        let backend = BackendKind::of(snapshot, options.backend)?;
        #[cfg(feature = "ort")]
        if backend == BackendKind::Ort {
            return Self::open_onnx(snapshot, start);
        }
        let spec = ModelSpec::from_snapshot(snapshot)?;
        let rules = spec.text_rules();
        let config = &spec.config;
        let facts = Facts {
            family: config.family.name().to_owned(),
            head: config.head,
            token_heads: config.token_heads,
            dense: !config.dense.is_empty(),
            precision: snapshot.meta("precision").unwrap_or("unknown").to_owned(),
            hidden: config.hidden,
            layers: config.layers,
            vocab: config.vocab,
            max_positions: config.max_positions,
            name: spec.name,
            template: spec.template,
            max_length: spec.max_length,
            estimated_max: spec.estimated_max,
            embedding: spec.embedding,
            backend,
        };
        let model =
            ToRun::Engine { config: Box::new(spec.config), stored_prefix: spec.stored_prefix };
        let tokenizer = tokenizer(snapshot)?.with_rules(rules);
        let rest = Rest { snapshot: snapshot.clone(), model, start };
        Ok(Self { facts, tokenizer, rest })
    }

    #[cfg(feature = "ort")]
    fn open_onnx(snapshot: &Snapshot, start: Instant) -> Result<Self, Error> {
        let spec = crate::onnx::spec::OnnxSpec::from_snapshot(snapshot)?;
        let tokenizer = tokenizer(snapshot)?.with_rules(spec.text);
        let facts = Facts {
            name: spec.name.clone(),
            family: spec.family.clone(),
            template: spec.template.clone(),
            head: spec.head,
            token_heads: TokenHeads::default(),
            dense: false,
            precision: spec.precision.clone(),
            hidden: spec.hidden,
            layers: spec.layers,
            vocab: tokenizer.largest_id() as usize + 1,
            max_positions: spec.max_positions,
            max_length: spec.max_length,
            estimated_max: spec.estimated_max,
            embedding: spec.embedding.clone(),
            backend: BackendKind::Ort,
        };
        let rest = Rest { snapshot: snapshot.clone(), model: ToRun::Onnx(Box::new(spec)), start };
        Ok(Self { facts, tokenizer, rest })
    }
}

impl Rest {
    /// Starts threads and builds the model over the mapped weights.
    pub(crate) fn start(self, options: &ModelOptions) -> Result<Started, Error> {
        let tokenizer_ready = Instant::now();
        let threads = Arc::new(Threads::new(options.num_threads));
        let (model, kernel) = match self.model {
            ToRun::Engine { config, stored_prefix } => {
                let kernel = options.kernel.unwrap_or_else(Kernel::detect);
                let weights = SnapshotWeights(self.snapshot);
                let model = Model::load(*config, &weights, kernel, Arc::clone(&threads))?;
                let notes = threads.missing().map(str::to_owned).into_iter().collect();
                (Runner::Engine { model: Box::new(model), stored_prefix, notes }, kernel.name())
            }
            #[cfg(feature = "ort")]
            ToRun::Onnx(spec) => {
                let count = threads.count();
                let model = crate::ort::OrtModel::load(&self.snapshot, &spec, count, &options.ort)?;
                (Runner::Ort(Box::new(model)), "onnxruntime")
            }
        };
        let timings = LoadTimings {
            tokenizer: tokenizer_ready - self.start,
            engine: tokenizer_ready.elapsed(),
        };
        Ok(Started { model, threads, kernel, timings })
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

/// Runs `work` on every item on the engine's threads, which are idle until the last one is done.
pub(crate) fn in_parallel<T: Sync, R: Send>(
    threads: &Threads,
    items: &[T],
    work: impl Fn(&T) -> Result<R, Error> + Sync + Send,
) -> Result<Vec<R>, Error> {
    let mut slots: Vec<Option<Result<R, Error>>> = items.iter().map(|_| None).collect();
    threads.for_each_chunk(&mut slots, 1, |index, slot| slot[0] = Some(work(&items[index])));
    slots.into_iter().flatten().collect()
}
