//! The two norms by one name, each in place or into another buffer.

use defrost_model::architecture::Norm;

use crate::Error;
use crate::buffer::Buffer;
use crate::gate::ReadinessGate;
use crate::gemm::Context;
use crate::norm::{layer_norm, rms_norm};
use crate::weights::{Values, Weights, vector};

/// A norm's weights.
#[derive(Debug)]
pub(super) enum NormWeights {
    Layer { weight: Values<f32>, bias: Values<f32> },
    Rms { weight: Values<f32> },
}

impl NormWeights {
    pub(super) fn load(
        weights: &dyn Weights,
        name: &str,
        width: usize,
        kind: Norm,
    ) -> Result<Self, Error> {
        let weight = vector(weights, &format!("{name}.weight"), width)?;
        Ok(match kind {
            Norm::Rms => Self::Rms { weight },
            Norm::Layer => {
                Self::Layer { weight, bias: vector(weights, &format!("{name}.bias"), width)? }
            }
        })
    }

    pub(super) fn wait(&self, gate: &dyn ReadinessGate) -> Result<(), Error> {
        match self {
            Self::Layer { weight, bias } => {
                weight.wait(gate)?;
                bias.wait(gate)
            }
            Self::Rms { weight } => weight.wait(gate),
        }
    }

    /// The normalised rows of `x` in `out`.
    pub(super) fn run(&self, cx: Context<'_>, x: &[f32], eps: f32, out: &mut [f32]) {
        match self {
            Self::Rms { weight } => rms_norm(cx, x, weight.as_slice(), eps, out),
            Self::Layer { weight, bias } => {
                out.copy_from_slice(x);
                layer_norm(cx, out, weight.as_slice(), bias.as_slice(), eps);
            }
        }
    }

    /// Normalises the rows of `x`, by way of `scratch` where that is needed.
    pub(super) fn run_in_place(
        &self,
        cx: Context<'_>,
        x: &mut [f32],
        eps: f32,
        scratch: &mut Buffer<f32>,
    ) {
        match self {
            Self::Layer { weight, bias } => {
                layer_norm(cx, x, weight.as_slice(), bias.as_slice(), eps);
            }
            Self::Rms { weight } => {
                let normed = scratch.slot(x.len());
                rms_norm(cx, x, weight.as_slice(), eps, normed);
                x.copy_from_slice(normed);
            }
        }
    }

    /// The weight.
    pub(super) fn weight(&self) -> &[f32] {
        match self {
            Self::Layer { weight, .. } | Self::Rms { weight } => weight.as_slice(),
        }
    }
}
