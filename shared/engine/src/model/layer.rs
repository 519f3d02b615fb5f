//! A transformer layer as its family's blueprint says.
//!
//! ```text
//! placed Pre:    x += out(attention(norm(x)))         x += down(up(norm(x)))
//! placed Post:   x = norm(x + out(attention(x)))      x = norm(x + down(up(x)))
//! Sandwich:      x += after(out(attention(norm(x))))  x += after(down(up(norm(x))))
//! ```
//!
//! Between `qkv` and attention, queries and keys are normalised head by head and turned, where the blueprint says so. In the
//! last layer only the rows that the head reads go on after attention.
//!
//! Where keys and values are ([`Keys`]) is all that differs between a pass over whole sequences and a step of sequences that go
//! on.
//!
//! A [`Probe`] may watch, and compute products in the layer's stead: calibration does, and what stores prefixes.

use defrost_model::architecture::{FeedForward, Placed, Positions};

use super::norms::NormWeights;
use super::{Buffers, FEED_FORWARD_ROWS, gather, heads};
use crate::attention::{Span, attention};
use crate::buffer::Buffer;
use crate::decode::Paged;
use crate::gate::ReadinessGate;
use crate::gemm::{Activation, Context};
use crate::norm::add_row;
use crate::quantize::QuantizedRows;
use crate::rope::{HeadNorm, rotate};
use crate::weights::{Gate, Linear, Values, Weights, vector};
use crate::{Error, Kernel, ModelConfig};

/// Watches a pass.
pub trait Probe {
    /// Computes a product of the layer without bias, into `out`; `false` leaves it to the pass.
    fn product(&mut self, product: &ProbedProduct<'_>, out: &mut [f32]) -> bool {
        let _ = (product, out);
        false
    }

    /// Sees the rows `[q heads | k heads | v heads]` that enter attention.
    fn projected(&mut self, qkv: &[f32]) {
        let _ = qkv;
    }
}

/// A product that a [`Probe`] may compute.
#[derive(Debug, Clone, Copy)]
pub struct ProbedProduct<'a> {
    /// The name of the product: `qkv`, `out`, `up` or `gate_up`, or `down`.
    pub name: &'static str,
    /// Rows of inputs.
    pub x: &'a [f32],
    /// Rows that the product will be added to, if it will.
    pub residual: Option<&'a [f32]>,
}

/// The weights of a layer.
#[derive(Debug)]
pub(super) struct Layer {
    /// The number of the layer, from 0 on.
    at: usize,
    attention_norm: NormWeights,
    /// The norms of what attention and the feed-forward layer give, where there are norms before and after.
    after: Option<(NormWeights, NormWeights)>,
    qkv: Linear,
    /// The norms of queries and of keys, head by head, if the family has them.
    head_norms: Option<(NormWeights, NormWeights)>,
    out: Linear,
    output_norm: NormWeights,
    /// Way up, beside the gate if there is one.
    up: Linear,
    down: Linear,
    /// Keys and values of the stored prefix.
    prefix: Option<Values<f32>>,
}

/// Which rows a layer computes.
#[derive(Debug)]
pub(super) struct Rows<'a> {
    /// The place of each row in its sequence.
    pub(super) places: &'a [usize],
    /// The sequences, and the rows of them that go on after attention.
    pub(super) spans: &'a [Span],
    /// Where keys and values are.
    pub(super) keys: Keys<'a>,
}

/// Where keys and values are.
#[derive(Debug)]
pub(super) enum Keys<'a> {
    /// In the rows of the pass, which are whole sequences; and before them, what is stored.
    OfPass,
    /// In pages that outlive the pass, which the rows' own are written to.
    InPages(Paged<'a>),
}

impl Layer {
    pub(super) fn load(
        config: &ModelConfig,
        weights: &dyn Weights,
        at: usize,
        kernel: Kernel,
    ) -> Result<Self, Error> {
        let blueprint = &config.family.blueprint;
        let (hidden, inner, width) = (config.hidden, config.intermediate, config.head_dim);
        let name = |part: &str| format!("layer.{at}.{part}");
        let norm = |part: &str, width: usize| {
            NormWeights::load(weights, &name(part), width, blueprint.norm)
        };
        let linear = |part: &str, parts: &[usize], k: usize| {
            Linear::load_of(weights, &name(part), parts, k, kernel)
        };
        let head_norms = blueprint
            .head_norms
            .then(|| Ok::<_, Error>((norm("query_norm", width)?, norm("key_norm", width)?)))
            .transpose()?;
        let stored = config.stored_prefix * config.stored_row();
        let ups = &[inner, inner][..=usize::from(blueprint.feed_forward.is_gated())];
        let keys = config.kv_heads * width;
        let after = || {
            Ok::<_, Error>((
                norm("after_attention_norm", hidden)?,
                norm("after_feed_forward_norm", hidden)?,
            ))
        };
        Ok(Self {
            at,
            attention_norm: norm("attention_norm", hidden)?,
            after: (blueprint.placed == Placed::Sandwich).then(after).transpose()?,
            qkv: linear("qkv", &[config.heads * width, keys, keys], hidden)?,
            head_norms,
            out: linear("out", &[hidden], config.heads * width)?,
            output_norm: norm("output_norm", hidden)?,
            up: linear(blueprint.feed_forward.up(), ups, hidden)?,
            down: linear("down", &[hidden], inner)?,
            prefix: (stored > 0).then(|| vector(weights, &name("prefix"), stored)).transpose()?,
        })
    }

