//! The memory of pages: keys and values as attention reads them, packed when they are written.
//!
//! ```text
//! page:  a run for each layer and key-value head
//! run:   keys     for each input a register's multiple of positions: 32 side by side
//!        values   panels of up to 64 columns: for each position its columns side by side
//! ```
//!
//! So positions are the lanes of scores, and columns those of weighted values: both products read a run from its beginning to
//! its end. Numbers are f16, half of the memory and half of what attention reads; f32 where the model's weights are f32, so
//! that nothing is lost. Values beyond the largest f16 are kept as that, for an infinite one times a weight of zero would be none.
//!
//! Memory that was never written is never touched: the pool costs what is used of it.

use bytemuck::Pod;
use half::f16;
use half::slice::HalfFloatSliceExt;

use super::pages::{PAGE_TOKENS, PageCopy, PageId};
use crate::buffer::Buffer;
use crate::kernel::operands::COLUMN_STEP;
use crate::kernel::{Kernel, per_kernel};
use crate::layout::PANEL;
use crate::{Error, ModelConfig};

/// Sizes of pages and runs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    pub(super) layers: usize,
    /// Key-value heads.
    pub(super) heads: usize,
    /// Width of a head.
    pub(super) width: usize,
}

impl Shape {
    /// That of a model's pages, of so many of its layers.
    pub(super) fn of(config: &ModelConfig, layers: usize) -> Self {
        Self { layers, heads: config.kv_heads, width: config.head_dim }
    }

    /// Columns of all panels of values, in whole registers.
    pub(super) fn columns(self) -> usize {
        self.width.next_multiple_of(COLUMN_STEP)
    }

    fn keys(self) -> usize {
        PAGE_TOKENS * self.width
    }

    fn run(self) -> usize {
        self.keys() + PAGE_TOKENS * self.columns()
    }

    /// Elements of a page.
    pub(super) fn page(self) -> usize {
        self.layers * self.heads * self.run()
    }

    /// The first element of a run.
    pub(super) fn run_at(self, page: PageId, layer: usize, head: usize) -> usize {
        page as usize * self.page() + (layer * self.heads + head) * self.run()
    }

    /// The panel of values from column `first` on: its columns, and where it begins among a run's values.
    pub(super) fn panel(self, first: usize) -> (usize, usize) {
        (PANEL.min(self.columns() - first), first * PAGE_TOKENS)
    }
}

/// What numbers are kept as.
pub(super) trait Stored: Pod + Send + Sync {
    /// The nearest numbers.
    fn narrow(from: &[f32], to: &mut [Self]);

    /// Widens rows of 32, each to the beginning of one of the target's, which are `stride` apart.
    fn widen_rows(kernel: Kernel, from: &[Self], to: &mut [f32], stride: usize);

    /// Widens all.
    fn widen(kernel: Kernel, from: &[Self], to: &mut [f32]);
}

impl Stored for f32 {
    fn narrow(from: &[f32], to: &mut [Self]) {
        to.copy_from_slice(from);
    }

    fn widen_rows(_: Kernel, from: &[Self], to: &mut [f32], stride: usize) {
        for (from, to) in from.chunks_exact(PAGE_TOKENS).zip(to.chunks_mut(stride)) {
            to[..PAGE_TOKENS].copy_from_slice(from);
        }
    }

    fn widen(_: Kernel, from: &[Self], to: &mut [f32]) {
        to.copy_from_slice(from);
    }
}

impl Stored for u16 {
    fn narrow(from: &[f32], to: &mut [Self]) {
        let largest = f16::MAX.to_f32();
        let to: &mut [f16] = bytemuck::cast_slice_mut(to);
        let mut clamped = [0.0f32; PANEL];
        for (from, to) in from.chunks(PANEL).zip(to.chunks_mut(PANEL)) {
            for (clamped, value) in clamped.iter_mut().zip(from) {
                *clamped = value.clamp(-largest, largest);
            }
            to.convert_from_f32_slice(&clamped[..from.len()]);
        }
    }

    fn widen_rows(kernel: Kernel, from: &[Self], to: &mut [f32], stride: usize) {
        widen(kernel, from, to, PAGE_TOKENS, stride);
    }

