//! Rotary position embedding (Su et al., 2021) in the half-split form of the Hugging Face models.

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
    pub(crate) fn extend_to(&mut self, len: usize, width: usize, theta: f32) {
        self.half = width / 2;
        let known = self.cos.len() / self.half;
        let frequencies: Vec<f32> = (0..self.half)
            .map(|pair| 1.0 / libm::powf(theta, (2 * pair) as f32 / width as f32))
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
