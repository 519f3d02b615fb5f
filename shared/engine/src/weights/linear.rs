//! Linear layers over views of their weights, in whatever precision these are stored.

use defrost_loader::Dtype;
use defrost_model::TokenMask;
use half::bf16;

use super::matrices::{self, Matrices};
use super::{Values, Weights, require, vector};
use crate::attention::Arithmetic;
use crate::buffer::Buffer;
use crate::gate::ReadinessGate;
use crate::gemm::{
    self, Activation, Context, Epilogue, FloatPanels, Int8Product, Segment, SegmentPanels,
};
use crate::layout::{INT8_GROUP, PANEL, panel_len};
use crate::math::gelu;
use crate::norm::{geglu_row, swiglu_row};
use crate::quantize::QuantizedRows;
use crate::{Error, Kernel};

/// `y = activation(x W^T + b)`.
#[derive(Debug)]
pub(crate) struct Linear {
    n: usize,
    k: usize,
    panels: Panels,
    bias: Option<Values<f32>>,
}

#[derive(Debug)]
enum Panels {
    Int8 {
        weights: Values<i8>,
        scales: Values<f32>,
        offsets: Values<i32>,
    },
    Bf16(Values<bf16>),
    F32(Values<f32>),
    /// Those of several matrices, each as its file has it.
    List(Matrices),
}

impl Panels {
    /// The one matrix of a layer.
    fn load(
        weights: &dyn Weights,
        name: &str,
        n: usize,
        k: usize,
        kernel: Kernel,
    ) -> Result<Self, Error> {
        let weight_name = format!("{name}.weight");
        let view = require(weights, &weight_name)?;
        let layout = kernel.set().layout;
        if view.layout != layout.tag {
            return Err(Error::mismatch(&weight_name, layout.tag, view.layout));
        }
        if view.shape != [n, k] {
            let found = format!("{:?}", view.shape);
            return Err(Error::mismatch(&weight_name, format!("shape [{n}, {k}]"), found));
        }
        let padded = n.next_multiple_of(PANEL);
        Ok(match view.dtype {
            Dtype::I8 => {
                let (scale, offset) = (format!("{name}.scale"), format!("{name}.offset"));
                Self::Int8 {
                    weights: Values::new(
                        &weight_name,
                        &view,
                        Dtype::I8,
                        panel_len(n, k, layout.int8_group),
                    )?,
                    scales: vector(weights, &scale, padded)?,
                    offsets: Values::new(&offset, &require(weights, &offset)?, Dtype::I32, padded)?,
                }
            }
            Dtype::Bf16 => {
                Self::Bf16(Values::new(&weight_name, &view, Dtype::Bf16, panel_len(n, k, 1))?)
            }
            Dtype::F32 => {
                Self::F32(Values::new(&weight_name, &view, Dtype::F32, panel_len(n, k, 1))?)
            }
            other => {
                let found = other.to_string();
                return Err(Error::mismatch(&weight_name, "int8, bf16 or f32 elements", found));
            }
        })
    }
}

impl Linear {
    /// The layer `name` with `n` outputs and `k` inputs, in whatever precision it was packed, as panels that `kernel` reads.
    pub(crate) fn load(
        weights: &dyn Weights,
        name: &str,
        n: usize,
        k: usize,
        kernel: Kernel,
    ) -> Result<Self, Error> {
        Self::load_of(weights, name, &[n], k, kernel)
    }

    /// Loads as [`Linear::load`] does a layer whose outputs are those of several matrices, of `parts` channels each: stored one
    /// by one, or as one.
    pub(crate) fn load_of(
        weights: &dyn Weights,
        name: &str,
        parts: &[usize],
        k: usize,
        kernel: Kernel,
    ) -> Result<Self, Error> {
        let n = parts.iter().sum();
        let panels = match Matrices::load(weights, name, parts, k, kernel)? {
            Some(matrices) => Panels::List(matrices),
            None => Panels::load(weights, name, n, k, kernel)?,
        };
        let bias_name = format!("{name}.bias");
        let bias = weights
            .get(&bias_name)?
            .map(|view| Values::new(&bias_name, &view, Dtype::F32, n.next_multiple_of(PANEL)))
            .transpose()?;
        Ok(Self { n, k, panels, bias })
    }

    /// Returns when the layer may run.
    pub(crate) fn wait(&self, gate: &dyn ReadinessGate) -> Result<(), Error> {
        match &self.panels {
            Panels::Int8 { weights, scales, offsets } => {
                weights.wait(gate)?;
                scales.wait(gate)?;
                offsets.wait(gate)?;
            }
            Panels::Bf16(panels) => panels.wait(gate)?,
            Panels::F32(panels) => panels.wait(gate)?,
            Panels::List(matrices) => matrices.wait(gate)?,
        }
        self.bias.as_ref().map_or(Ok(()), |bias| bias.wait(gate))
    }

