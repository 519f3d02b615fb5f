//! Layers that a pooled vector goes through, one after the other: `activation(W x + b)` each.
//!
//! They are the modules `Dense` that sentence-transformers puts after a pooling, and make vectors shorter or longer than
//! hidden states. In f32, whatever the model's precision: they are small and decide the last digit.

use crate::gate::ReadinessGate;
use crate::gemm::{Activation, Context};
use crate::math::{exp, silu};
use crate::quantize::QuantizedRows;
use crate::weights::{Linear, Weights};
use crate::{DenseActivation, Error, Kernel, ModelConfig};

/// Their weights.
#[derive(Debug)]
pub(super) struct DenseWeights {
    layers: Vec<(Linear, DenseActivation)>,
}

impl DenseWeights {
    pub(super) fn load(
        config: &ModelConfig,
        weights: &dyn Weights,
        kernel: Kernel,
    ) -> Result<Self, Error> {
        let mut inputs = config.hidden;
        let layers = config.dense.iter().enumerate().map(|(at, layer)| {
            let name = format!("head.dense.{at}");
            let linear = Linear::load(weights, &name, layer.outputs, inputs, kernel)?;
            inputs = layer.outputs;
            Ok((linear, layer.activation))
        });
        Ok(Self { layers: layers.collect::<Result<_, Error>>()? })
    }

    /// What becomes of the pooled vectors, one a sequence.
    pub(super) fn run(
        &self,
        cx: Context<'_>,
        gate: &dyn ReadinessGate,
        mut pooled: Vec<f32>,
        quantized: &mut QuantizedRows,
    ) -> Result<Vec<f32>, Error> {
        for (linear, activation) in &self.layers {
            linear.wait(gate)?;
            let rows = pooled.len() / linear.inputs();
            let mut out = vec![0.0; rows * linear.outputs()];
            run(cx, linear, *activation, &pooled, quantized, &mut out);
            pooled = out;
        }
        Ok(pooled)
    }
}

/// `activation(W x + b)` of each row.
pub(super) fn run(
    cx: Context<'_>,
    linear: &Linear,
    activation: DenseActivation,
    x: &[f32],
    quantized: &mut QuantizedRows,
    out: &mut [f32],
) {
    linear.run(cx, x, fused(activation), false, quantized, out);
    for value in out {
        *value = rest(activation, *value);
    }
}

/// The part of an activation that the product does.
fn fused(activation: DenseActivation) -> Activation {
    match activation {
        DenseActivation::Tanh => Activation::Tanh,
        DenseActivation::Gelu => Activation::Gelu,
        DenseActivation::Identity
        | DenseActivation::Relu
        | DenseActivation::Silu
        | DenseActivation::Sigmoid => Activation::Identity,
    }
}

/// The part of an activation that is left after the product.
fn rest(activation: DenseActivation, x: f32) -> f32 {
    match activation {
        DenseActivation::Relu => relu(x),
        DenseActivation::Silu => silu(x),
        DenseActivation::Sigmoid => 1.0 / (1.0 + exp(-x)),
        DenseActivation::Identity | DenseActivation::Tanh | DenseActivation::Gelu => x,
    }
}

/// The larger of `x` and 0; not by `max`, which would turn NaN into a zero.
fn relu(x: f32) -> f32 {
    if x < 0.0 { 0.0 } else { x }
}
