//! BERT and XLM-RoBERTa: `x = norm(x + attention(x)); x = norm(x + feed_forward(x))`.

use super::{Buffers, FEED_FORWARD_ROWS, gather, heads, spans};
use crate::attention::attention;
use crate::gemm::{Activation, Context};
use crate::norm::layer_norm;
use crate::weights::{Embedding, Linear, Values, Weights, vector};
use crate::{Batch, Error, Family, Gate, ModelConfig};

#[derive(Debug)]
pub(super) struct Encoder {
    words: Embedding,
    positions: Embedding,
    types: Embedding,
    norm: Norm,
    layers: Vec<Layer>,
}

#[derive(Debug)]
struct Norm {
    weight: Values<f32>,
    bias: Values<f32>,
}

impl Norm {
    fn load(weights: &dyn Weights, name: &str, hidden: usize) -> Result<Self, Error> {
        Ok(Self {
            weight: vector(weights, &format!("{name}.weight"), hidden)?,
            bias: vector(weights, &format!("{name}.bias"), hidden)?,
        })
    }

    fn wait(&self, gate: &dyn Gate) -> Result<(), Error> {
        self.weight.wait(gate)?;
        self.bias.wait(gate)
    }

    fn run(&self, cx: Context<'_>, rows: &mut [f32], eps: f32) {
        layer_norm(cx, rows, self.weight.as_slice(), self.bias.as_slice(), eps);
    }
}

#[derive(Debug)]
struct Layer {
    qkv: Linear,
    out: Linear,
    attention_norm: Norm,
    up: Linear,
    down: Linear,
    output_norm: Norm,
}

impl Layer {
    fn wait(&self, gate: &dyn Gate) -> Result<(), Error> {
        self.qkv.wait(gate)?;
        self.out.wait(gate)?;
        self.attention_norm.wait(gate)?;
        self.up.wait(gate)?;
        self.down.wait(gate)?;
        self.output_norm.wait(gate)
    }
}

impl Encoder {
    pub(super) fn load(config: &ModelConfig, weights: &dyn Weights) -> Result<Self, Error> {
        let (hidden, inner) = (config.hidden, config.intermediate);
        let positions = config.max_positions + reserved_positions(config);
        let layers = (0..config.layers)
            .map(|at| {
                let name = |part: &str| format!("layer.{at}.{part}");
                Ok(Layer {
                    qkv: Linear::load(weights, &name("qkv"), 3 * hidden, hidden)?,
                    out: Linear::load(weights, &name("out"), hidden, hidden)?,
                    attention_norm: Norm::load(weights, &name("attention_norm"), hidden)?,
                    up: Linear::load(weights, &name("up"), inner, hidden)?,
                    down: Linear::load(weights, &name("down"), hidden, inner)?,
                    output_norm: Norm::load(weights, &name("output_norm"), hidden)?,
                })
            })
            .collect::<Result<_, Error>>()?;
        Ok(Self {
            words: Embedding::load(weights, "embedding.words", config.vocab, hidden)?,
            positions: Embedding::load(weights, "embedding.positions", positions, hidden)?,
            types: Embedding::load(weights, "embedding.types", config.type_vocab, hidden)?,
            norm: Norm::load(weights, "embedding.norm", hidden)?,
            layers,
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
        let hidden = config.hidden;
        let eps = config.norm_eps;
        let mut rows = batch.tokens();
        self.wait_for_rows(gate, config, batch)?;
        self.embed(config, batch, buffers.x.slot(rows * hidden));
        self.norm.run(cx, &mut buffers.x[..rows * hidden], eps);
        for (at, layer) in self.layers.iter().enumerate() {
            layer.wait(gate)?;
            let quantized = &mut buffers.quantized;
            let qkv = buffers.qkv.slot(rows * layer.qkv.outputs());
            let x = &mut buffers.x[..rows * hidden];
            layer.qkv.run(cx, x, Activation::Identity, false, quantized, qkv);
            let narrow = !every_row && at + 1 == self.layers.len();
            let spans = spans(batch, config.head, narrow);
            rows = gather(x, hidden, &spans);
            let x = &mut x[..rows * hidden];
            let attended = buffers.attended.slot(rows * hidden);
            let (arithmetic, pages) = (layer.qkv.arithmetic(), &mut buffers.pages);
            attention(cx, heads(config), arithmetic, qkv, &[], &spans, pages, attended);
            layer.out.run(cx, attended, Activation::Identity, true, quantized, x);
            layer.attention_norm.run(cx, x, eps);
            for x in x.chunks_mut(FEED_FORWARD_ROWS * hidden) {
                let inner = buffers.inner.slot(x.len() / hidden * layer.up.outputs());
                layer.up.run(cx, x, Activation::Gelu, false, quantized, inner);
                layer.down.run(cx, inner, Activation::Identity, true, quantized, x);
                layer.output_norm.run(cx, x, eps);
            }
        }
        Ok(rows)
    }

    /// Waits for the rows of the tables that [`Encoder::embed`] reads.
    fn wait_for_rows(
        &self,
        gate: &dyn Gate,
        config: &ModelConfig,
        batch: &Batch,
    ) -> Result<(), Error> {
        let positions = (reserved_positions(config) + batch.longest()).min(self.positions.rows());
        self.words.wait(gate, batch.ids().iter().map(|&id| id as usize))?;
        self.types.wait(gate, batch.types().iter().map(|&id| id as usize))?;
        self.positions.wait(gate, 0..positions)?;
        self.norm.wait(gate)
    }

    fn embed(&self, config: &ModelConfig, batch: &Batch, x: &mut [f32]) {
        let hidden = config.hidden;
        let reserved = reserved_positions(config);
        x.fill(0.0);
        for sequence in batch.sequences() {
            let mut next = reserved;
            for token in sequence.tokens.clone() {
                let id = batch.ids()[token];
                let row = &mut x[token * hidden..][..hidden];
                self.words.add_row(id as usize, row);
                self.types.add_row(batch.types()[token] as usize, row);
                // XLM-RoBERTa gives a literal padding token the padding position and does not
                // count it (`create_position_ids_from_input_ids` of transformers).
                let padding = config.family == Family::XlmRoberta && id == config.pad_id;
                let position = if padding { config.pad_id as usize } else { next };
                next += usize::from(!padding);
                self.positions.add_row(position.min(self.positions.rows() - 1), row);
            }
        }
    }
}

/// Positions that precede the first token's.
fn reserved_positions(config: &ModelConfig) -> usize {
    if config.family == Family::XlmRoberta { config.pad_id as usize + 1 } else { 0 }
}