    /// Inputs per row.
    pub(crate) fn inputs(&self) -> usize {
        self.k
    }

    /// Outputs per row.
    pub(crate) fn outputs(&self) -> usize {
        self.n
    }

    /// How to go on with its outputs: as exactly as its weights are stored.
    pub(crate) fn arithmetic(&self) -> Arithmetic {
        match self.panels {
            Panels::Int8 { .. } => Arithmetic::Int16,
            Panels::Bf16(_) | Panels::F32(_) | Panels::List(_) => Arithmetic::Float,
        }
    }

    /// Fills `out` with one row of outputs per row of `x`; `accumulate` adds to it instead.
    pub(crate) fn run(
        &self,
        cx: Context<'_>,
        x: &[f32],
        activation: Activation,
        accumulate: bool,
        quantized: &mut QuantizedRows,
        out: &mut [f32],
    ) {
        let bias = self.bias.as_ref().map(Values::as_slice);
        let epilogue = Epilogue { bias, activation, accumulate };
        match &self.panels {
            Panels::Int8 { weights, scales, offsets } => {
                quantized.fill(cx.kernel, cx.threads, x, self.k);
                let product = Int8Product {
                    x: quantized,
                    panels: weights.as_slice(),
                    scales: scales.as_slice(),
                    offsets: offsets.as_slice(),
                    k: self.k,
                };
                gemm::int8(cx, &product, self.n, &epilogue, out);
            }
            Panels::Bf16(panels) => {
                let panels = FloatPanels::Bf16(panels.as_slice());
                gemm::float(cx, x, self.k, panels, self.n, &epilogue, out);
            }
            Panels::F32(panels) => {
                let panels = FloatPanels::F32(panels.as_slice());
                gemm::float(cx, x, self.k, panels, self.n, &epilogue, out);
            }
            Panels::List(matrices) => matrices.run(cx, x, None, &epilogue, quantized, out),
        }
    }

    /// Fills `out` with one row of outputs per row of `x`, of each those that are `allowed`; the others are negative infinity.
    /// Weights that no row needs are not read.
    pub(crate) fn run_allowed(
        &self,
        cx: Context<'_>,
        x: &[f32],
        allowed: &[Option<&TokenMask>],
        quantized: &mut QuantizedRows,
        out: &mut [f32],
    ) {
        let epilogue =
            Epilogue { bias: self.bias.as_ref().map(Values::as_slice), ..Epilogue::default() };
        let some = allowed.iter().any(Option::is_some).then_some(allowed);
        let mut one = |panels| {
            let matrix = [Segment { n: self.n, panels }];
            matrices::run(cx, x, self.k, &matrix, some, &epilogue, quantized, out);
        };
        match &self.panels {
            Panels::Bf16(panels) => one(SegmentPanels::Bf16(panels.as_slice())),
            Panels::F32(panels) => one(SegmentPanels::F32(panels.as_slice())),
            Panels::List(matrices) => matrices.run(cx, x, some, &epilogue, quantized, out),
            Panels::Int8 { .. } => {
                self.run(cx, x, Activation::Identity, false, quantized, out);
            }
        }
        for (row, mask) in out.chunks_exact_mut(self.n).zip(allowed) {
            let Some(mask) = mask else { continue };
            for (outputs, &word) in row.chunks_mut(32).zip(mask.words()) {
                for (bit, output) in outputs.iter_mut().enumerate() {
                    if word >> bit & 1 == 0 {
                        *output = f32::NEG_INFINITY;
                    }
                }
            }
        }
    }
}

impl Linear {
    /// Adds the bias to a product that was computed elsewhere, and goes on as [`Linear::run`] does.
    pub(crate) fn finish(
        &self,
        product: &[f32],
        activation: Activation,
        accumulate: bool,
        out: &mut [f32],
    ) {
        for (out, row) in out.chunks_exact_mut(self.n).zip(product.chunks_exact(self.n)) {
            for (at, (out, &value)) in out.iter_mut().zip(row).enumerate() {
                let value = value + self.bias.as_ref().map_or(0.0, |bias| bias.as_slice()[at]);
                let value = match activation {
                    Activation::Gelu => gelu(value),
                    Activation::Tanh => libm::tanhf(value),
                    Activation::Identity | Activation::SwiGlu | Activation::GeGlu => value,
                };
                *out = if accumulate { *out + value } else { value };
            }
        }
    }