    /// Keys and values of the stored prefix, as soon as they are there.
    pub(super) fn stored(&self, gate: &dyn ReadinessGate) -> Result<&[f32], Error> {
        let Some(prefix) = &self.prefix else { return Ok(&[]) };
        prefix.wait(gate)?;
        Ok(prefix.as_slice())
    }

    /// Whether its weights are f32.
    pub(super) fn is_f32(&self) -> bool {
        self.qkv.is_f32()
    }

    /// Waits for its weights, in the order in which they lie in a snapshot and are needed.
    pub(super) fn wait(&self, placed: Placed, gate: &dyn ReadinessGate) -> Result<(), Error> {
        let post = placed == Placed::Post;
        let wait_for = |here: bool, norm: &NormWeights| if here { norm.wait(gate) } else { Ok(()) };
        wait_for(!post, &self.attention_norm)?;
        self.qkv.wait(gate)?;
        if let Some((query, key)) = &self.head_norms {
            query.wait(gate)?;
            key.wait(gate)?;
        }
        self.out.wait(gate)?;
        wait_for(post, &self.attention_norm)?;
        if let Some((after, _)) = &self.after {
            after.wait(gate)?;
        }
        wait_for(!post, &self.output_norm)?;
        self.up.wait(gate)?;
        self.down.wait(gate)?;
        wait_for(post, &self.output_norm)?;
        if let Some((_, after)) = &self.after {
            after.wait(gate)?;
        }
        self.prefix.as_ref().map_or(Ok(()), |prefix| prefix.wait(gate))
    }

