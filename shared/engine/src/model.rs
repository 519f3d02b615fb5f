//! A model: configuration, weights, and the way from token ids to one answer per sequence.
//!
//! ```text
//! embedding    rows of the tables, added and perhaps normalised
//! layer        attention and feed-forward, as the family's blueprint says, once a layer
//! dense        layers after a pooling                tokens    heads that answer for every token
//! words        the table of words, and the product with it that is a language model's head
//! layer_pass   the same layers, one at a time, for what packs a model
//! ```
//!
//! The same pass runs whole sequences ([`Model::forward`]) and the next tokens of sequences that go on
//! ([`crate::PagedDecoder`]).
//!
//! In the last layer only the positions the head reads go through the output projection and the
//! feed-forward layer, unless something is wanted of every token.

mod dense;
mod embedding;
mod layer;
mod layer_pass;
mod norms;
mod tokens;
mod words;

use std::sync::{Arc, Mutex, PoisonError};

use defrost_model::{RopeScaling, Sequence, TokenMask};

use crate::attention::{Heads, Span};
use crate::buffer::Buffer;
use crate::decode::Paged;
use crate::gemm::{Activation, Context};
use crate::kernel::Kernel;
use crate::quantize::QuantizedRows;
use crate::threads::Threads;
use crate::weights::{Linear, Values, Weights, vector};
use crate::{Answers, Batch, DenseActivation, Error, Head, ModelConfig, ReadinessGate, Wanted};

use layer::Keys;
pub use layer::{Probe, ProbedProduct};
pub use layer_pass::LayerPass;

/// Rows that go through a feed-forward layer at a time. Its inner width is the largest buffer of
/// the pass; 512 rows of 9,728 are 20 MB, and weights are read again only every 512 tokens.
const FEED_FORWARD_ROWS: usize = 512;

/// A model that is ready to run.
#[derive(Debug)]
pub struct Model {
    config: ModelConfig,
    kernel: Kernel,
    threads: Arc<Threads>,
    body: Body,
    head: HeadWeights,
    token_heads: tokens::TokenHeadWeights,
    dense: dense::DenseWeights,
    gate: Arc<dyn ReadinessGate>,
    buffers: Mutex<Buffers>,
}

/// Tables, layers and the norm after them.
#[derive(Debug)]
struct Body {
    tables: embedding::Tables,
    layers: Vec<layer::Layer>,
    norm: Option<norms::NormWeights>,
}

impl Body {
    fn load(config: &ModelConfig, weights: &dyn Weights, kernel: Kernel) -> Result<Self, Error> {
        let blueprint = &config.family.blueprint;
        let layers = 0..config.layers;
        let norm = || norms::NormWeights::load(weights, "norm", config.hidden, blueprint.norm);
        Ok(Self {
            tables: embedding::Tables::load(config, weights, kernel)?,
            layers: layers
                .map(|at| layer::Layer::load(config, weights, at, kernel))
                .collect::<Result<_, _>>()?,
            norm: blueprint.final_norm.then(norm).transpose()?,
        })
    }

    /// Leaves the final hidden states in `buffers.x`, those of `pass.read`; returns how many rows they are.
    fn run(
        &self,
        cx: Context<'_>,
        gate: &dyn ReadinessGate,
        config: &ModelConfig,
        pass: Pass<'_>,
        buffers: &mut Buffers,
    ) -> Result<usize, Error> {
        let Pass { batch, places, spans, read, keys } = pass;
        let blueprint = &config.family.blueprint;
        self.tables.run(cx, gate, config, batch, buffers)?;
        buffers.turn_to(config, places.iter().max().map_or(0, |place| place + 1));
        let mut rows = layer::Rows { places, spans, keys };
        let mut count = places.len();
        for (at, layer) in self.layers.iter().enumerate() {
            layer.wait(blueprint.placed, gate)?;
            if at + 1 == self.layers.len() {
                rows.spans = read;
            }
            count = layer.run(cx, config, &mut rows, buffers, None);
        }
        if let Some(norm) = &self.norm {
            norm.wait(gate)?;
            let x = &mut buffers.x[..count * config.hidden];
            norm.run_in_place(cx, x, config.norm_eps, &mut buffers.normed);
        }
        Ok(count)
    }
}

/// What goes through the body.
struct Pass<'a> {
    batch: &'a Batch,
    /// The place of each row in its sequence.
    places: &'a [usize],
    /// All rows.
    spans: &'a [Span],
    /// Those that go on after the last layer's attention.
    read: &'a [Span],
    keys: Keys<'a>,
}

#[derive(Debug)]
enum HeadWeights {
    Classifier(Box<ClassifierWeights>),
    YesNo {
        rows: Values<f32>,
    },
    /// The matrix of words, unless it is the table's.
    LanguageModel(Option<Box<Linear>>),
    Pooling,
}

