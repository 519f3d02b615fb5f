//! Tables of rows that are gathered one by one.

use defrost_loader::Dtype;
use defrost_model::BlockKind;
use half::bf16;

use super::matrices::kind_of_rows;
use super::{Values, Weights, require, vector};
use crate::Error;
use crate::blocks::{ROWS_OF, dequantize, row_len};
use crate::gate::ReadinessGate;
use crate::layout::ROW_MAJOR;

/// A table of rows that are gathered one by one: only the pages of used rows are ever touched.
#[derive(Debug)]
pub(crate) struct Embedding {
    rows: usize,
    width: usize,
    table: Table,
}

#[derive(Debug)]
enum Table {
    Int8 {
        rows: Values<i8>,
        scales: Values<f32>,
    },
    Bf16(Values<bf16>),
    F32(Values<f32>),
    /// Rows as a GGUF file has them.
    Blocks(BlockKind, Values<u8>),
}

impl Embedding {
    /// The table `name` of `rows` by `width`.
    pub(crate) fn load(
        weights: &dyn Weights,
        name: &str,
        rows: usize,
        width: usize,
    ) -> Result<Self, Error> {
        let weight_name = format!("{name}.weight");
        let view = require(weights, &weight_name)?;
        if let Some(kind) = view.layout.strip_prefix(ROWS_OF) {
            let kind = kind_of_rows(&weight_name, kind, width)?;
            let len = rows * row_len(kind, width);
            let table = Table::Blocks(kind, Values::new(&weight_name, &view, Dtype::U8, len)?);
            return Ok(Self { rows, width, table });
        }
        if view.layout != ROW_MAJOR {
            let expected = format!("{ROW_MAJOR} or {ROWS_OF}KIND");
            return Err(Error::mismatch(&weight_name, expected, view.layout));
        }
        let len = rows * width;
        let table = match view.dtype {
            Dtype::I8 => Table::Int8 {
                rows: Values::new(&weight_name, &view, Dtype::I8, len)?,
                scales: vector(weights, &format!("{name}.scale"), rows)?,
            },
            Dtype::Bf16 => Table::Bf16(Values::new(&weight_name, &view, Dtype::Bf16, len)?),
            Dtype::F32 => Table::F32(Values::new(&weight_name, &view, Dtype::F32, len)?),
            other => {
                let found = other.to_string();
                return Err(Error::mismatch(&weight_name, "int8, bf16 or f32 elements", found));
            }
        };
        Ok(Self { rows, width, table })
    }

    /// Returns when these rows may be read.
    pub(crate) fn wait(
        &self,
        gate: &dyn ReadinessGate,
        rows: impl Iterator<Item = usize> + Clone,
    ) -> Result<(), Error> {
        let place = |row: usize| match &self.table {
            Table::Int8 { rows, .. } => rows.row_place(row, self.width),
            Table::Bf16(rows) => rows.row_place(row, self.width),
            Table::F32(rows) => rows.row_place(row, self.width),
            Table::Blocks(kind, rows) => rows.row_place(row, row_len(*kind, self.width)),
        };
        rows.clone().for_each(|row| gate.want(place(row)));
        if let Table::Int8 { scales, .. } = &self.table {
            rows.clone().for_each(|row| gate.want(scales.row_place(row, 1)));
            for row in rows.clone() {
                gate.wait(scales.row_place(row, 1))?;
            }
        }
        for row in rows {
            gate.wait(place(row))?;
        }
        Ok(())
    }

    /// Number of rows.
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// Adds row `index` to `out`.
    pub(crate) fn add_row(&self, index: usize, out: &mut [f32]) {
        let range = index * self.width..(index + 1) * self.width;
        match &self.table {
            Table::Int8 { rows, scales } => {
                let scale = scales.as_slice()[index];
                for (out, &q) in out.iter_mut().zip(&rows.as_slice()[range]) {
                    *out += f32::from(q) * scale;
                }
            }
            Table::Bf16(rows) => {
                for (out, value) in out.iter_mut().zip(&rows.as_slice()[range]) {
                    *out += value.to_f32();
                }
            }
            Table::F32(rows) => {
                for (out, &value) in out.iter_mut().zip(&rows.as_slice()[range]) {
                    *out += value;
                }
            }
            Table::Blocks(kind, rows) => {
                let len = row_len(*kind, self.width);
                let mut values = vec![0.0; self.width];
                dequantize(*kind, &rows.as_slice()[index * len..][..len], &mut values);
                out.iter_mut().zip(values).for_each(|(out, value)| *out += value);
            }
        }
    }
}
