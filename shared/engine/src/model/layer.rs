//! A transformer layer as its family's blueprint says.
//!
//! ```text
//! placed Pre:    x += out(attention(norm(x)))         x += down(up(norm(x)))
//! placed Post:   x = norm(x + out(attention(x)))      x = norm(x + down(up(x)))
//! ```
//!
//! Between `qkv` and attention, queries and keys are normalised head by head and turned, where the blueprint says so. In the
//! last layer only the rows that the head reads go on after attention.
//!
//! A [`Probe`] may watch, and compute products in the layer's stead: calibration does, and what stores prefixes.

use defrost_model::architecture::{FeedForward, Placed, Positions};

use super::norms::NormWeights;
use super::{Buffers, FEED_FORWARD_ROWS, gather, heads};
use crate::attention::{Span, attention};
use crate::gate::ReadinessGate;
use crate::gemm::{Activation, Context};
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
    attention_norm: NormWeights,
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
        Ok(Self {
            attention_norm: norm("attention_norm", hidden)?,
            qkv: linear("qkv", &[config.heads * width, keys, keys], hidden)?,
            head_norms,
            out: linear("out", &[hidden], config.heads * width)?,
            output_norm: norm("output_norm", hidden)?,
            up: linear(blueprint.feed_forward.up(), ups, hidden)?,
            down: linear("down", &[hidden], inner)?,
            prefix: (stored > 0).then(|| vector(weights, &name("prefix"), stored)).transpose()?,
        })
    }

    /// Waits for its weights, in the order in which they lie in a snapshot and are needed.
    pub(super) fn wait(&self, placed: Placed, gate: &dyn ReadinessGate) -> Result<(), Error> {
        let norms = [&self.attention_norm, &self.output_norm];
        let wait_for = |place: Placed, norm: usize| {
            if place == placed { norms[norm].wait(gate) } else { Ok(()) }
        };
        wait_for(Placed::Pre, 0)?;
        self.qkv.wait(gate)?;
        if let Some((query, key)) = &self.head_norms {
            query.wait(gate)?;
            key.wait(gate)?;
        }
        self.out.wait(gate)?;
        wait_for(Placed::Post, 0)?;
        wait_for(Placed::Pre, 1)?;
        self.up.wait(gate)?;
        self.down.wait(gate)?;
        wait_for(Placed::Post, 1)?;
        self.prefix.as_ref().map_or(Ok(()), |prefix| prefix.wait(gate))
    }

    /// Turns the rows of `buffers.x` into the layer's outputs; keeps those that the spans' queries stand for, and returns
    /// their number.
    pub(super) fn run(
        &self,
        cx: Context<'_>,
        config: &ModelConfig,
        rows: &Rows<'_>,
        buffers: &mut Buffers,
        mut probe: Option<&mut (dyn Probe + '_)>,
    ) -> usize {
        self.project(cx, config, rows.places, buffers, probe.as_deref_mut());
        if let Some(probe) = probe.as_deref_mut() {
            probe.projected(&buffers.qkv[..rows.places.len() * self.qkv.outputs()]);
        }
        self.attend(cx, config, rows.spans, buffers, probe.as_deref_mut());
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
            rotate(cx, qkv, heads(config), places, &buffers.rotations, norm);
        }
    }

    /// Keeps the rows of `buffers.x` that the spans' queries stand for, and adds what attention makes of `buffers.qkv`.
    fn attend(
        &self,
        cx: Context<'_>,
        config: &ModelConfig,
        spans: &[Span],
        buffers: &mut Buffers,
        probe: Option<&mut (dyn Probe + '_)>,
    ) {
        let (hidden, heads) = (config.hidden, heads(config));
        let rows = gather(&mut buffers.x, hidden, spans);
        let x = &mut buffers.x[..rows * hidden];
        let attended = buffers.attended.slot(rows * heads.queries * heads.width);
        let stored = self.prefix.as_ref().map_or(&[][..], Values::as_slice);
        let (arithmetic, qkv, pages) =
            (self.qkv.arithmetic(), &buffers.qkv[..], &mut buffers.pages);
        attention(cx, heads, arithmetic, qkv, stored, spans, pages, attended);
        let product = Product { name: "out", linear: &self.out, activation: Activation::Identity };
        product.run(cx, attended, true, &mut buffers.quantized, x, probe);
        if config.family.blueprint.placed == Placed::Post {
            self.attention_norm.run_in_place(cx, x, config.norm_eps, &mut buffers.normed);
        }
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
            down.run(cx, within, true, quantized, x, probe.as_deref_mut());
            if blueprint.placed == Placed::Post {
                self.output_norm.run_in_place(cx, x, eps, &mut buffers.normed);
            }
        }
    }
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
