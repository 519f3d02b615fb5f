//! Vectors as they are stored in parts, and as they are written to the output.
//!
//! ```text
//! count (u32) of dense numbers, each an f32
//! count (u32) of sparse weights, each an id (u32) and an f32
//! rows (u32) and width (u32) of the ColBERT vectors, each number an f32
//! ```
//!
//! Little-endian; what was not asked for has count 0.

use anyhow::{Context, Result, ensure};
use defrost_api::Dtype;
use defrost_tasks::{Embedding, Outputs};

use crate::bulk::{Answer, Cell, Column, Element, Kind, Numbers};

/// An embedding as it is stored.
#[allow(
    clippy::cast_possible_truncation,
    reason = "a sequence has some thousand tokens, a vector some thousand numbers"
)]
pub(super) fn encode(embedding: &Embedding) -> Answer {
    let Embedding { dense, sparse, colbert, colbert_width, token_count, truncated, .. } = embedding;
    let numbers = dense.len() + 2 * sparse.len() + colbert.len() + 4;
    let mut bytes = Vec::with_capacity(4 * numbers);
    let count = |bytes: &mut Vec<u8>, count: usize| bytes.extend((count as u32).to_le_bytes());
    count(&mut bytes, dense.len());
    bytes.extend(dense.iter().flat_map(|number| number.to_le_bytes()));
    count(&mut bytes, sparse.len());
    for (id, weight) in sparse {
        bytes.extend(id.to_le_bytes());
        bytes.extend(weight.to_le_bytes());
    }
    count(&mut bytes, colbert.len() / (*colbert_width).max(1));
    count(&mut bytes, *colbert_width);
    bytes.extend(colbert.iter().flat_map(|number| number.to_le_bytes()));
    Answer { tokens: *token_count as u32, cut: u32::from(*truncated), bytes }
}

/// The columns of the output.
pub(super) fn columns(outputs: Outputs, dtype: Dtype) -> Vec<Column> {
    let dense = match dtype {
        Dtype::Float => Element::F32,
        Dtype::Int8 | Dtype::Binary => Element::I8,
        Dtype::Uint8 | Dtype::Ubinary => Element::U8,
    };
    let all = [
        (outputs.dense, "vector", Kind::List(dense)),
        (outputs.sparse, "sparse_indices", Kind::List(Element::U32)),
        (outputs.sparse, "sparse_values", Kind::List(Element::F32)),
        (outputs.colbert, "colbert", Kind::Lists(Element::F32)),
        (true, "tokens", Kind::Number),
        (true, "truncated", Kind::Bool),
    ];
    let wanted = all.into_iter().filter(|&(wanted, ..)| wanted);
    wanted.map(|(_, name, kind)| Column { name, kind }).collect()
}

/// Whether a number becomes another one, and not just the nearest, in this type.
fn is_outside(dtype: Dtype, number: f32) -> bool {
    match dtype {
        Dtype::Int8 => (number * 127.0).round().abs() > 127.0,
        Dtype::Uint8 => !(0.0..=255.0).contains(&((number + 1.0) * 127.5).round()),
        Dtype::Float | Dtype::Binary | Dtype::Ubinary => false,
    }
}

/// A stored embedding in these columns, and whether the type of numbers does not hold it.
pub(super) fn cells(answer: &Answer, outputs: Outputs, dtype: Dtype) -> Result<(Vec<Cell>, bool)> {
    let mut rest = &answer.bytes[..];
    let count = take_count(&mut rest)?;
    let dense = take_floats(&mut rest, count)?;
    let count = take_count(&mut rest)?;
    let sparse = take(&mut rest, count.checked_mul(8).context("a count is too large")?)?;
    let (rows, width) = (take_count(&mut rest)?, take_count(&mut rest)?);
    let colbert = take_floats(&mut rest, rows.checked_mul(width).context("a count is too large")?)?;
    ensure!(rest.is_empty(), "an answer is longer than it says");

    let mut cells = Vec::new();
    let is_clamped = dense.iter().any(|&number| is_outside(dtype, number));
    if outputs.dense {
        let numbers = match dtype {
            Dtype::Float => Numbers::F32(dense),
            Dtype::Int8 | Dtype::Binary => {
                let bytes = dtype.to_bytes(&dense).into_iter();
                Numbers::I8(bytes.map(u8::cast_signed).collect())
            }
            Dtype::Uint8 | Dtype::Ubinary => Numbers::U8(dtype.to_bytes(&dense)),
        };
        cells.push(Cell::List(numbers));
    }
    if outputs.sparse {
        let four = |bytes: &[u8]| [bytes[0], bytes[1], bytes[2], bytes[3]];
        let pairs = sparse.chunks_exact(8);
        let ids = pairs.clone().map(|pair| u32::from_le_bytes(four(pair)));
        cells.push(Cell::List(Numbers::U32(ids.collect())));
        let weights = pairs.map(|pair| f32::from_le_bytes(four(&pair[4..])));
        cells.push(Cell::List(Numbers::F32(weights.collect())));
    }
    if outputs.colbert {
        cells.push(Cell::Lists(Numbers::F32(colbert), width));
    }
    cells.push(Cell::Number(answer.tokens));
    cells.push(Cell::Bool(answer.cut > 0));
    Ok((cells, is_clamped))
}

fn take<'a>(rest: &mut &'a [u8], count: usize) -> Result<&'a [u8]> {
    let (taken, left) = rest.split_at_checked(count).context("an answer ends too early")?;
    *rest = left;
    Ok(taken)
}

fn take_count(rest: &mut &[u8]) -> Result<usize> {
    let four = take(rest, 4)?;
    Ok(u32::from_le_bytes([four[0], four[1], four[2], four[3]]) as usize)
}

fn take_floats(rest: &mut &[u8], count: usize) -> Result<Vec<f32>> {
    let bytes = take(rest, count.checked_mul(4).context("a count is too large")?)?;
    let four = |four: &[u8]| f32::from_le_bytes([four[0], four[1], four[2], four[3]]);
    Ok(bytes.chunks_exact(4).map(four).collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_stored_is_written(
            dense in prop::collection::vec(-1f32..1.0, 0..20),
            sparse in prop::collection::vec((0u32..1000, 0f32..1.0), 0..9),
            rows in 0usize..5,
            width in 1usize..4,
        ) {
            let colbert: Vec<f32> = (0u8..20).map(f32::from).take(rows * width).collect();
            let embedding = Embedding {
                dense: dense.clone(),
                sparse: sparse.clone(),
                colbert: colbert.clone(),
                colbert_width: width,
                token_count: 7,
                truncated: true,
                ..Embedding::default()
            };
            let outputs = Outputs { dense: true, sparse: true, colbert: true, tokens: false };
            let answer = encode(&embedding);
            let (found, _) = cells(&answer, outputs, Dtype::Float).unwrap();
            let (ids, weights) = sparse.into_iter().unzip();
            prop_assert_eq!(found, vec![
                Cell::List(Numbers::F32(dense)),
                Cell::List(Numbers::U32(ids)),
                Cell::List(Numbers::F32(weights)),
                Cell::Lists(Numbers::F32(colbert), width),
                Cell::Number(7),
                Cell::Bool(true),
            ]);
            prop_assert_eq!(columns(outputs, Dtype::Float).len(), 6);
            let short = Answer { bytes: answer.bytes[..answer.bytes.len() - 1].to_vec(), ..answer };
            prop_assert!(cells(&short, outputs, Dtype::Float).is_err());
        }
    }
}
