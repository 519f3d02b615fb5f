//! Qwen2 and Qwen3: `x += attention(norm(x)); x += feed_forward(norm(x))`, then a last norm.

use super::{Buffers, FEED_FORWARD_ROWS, gather, heads, spans};
use crate::attention::{Span, attention};
use crate::gemm::{Activation, Context};
use crate::norm::rms_norm;
use crate::rope::{HeadNorm, rotate};
use crate::weights::{Embedding, Linear, Values, Weights, vector};
use crate::{Batch, Error, Family, Gate, ModelConfig};

#[derive(Debug)]
pub(super) struct Decoder {
    words: Embedding,
    layers: Vec<Layer>,
    norm: Values<f32>,
}

#[derive(Debug)]
pub(super) struct Layer {
    attention_norm: Values<f32>,
    qkv: Linear,
    head_norms: Option<(Values<f32>, Values<f32>)>,
    out: Linear,
    output_norm: Values<f32>,
    /// Gate and up projection side by side.
    gate_up: Linear,
    down: Linear,
    /// Keys and values of the stored prefix.
    prefix: Option<Values<f32>>,
}

impl Layer {
    pub(super) fn load(
        config: &ModelConfig,
        weights: &dyn Weights,
        at: usize,
    ) -> Result<Self, Error> {
        let (hidden, inner, width) = (config.hidden, config.intermediate, config.head_dim);
        let attended = config.heads * width;
        let name = |part: &str| format!("layer.{at}.{part}");
        let vector = |part: &str, len: usize| vector(weights, &name(part), len);
        let normed_heads = config.family == Family::Qwen3;
        let head_norms = normed_heads
            .then(|| {
                Ok::<_, Error>((
                    vector("query_norm.weight", width)?,
                    vector("key_norm.weight", width)?,
                ))
            })
            .transpose()?;
        let stored = config.stored_prefix * config.stored_row();
        Ok(Self {
            attention_norm: vector("attention_norm.weight", hidden)?,
            qkv: Linear::load(weights, &name("qkv"), heads(config).row(), hidden)?,
            head_norms,
            out: Linear::load(weights, &name("out"), hidden, attended)?,
            output_norm: vector("output_norm.weight", hidden)?,
            gate_up: Linear::load(weights, &name("gate_up"), 2 * inner, hidden)?,
            down: Linear::load(weights, &name("down"), hidden, inner)?,
            prefix: (stored > 0).then(|| vector("prefix", stored)).transpose()?,
        })
    }

    fn wait(&self, gate: &dyn Gate) -> Result<(), Error> {
        self.attention_norm.wait(gate)?;
        self.qkv.wait(gate)?;
        if let Some((query, key)) = &self.head_norms {
            query.wait(gate)?;
            key.wait(gate)?;
        }
        self.out.wait(gate)?;
        self.output_norm.wait(gate)?;
        self.gate_up.wait(gate)?;
        self.down.wait(gate)?;
        self.prefix.as_ref().map_or(Ok(()), |prefix| prefix.wait(gate))
    }

    /// Leaves `[q | k | v]` of the `positions.len()` rows of `buffers.x`, rotated, in `buffers.qkv`.
    pub(super) fn project(
        &self,
        cx: Context<'_>,
        config: &ModelConfig,
        positions: &[usize],
        buffers: &mut Buffers,
    ) {
        let (rows, hidden, eps) = (positions.len(), config.hidden, config.norm_eps);
        let normed = buffers.normed.slot(rows * hidden);
        let x = &buffers.x[..rows * hidden];
        rms_norm(cx, x, self.attention_norm.as_slice(), eps, normed);
        let qkv = buffers.qkv.slot(rows * self.qkv.outputs());
        self.qkv.run(cx, normed, Activation::Identity, false, &mut buffers.quantized, qkv);
        let norm = self.head_norms.as_ref().map(|(query, key)| HeadNorm {
            query: query.as_slice(),
            key: key.as_slice(),
            eps,
        });
        rotate(cx, qkv, heads(config), positions, &buffers.rotations, norm);
    }

