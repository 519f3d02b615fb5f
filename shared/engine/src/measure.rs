//! What `cargo bench` measures: the multiplier's limit on this processor, and linear layers against it.
//!
//! Not part of the public interface.

use std::time::Instant;

use bytes::Bytes;
use defrost_loader::{Dtype, Tensor};
use defrost_model::BlockKind;

use crate::blocks::{PANELS_OF, pack, quantize};
use crate::buffer::Buffer;
use crate::gemm::{Activation, Context};
use crate::kernel::per_kernel;
use crate::layout::{PANEL, ROW_MAJOR, int8_offsets, pad_to_panel, panels};
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
    weights: Bytes,
    quantized: QuantizedRows,
}

per_kernel! {
    /// Adds up bytes, eight at a time.
    fn sum_of(bytes: &[u8], sum: &mut u64) {
        let (words, _) = bytes.as_chunks();
        *sum = words.iter().fold(0, |sum, &word| sum ^ u64::from_le_bytes(word));
    }
}

struct One {
    views: Vec<(&'static str, Tensor)>,
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
            views: vec![
                ("layer.weight", view(Dtype::I8, layout.tag, vec![channels, k], bytes(&packed))),
                ("layer.scale", view(Dtype::F32, ROW_MAJOR, vec![scales.len()], bytes(&scales))),
                ("layer.offset", view(Dtype::I32, ROW_MAJOR, vec![offsets.len()], bytes(&offsets))),
                ("layer.bias", view(Dtype::F32, ROW_MAJOR, vec![bias.len()], bytes(&bias))),
            ],
        };
        let linear = Linear::load(&one, "layer", channels, k, kernel)?;
        Ok(Self::of(linear, kernel, kind, [rows, n, k], one.views[0].1.bytes.clone(), next))
    }

    /// A layer as of [`Layer::new`] whose weights are in blocks, the gate's and the others' apart.
    pub fn of_blocks(
        kernel: Kernel,
        block: BlockKind,
        kind: Kind,
        [rows, n, k]: [usize; 3],
    ) -> Result<Self, Error> {
        let mut state = 1u64;
        let mut next = move || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as u32
        };
        let row: Vec<f32> = (0..k).map(|_| next() as f32 / 2f32.powi(31) - 0.5).collect();
        let file = quantize(block, &row, k).repeat(PANEL);
        let panel = pack(block, &file, PANEL, k);
        let packed = panel.repeat(n.div_ceil(PANEL));
        let parts = &[n, n][..=usize::from(kind == Kind::SwiGlu)];
        let layout = format!("{PANELS_OF}{}", block.name());
        let names = ["layer.weight.0", "layer.weight.1"];
        let view = |(name, _)| {
            let shape = vec![packed.len()];
            (name, Tensor::in_memory("", Dtype::U8, &layout, shape, bytes(&packed)))
        };
        let one = One { views: names.into_iter().zip(parts).map(view).collect() };
        let linear = Linear::load_of(&one, "layer", parts, k, kernel)?;
        Ok(Self::of(linear, kernel, kind, [rows, n, k], one.views[0].1.bytes.clone(), next))
    }

    fn of(
        linear: Linear,
        kernel: Kernel,
        kind: Kind,
        [rows, n, k]: [usize; 3],
        weights: Bytes,
        mut next: impl FnMut() -> u32,
    ) -> Self {
        let (mut x, mut out) = (Buffer::default(), Buffer::default());
        x.slot(rows * k).fill_with(|| next() as f32 / 2f32.powi(31) - 0.5);
        out.resize(rows * n);
        Self { linear, kernel, kind, x, out, weights, quantized: QuantizedRows::default() }
    }

    /// The bytes of its weights, of one of two matrices.
    pub fn bytes(&self) -> usize {
        self.weights.len()
    }

    /// Reads these bytes once and does nothing with them: what no product can exceed that finds them in memory; seconds.
    pub fn read(&self, threads: &Threads) -> f64 {
        /// A page of a product's size, so that threads share as they do there.
        const RUN: usize = 1 << 16;
        let begun = Instant::now();
        threads.for_each(self.weights.len().div_ceil(RUN), |task| {
            let end = self.weights.len().min((task + 1) * RUN);
            let mut sum = 0;
            sum_of(self.kernel, &self.weights[task * RUN..end], &mut sum);
            std::hint::black_box(sum);
        });
        begun.elapsed().as_secs_f64()
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
