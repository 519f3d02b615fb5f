//! Rotary position embedding (Su et al., 2021) in the half-split form of the Hugging Face models.

use defrost_model::RopeScaling;

use crate::gemm::Context;
use crate::kernel::{Kernel, per_kernel};
use crate::norm::rms_norm_row;

/// Cosines and sines for positions `0..len`, computed in f32 as `transformers` does; by `libm`, whose functions give the
/// same bits everywhere, so that keys which one machine stored are those that another would compute.
#[derive(Debug, Default)]
pub(crate) struct Rotations {
    half: usize,
    cos: Vec<f32>,
    sin: Vec<f32>,
}

impl Rotations {
    /// Makes sure that positions below `len` are there.
    pub(crate) fn extend_to(&mut self, len: usize, width: usize, theta: f32, scaling: RopeScaling) {
        self.half = width / 2;
        let known = self.cos.len() / self.half;
        if known >= len {
            return;
        }
        let frequencies: Vec<f32> = (0..self.half)
            .map(|pair| scaled(1.0 / libm::powf(theta, (2 * pair) as f32 / width as f32), scaling))
            .collect();
        for position in known..len {
            for frequency in &frequencies {
                let angle = position as f32 * frequency;
                self.cos.push(libm::cosf(angle));
                self.sin.push(libm::sinf(angle));
            }
        }
    }

    fn apply(&self, kernel: Kernel, head: &mut [f32], position: usize) {
        let at = position * self.half..(position + 1) * self.half;
        turn(kernel, head, &self.cos[at.clone()], &self.sin[at]);
    }
}

/// A frequency as the model's scaling changes it, in the order of `transformers`' own operations.
fn scaled(frequency: f32, scaling: RopeScaling) -> f32 {
    match scaling {
        RopeScaling::None => frequency,
        RopeScaling::Linear { factor } => frequency / factor,
        RopeScaling::Llama3 { factor, low, high, original } => {
            let wavelength = std::f32::consts::TAU / frequency;
            if wavelength > original / low {
                frequency / factor
            } else if wavelength < original / high {
                frequency
            } else {
                let smooth = (original / wavelength - low) / (high - low);
                (1.0 - smooth) * frequency / factor + smooth * frequency
            }
        }
    }
}

per_kernel! {
    /// Turns each pair of a value of the lower and one of the upper half.
    fn turn(head: &mut [f32], cos: &[f32], sin: &[f32]) {
        let (low, high) = head.split_at_mut(cos.len());
        for (((low, high), &cos), &sin) in low.iter_mut().zip(high).zip(cos).zip(sin) {
            let (a, b) = (*low, *high);
            *low = a * cos - b * sin;
            *high = b * cos + a * sin;
        }
    }
}

/// Per-head RMSNorm weights of queries and keys (Qwen3).
#[derive(Debug, Clone, Copy)]
pub(crate) struct HeadNorm<'a> {
    pub(crate) query: &'a [f32],
    pub(crate) key: &'a [f32],
    pub(crate) eps: f32,
}

/// Rows per task; a row rotates a few hundred values.
const ROWS_PER_TASK: usize = 32;

/// Normalises (Qwen3) and rotates the query and key heads of every row of `[q | k | v]`.
pub(crate) fn rotate(
    cx: Context<'_>,
    qkv: &mut [f32],
    heads: crate::attention::Heads,
    positions: &[usize],
    rotations: &Rotations,
    norm: Option<HeadNorm<'_>>,
) {
    let row_len = heads.row();
    cx.threads.for_each_chunk(qkv, ROWS_PER_TASK * row_len, |task, rows| {
        for (row, &position) in
            rows.chunks_exact_mut(row_len).zip(&positions[task * ROWS_PER_TASK..])
        {
            let turned = (heads.queries + heads.key_values) * heads.width;
            for (at, head) in row[..turned].chunks_exact_mut(heads.width).enumerate() {
                if let Some(norm) = norm {
                    let weight = if at < heads.queries { norm.query } else { norm.key };
                    rms_norm_row(cx.kernel, head, weight, norm.eps);
                }
                rotations.apply(cx.kernel, head, position);
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frequencies_are_stretched_by_their_wavelength() {
        let llama3 = RopeScaling::Llama3 { factor: 8.0, low: 1.0, high: 4.0, original: 8192.0 };
        // Wavelengths of 6, 4,443, and 8.9e5: kept, blended, divided.
        let [kept, blended, divided] = [1.0, 1.414_213_5e-3, 7.071_068e-6];
        assert_eq!(scaled(kept, llama3).to_bits(), kept.to_bits());
        assert_eq!(scaled(divided, llama3).to_bits(), (divided / 8.0).to_bits());
        let smooth = (8192.0 * f64::from(blended) / std::f64::consts::TAU - 1.0) / 3.0;
        let exact = (1.0 - smooth) * f64::from(blended) / 8.0 + smooth * f64::from(blended);
        assert!((f64::from(scaled(blended, llama3)) / exact - 1.0).abs() < 1e-6);
        let linear = RopeScaling::Linear { factor: 4.0 };
        assert_eq!(scaled(0.5, linear).to_bits(), 0.125f32.to_bits());
    }

    #[test]
    fn angles_grow_with_the_position_and_stay() {
        let mut rotations = Rotations::default();
        rotations.extend_to(3, 8, 1e4, RopeScaling::None);
        let first = rotations.cos.clone();
        rotations.extend_to(2, 8, 1e4, RopeScaling::None);
        rotations.extend_to(40, 8, 1e4, RopeScaling::None);
        assert_eq!(rotations.cos[..12], first[..]);
        assert_eq!((rotations.cos.len(), rotations.sin.len()), (160, 160));
        assert!((f64::from(rotations.sin[4 * 39]) - 39f64.sin()).abs() < 1e-6);
    }
}
