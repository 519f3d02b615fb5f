//! What happens to sums before they leave the cache: scale, bias, activation, residual.
//!
//! `y = activation((sum * row scale) * channel scale + bias)`, the last two steps as one fused
//! multiply-add. Plain Rust, compiled once per kernel set and equal in all of them to the bit.

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
    /// `silu(gate) * up`, where the first half of the channels is the gate, the second half up.
    SwiGlu,
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

/// What belongs to the channels of one panel.
#[derive(Clone, Copy)]
pub(super) struct Channels<'a> {
    scales: &'a [f32; PANEL],
    bias: &'a [f32; PANEL],
}

impl<'a> Epilogue<'a> {
    /// Values of an output row of a layer with `n` channels.
    pub(super) fn outputs(&self, n: usize) -> usize {
        if self.activation == Activation::SwiGlu { n / 2 } else { n }
    }

    /// The scales (1 without) and biases (0 without) of a panel.
    pub(super) fn channels(&self, panel: usize, scales: Option<&'a [f32]>) -> Channels<'a> {
        let of_panel = |values: &'a [f32]| values[panel * PANEL..].first_chunk();
        Channels {
            scales: scales.and_then(of_panel).unwrap_or(&[1.0; PANEL]),
            bias: self.bias.and_then(of_panel).unwrap_or(&[0.0; PANEL]),
        }
    }
}

/// Sums as kernels leave them.
trait Sum: Copy {
    fn value(self) -> f32;
}

impl Sum for i32 {
    #[inline(always)]
    fn value(self) -> f32 {
        self as f32
    }
}

impl Sum for f32 {
    #[inline(always)]
    fn value(self) -> f32 {
        self
    }
}

#[inline(always)]
fn scaled<T: Sum>(sums: &[T; PANEL], row_scale: f32, channels: Channels<'_>) -> [f32; PANEL] {
    let mut values = [0f32; PANEL];
    for at in 0..PANEL {
        let value = sums[at].value() * row_scale;
        values[at] = value.mul_add(channels.scales[at], channels.bias[at]);
    }
    values
}

#[inline(always)]
fn finish<T: Sum>(
    sums: &Tile<T>,
    row_scales: &[f32],
    channels: Channels<'_>,
    epilogue: &Epilogue<'_>,
    target: &mut Target<'_>,
) {
    for (row, (sums, &row_scale)) in sums.iter().zip(row_scales).enumerate() {
        let mut values = scaled(sums, row_scale, channels);
        match epilogue.activation {
            // SwiGLU takes two tiles: see `gate`.
            Activation::Identity | Activation::SwiGlu => {}
            Activation::Gelu => {
                for value in &mut values {
                    *value = math::gelu(*value);
                }
            }
            Activation::Tanh => {
                for value in &mut values {
                    *value = value.tanh();
                }
            }
        }
        write(&values, epilogue.accumulate, target.row(row));
    }
}

#[inline(always)]
fn gate<T: Sum>(
    gates: &Tile<T>,
    ups: &Tile<T>,
    row_scales: &[f32],
    gate_channels: Channels<'_>,
    up_channels: Channels<'_>,
    target: &mut Target<'_>,
) {
    for (row, ((gate, up), &row_scale)) in gates.iter().zip(ups).zip(row_scales).enumerate() {
        let mut values = scaled(gate, row_scale, gate_channels);
        let up = scaled(up, row_scale, up_channels);
        for (value, up) in values.iter_mut().zip(up) {
            *value = math::silu(*value) * up;
        }
        write(&values, false, target.row(row));
    }
}

#[inline(always)]
fn write(values: &[f32; PANEL], accumulate: bool, out: &mut [f32]) {
    // Whole panels, nearly all, with a constant length: without loops at their ends.
    if let Ok(out) = <&mut [f32; PANEL]>::try_from(&mut *out) {
        for at in 0..PANEL {
            out[at] = if accumulate { out[at] + values[at] } else { values[at] };
        }
        return;
    }
    for (out, &value) in out.iter_mut().zip(values) {
        *out = if accumulate { *out + value } else { value };
    }
}

per_kernel! {
    /// Finishes a tile of exact integer sums.
    pub(super) fn int8(
        sums: &Tile<i32>,
        row_scales: &[f32],
        channels: Channels<'_>,
        epilogue: &Epilogue<'_>,
        target: &mut Target<'_>,
    ) {
        finish(sums, row_scales, channels, epilogue, target);
    }
}

per_kernel! {
    /// Finishes a tile of f32 sums.
    pub(super) fn float(
        sums: &Tile<f32>,
        row_scales: &[f32],
        channels: Channels<'_>,
        epilogue: &Epilogue<'_>,
        target: &mut Target<'_>,
    ) {
        finish(sums, row_scales, channels, epilogue, target);
    }
}

per_kernel! {
    /// `silu(gate) * up` of two tiles of exact integer sums.
    pub(super) fn int8_gated(
        gates: &Tile<i32>,
        ups: &Tile<i32>,
        row_scales: &[f32],
        gate_channels: Channels<'_>,
        up_channels: Channels<'_>,
        target: &mut Target<'_>,
    ) {
        gate(gates, ups, row_scales, gate_channels, up_channels, target);
    }
}

per_kernel! {
    /// `silu(gate) * up` of two tiles of f32 sums.
    pub(super) fn float_gated(
        gates: &Tile<f32>,
        ups: &Tile<f32>,
        row_scales: &[f32],
        gate_channels: Channels<'_>,
        up_channels: Channels<'_>,
        target: &mut Target<'_>,
    ) {
        gate(gates, ups, row_scales, gate_channels, up_channels, target);
    }
}
