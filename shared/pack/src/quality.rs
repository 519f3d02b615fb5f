//! How the products of an int8 model are made to lose little: measured and decided at pack time.
//!
//! Transformers have *outlier channels*: a few inputs of a product that are ten to a thousand times
//! larger than the others in every token. One scale per token then leaves the others a handful of
//! steps. Packing therefore runs some built-in texts through the checkpoint ([`texts`], [`forward`]),
//! layer by layer with one layer's weights in memory, measures the error of each int8 product
//! ([`measure`]), and lowers it by moving scales between neighbouring weights ([`equalise`]):
//!
//! | product | inputs come from | their scales go into |
//! |---|---|---|
//! | `qkv` | RMSNorm | its weight |
//! | `out` | attention, linear in the values | the value rows of `qkv` and their bias |
//! | `gate_up` | RMSNorm | its weight |
//! | `down` | `silu(gate) * up`, linear in `up` | the up rows of `gate_up` |
//!
//! A forward pass does not become one instruction longer. Query heads that share a key-value head
//! also share the scales of its values. In encoders only `out` can be treated: what its norms
//! put out also feeds the residual stream, and GELU is linear in nothing.
//!
//! What still errs by more than [`TOO_MUCH`] is stored in bf16 instead, which the engine multiplies
//! in f32: slower, and a matter of broken or exotic layers only.
//!
//! Not used: rotating the residual stream (`QuaRot`), which cannot reach `down` and takes away the norm weights that
//! hold residual outliers down; scales from the weights alone, which do not show outlier values; clipping weight scales,
//! which gains nothing at eight bits. The example `outlier_agreement` measures what is used.

mod decide;
mod equalise;
mod measure;
mod report;
#[cfg(test)]
mod tests;
mod texts;

use std::collections::BTreeMap;

use defrost_model::parts::Part;

pub(crate) use decide::decide;
pub use report::summary;
pub(crate) use report::{KEY, Report};

/// Relative error of an int8 product above which it is stored in bf16. Without outliers products
/// err by 1 to 2 % of their outputs, the heavy-tailed inputs of `down` included, and by three times
/// that of the spread where tokens share most of their output; after scaling, so do nearly all that
/// had outliers.
const TOO_MUCH: f32 = 0.1;

/// The same bound for the table of words, of which a pass reads few rows: bf16 costs it bytes, not time.
const TOO_MUCH_OF_WORDS: f32 = 0.03;

/// What packing does about outlier channels of int8 models.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Outliers {
    /// Measures, and treats what it finds.
    #[default]
    Auto,
    /// Rounds the checkpoint's weights as they are.
    Off,
}

impl Outliers {
    /// `auto` or `off`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Off => "off",
        }
    }
}

/// What is done to the parts of a model.
#[derive(Debug, Default)]
pub(crate) struct Treatment {
    factors: BTreeMap<String, Factors>,
    pub(crate) report: Report,
}

/// Powers of two by which a part's values are multiplied; empty: by one.
#[derive(Debug, Default)]
struct Factors {
    rows: Vec<f32>,
    columns: Vec<f32>,
}

impl Treatment {
    /// Multiplies a part's values by what was decided.
    pub(crate) fn apply(&self, part: &Part, values: &mut [f32]) {
        let Some(factors) = self.factors.get(&part.name) else { return };
        let width = part.shape.get(1).copied().unwrap_or(1);
        for (at, row) in values.chunks_exact_mut(width).enumerate() {
            let own = factors.rows.get(at).copied().unwrap_or(1.0);
            for (column, value) in row.iter_mut().enumerate() {
                *value *= own * factors.columns.get(column).copied().unwrap_or(1.0);
            }
        }
    }

    fn columns(&mut self, part: &str, factors: Vec<f32>) {
        self.factors.entry(part.to_owned()).or_default().columns = factors;
    }

    /// Divides `rows` rows from `first` on by `scales`.
    fn divide_rows(&mut self, part: &str, rows: usize, first: usize, scales: &[f32]) {
        let all = &mut self.factors.entry(part.to_owned()).or_default().rows;
        all.resize(rows, 1.0);
        all[first..first + scales.len()].iter_mut().zip(scales).for_each(|(row, s)| *row /= s);
    }
}
