//! What a language model computes, in f64 and as plainly as it can be written.

use defrost_model::RopeScaling;
use defrost_model::architecture::{FeedForward, Placed};

use super::tiny::Tiny;

struct Definition<'a> {
    tiny: &'a Tiny,
}

/// The logits after each token.
pub(super) fn logits(tiny: &Tiny, ids: &[u32]) -> Vec<Vec<f64>> {
    Definition { tiny }.logits(ids)
}

impl Definition<'_> {
    fn values(&self, name: &str) -> Vec<f64> {
        let found = self.tiny.values.get(name).unwrap_or_else(|| panic!("{name}"));
        found.iter().map(|&value| f64::from(value)).collect()
    }

    fn norm(&self, name: &str, x: &[f64]) -> Vec<f64> {
        let weight = self.values(&format!("{name}.weight"));
        let square = x.iter().map(|x| x * x).sum::<f64>() / x.len() as f64;
        let root = (square + f64::from(self.tiny.config.norm_eps)).sqrt();
        x.iter().zip(weight).map(|(x, weight)| x / root * weight).collect()
    }

    fn product(&self, name: &str, x: &[f64]) -> Vec<f64> {
        let weight = self.values(&format!("{name}.weight"));
        let dot = |row: &[f64]| row.iter().zip(x).map(|(a, b)| a * b).sum::<f64>();
        let mut out: Vec<f64> = weight.chunks_exact(x.len()).map(dot).collect();
        if self.tiny.values.contains_key(&format!("{name}.bias")) {
            let bias = self.values(&format!("{name}.bias"));
            out.iter_mut().zip(bias).for_each(|(out, bias)| *out += bias);
        }
        out
    }

    fn turn(&self, layer: usize, position: usize, head: &mut [f64]) {
        let (config, half) = (&self.tiny.config, head.len() / 2);
        let local = config.attention.local.filter(|local| local.is_local(layer));
        let theta = f64::from(local.map_or(config.rope_theta, |local| local.theta));
        let scaling = if local.is_some() { RopeScaling::None } else { config.attention.rope };
        for pair in 0..half {
            let plain = theta.powf(-(2.0 * pair as f64) / head.len() as f64);
            let frequency = match scaling {
                RopeScaling::None => plain,
                RopeScaling::Linear { factor } => plain / f64::from(factor),
                RopeScaling::Llama3 { factor, low, high, original } => {
                    let [factor, low, high, original] =
                        [factor, low, high, original].map(f64::from);
                    let wave = std::f64::consts::TAU / plain;
                    let blend = ((original / wave - low) / (high - low)).clamp(0.0, 1.0);
                    (1.0 - blend) * plain / factor + blend * plain
                }
            };
            let (sin, cos) = (position as f64 * frequency).sin_cos();
            let (a, b) = (head[pair], head[pair + half]);
            head[pair] = a * cos - b * sin;
            head[pair + half] = b * cos + a * sin;
        }
    }

    /// Rows `[q | k | v]`, as they enter attention.
    fn projected(&self, layer: usize, position: usize, x: &[f64]) -> Vec<f64> {
        let (config, own) = (&self.tiny.config, |part: &str| format!("layer.{layer}.{part}"));
        let mut qkv = self.product(&own("qkv"), x);
        for (at, head) in qkv.chunks_exact_mut(config.head_dim).enumerate() {
            if at >= config.heads + config.kv_heads {
                break;
            }
            if config.family.blueprint.head_norms {
                let norm = if at < config.heads { "query_norm" } else { "key_norm" };
                head.copy_from_slice(&self.norm(&own(norm), head));
            }
            self.turn(layer, position, head);
        }
        qkv
    }

    fn attend(&self, layer: usize, rows: &[Vec<f64>], query: usize) -> Vec<f64> {
        let (config, width) = (&self.tiny.config, self.tiny.config.head_dim);
        let scale = config.attention.scale.map_or_else(|| 1.0 / (width as f64).sqrt(), f64::from);
        let window = config.attention.window(layer).unwrap_or(usize::MAX);
        let first = (query + 1).saturating_sub(window);
        let head = |row: usize, at: usize| &rows[row][at * width..][..width];
        let mut out = Vec::new();
        for at in 0..config.heads {
            let shared = at / (config.heads / config.kv_heads);
            let (keys, values) = (config.heads + shared, config.heads + config.kv_heads + shared);
            let score = |row: usize| -> f64 {
                head(query, at).iter().zip(head(row, keys)).map(|(a, b)| a * b).sum::<f64>() * scale
            };
            let scores: Vec<f64> = (first..=query).map(score).collect();
            let max = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let weights: Vec<f64> = scores.iter().map(|score| (score - max).exp()).collect();
            let total: f64 = weights.iter().sum();
            out.extend((0..width).map(|column| {
                let rows = (first..=query).zip(&weights);
                rows.map(|(row, weight)| weight / total * head(row, values)[column]).sum::<f64>()
            }));
        }
        out
    }

    fn feed_forward(&self, layer: usize, x: &[f64]) -> Vec<f64> {
        let (config, own) = (&self.tiny.config, |part: &str| format!("layer.{layer}.{part}"));
        let both = self.product(&own("gate_up"), x);
        let (gate, up) = both.split_at(config.intermediate);
        let gated = |gate: f64| match config.family.blueprint.feed_forward {
            FeedForward::SwiGlu => gate / (1.0 + (-gate).exp()),
            FeedForward::GeGluTanh => {
                let inner = (2.0 / std::f64::consts::PI).sqrt() * (gate + 0.044_715 * gate.powi(3));
                0.5 * gate * (1.0 + inner.tanh())
            }
            FeedForward::Gelu => panic!("a gated layer"),
        };
        let inner: Vec<f64> = gate.iter().zip(up).map(|(&gate, up)| gated(gate) * up).collect();
        self.product(&own("down"), &inner)
    }

    fn logits(&self, ids: &[u32]) -> Vec<Vec<f64>> {
        let config = &self.tiny.config;
        let blueprint = &config.family.blueprint;
        let sandwich = blueprint.placed == Placed::Sandwich;
        let words = self.values("embedding.words.weight");
        let scale = if blueprint.embedding_scale { (config.hidden as f64).sqrt() } else { 1.0 };
        let row = |&id: &u32| words[id as usize * config.hidden..][..config.hidden].iter();
        let mut x: Vec<Vec<f64>> =
            ids.iter().map(|id| row(id).map(|value| value * scale).collect()).collect();
        for layer in 0..config.layers {
            let own = |part: &str| format!("layer.{layer}.{part}");
            let add = |x: &mut [f64], given: Vec<f64>, norm: &str| {
                let given = if sandwich { self.norm(&own(norm), &given) } else { given };
                x.iter_mut().zip(given).for_each(|(x, given)| *x += given);
            };
            let project = |(position, x): (usize, &Vec<f64>)| {
                self.projected(layer, position, &self.norm(&own("attention_norm"), x))
            };
            let rows: Vec<Vec<f64>> = x.iter().enumerate().map(project).collect();
            for (query, x) in x.iter_mut().enumerate() {
                let attended = self.attend(layer, &rows, query);
                add(x, self.product(&own("out"), &attended), "after_attention_norm");
                let input = self.norm(&own("output_norm"), x);
                add(x, self.feed_forward(layer, &input), "after_feed_forward_norm");
            }
        }
        let head = if config.tied { "embedding.words" } else { "head.words" };
        x.iter().map(|x| self.product(head, &self.norm("norm", x))).collect()
    }
}
