//! What happens to sums before they leave the cache: scale, bias, activation, residual.
//!
//! `y = activation((sum * row scale) * channel scale + bias)`, the last two steps as one fused
//! multiply-add. Plain Rust, compiled once per kernel set and equal in all of them to the bit.

use super::Target;
use crate::kernel::operands::{Channels, RowOf};
use crate::kernel::per_kernel;
use crate::layout::PANEL;
use crate::math;

/// Element-wise function applied to a linear layer's output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Activation {
    /// The output stays as it is.
    #[default]
    Identity,
    /// `x Phi(x)` with the error function.
    Gelu,
    /// Hyperbolic tangent.
    Tanh,
    /// `silu(gate) * up`, where the first half of the channels is the gate, the second half up.
    SwiGlu,
    /// `gelu(gate) * up`, GELU by tanh, of the same halves.
    GeGlu,
}

impl Activation {
    /// Whether it takes a gate and an up projection.
    pub(crate) fn is_gated(self) -> bool {
        matches!(self, Self::SwiGlu | Self::GeGlu)
    }
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

impl<'a> Epilogue<'a> {
    /// Values of an output row of a layer with `n` channels.
    pub(super) fn outputs(&self, n: usize) -> usize {
        if self.activation.is_gated() { n / 2 } else { n }
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

/// Channels that are finished at a time: one 512-bit register, and a constant that loops unroll by.
const LANES: usize = 16;

#[inline(always)]
fn scaled<T: Sum>(
    sums: &RowOf<T>,
    first: usize,
    row_scale: f32,
    channels: Channels<'_>,
) -> [f32; LANES] {
    let mut values = [0f32; LANES];
    for at in 0..LANES {
        let value = sums[first + at].value() * row_scale;
        values[at] = value.mul_add(channels.scales[first + at], channels.bias[first + at]);
    }
    values
}

/// Finishes a tile with `activate`, a constant of the compiled loop.
#[inline(always)]
fn each<T: Sum>(
    sums: &[RowOf<T>],
    row_scales: &[f32],
    channels: Channels<'_>,
    accumulate: bool,
    target: &mut Target<'_>,
    activate: impl Fn(f32) -> f32,
) {
    for (row, (sums, &row_scale)) in sums.iter().zip(row_scales).enumerate() {
        let out = target.row(row);
        for first in (0..PANEL).step_by(LANES) {
            let mut values = scaled(sums, first, row_scale, channels);
            for value in &mut values {
                *value = activate(*value);
            }
            write(&values, first, accumulate, out);
        }
    }
}

#[inline(always)]
fn finish<T: Sum>(
    sums: &[RowOf<T>],
    row_scales: &[f32],
    channels: Channels<'_>,
    epilogue: &Epilogue<'_>,
    target: &mut Target<'_>,
) {
    match (epilogue.activation, epilogue.accumulate) {
        // Gated ones take two tiles: see `gate`.
        (Activation::Identity | Activation::SwiGlu | Activation::GeGlu, false) => {
            each(sums, row_scales, channels, false, target, |value| value);
        }
        (Activation::Identity | Activation::SwiGlu | Activation::GeGlu, true) => {
            each(sums, row_scales, channels, true, target, |value| value);
        }
        (Activation::Gelu, accumulate) => {
            each(sums, row_scales, channels, accumulate, target, math::gelu);
        }
        (Activation::Tanh, accumulate) => {
            each(sums, row_scales, channels, accumulate, target, tanh);
        }
    }
}

/// Apart, because a call in their loops would cost the others their registers.
#[inline(never)]
fn tanh(value: f32) -> f32 {
    value.tanh()
}

#[inline(always)]
fn gate<T: Sum>(
    gates: &[RowOf<T>],
    ups: &[RowOf<T>],
    row_scales: &[f32],
    [gate_channels, up_channels]: [Channels<'_>; 2],
    target: &mut Target<'_>,
    activate: impl Fn(f32) -> f32,
) {
    for (row, ((gate, up), &row_scale)) in gates.iter().zip(ups).zip(row_scales).enumerate() {
        let out = target.row(row);
        for first in (0..PANEL).step_by(LANES) {
            let mut values = scaled(gate, first, row_scale, gate_channels);
            let ups = scaled(up, first, row_scale, up_channels);
            for at in 0..LANES {
                values[at] = activate(values[at]) * ups[at];
            }
            write(&values, first, false, out);
        }
    }
}

/// Finishes two tiles with the gate of an activation that has one.
#[inline(always)]
fn finish_gated<T: Sum>(
    gates: &[RowOf<T>],
    ups: &[RowOf<T>],
    row_scales: &[f32],
    channels: [Channels<'_>; 2],
    activation: Activation,
    target: &mut Target<'_>,
) {
    match activation {
        Activation::GeGlu => gate(gates, ups, row_scales, channels, target, math::gelu_tanh),
        _ => gate(gates, ups, row_scales, channels, target, math::silu),
    }
}

#[inline(always)]
fn write(values: &[f32; LANES], first: usize, accumulate: bool, out: &mut [f32]) {
    let end = out.len();
    // Whole registers, nearly all, with a constant length; the rest is the edge of the matrix.
    if let Some(out) = out.get_mut(first..).and_then(<[f32]>::first_chunk_mut::<LANES>) {
        for at in 0..LANES {
            out[at] = if accumulate { out[at] + values[at] } else { values[at] };
        }
        return;
    }
    for at in first..end {
        out[at] = if accumulate { out[at] + values[at - first] } else { values[at - first] };
    }
}

per_kernel! {
    /// Finishes a tile of exact integer sums.
    pub(super) fn int8(
        sums: &[RowOf<i32>],
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
        sums: &[RowOf<f32>],
        row_scales: &[f32],
        channels: Channels<'_>,
        epilogue: &Epilogue<'_>,
        target: &mut Target<'_>,
    ) {
        finish(sums, row_scales, channels, epilogue, target);
    }
}

per_kernel! {
    /// `silu(gate) * up`, or with another gate, of two tiles of exact integer sums.
    pub(super) fn int8_gated(
        gates: &[RowOf<i32>],
        ups: &[RowOf<i32>],
        row_scales: &[f32],
        channels: [Channels<'_>; 2],
        activation: Activation,
        target: &mut Target<'_>,
    ) {
        finish_gated(gates, ups, row_scales, channels, activation, target);
    }
}

per_kernel! {
    /// `silu(gate) * up`, or with another gate, of two tiles of f32 sums.
    pub(super) fn float_gated(
        gates: &[RowOf<f32>],
        ups: &[RowOf<f32>],
        row_scales: &[f32],
        channels: [Channels<'_>; 2],
        activation: Activation,
        target: &mut Target<'_>,
    ) {
        finish_gated(gates, ups, row_scales, channels, activation, target);
    }
}
