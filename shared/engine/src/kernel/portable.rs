//! Plain Rust: the reference the other kernel sets are tested against, and what runs where they cannot.

mod blocks;

use super::operands::{Bf16Operands, FloatOperands, Int8Operands, Int16Operands, RowOf};
use super::set::{KernelSet, Tile, Vectors};
use crate::layout::{INT8_GROUP, PANEL, PANELS_OF_64};

/// Rows of a tile. They do not share registers here, but neighbours find a panel in the first-level cache.
const ROWS: usize = 6;

pub(super) const SET: KernelSet = KernelSet {
    name: "portable",
    runs_here: || true,
    vectors: Vectors::Baseline,
    layout: &PANELS_OF_64,
    int8: Tile { rows: ROWS, run: int8_tile },
    int16: Tile { rows: ROWS, run: int16_tile },
    float: Tile { rows: ROWS, run: float_tile },
    bf16: Tile { rows: ROWS, run: bf16_tile },
    blocks: Tile { rows: ROWS, run: blocks::tile },
    finished_int8: None,
    quantize: None,
    softmax: None,
    thread: None,
    peak: None,
};

fn int8_tile(operands: &Int8Operands<'_>, offsets: &RowOf<i32>, sums: &mut [RowOf<i32>]) {
    for (row, sums) in sums.iter_mut().enumerate().take(operands.rows()) {
        sums.fill(0);
        let groups = operands.row(row).chunks_exact(INT8_GROUP);
        for (x, weights) in groups.zip(operands.panel().chunks_exact(PANEL * INT8_GROUP)) {
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

fn int16_tile(operands: &Int16Operands<'_>, sums: &mut [RowOf<i32>]) {
    let columns = operands.columns();
    for (row, sums) in sums.iter_mut().enumerate().take(operands.rows()) {
        let sums = &mut sums[..columns];
        if !operands.onto() {
            sums.fill(0);
        }
        let pairs = operands.row(row).chunks_exact(2);
        for (x, columns) in pairs.zip(operands.panel().chunks_exact(2 * columns)) {
            for (sum, column) in sums.iter_mut().zip(columns.chunks_exact(2)) {
                *sum +=
                    i32::from(x[0]) * i32::from(column[0]) + i32::from(x[1]) * i32::from(column[1]);
            }
        }
    }
}

fn float_tile(operands: &FloatOperands<'_>, sums: &mut [RowOf<f32>]) {
    let columns = operands.columns();
    for (row, sums) in sums.iter_mut().enumerate().take(operands.rows()) {
        let sums = &mut sums[..columns];
        if !operands.onto() {
            sums.fill(0.0);
        }
        for (&x, weights) in operands.row(row).iter().zip(operands.panel().chunks_exact(columns)) {
            for (sum, &w) in sums.iter_mut().zip(weights) {
                *sum = x.mul_add(w, *sum);
            }
        }
    }
}

fn bf16_tile(operands: &Bf16Operands<'_>, sums: &mut [RowOf<f32>]) {
    for (row, sums) in sums.iter_mut().enumerate().take(operands.rows()) {
        sums.fill(0.0);
        for (&x, weights) in operands.row(row).iter().zip(operands.panel().chunks_exact(PANEL)) {
            for (sum, &w) in sums.iter_mut().zip(weights) {
                *sum = x.mul_add(f32::from_bits(u32::from(w.to_bits()) << 16), *sum);
            }
        }
    }
}