#[derive(Debug)]
struct ClassifierWeights {
    dense: Linear,
    out: Linear,
}

impl HeadWeights {
    fn wait(&self, gate: &dyn ReadinessGate) -> Result<(), Error> {
        match self {
            Self::Classifier(classifier) => {
                classifier.dense.wait(gate)?;
                classifier.out.wait(gate)
            }
            Self::YesNo { rows } => rows.wait(gate),
            Self::LanguageModel(words) => words.as_ref().map_or(Ok(()), |words| words.wait(gate)),
            Self::Pooling => Ok(()),
        }
    }
}

/// Memory kept between passes: fresh pages cost more than the arithmetic of short texts.
#[derive(Debug, Default)]
struct Buffers {
    /// Hidden states, one row a token.
    x: Buffer<f32>,
    /// Normed hidden states.
    normed: Buffer<f32>,
    qkv: Buffer<f32>,
    pages: crate::attention::Pages,
    attended: Buffer<f32>,
    /// Inner rows of the feed-forward layer.
    inner: Buffer<f32>,
    /// The gate beside them, where both are computed apart.
    both: Buffer<f32>,
    quantized: QuantizedRows,
    /// Outputs of attention or feed-forward layer that are normalised before they are added.
    given: Buffer<f32>,
    /// Of several rows.
    logits: Buffer<f32>,
    /// Of layers that see everything, and of local ones.
    rotations: [crate::rope::Rotations; 2],
}

impl Buffers {
    /// Makes sure that positions below `len` can be turned.
    fn turn_to(&mut self, config: &ModelConfig, len: usize) {
        if config.family.blueprint.positions.are_learned() {
            return;
        }
        let [all, local] = &mut self.rotations;
        all.extend_to(len, config.head_dim, config.rope_theta, config.attention.rope);
        if let Some(layers) = config.attention.local {
            local.extend_to(len, config.head_dim, layers.theta, RopeScaling::None);
        }
    }
}

impl Model {
    /// Builds the model over `weights`; nothing is copied, or read before a pass needs it. Names and
    /// shapes are listed in [`defrost_model::parts`].
    pub fn load(
        config: ModelConfig,
        weights: &dyn Weights,
        kernel: Kernel,
        threads: Arc<Threads>,
    ) -> Result<Self, Error> {
        config.validate()?;
        let body = Body::load(&config, weights, kernel)?;
        let hidden = config.hidden;
        let head = match config.head {
            Head::Classifier => HeadWeights::Classifier(Box::new(ClassifierWeights {
                dense: Linear::load(weights, "head.dense", hidden, hidden, kernel)?,
                out: Linear::load(weights, "head.out", 1, hidden, kernel)?,
            })),
            Head::YesNo => {
                HeadWeights::YesNo { rows: vector(weights, "head.tokens.weight", 2 * hidden)? }
            }
            Head::LanguageModel => {
                let words = (!config.tied)
                    .then(|| Linear::load(weights, "head.words", config.vocab, hidden, kernel));
                HeadWeights::LanguageModel(words.transpose()?.map(Box::new))
            }
            _ => HeadWeights::Pooling,
        };
        let token_heads = tokens::TokenHeadWeights::load(&config, weights, kernel)?;
        let dense = dense::DenseWeights::load(&config, weights, kernel)?;
        let gate = weights.gate();
        let buffers = Mutex::default();
        Ok(Self { config, kernel, threads, body, head, token_heads, dense, gate, buffers })
    }

    /// The configuration of the model.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// The kernel set it runs with.
    pub fn kernel(&self) -> Kernel {
        self.kernel
    }

