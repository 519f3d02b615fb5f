//! A micro-batch as a padded rectangle, and what a model makes of it as answers.
//!
//! ONNX models take rectangles, so sequences are planned by length and those of a micro-batch padded to its longest:
//! neighbours in that order differ by few tokens, so that little is computed in vain. Padding is on the right, with
//! mask 0; the answers of a row are read at its own tokens only.

use defrost_model::{Error, Head, Tokens};
use ort::session::SessionInputValue;
use ort::value::Tensor;

use super::{InputKind, fault, runtime};

/// A micro-batch as a rectangle.
#[derive(Debug)]
pub(super) struct Padded {
    rows: usize,
    columns: usize,
    ids: Vec<u32>,
    types: Vec<u32>,
    pub(super) lengths: Vec<usize>,
}

impl Padded {
    pub(super) fn new(members: &[&Tokens], pad_id: u32) -> Self {
        let lengths: Vec<usize> = members.iter().map(|member| member.ids.len()).collect();
        let columns = lengths.iter().copied().max().unwrap_or(0);
        let rows = members.len();
        let mut ids = vec![pad_id; rows * columns];
        let mut types = vec![0; rows * columns];
        for (row, member) in members.iter().enumerate() {
            ids[row * columns..][..member.ids.len()].copy_from_slice(&member.ids);
            types[row * columns..][..member.types.len()].copy_from_slice(&member.types);
        }
        Self { rows, columns, ids, types, lengths }
    }

    /// One of the model's inputs.
    pub(super) fn value(
        &self,
        kind: InputKind,
        is_i32: bool,
    ) -> Result<SessionInputValue<'static>, Error> {
        let shape = [self.rows, self.columns];
        if is_i32 {
            // Ids and positions are far below 2^31: no vocabulary and no text is that large.
            let values: Vec<i32> = self.numbers(kind).map(u32::cast_signed).collect();
            return Ok(Tensor::from_array((shape, values)).map_err(fault)?.into());
        }
        let values: Vec<i64> = self.numbers(kind).map(i64::from).collect();
        Ok(Tensor::from_array((shape, values)).map_err(fault)?.into())
    }

    fn numbers(&self, kind: InputKind) -> impl Iterator<Item = u32> + '_ {
        (0..self.rows * self.columns).map(move |at| match kind {
            InputKind::Ids => self.ids[at],
            InputKind::Types => self.types[at],
            InputKind::Mask => u32::from(at % self.columns < self.lengths[at / self.columns]),
            InputKind::Positions => u32::try_from(at % self.columns).unwrap_or(u32::MAX),
        })
    }
}

/// The answers in a model's output: logits, embeddings that the model pooled itself, or hidden states that are pooled
/// here.
pub(super) fn answers(
    head: Head,
    width: usize,
    shape: &[i64],
    values: &[f32],
    lengths: &[usize],
) -> Result<Vec<f32>, Error> {
    let rows = lengths.len();
    if values.len() == rows * width {
        return Ok(values.to_vec());
    }
    let columns = lengths.iter().copied().max().unwrap_or(0);
    if values.len() != rows * columns * width || matches!(head, Head::Classifier | Head::YesNo) {
        return Err(runtime(format!(
            "the output has shape {shape:?}, expected [{rows}, {width}] or hidden states [{rows}, {columns}, {width}]"
        )));
    }
    let mut pooled = Vec::with_capacity(rows * width);
    for (states, &len) in values.chunks_exact(columns * width).zip(lengths) {
        match head {
            Head::FirstPooling => pooled.extend_from_slice(&states[..width]),
            Head::LastPooling => pooled.extend_from_slice(&states[(len - 1) * width..][..width]),
            Head::MaxPooling => {
                let rows = states[..len * width].chunks_exact(width);
                let mut largest = vec![f32::NEG_INFINITY; width];
                for state in rows {
                    for (largest, &value) in largest.iter_mut().zip(state) {
                        if value > *largest || value.is_nan() {
                            *largest = value;
                        }
                    }
                }
                pooled.extend(largest);
            }
            _ => {
                // In f64, so that the order of a long sum does not show.
                let mut sums = vec![0.0_f64; width];
                let mut weights = 0.0;
                for (at, state) in states[..len * width].chunks_exact(width).enumerate() {
                    let weight = if head == Head::WeightedPooling { (at + 1) as f64 } else { 1.0 };
                    weights += weight;
                    for (sum, &value) in sums.iter_mut().zip(state) {
                        *sum += f64::from(value) * weight;
                    }
                }
                let divisor = if head == Head::SqrtPooling { weights.sqrt() } else { weights };
                #[allow(clippy::cast_possible_truncation, reason = "rounding to f32 is meant")]
                pooled.extend(sums.iter().map(|sum| (sum / divisor) as f32));
            }
        }
    }
    Ok(pooled)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padding_never_enters_a_pooled_answer() {
        // Two rows of two columns, width 2; the second row has one token and rubbish after it.
        let values = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, f32::NAN, f32::NAN];
        let pool = |head| answers(head, 2, &[2, 2, 2], &values, &[2, 1]).unwrap();
        assert_eq!(pool(Head::MeanPooling), [2.0, 3.0, 5.0, 6.0]);
        assert_eq!(pool(Head::FirstPooling), [1.0, 2.0, 5.0, 6.0]);
        assert_eq!(pool(Head::LastPooling), [3.0, 4.0, 5.0, 6.0]);
        assert_eq!(pool(Head::MaxPooling), [3.0, 4.0, 5.0, 6.0]);
        assert_eq!(pool(Head::WeightedPooling), [7.0 / 3.0, 10.0 / 3.0, 5.0, 6.0]);
        // Four and six divided by the root of two, to the nearest f32.
        assert_eq!(pool(Head::SqrtPooling), [2.828_427, 4.242_640_5, 5.0, 6.0]);
        let error = answers(Head::Classifier, 1, &[2, 2, 2], &values, &[2, 1]).unwrap_err();
        assert!(error.to_string().contains("expected [2, 1]"), "{error}");
    }

    #[test]
    fn inputs_are_padded_on_the_right() {
        let long = Tokens { ids: vec![7, 8, 9], types: vec![0, 0, 1] };
        let short = Tokens { ids: vec![6], types: Vec::new() };
        let padded = Padded::new(&[&long, &short], 1);
        let numbers = |kind| padded.numbers(kind).collect::<Vec<_>>();
        assert_eq!(numbers(InputKind::Ids), [7, 8, 9, 6, 1, 1]);
        assert_eq!(numbers(InputKind::Types), [0, 0, 1, 0, 0, 0]);
        assert_eq!(numbers(InputKind::Mask), [1, 1, 1, 1, 0, 0]);
        assert_eq!(numbers(InputKind::Positions), [0, 1, 2, 0, 1, 2]);
    }
}