    /// Turns the rows of `buffers.x` into the layer's outputs; keeps those that the spans' queries stand for, and returns
    /// their number.
    pub(super) fn run(
        &self,
        cx: Context<'_>,
        config: &ModelConfig,
        rows: &mut Rows<'_>,
        buffers: &mut Buffers,
        mut probe: Option<&mut (dyn Probe + '_)>,
    ) -> usize {
        self.project(cx, config, rows.places, buffers, probe.as_deref_mut());
        if let Some(probe) = probe.as_deref_mut() {
            probe.projected(&buffers.qkv[..rows.places.len() * self.qkv.outputs()]);
        }
        self.attend(cx, config, rows, buffers, probe.as_deref_mut());
        let count = rows.spans.iter().map(|span| span.queries.len()).sum();
        self.feed_forward(cx, config, count, buffers, probe);
        count
    }

    /// Leaves `[q | k | v]` of each row of `buffers.x` in `buffers.qkv`.
    fn project(
        &self,
        cx: Context<'_>,
        config: &ModelConfig,
        places: &[usize],
        buffers: &mut Buffers,
        probe: Option<&mut (dyn Probe + '_)>,
    ) {
        let blueprint = &config.family.blueprint;
        let (rows, hidden, eps) = (places.len(), config.hidden, config.norm_eps);
        let x = &buffers.x[..rows * hidden];
        let input = match blueprint.placed {
            Placed::Post => x,
            Placed::Pre | Placed::Sandwich => {
                let normed = buffers.normed.slot(rows * hidden);
                self.attention_norm.run(cx, x, eps, normed);
                normed
            }
        };
        let qkv = buffers.qkv.slot(rows * self.qkv.outputs());
        let product = Product { name: "qkv", linear: &self.qkv, activation: Activation::Identity };
        product.run(cx, input, false, &mut buffers.quantized, qkv, probe);
        if blueprint.positions == Positions::Rotary {
            let norm = self.head_norms.as_ref().map(|(query, key)| HeadNorm {
                query: query.weight(),
                key: key.weight(),
                eps,
            });
            let local = config.attention.window(self.at).is_some();
            let rotations = &buffers.rotations[usize::from(local)];
            rotate(cx, qkv, heads(config), places, rotations, norm);
        }
    }

    /// Keeps the rows of `buffers.x` that the spans' queries stand for, and adds what attention makes of `buffers.qkv`.
    fn attend(
        &self,
        cx: Context<'_>,
        config: &ModelConfig,
        Rows { spans, keys, .. }: &mut Rows<'_>,
        buffers: &mut Buffers,
        probe: Option<&mut (dyn Probe + '_)>,
    ) {
        let (hidden, heads, eps) = (config.hidden, heads(config), config.norm_eps);
        let rows = gather(&mut buffers.x, hidden, spans);
        let x = &mut buffers.x[..rows * hidden];
        let attended = buffers.attended.slot(rows * heads.queries * heads.width);
        match keys {
            Keys::OfPass => {
                let stored = self.prefix.as_ref().map_or(&[][..], Values::as_slice);
                let (arithmetic, qkv, pages) =
                    (self.qkv.arithmetic(), &buffers.qkv[..], &mut buffers.pages);
                attention(cx, heads, arithmetic, qkv, stored, spans, pages, attended);
            }
            Keys::InPages(paged) => {
                paged.layer(cx, config, self.at, &buffers.qkv, spans, attended);
            }
        }
        if rows == 0 {
            return;
        }
        let product = Product { name: "out", linear: &self.out, activation: Activation::Identity };
        let quantized = &mut buffers.quantized;
        let Some((after, _)) = &self.after else {
            product.run(cx, attended, true, quantized, x, probe);
            if config.family.blueprint.placed == Placed::Post {
                self.attention_norm.run_in_place(cx, x, eps, &mut buffers.normed);
            }
            return;
        };
        let given = buffers.given.slot(x.len());
        product.run(cx, attended, false, quantized, given, probe);
        add_normed(cx, after, given, eps, &mut buffers.normed, x);
    }

    /// Adds the feed-forward layer's outputs to the first `rows` of `buffers.x`.
    fn feed_forward(
        &self,
        cx: Context<'_>,
        config: &ModelConfig,
        rows: usize,
        buffers: &mut Buffers,
        mut probe: Option<&mut (dyn Probe + '_)>,
    ) {
        let blueprint = &config.family.blueprint;
        let (hidden, inner, eps) = (config.hidden, config.intermediate, config.norm_eps);
        // What watches wants all rows at once.
        let step = if probe.is_some() { rows } else { FEED_FORWARD_ROWS };
        for x in buffers.x[..rows * hidden].chunks_mut(step.max(1) * hidden) {
            let input = match blueprint.placed {
                Placed::Post => &*x,
                Placed::Pre | Placed::Sandwich => {
                    let normed = buffers.normed.slot(x.len());
                    self.output_norm.run(cx, x, eps, normed);
                    normed
                }
            };
            let within = buffers.inner.slot(x.len() / hidden * inner);
            let (quantized, name) = (&mut buffers.quantized, blueprint.feed_forward.up());
            let gate = match blueprint.feed_forward {
                FeedForward::Gelu => None,
                FeedForward::SwiGlu => Some(Gate::Silu),
                FeedForward::GeGluTanh => Some(Gate::GeluTanh),
            };
            match gate {
                None => {
                    let up = Product { name, linear: &self.up, activation: Activation::Gelu };
                    up.run(cx, input, false, quantized, within, probe.as_deref_mut());
                }
                Some(gate) => {
                    let both = &mut buffers.both;
                    let seen = probe.as_deref_mut().is_some_and(|probe| {
                        let both = both.slot(2 * within.len());
                        let product = ProbedProduct { name, x: input, residual: None };
                        let seen = probe.product(&product, both);
                        if seen {
                            self.up.finish_gated(cx, gate, both, within);
                        }
                        seen
                    });
                    if !seen {
                        self.up.run_gated(cx, gate, input, both, quantized, within);
                    }
                }
            }
            let down =
                Product { name: "down", linear: &self.down, activation: Activation::Identity };
            let Some((_, after)) = &self.after else {
                down.run(cx, within, true, quantized, x, probe.as_deref_mut());
                if blueprint.placed == Placed::Post {
                    self.output_norm.run_in_place(cx, x, eps, &mut buffers.normed);
                }
                continue;
            };
            let given = buffers.given.slot(x.len());
            down.run(cx, within, false, quantized, given, probe.as_deref_mut());
            add_normed(cx, after, given, eps, &mut buffers.normed, x);
        }
    }
}

/// Adds to `x` the norm of the rows in `given`.
fn add_normed(
    cx: Context<'_>,
    norm: &NormWeights,
    given: &[f32],
    eps: f32,
    normed: &mut Buffer<f32>,
    x: &mut [f32],
) {
    /// Values a task: some microseconds.
    const TASK: usize = 1 << 15;
    let normed = normed.slot(given.len());
    norm.run(cx, given, eps, normed);
    cx.threads.for_each_chunk(x, TASK, |task, x| {
        add_row(cx.kernel, &normed[task * TASK..][..x.len()], x);
    });
}

/// A product and what its outputs go through.
struct Product<'a> {
    name: &'static str,
    linear: &'a Linear,
    activation: Activation,
}

impl Product<'_> {
    fn run(
        &self,
        cx: Context<'_>,
        x: &[f32],
        accumulate: bool,
        quantized: &mut QuantizedRows,
        out: &mut [f32],
        probe: Option<&mut (dyn Probe + '_)>,
    ) {
        if let Some(probe) = probe {
            let mut own = vec![0.0; out.len()];
            let residual = accumulate.then_some(&*out);
            if probe.product(&ProbedProduct { name: self.name, x, residual }, &mut own) {
                self.linear.finish(&own, self.activation, accumulate, out);
                return;
            }
        }
        self.linear.run(cx, x, self.activation, accumulate, quantized, out);
    }
}
