//! Outliers for made-up models, as published measurements find them in real ones, and a ranking.
//!
//! Random weights have no outlier channels, so int8 loses little on them and what packing does about
//! outliers cannot be seen. This plants, into a decoder:
//!
//! | what | size | where it is known from |
//! |---|---|---|
//! | norm weights and the columns that read them | 16 to 64 times | Xiao et al., `SmoothQuant`, 2023 |
//! | up rows and the columns of `down` that read them | 32 to 128 times | the inputs of `down_proj` of all gated models |
//! | value rows and the columns of `out` | 8 to 16 times | as above, milder |
//! | residual channels alike in all tokens | 40 times the embedding | "residual sinks" |
//! | a first token that fires one neuron into two channels | hundreds of times | Sun et al., Massive Activations, 2024 |
//! | key biases in the slowest rotary pairs of the outer layers | 100 | Qwen2 and Qwen2.5 |
//!
//! The first three are powers of two that the reading columns take back, so that they alone change
//! no score in f32.
//!
//! (`synth --ranking` plants only what follows, as the control.) A random model also ranks nothing: documents differ by less than its own noise. So every token is
//! given a *relevance* along one direction of its embedding, which each layer's values read and its
//! output writes back for the tokens it attends to. The rows of the answer tokens have opposite
//! relevance, and scores spread over documents as those of a trained reranker do.

use defrost_model::ModelConfig;

use super::mix;

/// What is changed in one random tensor: `(noise * value + a b^T) * rows * columns + offsets of columns`.
#[derive(Debug, Clone)]
pub(super) struct Planted {
    /// Factor of the random values.
    noise: f32,
    /// Factor per row, where not one.
    rows: Vec<(usize, f32)>,
    /// Factor per column, where not one.
    columns: Vec<(usize, f32)>,
    /// Added to all values of a column at the end.
    offsets: Vec<(usize, f32)>,
    /// Vectors whose outer product is added first.
    outer: Option<(Vec<f32>, Vec<f32>)>,
    /// Single values that are replaced: row, column, value.
    single: Vec<(usize, usize, f32)>,
    /// Rows that are replaced.
    replaced: Vec<(usize, Vec<f32>)>,
}

impl Default for Planted {
    fn default() -> Self {
        let (rows, columns, offsets) = Default::default();
        let (single, replaced) = Default::default();
        Self { noise: 1.0, rows, columns, offsets, outer: None, single, replaced }
    }
}

impl Planted {
    /// Changes one row of the tensor.
    pub(super) fn apply(&self, at: usize, row: &mut [f32]) {
        if let Some((_, values)) = self.replaced.iter().find(|(row, _)| *row == at) {
            row.copy_from_slice(values);
        }
        for value in row.iter_mut() {
            *value *= self.noise;
        }
        if let Some((a, b)) = &self.outer {
            row.iter_mut().zip(b).for_each(|(value, b)| *value += a[at] * b);
        }
        for &(_, factor) in self.rows.iter().filter(|(row, _)| *row == at) {
            for value in row.iter_mut() {
                *value *= factor;
            }
        }
        for &(column, factor) in &self.columns {
            row[column] *= factor;
        }
        for &(column, offset) in &self.offsets {
            row[column] += offset;
        }
        for &(_, column, value) in self.single.iter().filter(|(row, ..)| *row == at) {
            row[column] = value;
        }
    }
}

/// Plans the outliers of one model.
#[derive(Debug)]
pub(super) struct Planter<'a> {
    pub(super) config: &'a ModelConfig,
    pub(super) seed: u64,
    /// Whether outliers are planted too, or only the direction to rank by.
    pub(super) outliers: bool,
    /// Token that prompts begin with.
    pub(super) first_token: u32,
}

/// Typical size of an initial weight.
const WEIGHT: f32 = 0.02;
/// The relevance in an embedding, against its random part.
const RELEVANCE: f32 = 1.0;
/// Relevance that a layer's values read from an attended token of relevance one.
const READ: f32 = 1.0;
/// What a layer writes of it, against the residual's relevance of one.
const WRITTEN: f32 = 0.2;
/// Random part of `down`: dozens of layers of noise would drown the relevance.
const QUIET: f32 = 0.125;
/// Embedding of the first token, against others': it stays itself through the first layers.
const FIRST: f32 = 64.0;

