//! What happens to sums before they leave the cache: scale, bias, activation, residual.

use super::{Target, Tile};
use crate::kernel::per_kernel;
use crate::layout::PANEL;
use crate::math;

/// Element-wise function applied to a linear layer's output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Activation {
    /// None.
    #[default]
    Identity,
    /// `x Phi(x)` with the error function.
    Gelu,
    /// Hyperbolic tangent.
    Tanh,
}

/// The steps after the product.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Epilogue<'a> {
    /// One value per channel, padded to whole panels.
    pub(crate) bias: Option<&'a [f32]>,
    pub(crate) activation: Activation,
    /// Adds to what the output holds (the residual stream) instead of replacing it.
    pub(crate) accumulate: bool,
}

per_kernel! {
    /// `y = (sum - offset) * row scale * channel scale`, then the common steps.
    #[allow(clippy::too_many_arguments, reason = "one tile's slices, kept flat for the vectoriser")]
    pub(super) fn int8(
        sums: &Tile<i32>,
        row_scales: &[f32],
        scales: &[f32],
        offsets: &[i32],
        epilogue: &Epilogue<'_>,
        first: usize,
        target: &mut Target<'_>,
    ) {
        for (row, (sums, &row_scale)) in sums.iter().zip(row_scales).enumerate() {
            let mut values = [0f32; PANEL];
            for (((value, &sum), &offset), &scale) in
                values.iter_mut().zip(sums).zip(offsets).zip(scales)
            {
                *value = (sum - offset) as f32 * row_scale * scale;
            }
            finish(&mut values, epilogue, first, target.row(row));
        }
    }
}

per_kernel! {
    /// The common steps on f32 sums.
    pub(super) fn float(
        sums: &Tile<f32>,
        rows: usize,
        epilogue: &Epilogue<'_>,
        first: usize,
        target: &mut Target<'_>,
    ) {
        for (row, sums) in sums.iter().enumerate().take(rows) {
            let mut values = *sums;
            finish(&mut values, epilogue, first, target.row(row));
        }
    }
}

#[inline(always)]
fn finish(values: &mut [f32; PANEL], epilogue: &Epilogue<'_>, first: usize, out: &mut [f32]) {
    if let Some(bias) = epilogue.bias {
        for (value, &bias) in values.iter_mut().zip(&bias[first..][..PANEL]) {
            *value += bias;
        }
    }
    match epilogue.activation {
        Activation::Identity => {}
        Activation::Gelu => {
            for value in values.iter_mut() {
                *value = math::gelu(*value);
            }
        }
        Activation::Tanh => {
            for value in values.iter_mut() {
                *value = value.tanh();
            }
        }
    }
    if epilogue.accumulate {
        for (out, &value) in out.iter_mut().zip(values.iter()) {
            *out += value;
        }
    } else {
        out.copy_from_slice(&values[..out.len()]);
    }
}
