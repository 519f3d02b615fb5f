//! Qwen2 and Qwen3: `x += attention(norm(x)); x += feed_forward(norm(x))`, then a last norm.

use super::{Buffers, FEED_FORWARD_ROWS, gather, heads, spans};
use crate::attention::attention;
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
struct Layer {
    attention_norm: Values<f32>,
    qkv: Linear,
    head_norms: Option<(Values<f32>, Values<f32>)>,
    out: Linear,
    output_norm: Values<f32>,
    /// Gate and up projection side by side.
    gate_up: Linear,
    down: Linear,
}

impl Layer {
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
        self.down.wait(gate)
    }
}

impl Decoder {
    pub(super) fn load(config: &ModelConfig, weights: &dyn Weights) -> Result<Self, Error> {
        let (hidden, inner, width) = (config.hidden, config.intermediate, config.head_dim);
        let attended = config.heads * width;
        let qkv = heads(config).row();
        let layers = (0..config.layers)
            .map(|at| {
                let name = |part: &str| format!("layer.{at}.{part}");
                let head_norms = (config.family == Family::Qwen3)
                    .then(|| {
                        Ok::<_, Error>((
                            vector(weights, &name("query_norm.weight"), width)?,
                            vector(weights, &name("key_norm.weight"), width)?,
                        ))
                    })
                    .transpose()?;
                Ok(Layer {
                    attention_norm: vector(weights, &name("attention_norm.weight"), hidden)?,
                    qkv: Linear::load(weights, &name("qkv"), qkv, hidden)?,
                    head_norms,
                    out: Linear::load(weights, &name("out"), hidden, attended)?,
                    output_norm: vector(weights, &name("output_norm.weight"), hidden)?,
                    gate_up: Linear::load(weights, &name("gate_up"), 2 * inner, hidden)?,
                    down: Linear::load(weights, &name("down"), hidden, inner)?,
                })
            })
            .collect::<Result<_, Error>>()?;
        Ok(Self {
            words: Embedding::load(weights, "embedding.words", config.vocab, hidden)?,
            layers,
            norm: vector(weights, "norm.weight", hidden)?,
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
        let heads = heads(config);
        let mut rows = batch.tokens();
        let x = buffers.x.slot(rows * hidden);
        x.fill(0.0);
        self.words.wait(gate, batch.ids().iter().map(|&id| id as usize))?;
        for (row, &id) in x.chunks_exact_mut(hidden).zip(batch.ids()) {
            self.words.add_row(id as usize, row);
        }
        let positions: Vec<usize> = batch
            .sequences()
            .iter()
            .flat_map(|sequence| sequence.prefix.len()..sequence.len())
            .collect();
        buffers.rotations.extend_to(batch.longest(), config.head_dim, config.rope_theta);
        for (at, layer) in self.layers.iter().enumerate() {
            layer.wait(gate)?;
            let quantized = &mut buffers.quantized;
            let x = &mut buffers.x[..rows * hidden];
            let normed = buffers.normed.slot(rows * hidden);
            rms_norm(cx, x, layer.attention_norm.as_slice(), eps, normed);
            let qkv = buffers.qkv.slot(rows * layer.qkv.outputs());
            layer.qkv.run(cx, normed, Activation::Identity, false, quantized, qkv);
            let norm = layer.head_norms.as_ref().map(|(query, key)| HeadNorm {
                query: query.as_slice(),
                key: key.as_slice(),
                eps,
            });
            rotate(cx, qkv, heads, &positions, &buffers.rotations, norm);
            let narrow = !every_row && at + 1 == self.layers.len();
            let spans = spans(batch, config.head, narrow);
            rows = gather(x, hidden, &spans);
            let x = &mut x[..rows * hidden];
            let attended = buffers.attended.slot(rows * heads.queries * heads.width);
            attention(cx, heads, layer.qkv.arithmetic(), qkv, &spans, attended);
            layer.out.run(cx, attended, Activation::Identity, true, quantized, x);
            for x in x.chunks_mut(FEED_FORWARD_ROWS * hidden) {
                let normed = buffers.normed.slot(x.len());
                rms_norm(cx, x, layer.output_norm.as_slice(), eps, normed);
                let inner = layer.gate_up.outputs() / 2;
                let gated = buffers.gated.slot(x.len() / hidden * inner);
                layer.gate_up.run_gated(cx, normed, &mut buffers.inner, quantized, gated);
                layer.down.run(cx, gated, Activation::Identity, true, quantized, x);
            }
        }
        self.norm.wait(gate)?;
        let normed = buffers.normed.slot(rows * hidden);
        rms_norm(cx, &buffers.x[..rows * hidden], self.norm.as_slice(), eps, normed);
        buffers.x[..rows * hidden].copy_from_slice(normed);
        Ok(rows)
    }
}
