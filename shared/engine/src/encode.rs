//! Model parts as snapshot tensors: what is planned, and the bytes that fill the plan.
//!
//! | storage | int8 | bf16 / f16 / f32 |
//! |---|---|---|
//! | linear | `.weight` i8 panels, `.scale` f32, `.offset` i32 | `.weight` panels |
//! | table | `.weight` i8 rows, `.scale` f32 | `.weight` rows |
//! | fine table | `.weight` bf16 rows | `.weight` rows |
//! | head, vector, bias | f32 | f32 |
//!
//! Products that lose too much in int8 are stored as if the model were bf16.
//! In a portable snapshot the panels are row-major instead; nothing else differs.

use std::collections::BTreeSet;

use bytemuck::NoUninit;
use defrost_loader::{Dtype, TensorPlan};
use defrost_model::Precision;
use defrost_model::isa::PORTABLE;
use defrost_model::parts::{Part, Storage};

use crate::layout::{
    INT8_GROUP, PANEL, PANEL64, ROW_MAJOR, int8_offsets, pad_to_panel, panel_len, panels,
    quantize_rows, to_bf16, to_f16,
};

/// Inputs that one multiply instruction sums.
fn group(precision: Precision) -> usize {
    if precision == Precision::Int8 { INT8_GROUP } else { 1 }
}

/// How matrices are stored.
#[derive(Debug, Clone, Copy)]
pub struct Encoding<'a> {
    /// Precision of the large matrices.
    pub precision: Precision,
    /// [`defrost_model::isa::NATIVE`] or [`PORTABLE`].
    pub isa: &'a str,
    /// Parts of an int8 model that are stored in bf16.
    pub bf16: &'a BTreeSet<String>,
}

impl Encoding<'_> {
    /// That of a part.
    pub fn precision(self, part: &Part) -> Precision {
        let int8 = self.precision == Precision::Int8;
        match part.storage {
            Storage::FineTable if int8 => Precision::Bf16,
            Storage::Linear | Storage::Table | Storage::Vocabulary
                if int8 && self.bf16.contains(&part.name) =>
            {
                Precision::Bf16
            }
            // What a GGUF file has as blocks is stored as such, and this is not asked; the rest are floats.
            _ if self.precision == Precision::Blocks => Precision::F32,
            Storage::Linear | Storage::Table | Storage::Vocabulary | Storage::FineTable => {
                self.precision
            }
            Storage::LinearF32 | Storage::Vector | Storage::Bias | Storage::Prefix => {
                Precision::F32
            }
        }
    }

    fn is_panel(self, storage: Storage) -> bool {
        matches!(storage, Storage::Linear | Storage::LinearF32 | Storage::Vocabulary)
            && self.isa != PORTABLE
    }

    /// The tensors of one part, in the order of [`Encoding::fill`].
    pub fn plan(self, part: &Part) -> Vec<TensorPlan> {
        let precision = self.precision(part);
        let plain = |name: String, dtype: Dtype, shape: Vec<usize>| {
            let len = shape.iter().product::<usize>() * dtype.size();
            TensorPlan { name, dtype, layout: ROW_MAJOR.to_owned(), shape, len }
        };
        let mut tensors = Vec::new();
        let stem = part.name.strip_suffix(".weight").unwrap_or(&part.name);
        if part.storage == Storage::Bias {
            let padded = part.shape[0].next_multiple_of(PANEL);
            tensors.push(plain(part.name.clone(), Dtype::F32, vec![padded]));
        } else if self.is_panel(part.storage) {
            let (n, k) = (part.shape[0], part.shape[1]);
            tensors.push(TensorPlan {
                name: part.name.clone(),
                dtype: precision.dtype(),
                layout: PANEL64.to_owned(),
                shape: part.shape.clone(),
                len: panel_len(n, k, group(precision)) * precision.dtype().size(),
            });
        } else {
            tensors.push(plain(part.name.clone(), precision.dtype(), part.shape.clone()));
        }
        if precision == Precision::Int8 {
            let rows = part.shape[0];
            if matches!(part.storage, Storage::Linear | Storage::Vocabulary) {
                let padded = rows.next_multiple_of(PANEL);
                tensors.push(plain(format!("{stem}.scale"), Dtype::F32, vec![padded]));
                tensors.push(plain(format!("{stem}.offset"), Dtype::I32, vec![padded]));
            } else {
                tensors.push(plain(format!("{stem}.scale"), Dtype::F32, vec![rows]));
            }
        }
        tensors
    }

    /// The bytes of the part's tensors, from its row-major values.
    pub fn fill(self, part: &Part, values: Vec<f32>) -> Vec<Vec<u8>> {
        let k = part.shape.last().copied().unwrap_or(1);
        match (self.precision(part), part.storage) {
            (Precision::Int8, storage) => {
                let (rows, scales) = quantize_rows(&values, k);
                drop(values);
                if storage == Storage::Table {
                    return vec![bytes(&rows), bytes(&scales)];
                }
                let offsets = pad_to_panel(int8_offsets(&rows, k));
                vec![
                    self.matrix(part, &rows, INT8_GROUP),
                    bytes(&pad_to_panel(scales)),
                    bytes(&offsets),
                ]
            }
            (_, Storage::Bias) => vec![bytes(&pad_to_panel(values))],
            (Precision::Bf16, _) => vec![self.matrix(part, &to_bf16(&values), 1)],
            (Precision::F16, _) => vec![self.matrix(part, &to_f16(&values), 1)],
            (Precision::F32 | Precision::Blocks, _) => vec![self.matrix(part, &values, 1)],
        }
    }

    /// Row-major values as this encoding lays them out.
    pub fn matrix<T: NoUninit + Default>(self, part: &Part, rows: &[T], group: usize) -> Vec<u8> {
        if self.is_panel(part.storage) {
            bytes(&panels(rows, part.shape[0], part.shape[1], group))
        } else {
            bytes(rows)
        }
    }
}

/// Values as little-endian bytes; the workspace builds for little-endian targets only.
fn bytes<T: NoUninit>(values: &[T]) -> Vec<u8> {
    bytemuck::cast_slice(values).to_vec()
}

#[cfg(target_endian = "big")]
compile_error!("snapshots are little endian and mapped as they are");