    /// Keeps the rows of `buffers.x` that the spans' queries stand for and adds the layer's outputs to them, from what
    /// [`Layer::project`] left; returns their number.
    pub(super) fn finish(
        &self,
        cx: Context<'_>,
        config: &ModelConfig,
        spans: &[Span],
        buffers: &mut Buffers,
    ) -> usize {
        let (hidden, eps, heads) = (config.hidden, config.norm_eps, heads(config));
        let quantized = &mut buffers.quantized;
        let rows = gather(&mut buffers.x, hidden, spans);
        let x = &mut buffers.x[..rows * hidden];
        let attended = buffers.attended.slot(rows * heads.queries * heads.width);
        let stored = self.prefix.as_ref().map_or(&[][..], Values::as_slice);
        let (arithmetic, qkv) = (self.qkv.arithmetic(), &buffers.qkv);
        attention(cx, heads, arithmetic, qkv, stored, spans, &mut buffers.pages, attended);
        self.out.run(cx, attended, Activation::Identity, true, quantized, x);
        for x in x.chunks_mut(FEED_FORWARD_ROWS * hidden) {
            let normed = buffers.normed.slot(x.len());
            rms_norm(cx, x, self.output_norm.as_slice(), eps, normed);
            let inner = self.gate_up.outputs() / 2;
            let gated = buffers.gated.slot(x.len() / hidden * inner);
            self.gate_up.run_gated(cx, normed, &mut buffers.inner, quantized, gated);
            self.down.run(cx, gated, Activation::Identity, true, quantized, x);
        }
        rows
    }
}

impl Decoder {
    pub(super) fn load(config: &ModelConfig, weights: &dyn Weights) -> Result<Self, Error> {
        let layers = 0..config.layers;
        Ok(Self {
            words: Embedding::load(weights, "embedding.words", config.vocab, config.hidden)?,
            layers: layers.map(|at| Layer::load(config, weights, at)).collect::<Result<_, _>>()?,
            norm: vector(weights, "norm.weight", config.hidden)?,
        })
    }

    /// Leaves the final hidden states in `buffers.x`, those that the head reads or every row; returns how many rows they are.
    pub(super) fn run(
        &self,
        cx: Context<'_>,
        gate: &dyn Gate,
        config: &ModelConfig,
        batch: &Batch,
        every_row: bool,
        buffers: &mut Buffers,
    ) -> Result<usize, Error> {
        let (hidden, eps) = (config.hidden, config.norm_eps);
        let x = buffers.x.slot(batch.tokens() * hidden);
        x.fill(0.0);
        self.words.wait(gate, batch.ids().iter().map(|&id| id as usize))?;
        for (row, &id) in x.chunks_exact_mut(hidden).zip(batch.ids()) {
            self.words.add_row(id as usize, row);
        }
        let positions: Vec<usize> = batch
            .sequences()
            .iter()
            .flat_map(|sequence| sequence.start()..sequence.len())
            .collect();
        buffers.rotations.extend_to(batch.longest(), config.head_dim, config.rope_theta);
        let mut rows = batch.tokens();
        for (at, layer) in self.layers.iter().enumerate() {
            layer.wait(gate)?;
            layer.project(cx, config, &positions, buffers);
            let narrow = !every_row && at + 1 == self.layers.len();
            let spans = spans(batch, config.head, narrow);
            rows = layer.finish(cx, config, &spans, buffers);
        }
        self.norm.wait(gate)?;
        let normed = buffers.normed.slot(rows * hidden);
        rms_norm(cx, &buffers.x[..rows * hidden], self.norm.as_slice(), eps, normed);
        buffers.x[..rows * hidden].copy_from_slice(normed);
        Ok(rows)
    }
}