    pub(crate) fn context(&self) -> Context<'_> {
        Context { kernel: self.kernel, threads: &self.threads }
    }

    /// Keys and values of the stored prefix in a layer, rows `[k heads | v heads]`, as soon as they are there.
    pub(crate) fn stored(&self, layer: usize) -> Result<&[f32], Error> {
        self.body.layers[layer].stored(&*self.gate)
    }

    /// Worker threads.
    pub fn threads(&self) -> usize {
        self.threads.count()
    }

    /// Values per sequence in the answer: 1 logit, or the length of the pooled vector ([`ModelConfig::outputs`]).
    pub fn outputs(&self) -> usize {
        self.config.outputs()
    }

    /// Runs the batch; returns [`Model::outputs`] values per sequence that is no prefix, in order. Poolings are not
    /// normalised. Passes of one model run one at a time: they share its threads and buffers. Weights
    /// that are still on their way are waited for, layer by layer.
    pub fn forward(&self, batch: &Batch) -> Result<Vec<f32>, Error> {
        Ok(self.forward_with(batch, Wanted::default())?.pooled)
    }

    /// Runs as [`Model::forward`] does, with what is `wanted` of every token beside the head's answers, which stay the
    /// same to the bit. Whatever is wanted makes the last layer compute every row; nothing wanted costs nothing.
    ///
    /// Fails with [`Error::Config`] if the model lacks a head that is wanted, and with [`Error::Batch`] if something is
    /// wanted of a batch with prefixes, whose tokens belong to several sequences.
    pub fn forward_with(&self, batch: &Batch, wanted: Wanted) -> Result<Answers, Error> {
        batch.check(&self.config)?;
        check_whole(&self.config, batch.longest())?;
        self.token_heads.check(batch, wanted)?;
        if batch.is_empty() {
            return Ok(Answers::default());
        }
        let mut buffers = self.buffers.lock().unwrap_or_else(PoisonError::into_inner);
        let (cx, gate) = (self.context(), &*self.gate);
        let (config, every_row) = (&self.config, wanted != Wanted::default());
        let sequences = batch.sequences().iter();
        let places: Vec<usize> =
            sequences.flat_map(|sequence| sequence.start()..sequence.len()).collect();
        let (all, read) = (spans(batch, config.head, false), spans(batch, config.head, !every_row));
        let pass = Pass { batch, places: &places, spans: &all, read: &read, keys: Keys::OfPass };
        let mut rows = self.body.run(cx, gate, config, pass, &mut buffers)?;
        let mut answers = Answers::default();
        if every_row {
            answers = self.token_heads.run(cx, gate, config.hidden, rows, wanted, &mut buffers)?;
            let x = &mut buffers.x[..rows * config.hidden];
            rows = gather(x, config.hidden, &spans(batch, config.head, true));
        }
        self.wait_for_head(gate)?;
        let pooled = self.answer(cx, batch, rows, &mut buffers);
        answers.pooled = self.dense.run(cx, gate, pooled, &mut buffers.quantized)?;
        gate.intact()?;
        Ok(answers)
    }

    fn wait_for_head(&self, gate: &dyn ReadinessGate) -> Result<(), Error> {
        self.head.wait(gate)?;
        match (&self.head, self.body.tables.tied()) {
            (HeadWeights::LanguageModel(None), Some(words)) => words.wait(gate),
            _ => Ok(()),
        }
    }

    /// The matrix of a language model's head.
    fn words(&self) -> Option<&Linear> {
        match &self.head {
            HeadWeights::LanguageModel(Some(own)) => Some(own),
            HeadWeights::LanguageModel(None) => self.body.tables.tied(),
            _ => None,
        }
    }

    /// Runs the next tokens of sequences whose keys and values are in pages: rows of the batch at these places. Returns the logits
    /// of the rows that `read` names, where `allowed` tells which tokens of each.
    pub(crate) fn step(
        &self,
        batch: &Batch,
        places: &[usize],
        [all, read]: [&[Span]; 2],
        paged: Paged<'_>,
        allowed: &[Option<&TokenMask>],
    ) -> Result<Vec<Vec<f32>>, Error> {
        let words = self.words().ok_or_else(|| {
            Error::Config(format!(
                "a model with the head {} continues nothing",
                self.config.head.name()
            ))
        })?;
        let mut buffers = self.buffers.lock().unwrap_or_else(PoisonError::into_inner);
        let (cx, gate) = (self.context(), &*self.gate);
        let pass = Pass { batch, places, spans: all, read, keys: Keys::InPages(paged) };
        let rows = self.body.run(cx, gate, &self.config, pass, &mut buffers)?;
        let mut logits = Vec::new();
        if rows > 0 {
            self.wait_for_head(gate)?;
            let Buffers { x, quantized, logits: memory, .. } = &mut *buffers;
            let x = &x[..rows * self.config.hidden];
            logits = words::logits(cx, words, x, allowed, quantized, memory);
        }
        gate.intact()?;
        Ok(logits)
    }

    /// Whether keys and values are kept in f32, as the weights are.
    pub(crate) fn keeps_f32(&self) -> bool {
        self.body.layers.first().is_some_and(layer::Layer::is_f32)
    }

    /// Applies the head to the `rows` hidden states that the body left in `buffers.x`.
    fn answer(
        &self,
        cx: Context<'_>,
        batch: &Batch,
        rows: usize,
        buffers: &mut Buffers,
    ) -> Vec<f32> {
        let hidden = self.config.hidden;
        let x = &buffers.x[..rows * hidden];
        match &self.head {
            HeadWeights::Classifier(classifier) => {
                let ClassifierWeights { dense, out } = &**classifier;
                let mut inner = vec![0.0; rows * hidden];
                let quantized = &mut buffers.quantized;
                let activation =
                    self.config.family.blueprint.classifier.unwrap_or(DenseActivation::Tanh);
                dense::run(cx, dense, activation, x, quantized, &mut inner);
                let mut logits = vec![0.0; rows];
                out.run(cx, &inner, Activation::Identity, false, quantized, &mut logits);
                logits
            }
            HeadWeights::YesNo { rows: tokens } => {
                let (no, yes) = tokens.as_slice().split_at(hidden);
                let dot = |x: &[f32], row: &[f32]| -> f32 {
                    x.iter().zip(row).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum::<f64>()
                        as f32
                };
                x.chunks_exact(hidden).map(|x| dot(x, yes) - dot(x, no)).collect()
            }
            HeadWeights::LanguageModel(_) => {
                let Some(words) = self.words() else { return Vec::new() };
                let quantized = &mut buffers.quantized;
                let memory = &mut buffers.logits;
                words::logits(cx, words, x, &vec![None; rows], quantized, memory).concat()
            }
            HeadWeights::Pooling if self.config.head.reads(1).is_none() => batch
                .sequences()
                .iter()
                .flat_map(|sequence| {
                    let tokens = &sequence.tokens;
                    pool(self.config.head, &x[tokens.start * hidden..tokens.end * hidden], hidden)
                })
                .collect(),
            HeadWeights::Pooling => x.to_vec(),
        }
    }
}