    /// Finishes as [`Linear::finish`] does, for a layer whose first half of channels is the gate.
    pub(crate) fn finish_gated(
        &self,
        cx: Context<'_>,
        gate: Gate,
        both: &mut [f32],
        out: &mut [f32],
    ) {
        let half = self.n / 2;
        for (out, both) in out.chunks_exact_mut(half).zip(both.chunks_exact_mut(self.n)) {
            if let Some(bias) = &self.bias {
                both.iter_mut().zip(bias.as_slice()).for_each(|(value, bias)| *value += bias);
            }
            gate.run(cx.kernel, both, out);
        }
    }

    /// `gate(first half) * second half` of a layer. Where a half of one matrix does not end with a panel, which is so in toy
    /// models only, by way of `both`.
    pub(crate) fn run_gated(
        &self,
        cx: Context<'_>,
        gate: Gate,
        x: &[f32],
        both: &mut Buffer<f32>,
        quantized: &mut QuantizedRows,
        out: &mut [f32],
    ) {
        let half = self.n / 2;
        let apart = match &self.panels {
            Panels::List(matrices) => matrices.are_two(),
            _ => half.is_multiple_of(PANEL),
        };
        if apart {
            self.run(cx, x, gate.activation(), false, quantized, out);
            return;
        }
        let both = both.slot(2 * out.len());
        self.run(cx, x, Activation::Identity, false, quantized, both);
        cx.threads.for_each_chunk(out, half, |row, out| {
            gate.run(cx.kernel, &both[row * self.n..][..self.n], out);
        });
    }

    /// Whether its weights are f32.
    pub(crate) fn is_f32(&self) -> bool {
        match &self.panels {
            Panels::F32(_) => true,
            Panels::List(matrices) => matrices.are_f32(),
            Panels::Int8 { .. } | Panels::Bf16(_) => false,
        }
    }
}

/// What a gated layer does with its gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Gate {
    /// `x sigmoid(x)`.
    Silu,
    /// GELU by tanh.
    GeluTanh,
}

impl Gate {
    fn run(self, kernel: Kernel, both: &[f32], out: &mut [f32]) {
        match self {
            Self::Silu => swiglu_row(kernel, both, out),
            Self::GeluTanh => geglu_row(kernel, both, out),
        }
    }

    /// What products do that know the gate.
    fn activation(self) -> Activation {
        match self {
            Self::Silu => Activation::SwiGlu,
            Self::GeluTanh => Activation::GeGlu,
        }
    }
}

/// A matrix whose rows are gathered, too: the words of a model whose head they are.
impl Linear {
    /// Returns when these rows may be read.
    pub(crate) fn wait_rows(
        &self,
        gate: &dyn ReadinessGate,
        rows: impl Iterator<Item = usize> + Clone,
    ) -> Result<(), Error> {
        let panels = self.n.div_ceil(PANEL);
        let place = |row: usize| {
            let (place, len) = match &self.panels {
                Panels::Int8 { weights, .. } => (weights.place, weights.bytes.len()),
                Panels::Bf16(panels) => (panels.place, panels.bytes.len()),
                Panels::F32(panels) => (panels.place, panels.bytes.len()),
                Panels::List(matrices) => return matrices.row_place(row),
            };
            let (panel, len) = (row / PANEL, len / panels);
            place.part(panel * len..(panel + 1) * len)
        };
        if let Panels::Int8 { scales, .. } = &self.panels {
            scales.wait(gate)?;
        }
        rows.clone().for_each(|row| gate.want(place(row)));
        rows.into_iter().try_for_each(|row| gate.wait(place(row)))
    }

    /// Adds the weights of output `row` to `out`.
    pub(crate) fn add_row(&self, row: usize, out: &mut [f32]) {
        let (panel, column) = (row / PANEL, row % PANEL);
        let floats = |at: usize| (panel * self.k + at) * PANEL + column;
        match &self.panels {
            Panels::Int8 { weights, scales, .. } => {
                let (weights, scale) = (weights.as_slice(), scales.as_slice()[row]);
                let depth = weights.len() / self.n.next_multiple_of(PANEL);
                for (at, out) in out.iter_mut().enumerate() {
                    let group = (panel * depth + at / INT8_GROUP * INT8_GROUP) * PANEL;
                    let code = weights[group + column * INT8_GROUP + at % INT8_GROUP];
                    *out += f32::from(code) * scale;
                }
            }
            Panels::Bf16(panels) => {
                let panels = panels.as_slice();
                out.iter_mut()
                    .enumerate()
                    .for_each(|(at, out)| *out += panels[floats(at)].to_f32());
            }
            Panels::F32(panels) => {
                let panels = panels.as_slice();
                out.iter_mut().enumerate().for_each(|(at, out)| *out += panels[floats(at)]);
            }
            Panels::List(matrices) => matrices.add_row(row, out),
        }
    }
}