    fn widen(kernel: Kernel, from: &[Self], to: &mut [f32]) {
        widen(kernel, from, to, from.len(), from.len());
    }
}

/// Widens runs of `run` values, whole registers, each to the beginning of one of the target's, which are `stride` apart: with the
/// processor's own instruction where there is one, which takes a fifteenth of the steps. Attention to a long text does little
/// else where few heads share keys.
#[allow(unsafe_code, reason = "calls target_feature functions where the processor has them")]
fn widen(kernel: Kernel, from: &[u16], to: &mut [f32], run: usize, stride: usize) {
    assert!(run.is_multiple_of(COLUMN_STEP) && stride >= run, "whole registers");
    #[cfg(target_arch = "x86_64")]
    {
        use crate::kernel::set::Vectors;
        match kernel.vectors() {
            // SAFETY: a `Kernel` with these vectors exists only where the processor has them.
            Vectors::Avx512 => return unsafe { x86::avx512(from, to, run, stride) },
            Vectors::Avx2 if is_x86_feature_detected!("f16c") => {
                // SAFETY: just looked for.
                return unsafe { x86::f16c(from, to, run, stride) };
            }
            _ => {}
        }
    }
    plain_widen(kernel, from, to, run, stride);
}

per_kernel! {
    fn plain_widen(from: &[u16], to: &mut [f32], run: usize, stride: usize) {
        for (from, to) in from.chunks_exact(run).zip(to.chunks_mut(stride)) {
            for (to, &half) in to[..run].iter_mut().zip(from) {
                *to = widened(half);
            }
        }
    }
}

/// The value of an f16, exactly.
#[inline(always)]
fn widened(half: u16) -> f32 {
    /// 2^-14, the least normal f16.
    const LEAST: u32 = 113 << 23;
    let bits = u32::from(half);
    let magnitude = (bits & 0x7fff) << 13;
    let normal = magnitude + (112 << 23);
    // A fraction of 2^-14, less that: exact, and no f32 on the way is subnormal, which some processors are slow with.
    let small = (f32::from_bits(magnitude | LEAST) - f32::from_bits(LEAST)).to_bits();
    let endless = magnitude + (224 << 23);
    let value = if magnitude < 1 << 23 {
        small
    } else if magnitude < 31 << 23 {
        normal
    } else {
        endless
    };
    f32::from_bits(value | (bits & 0x8000) << 16)
}

#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code, reason = "vector loads and stores of arrays of their size")]
mod x86 {
    use std::arch::x86_64::{
        _mm_loadu_si128, _mm256_cvtph_ps, _mm256_loadu_si256, _mm256_storeu_ps, _mm512_cvtph_ps,
        _mm512_storeu_ps,
    };

    #[target_feature(enable = "avx512f")]
    pub(super) fn avx512(from: &[u16], to: &mut [f32], run: usize, stride: usize) {
        for (from, to) in from.chunks_exact(run).zip(to.chunks_mut(stride)) {
            let (from, to) = (from.as_chunks::<16>().0, to[..run].as_chunks_mut::<16>().0);
            for (from, to) in from.iter().zip(to) {
                // SAFETY: sixteen values each.
                unsafe {
                    let halves = _mm256_loadu_si256(from.as_ptr().cast());
                    _mm512_storeu_ps(to.as_mut_ptr(), _mm512_cvtph_ps(halves));
                }
            }
        }
    }

    #[target_feature(enable = "avx,f16c")]
    pub(super) fn f16c(from: &[u16], to: &mut [f32], run: usize, stride: usize) {
        for (from, to) in from.chunks_exact(run).zip(to.chunks_mut(stride)) {
            let (from, to) = (from.as_chunks::<8>().0, to[..run].as_chunks_mut::<8>().0);
            for (from, to) in from.iter().zip(to) {
                // SAFETY: eight values each.
                unsafe {
                    let halves = _mm_loadu_si128(from.as_ptr().cast());
                    _mm256_storeu_ps(to.as_mut_ptr(), _mm256_cvtph_ps(halves));
                }
            }
        }
    }
}

