//! LayerNorm and RMSNorm over rows, in place or into another buffer.

use crate::gemm::Context;
use crate::kernel::per_kernel;
use crate::math;

/// Rows per task, as for quantisation.
const ROWS_PER_TASK: usize = 32;

/// `row = (row - mean) / sqrt(variance + eps) * weight + bias` for every row.
pub(crate) fn layer_norm(
    cx: Context<'_>,
    rows: &mut [f32],
    weight: &[f32],
    bias: &[f32],
    eps: f32,
) {
    let width = weight.len();
    cx.threads.for_each_chunk(rows, ROWS_PER_TASK * width, |_, rows| {
        for row in rows.chunks_exact_mut(width) {
            layer_norm_row(cx.kernel, row, weight, bias, eps);
        }
    });
}

/// `out = x / sqrt(mean(x^2) + eps) * weight` for every row.
pub(crate) fn rms_norm(cx: Context<'_>, x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
    let width = weight.len();
    cx.threads.for_each_chunk(out, ROWS_PER_TASK * width, |task, out| {
        let x = &x[task * ROWS_PER_TASK * width..][..out.len()];
        out.copy_from_slice(x);
        for row in out.chunks_exact_mut(width) {
            rms_norm_row(cx.kernel, row, weight, eps);
        }
    });
}

per_kernel! {
    fn layer_norm_row(row: &mut [f32], weight: &[f32], bias: &[f32], eps: f32) {
        let count = row.len() as f32;
        let mean = math::sum(row, |x| x) / count;
        let variance = math::sum(row, |x| (x - mean) * (x - mean)) / count;
        let inverse = 1.0 / (variance + eps).sqrt();
        for ((x, &weight), &bias) in row.iter_mut().zip(weight).zip(bias) {
            *x = (*x - mean) * inverse * weight + bias;
        }
    }
}

per_kernel! {
    /// One row in place; also the per-head norm of Qwen3's queries and keys.
    pub(crate) fn rms_norm_row(row: &mut [f32], weight: &[f32], eps: f32) {
        let mean_square = math::sum(row, |x| x * x) / row.len() as f32;
        let inverse = 1.0 / (mean_square + eps).sqrt();
        for (x, &weight) in row.iter_mut().zip(weight) {
            *x = *x * inverse * weight;
        }
    }
}

per_kernel! {
    /// `gate = silu(gate) * up` over one row that holds `[gate | up]`.
    pub(crate) fn swiglu_row(gate_up: &[f32], out: &mut [f32]) {
        let (gate, up) = gate_up.split_at(out.len());
        for ((out, &gate), &up) in out.iter_mut().zip(gate).zip(up) {
            *out = math::silu(gate) * up;
        }
    }
}

per_kernel! {
    /// `gate = gelu(gate) * up`, GELU by tanh, over one row that holds `[gate | up]`.
    pub(crate) fn geglu_row(gate_up: &[f32], out: &mut [f32]) {
        let (gate, up) = gate_up.split_at(out.len());
        for ((out, &gate), &up) in out.iter_mut().zip(gate).zip(up) {
            *out = math::gelu_tanh(gate) * up;
        }
    }
}

per_kernel! {
    /// Adds a row to another.
    pub(crate) fn add_row(row: &[f32], out: &mut [f32]) {
        for (out, &value) in out.iter_mut().zip(row) {
            *out += value;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::Kernel;
    use crate::threads::Threads;

    #[test]
    fn norms_follow_their_formulas_in_every_kernel() {
        let x: Vec<f32> = (0..70).map(|at| ((at * 37 % 23) as f32 - 9.0) * 0.3).collect();
        let weight: Vec<f32> = (0..35).map(|at| 0.5 + at as f32 * 0.02).collect();
        let bias: Vec<f32> = (0..35).map(|at| at as f32 * 0.01).collect();
        let threads = Threads::new(Some(1));
        let mut first: Option<(Vec<f32>, Vec<f32>)> = None;
        for kernel in Kernel::available() {
            let cx = Context { kernel, threads: &threads };
            let mut layer = x.clone();
            layer_norm(cx, &mut layer, &weight, &bias, 1e-5);
            let mut rms = vec![0.0; x.len()];
            rms_norm(cx, &x, &weight, 1e-6, &mut rms);
            for row in 0..2 {
                let source: Vec<f64> = x[row * 35..][..35].iter().map(|&x| f64::from(x)).collect();
                let mean = source.iter().sum::<f64>() / 35.0;
                let variance = source.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / 35.0;
                let square = source.iter().map(|x| x * x).sum::<f64>() / 35.0;
                for at in 0..35 {
                    let (w, b) = (f64::from(weight[at]), f64::from(bias[at]));
                    let expected = (source[at] - mean) / (variance + 1e-5).sqrt() * w + b;
                    assert!((f64::from(layer[row * 35 + at]) - expected).abs() < 1e-5);
                    let expected = source[at] / (square + 1e-6).sqrt() * w;
                    assert!((f64::from(rms[row * 35 + at]) - expected).abs() < 1e-5);
                }
            }
            let bits = |v: &[f32]| v.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
            let (a, b) = first.get_or_insert_with(|| (layer.clone(), rms.clone()));
            assert_eq!((bits(a), bits(b)), (bits(&layer), bits(&rms)));
        }
    }
}
