//! Tiles in plain Rust: the reference the other kernel sets are tested against, and what runs where
//! they cannot.

use super::Tile;
use crate::layout::{INT8_GROUP, PANEL};

pub(super) fn int8_tile(x: &[u8], rows: usize, panel: &[i8], groups: usize, sums: &mut Tile<i32>) {
    let stride = groups * INT8_GROUP;
    for (row, sums) in sums.iter_mut().enumerate().take(rows) {
        sums.fill(0);
        let x = &x[row * stride..][..stride];
        for (x, weights) in x.chunks_exact(INT8_GROUP).zip(panel.chunks_exact(PANEL * INT8_GROUP)) {
            for (sum, weights) in sums.iter_mut().zip(weights.chunks_exact(INT8_GROUP)) {
                for (&x, &w) in x.iter().zip(weights) {
                    *sum += i32::from(x) * i32::from(w);
                }
            }
        }
    }
}

pub(super) fn float_tile(
    x: &[f32],
    stride: usize,
    rows: usize,
    panel: &[f32],
    width: usize,
    k: usize,
    sums: &mut Tile<f32>,
) {
    for (row, sums) in sums.iter_mut().enumerate().take(rows) {
        sums.fill(0.0);
        let x = &x[row * stride..][..k];
        for (&x, weights) in x.iter().zip(panel.chunks_exact(width)) {
            for (sum, &w) in sums.iter_mut().zip(weights) {
                *sum += x * w;
            }
        }
    }
}

pub(super) fn bf16_tile(
    x: &[f32],
    stride: usize,
    rows: usize,
    panel: &[u16],
    k: usize,
    sums: &mut Tile<f32>,
) {
    for (row, sums) in sums.iter_mut().enumerate().take(rows) {
        sums.fill(0.0);
        let x = &x[row * stride..][..k];
        for (&x, weights) in x.iter().zip(panel.chunks_exact(PANEL)) {
            for (sum, &w) in sums.iter_mut().zip(weights) {
                *sum += x * f32::from_bits(u32::from(w) << 16);
            }
        }
    }
}