impl Planter<'_> {
    /// Two numbers from what a thing is called.
    fn pick(&self, what: &str, at: usize, below: usize) -> (usize, f32) {
        let start = mix(self.seed ^ 0x6f75_746c_6965_7273 ^ at as u64);
        let bits = what.bytes().fold(start, |hash, byte| mix(hash ^ u64::from(byte)));
        #[allow(clippy::cast_possible_truncation, reason = "a remainder below a usize")]
        let place = (bits % below.max(1) as u64) as usize;
        (place, (bits >> 40) as f32 / 16_777_216.0)
    }

    /// Channels below `width` with factors `2^low ..= 2^high`, in order and without repetition.
    fn channels(
        &self,
        what: &str,
        width: usize,
        count: usize,
        [low, high]: [i32; 2],
    ) -> Vec<(usize, f32)> {
        let count = if self.outliers { count } else { 0 };
        let mut picked: Vec<(usize, f32)> = (0..count)
            .map(|at| {
                let (channel, part) = self.pick(what, at, width);
                #[allow(clippy::cast_possible_truncation, reason = "below ten")]
                let power = low + (part * (high - low + 1) as f32) as i32;
                (channel, libm::exp2f(power as f32))
            })
            .collect();
        picked.sort_by_key(|(channel, _)| *channel);
        picked.dedup_by_key(|(channel, _)| *channel);
        picked
    }

    /// The direction of relevance: every channel carries it alike.
    fn direction(&self) -> Vec<f32> {
        let size = 1.0 / (self.config.hidden as f32).sqrt();
        (0..self.config.hidden)
            .map(|at| if self.pick("relevance", at, 2).0 == 0 { size } else { -size })
            .collect()
    }

    /// A token's relevance. Neighbouring ids differ in sign: so do the answer tokens' ids.
    fn relevance(&self, id: usize) -> f32 {
        let size = 0.5 + self.pick("token", id, 2).1;
        if id.is_multiple_of(2) { -size } else { size }
    }

    /// What is planted into the checkpoint tensor `name`; `first` is the first token's plain
    /// embedding.
    pub(super) fn plant(&self, name: &str, shape: &[usize], first: &[f32]) -> Planted {
        let config = self.config;
        let norms = (config.hidden / 300).max(2);
        let neurons = (config.intermediate / 1000).max(2);
        let mut planted = Planted::default();
        if name.ends_with("embed_tokens.weight") {
            let size = RELEVANCE * WEIGHT * (config.hidden as f32).sqrt();
            let relevance = (0..shape[0]).map(|id| self.relevance(id) * size).collect();
            planted.outer = Some((relevance, self.direction()));
            if self.outliers {
                planted.rows = vec![(self.first_token as usize, FIRST)];
            }
            planted.offsets = self
                .sinks()
                .iter()
                .map(|&(channel, sign)| (channel, 40.0 * WEIGHT * sign))
                .collect();
            return planted;
        }
        let Some((layer, part)) =
            name.split_once("layers.").and_then(|(_, rest)| rest.split_once('.'))
        else {
            return planted;
        };
        let key = |what: &str| format!("{layer}.{what}");
        let at: usize = layer.parse().unwrap_or(0);
        let inverse = |channels: Vec<(usize, f32)>| -> Vec<(usize, f32)> {
            channels.into_iter().map(|(channel, factor)| (channel, 1.0 / factor)).collect()
        };
        let input = self.channels(&key("input"), config.hidden, norms, [4, 6]);
        let inner = self.channels(&key("inner"), config.hidden, norms, [4, 6]);
        let up = self.channels(&key("up"), config.intermediate, neurons, [5, 7]);
        let values_width = config.kv_heads * config.head_dim;
        let values = self.channels(&key("value"), values_width, 2, [3, 4]);
        let sinks: Vec<(usize, f32)> =
            self.sinks().iter().map(|&(channel, _)| (channel, 0.125)).collect();
        match part {
            "input_layernorm.weight" => planted.rows = [input, sinks].concat(),
            "post_attention_layernorm.weight" => planted.rows = [inner, sinks].concat(),
            "self_attn.q_proj.weight" | "self_attn.k_proj.weight" => {
                planted.columns = inverse(input);
            }
            "self_attn.v_proj.weight" => {
                let size = READ / (config.head_dim as f32).sqrt();
                planted.outer = Some((
                    (0..shape[0]).map(|row| self.reader(row) * size).collect(),
                    self.direction(),
                ));
                planted.columns = inverse(input);
                planted.rows = values;
            }
            "self_attn.v_proj.bias" => planted.rows = values,
            "self_attn.k_proj.bias" if self.outliers => {
                planted.outer = Some((self.key_bias(at, shape[0]), vec![1.0]));
            }
            "self_attn.o_proj.weight" => {
                let shared = config.heads / config.kv_heads;
                let value = |column: usize| {
                    let (head, width) = (column / config.head_dim, config.head_dim);
                    head / shared * width + column % width
                };
                let size = WRITTEN / (config.head_dim as f32).sqrt() / config.heads as f32;
                let columns: Vec<usize> = (0..shape[1]).collect();
                planted.outer = Some((
                    self.direction(),
                    columns.iter().map(|&column| self.reader(value(column)) * size).collect(),
                ));
                planted.columns = columns
                    .iter()
                    .filter_map(|&column| {
                        let (_, factor) = values.iter().find(|(row, _)| *row == value(column))?;
                        Some((column, 1.0 / factor))
                    })
                    .collect();
            }
            "mlp.gate_proj.weight" | "mlp.up_proj.weight" => {
                planted.columns = inverse(inner);
                if part == "mlp.up_proj.weight" {
                    planted.rows = up;
                }
                if at == 0 && self.outliers {
                    // Aligned with the first token, whose norm is the square root of the width.
                    let length = first.iter().map(|value| value * value).sum::<f32>().sqrt();
                    let size = 20.0 / (length * (config.hidden as f32).sqrt());
                    let aligned = first.iter().map(|value| value * size).collect();
                    planted.replaced = vec![(self.massive_neuron(), aligned)];
                }
            }
            "mlp.down_proj.weight" => {
                planted.noise = QUIET;
                planted.columns = inverse(up);
                if at == 0 && self.outliers {
                    planted.single = self.massive_channels().to_vec();
                }
            }
            _ => {}
        }
        planted
    }

    /// What is added to the elements of a layer's key bias.
    fn key_bias(&self, layer: usize, len: usize) -> Vec<f32> {
        let half = self.config.head_dim / 2;
        let outer = layer == 0 || layer + 1 == self.config.layers;
        let size = if outer { 100.0 } else { 10.0 };
        (0..len)
            .map(|at| match at % half {
                place if place + 2 < half => 0.0,
                place if place.is_multiple_of(2) => size,
                _ => -size,
            })
            .collect()
    }

    /// Channels of the residual stream that are large in every token, with their signs.
    fn sinks(&self) -> Vec<(usize, f32)> {
        let sinks = (0..if self.outliers { 2 } else { 0 }).map(|at| {
            let (channel, part) = self.pick("sink", at, self.config.hidden);
            (channel, if part < 0.5 { -1.0 } else { 1.0 })
        });
        sinks.collect()
    }

    /// Where layer 0 writes what the first token fires, and how strongly.
    fn massive_channels(&self) -> [(usize, usize, f32); 2] {
        [0, 1].map(|at| {
            let channel = self.pick("massive channel", at, self.config.hidden).0;
            (channel, self.massive_neuron(), if at == 0 { 0.5 } else { -0.3 })
        })
    }

    fn massive_neuron(&self) -> usize {
        self.pick("massive", 0, self.config.intermediate).0
    }

    /// How a value channel takes part in carrying relevance.
    fn reader(&self, channel: usize) -> f32 {
        if self.pick("reader", channel, 2).0 == 0 { 1.0 } else { -1.0 }
    }
}
