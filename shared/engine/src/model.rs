//! A model: configuration, weights, and the way from token ids to one answer per sequence.
//!
//! ```text
//! embedding    rows of the tables, added and perhaps normalised
//! layer        attention and feed-forward, as the family's blueprint says, once a layer
//! dense        layers after a pooling                tokens    heads that answer for every token
//! layer_pass   the same layers, one at a time, for what packs a model
//! ```
//!
//! In the last layer only the positions the head reads go through the output projection and the
//! feed-forward layer, unless something is wanted of every token.

mod dense;
mod embedding;
mod layer;
mod layer_pass;
mod norms;
mod tokens;

use std::sync::{Arc, Mutex, PoisonError};

use defrost_model::Sequence;

use crate::attention::{Heads, Span};
use crate::buffer::Buffer;
use crate::gemm::{Activation, Context};
use crate::kernel::Kernel;
use crate::quantize::QuantizedRows;
use crate::threads::Threads;
use crate::weights::{Linear, Values, Weights, vector};
use crate::{Answers, Batch, DenseActivation, Error, Head, ModelConfig, ReadinessGate, Wanted};

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
            tables: embedding::Tables::load(config, weights)?,
            layers: layers
                .map(|at| layer::Layer::load(config, weights, at, kernel))
                .collect::<Result<_, _>>()?,
            norm: blueprint.final_norm.then(norm).transpose()?,
        })
    }

    /// Leaves the final hidden states in `buffers.x`, those that the head reads or every row; returns how many rows they are.
    fn run(
        &self,
        cx: Context<'_>,
        gate: &dyn ReadinessGate,
        config: &ModelConfig,
        batch: &Batch,
        every_row: bool,
        buffers: &mut Buffers,
    ) -> Result<usize, Error> {
        let blueprint = &config.family.blueprint;
        self.tables.run(cx, gate, config, batch, buffers)?;
        let sequences = batch.sequences().iter();
        let places: Vec<usize> =
            sequences.flat_map(|sequence| sequence.start()..sequence.len()).collect();
        if !blueprint.positions.are_learned() {
            buffers.rotations.extend_to(batch.longest(), config.head_dim, config.rope_theta);
        }
        let mut rows = batch.tokens();
        for (at, layer) in self.layers.iter().enumerate() {
            layer.wait(blueprint.placed, gate)?;
            let narrow = !every_row && at + 1 == self.layers.len();
            let spans = spans(batch, config.head, narrow);
            let computed = layer::Rows { places: &places, spans: &spans };
            rows = layer.run(cx, config, &computed, buffers, None);
        }
        if let Some(norm) = &self.norm {
            norm.wait(gate)?;
            let x = &mut buffers.x[..rows * config.hidden];
            norm.run_in_place(cx, x, config.norm_eps, &mut buffers.normed);
        }
        Ok(rows)
    }
}

#[derive(Debug)]
enum HeadWeights {
    Classifier(Box<ClassifierWeights>),
    YesNo { rows: Values<f32> },
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
    rotations: crate::rope::Rotations,
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
        if !config.is_plain() {
            return Err(Error::Config(format!(
                "the engine does not run models of the family {} with the head {} and this attention",
                config.family.name,
                config.head.name()
            )));
        }
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
        self.token_heads.check(batch, wanted)?;
        if batch.is_empty() {
            return Ok(Answers::default());
        }
        let mut buffers = self.buffers.lock().unwrap_or_else(PoisonError::into_inner);
        let (cx, gate) = (Context { kernel: self.kernel, threads: &self.threads }, &*self.gate);
        let (config, every_row) = (&self.config, wanted != Wanted::default());
        let mut rows = self.body.run(cx, gate, config, batch, every_row, &mut buffers)?;
        let mut answers = Answers::default();
        if every_row {
            answers = self.token_heads.run(cx, gate, config.hidden, rows, wanted, &mut buffers)?;
            let x = &mut buffers.x[..rows * config.hidden];
            rows = gather(x, config.hidden, &spans(batch, config.head, true));
        }
        self.head.wait(gate)?;
        let pooled = self.answer(cx, batch, rows, &mut buffers);
        answers.pooled = self.dense.run(cx, gate, pooled, &mut buffers.quantized)?;
        gate.intact()?;
        Ok(answers)
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
