//! From what the model said about a sequence to the vectors that were asked for.
//!
//! The rules of the sparse and `ColBERT` vectors are `FlagEmbedding`'s (`FlagEmbedding/inference/embedder/encoder_only/m3.py`):
//!
//! - sparse: `relu(sparse_linear(h))` of every token, the largest of each token id, none for cls, eos, pad and unk, and
//!   only what is above 0;
//! - `ColBERT`: `colbert_linear(h)` of every token but the first, each scaled to length 1.
//!
//! Dense vectors are pooled by the engine, cut here to the wanted dimensions, then scaled to length 1.

use std::collections::{BTreeMap, BTreeSet};

use defrost_model::{Answers, Tokens};

use super::{Embedding, Outputs};
use crate::prepared::Said;

/// What does not change between inputs of a request.
#[derive(Debug)]
pub(super) struct Rules {
    pub(super) outputs: Outputs,
    pub(super) dimensions: Option<usize>,
    /// Whether dense vectors get the length 1.
    pub(super) normalize: bool,
    /// Width of the pooled vector, and of a hidden state.
    pub(super) hidden: usize,
    pub(super) weightless: BTreeSet<u32>,
    pub(super) colbert_width: usize,
}

impl Rules {
    /// The vectors of one sequence; `None` if a number in them is not finite. A sequence without tokens has a dense vector
    /// of zeros and no others.
    pub(super) fn embedding(&self, said: Said<'_>, truncated: bool) -> Option<Embedding> {
        let outputs = self.outputs;
        let (no_tokens, nothing) =
            (Tokens::default(), Answers { pooled: vec![0.0; self.hidden], ..Answers::default() });
        let (tokens, said) = said.unwrap_or((&no_tokens, &nothing));
        let mut out =
            Embedding { token_count: tokens.ids.len(), truncated, ..Embedding::default() };
        if outputs.dense {
            out.dense = self.dense(&said.pooled);
        }
        if outputs.sparse {
            out.sparse = self.sparse(&tokens.ids, &said.sparse);
        }
        if outputs.colbert {
            out.colbert_width = self.colbert_width;
            out.colbert = said.colbert.get(self.colbert_width..).unwrap_or_default().to_vec();
            out.colbert.chunks_exact_mut(self.colbert_width).for_each(normalize);
        }
        if outputs.tokens {
            out.tokens.clone_from(&said.hidden);
        }
        let weights = said.sparse.iter().filter(|_| outputs.sparse);
        let mut numbers = out.dense.iter().chain(weights).chain(&out.colbert).chain(&out.tokens);
        numbers.all(|number| number.is_finite()).then_some(out)
    }

    fn dense(&self, pooled: &[f32]) -> Vec<f32> {
        let mut dense =
            pooled[..self.dimensions.unwrap_or(pooled.len()).min(pooled.len())].to_vec();
        if self.normalize {
            normalize(&mut dense);
        }
        dense
    }

    fn sparse(&self, ids: &[u32], weights: &[f32]) -> Vec<(u32, f32)> {
        let mut largest = BTreeMap::new();
        for (&id, &weight) in ids.iter().zip(weights) {
            if weight > 0.0 && !self.weightless.contains(&id) {
                let known = largest.entry(id).or_insert(weight);
                *known = weight.max(*known);
            }
        }
        largest.into_iter().collect()
    }
}

/// Scales a vector to length 1. The floor is that of torch: a vector of zeros stays one.
#[allow(clippy::cast_possible_truncation, reason = "rounding to f32 is meant")]
fn normalize(vector: &mut [f32]) {
    let square: f64 = vector.iter().map(|&value| f64::from(value) * f64::from(value)).sum();
    let norm = square.sqrt().max(1e-12);
    for value in vector {
        *value = (f64::from(*value) / norm) as f32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(outputs: Outputs, dimensions: Option<usize>, normalize: bool) -> Rules {
        let weightless = BTreeSet::from([0, 2]);
        Rules { outputs, dimensions, normalize, hidden: 2, weightless, colbert_width: 2 }
    }

    #[test]
    fn each_output_follows_its_rule() {
        let outputs = Outputs { dense: true, sparse: true, colbert: true, tokens: true };
        let tokens = Tokens { ids: vec![0, 7, 5, 7, 2], types: Vec::new() };
        let said = Answers {
            pooled: vec![3.0, 4.0],
            hidden: (0u8..10).map(f32::from).collect(),
            sparse: vec![9.0, 0.5, 0.0, 0.75, 9.0],
            colbert: vec![9.0, 9.0, 0.0, 2.0, 4.0, 3.0, 1.0, 0.0, 0.0, -1.0],
        };
        let found = rules(outputs, None, true).embedding(Some((&tokens, &said)), true).unwrap();
        assert_eq!(found.dense, [0.6, 0.8]);
        assert_eq!(found.sparse, [(7, 0.75)]);
        assert_eq!(found.colbert, [0.0, 1.0, 0.8, 0.6, 1.0, 0.0, 0.0, -1.0]);
        assert_eq!((found.colbert_width, found.token_count, found.truncated), (2, 5, true));
        assert_eq!(found.tokens, said.hidden);

        let dense = Outputs::default();
        let found = rules(dense, Some(1), true).embedding(Some((&tokens, &said)), false).unwrap();
        assert_eq!(found, Embedding { dense: vec![1.0], token_count: 5, ..Embedding::default() });
        let found = rules(dense, Some(1), false).embedding(Some((&tokens, &said)), false).unwrap();
        assert_eq!(found.dense, [3.0]);
    }

    #[test]
    fn what_is_not_finite_is_no_answer_and_nothing_is_zero() {
        let tokens = Tokens { ids: vec![1], types: Vec::new() };
        let said = |pooled: f32, weight: f32| Answers {
            pooled: vec![pooled, 0.0],
            sparse: vec![weight],
            ..Answers::default()
        };
        let rules = rules(Outputs { sparse: true, ..Outputs::default() }, None, false);
        let find = |said: &Answers| rules.embedding(Some((&tokens, said)), false);
        assert!(find(&said(1.0, 1.0)).is_some());
        assert!(find(&said(f32::NAN, 1.0)).is_none());
        assert!(find(&said(1.0, f32::NAN)).is_none());
        assert!(find(&said(1.0, f32::INFINITY)).is_none());
        let empty = rules.embedding(None, false).unwrap();
        assert_eq!(empty, Embedding { dense: vec![0.0; 2], ..Embedding::default() });
    }
}
