//! The steps between products of a forward pass, in plain f32.
//!
//! Apart from the engine on purpose: this runs a few hundred tokens once, wants the inputs of every
//! product in hand, and must give the same bits on every processor, because scales are chosen from
//! them. So sums run in a fixed order of eight lanes, nothing is fused, and elementary functions
//! come from `libm` instead of the system.

use std::ops::Range;

use defrost_engine::ModelConfig;
use rayon::iter::{IntoParallelIterator, ParallelIterator};

const LANES: usize = 8;

/// `sum a_i b_i`.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0f32; LANES];
    let (a, b) = (a.chunks(LANES), b.chunks(LANES));
    for (a, b) in a.zip(b) {
        for ((lane, a), b) in lanes.iter_mut().zip(a).zip(b) {
            *lane += a * b;
        }
    }
    lanes.iter().sum()
}

/// `x / sqrt(mean(x^2) + eps) * weight` for every row.
pub(super) fn rms_norm(x: &[f32], weight: &[f32], eps: f32) -> Vec<f32> {
    let mut out = x.to_vec();
    for row in out.chunks_exact_mut(weight.len()) {
        let inverse = 1.0 / (dot(row, row) / row.len() as f32 + eps).sqrt();
        row.iter_mut().zip(weight).for_each(|(x, weight)| *x = *x * inverse * weight);
    }
    out
}

/// `(x - mean) / sqrt(variance + eps) * weight + bias` for every row, in place.
pub(super) fn layer_norm(x: &mut [f32], weight: &[f32], bias: &[f32], eps: f32) {
    for row in x.chunks_exact_mut(weight.len()) {
        let mean = row.iter().sum::<f32>() / row.len() as f32;
        for x in row.iter_mut() {
            *x -= mean;
        }
        let inverse = 1.0 / (dot(row, row) / row.len() as f32 + eps).sqrt();
        for ((x, weight), bias) in row.iter_mut().zip(weight).zip(bias) {
            *x = *x * inverse * weight + bias;
        }
    }
}

/// Adds the bias to every row.
pub(super) fn add_bias(x: &mut [f32], bias: &[f32]) {
    for row in x.chunks_exact_mut(bias.len()) {
        row.iter_mut().zip(bias).for_each(|(x, bias)| *x += bias);
    }
}

/// `x Phi(x)`.
pub(super) fn gelu(x: &mut [f32]) {
    for x in x {
        *x *= 0.5 * (1.0 + libm::erff(*x * std::f32::consts::FRAC_1_SQRT_2));
    }
}

/// `silu(gate) * up` of rows `[gate | up]`.
pub(super) fn swiglu(gate_up: &[f32], inner: usize) -> Vec<f32> {
    gate_up
        .chunks_exact(2 * inner)
        .flat_map(|row| {
            let (gate, up) = row.split_at(inner);
            gate.iter().zip(up).map(|(gate, up)| gate / (1.0 + libm::expf(-gate)) * up)
        })
        .collect()
}

/// Rotates (Qwen3: after normalising) the query and key heads of rows `[q | k | v]`.
pub(super) fn rotate(
    config: &ModelConfig,
    qkv: &mut [f32],
    sequences: &[Range<usize>],
    norms: Option<[&[f32]; 2]>,
) {
    let (width, half) = (config.head_dim, config.head_dim / 2);
    let row_len = (config.heads + 2 * config.kv_heads) * width;
    let turned = (config.heads + config.kv_heads) * width;
    let frequencies: Vec<f32> = (0..half)
        .map(|pair| 1.0 / libm::powf(config.rope_theta, (2 * pair) as f32 / width as f32))
        .collect();
    for (row, token) in
        sequences.iter().flat_map(|tokens| tokens.clone().map(|at| (at, at - tokens.start)))
    {
        let row = &mut qkv[row * row_len..][..turned];
        for (at, head) in row.chunks_exact_mut(width).enumerate() {
            if let Some([query, key]) = norms {
                let weight = if at < config.heads { query } else { key };
                head.copy_from_slice(&rms_norm(head, weight, config.norm_eps));
            }
            let (low, high) = head.split_at_mut(half);
            for ((low, high), frequency) in low.iter_mut().zip(high).zip(&frequencies) {
                let angle = token as f32 * frequency;
                let (cos, sin) = (libm::cosf(angle), libm::sinf(angle));
                (*low, *high) = (*low * cos - *high * sin, *high * cos + *low * sin);
            }
        }
    }
}

/// Attention of rows `[q | k | v]`; rows of `heads * head_dim`.
pub(super) fn attention(config: &ModelConfig, qkv: &[f32], sequences: &[Range<usize>]) -> Vec<f32> {
    let width = config.head_dim;
    let row_len = (config.heads + 2 * config.kv_heads) * width;
    let shared = config.heads / config.kv_heads;
    let scale = 1.0 / (width as f32).sqrt();
    let rows: Vec<(Range<usize>, usize)> = sequences
        .iter()
        .flat_map(|tokens| tokens.clone().map(|row| (tokens.clone(), row)))
        .collect();
    let attended: Vec<Vec<f32>> = rows
        .into_par_iter()
        .map(|(tokens, row)| {
            let seen = if config.is_causal() { tokens.start..row + 1 } else { tokens };
            let mut out = vec![0.0; config.heads * width];
            for (head, out) in out.chunks_exact_mut(width).enumerate() {
                let at =
                    |token: usize, slot: usize| &qkv[token * row_len + slot * width..][..width];
                let (key, value) =
                    (config.heads + head / shared, config.heads + config.kv_heads + head / shared);
                let query = at(row, head);
                let scores: Vec<f32> =
                    seen.clone().map(|token| dot(query, at(token, key)) * scale).collect();
                let max = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                let mut total = 0.0;
                for (token, score) in seen.clone().zip(scores) {
                    let weight = libm::expf(score - max);
                    total += weight;
                    for (out, v) in out.iter_mut().zip(at(token, value)) {
                        *out += weight * v;
                    }
                }
                for out in out.iter_mut() {
                    *out /= total;
                }
            }
            out
        })
        .collect();
    attended.concat()
}
