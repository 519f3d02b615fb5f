//! Tiles in plain Rust: the reference the other kernel sets are tested against, and what runs where
//! they cannot.

use super::Tile;
use crate::layout::{INT8_GROUP, PANEL};

pub(super) fn int8_tile(
    x: &[u8],
    stride: usize,
    rows: usize,
    panel: &[i8],
    offsets: &[i32],
    sums: &mut Tile<i32>,
) {
    for (row, sums) in sums.iter_mut().enumerate().take(rows) {
        sums.fill(0);
        let groups = x[row * stride..].chunks_exact(INT8_GROUP);
        for (x, weights) in groups.zip(panel.chunks_exact(PANEL * INT8_GROUP)) {
            for (sum, weights) in sums.iter_mut().zip(weights.chunks_exact(INT8_GROUP)) {
                for (&x, &w) in x.iter().zip(weights) {
                    *sum += i32::from(x) * i32::from(w);
                }
            }
        }
        for (sum, offset) in sums.iter_mut().zip(offsets) {
            *sum -= offset;
        }
    }
}

pub(super) fn int16_tile(
    x: &[i16],
    stride: usize,
    rows: usize,
    panel: &[i16],
    width: usize,
    sums: &mut Tile<i32>,
) {
    for (row, sums) in sums.iter_mut().enumerate().take(rows) {
        sums.fill(0);
        let pairs = x[row * stride..].chunks_exact(2);
        for (x, columns) in pairs.zip(panel.chunks_exact(2 * width)) {
            for (sum, column) in sums.iter_mut().zip(columns.chunks_exact(2)) {
                *sum +=
                    i32::from(x[0]) * i32::from(column[0]) + i32::from(x[1]) * i32::from(column[1]);
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
                *sum = x.mul_add(w, *sum);
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
                *sum = x.mul_add(f32::from_bits(u32::from(w) << 16), *sum);
            }
        }
    }
}
