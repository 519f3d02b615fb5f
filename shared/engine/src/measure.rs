//! What `cargo bench` measures: the multiplier's limit on this processor, and linear layers against it.
//!
//! Not part of the public interface.

use std::time::Instant;

use bytes::Bytes;
use defrost_loader::{Dtype, Tensor};

use crate::buffer::Buffer;
use crate::gemm::{Activation, Context};
use crate::layout::{ROW_MAJOR, int8_offsets, pad_to_panel, panels};
use crate::quantize::QuantizedRows;
use crate::weights::{Linear, Weights};
use crate::{Error, Kernel, Threads};

/// The processor's limit in multiply-adds of eight bits a second, all of `threads` busy at once; `None` where the
/// kernel set has no such instruction.
pub fn peak(kernel: Kernel, threads: &Threads) -> Option<f64> {
    kernel.peak(threads)
}

/// What a layer does with its product.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The layer adds a bias.
    Plain,
    /// The layer adds a bias and applies GELU.
    Gelu,
    /// Gate and up projection in one, `silu(gate) * up`.
    SwiGlu,
    /// Adds a bias, and the sum to the residual stream.
    Residual,
}

/// An int8 linear layer with random weights, from f32 rows to f32 rows: quantised, multiplied, scaled, finished.
#[derive(Debug)]
pub struct Layer {
    linear: Linear,
    kernel: Kernel,
    kind: Kind,
    x: Buffer<f32>,
    out: Buffer<f32>,
    quantized: QuantizedRows,
}

struct One {
    views: [(&'static str, Tensor); 4],
}

impl Weights for One {
    fn get(&self, name: &str) -> Result<Option<Tensor>, Error> {
        Ok(self.views.iter().find(|(known, _)| *known == name).map(|(_, view)| view.clone()))
    }
}

struct Mapped(Buffer<u8>);

impl AsRef<[u8]> for Mapped {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// Memory as mapped snapshots have it.
fn bytes<T: bytemuck::NoUninit>(values: &[T]) -> Bytes {
    let raw: &[u8] = bytemuck::cast_slice(values);
    let mut memory = Buffer::default();
    memory.slot(raw.len()).copy_from_slice(raw);
    Bytes::from_owner(Mapped(memory))
}

impl Layer {
    /// `rows` inputs of `k` values, `n` channels (twice as many rows of weights for [`Kind::SwiGlu`]), with weights as
    /// `kernel` reads them.
    pub fn new(kernel: Kernel, kind: Kind, rows: usize, n: usize, k: usize) -> Result<Self, Error> {
        let layout = kernel.set().layout;
        let channels = if kind == Kind::SwiGlu { 2 * n } else { n };
        let mut state = 1u64;
        let mut next = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as u32
        };
        let codes: Vec<i8> = (0..channels * k).map(|_| (next() % 255) as u8 as i8).collect();
        let view = |dtype, layout: &str, shape: Vec<usize>, bytes| {
            Tensor::in_memory("", dtype, layout, shape, bytes)
        };
        let packed = panels(&codes, channels, k, layout.int8_group);
        let scales = pad_to_panel(vec![1e-3f32 / (k as f32).sqrt(); channels]);
        let offsets = pad_to_panel(int8_offsets(&codes, k));
        let bias = pad_to_panel(vec![0.1f32; channels]);
        let one = One {
            views: [
                ("layer.weight", view(Dtype::I8, layout.tag, vec![channels, k], bytes(&packed))),
                ("layer.scale", view(Dtype::F32, ROW_MAJOR, vec![scales.len()], bytes(&scales))),
                ("layer.offset", view(Dtype::I32, ROW_MAJOR, vec![offsets.len()], bytes(&offsets))),
                ("layer.bias", view(Dtype::F32, ROW_MAJOR, vec![bias.len()], bytes(&bias))),
            ],
        };
        let linear = Linear::load(&one, "layer", channels, k, kernel)?;
        let (mut x, mut out) = (Buffer::default(), Buffer::default());
        x.slot(rows * k).fill_with(|| next() as f32 / 2f32.powi(31) - 0.5);
        out.resize(rows * n);
        Ok(Self { linear, kernel, kind, x, out, quantized: QuantizedRows::default() })
    }

    /// Multiply-adds of one pass.
    pub fn multiply_adds(&self) -> usize {
        self.x.len() * self.linear.outputs()
    }

    /// Runs the layer once; seconds.
    pub fn run(&mut self, threads: &Threads) -> f64 {
        let cx = Context { kernel: self.kernel, threads };
        let begun = Instant::now();
        let (activation, accumulate) = match self.kind {
            Kind::Plain => (Activation::Identity, false),
            Kind::Gelu => (Activation::Gelu, false),
            Kind::SwiGlu => (Activation::SwiGlu, false),
            Kind::Residual => (Activation::Identity, true),
        };
        self.linear.run(cx, &self.x, activation, accumulate, &mut self.quantized, &mut self.out);
        begun.elapsed().as_secs_f64()
    }
}