/// The hidden states of a sequence, rows of `hidden`, as one vector, by a head that reads all of them.
fn pool(head: Head, rows: &[f32], hidden: usize) -> Vec<f32> {
    let rows = rows.chunks_exact(hidden);
    let count = rows.len() as f32;
    let start = if head == Head::MaxPooling { f32::NEG_INFINITY } else { 0.0 };
    let mut pooled = vec![start; hidden];
    let mut weights = 0.0;
    for (at, row) in rows.enumerate() {
        let weight = (at + 1) as f32;
        weights += weight;
        let channels = pooled.iter_mut().zip(row);
        match head {
            // Not `max`, which would leave out what is not a number.
            Head::MaxPooling => channels.for_each(|(largest, &value)| {
                if value > *largest || value.is_nan() {
                    *largest = value;
                }
            }),
            Head::WeightedPooling => channels.for_each(|(sum, &value)| *sum += value * weight),
            _ => channels.for_each(|(sum, &value)| *sum += value),
        }
    }
    let divisor = match head {
        Head::MaxPooling => return pooled,
        Head::WeightedPooling => weights,
        Head::SqrtPooling => count.sqrt(),
        _ => count,
    };
    pooled.into_iter().map(|sum| sum / divisor).collect()
}

/// Refuses what a pass over whole sequences does not compute, whose longest has `longest` tokens.
fn check_whole(config: &ModelConfig, longest: usize) -> Result<(), Error> {
    let usual = 1.0 / (config.head_dim as f32).sqrt();
    let attention = config.attention;
    let refuse = |what: String| {
        Err(Error::Batch(format!(
            "the engine runs a {} model with {what} as one that continues sequences, not over whole ones",
            config.family.name
        )))
    };
    match (attention.scale, attention.local) {
        (Some(scale), _) if scale.to_bits() != usual.to_bits() => {
            refuse(format!("the attention scale {scale}"))
        }
        (_, Some(local)) if local.window < longest => {
            refuse(format!("{longest} tokens and a window of {}", local.window))
        }
        _ => Ok(()),
    }
}

fn heads(config: &ModelConfig) -> Heads {
    Heads {
        queries: config.heads,
        key_values: config.kv_heads,
        width: config.head_dim,
        causal: config.is_causal(),
    }
}

/// Attention spans of a layer: all query rows, or in the last layer those the head reads.
fn spans(batch: &Batch, head: Head, last_layer: bool) -> Vec<Span> {
    let mut answers = 0;
    batch
        .sequences()
        .iter()
        .map(|sequence| {
            let Sequence { stored, prefix, tokens, answered } = sequence.clone();
            let (queries, out) = match head.reads(tokens.len()) {
                Some(row) if last_layer => {
                    answers += usize::from(answered);
                    // A prefix is not read: only its keys and values are.
                    (row..row + usize::from(answered), answers - usize::from(answered))
                }
                _ => (0..tokens.len(), tokens.start),
            };
            Span { stored, prefix, tokens, queries, out }
        })
        .collect()
}

/// Keeps in `x` only the rows that the spans' queries stand for; returns their number.
fn gather(x: &mut [f32], hidden: usize, spans: &[Span]) -> usize {
    let mut rows = 0;
    for span in spans {
        for query in span.queries.clone() {
            let from = (span.tokens.start + query) * hidden;
            x.copy_within(from..from + hidden, rows * hidden);
            rows += 1;
        }
    }
    rows
}