/// The memory of all pages.
#[derive(Debug)]
pub(super) struct Memory {
    pub(super) shape: Shape,
    pub(super) values: Values,
}

/// See [`Memory`].
#[derive(Debug)]
pub(super) enum Values {
    F16(Buffer<u16>),
    F32(Buffer<f32>),
}

impl Memory {
    /// Bytes of a page.
    pub(super) fn page_bytes(shape: Shape, f32: bool) -> usize {
        shape.page() * if f32 { 4 } else { 2 }
    }

    /// Memory for so many pages, if the system has as much.
    pub(super) fn new(shape: Shape, f32: bool, pages: usize) -> Result<Self, Error> {
        fn of<T: Pod>(len: usize) -> std::io::Result<Buffer<T>> {
            let mut buffer = Buffer::default();
            buffer.try_resize(len)?;
            Ok(buffer)
        }
        let len = pages * shape.page();
        let values = if f32 { of(len).map(Values::F32) } else { of(len).map(Values::F16) };
        let values = values.map_err(|err| {
            Error::OutOfMemory(format!(
                "no memory for the keys and values of {} tokens, {} MiB ({err}): load the model with room for fewer",
                pages * PAGE_TOKENS,
                (pages * Self::page_bytes(shape, f32)) >> 20
            ))
        })?;
        Ok(Self { shape, values })
    }

    /// Copies a page.
    pub(super) fn copy(&mut self, PageCopy { from, to }: PageCopy) {
        let len = self.shape.page();
        let (from, to) = (from as usize * len, to as usize * len);
        match &mut self.values {
            Values::F16(values) => values.copy_within(from..from + len, to),
            Values::F32(values) => values.copy_within(from..from + len, to),
        }
    }
}

/// A run's keys and values.
pub(super) fn split<T>(shape: Shape, run: &[T]) -> (&[T], &[T]) {
    run.split_at(shape.keys())
}

/// Elements of a run.
pub(super) fn run_len(shape: Shape) -> usize {
    shape.run()
}

/// Puts the key and the value of a position into a run; `scratch` has room for a head.
pub(super) fn write<T: Stored>(
    shape: Shape,
    run: &mut [T],
    slot: usize,
    key: &[f32],
    value: &[f32],
    scratch: &mut [T],
) {
    let (keys, values) = run.split_at_mut(shape.keys());
    T::narrow(key, scratch);
    for (positions, &input) in keys.chunks_exact_mut(PAGE_TOKENS).zip(&*scratch) {
        positions[slot] = input;
    }
    T::narrow(value, scratch);
    for first in (0..shape.width).step_by(PANEL) {
        let (columns, at) = shape.panel(first);
        let used = PANEL.min(shape.width - first);
        values[at + slot * columns..][..used].copy_from_slice(&scratch[first..first + used]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_f16_keeps_its_value() {
        let all: Vec<u16> = (0..=u16::MAX).collect();
        for kernel in Kernel::available() {
            let mut wide = vec![0.0; all.len()];
            u16::widen(kernel, &all, &mut wide);
            let mut rows = vec![f32::NAN; all.len() / 32 * 40];
            u16::widen_rows(kernel, &all, &mut rows, 40);
            for (at, &bits) in all.iter().enumerate() {
                let (exact, row) = (f16::from_bits(bits).to_f32(), rows[at / 32 * 40 + at % 32]);
                for found in [wide[at], row] {
                    let same = found.to_bits() == exact.to_bits();
                    assert!(same || found.is_nan() && exact.is_nan(), "{bits:x} {found}");
                }
            }
        }
    }

    #[test]
    fn what_is_too_large_is_the_largest() {
        let mut kept = [0u16; 5];
        u16::narrow(&[1e9, -1e9, f32::INFINITY, f32::NAN, 0.1], &mut kept);
        let values = kept.map(|bits| f16::from_bits(bits).to_f32());
        assert_eq!(values[..3], [65504.0, -65504.0, 65504.0]);
        assert!(values[3].is_nan() && (values[4] - 0.1).abs() < 1e-4);
    }
}
