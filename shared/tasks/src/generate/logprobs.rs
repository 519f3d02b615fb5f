//! Log-probabilities of tokens, from logits as the model gives them.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::generate::job::{Logprob, Logprobs};
use crate::generate::pieces::Pieces;

/// What stands for a probability of 0, as with `OpenAI`: JSON has no infinity.
const LEAST: f32 = -9999.0;

/// What the model said of `chosen` and of the `most` likeliest tokens.
pub(crate) fn logprobs(logits: &[f32], chosen: u32, most: usize, pieces: &Pieces) -> Logprobs {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let total: f64 = logits.iter().map(|&logit| f64::from(libm::expf(logit - largest))).sum();
    let normaliser = f64::from(largest) + libm::log(total);
    #[allow(clippy::cast_possible_truncation, reason = "f32 is what logits have")]
    let of = |id: u32, logit: f32| Logprob {
        id,
        logprob: ((f64::from(logit) - normaliser) as f32).max(LEAST),
        bytes: pieces.bytes(id).to_vec(),
    };
    let logit = logits.get(chosen as usize).copied().unwrap_or(f32::NEG_INFINITY);
    let rank = 1 + logits.iter().filter(|&&other| other > logit).count();
    Logprobs {
        chosen: of(chosen, logit),
        rank,
        top: likeliest(logits, most).into_iter().map(|(logit, id)| of(id, logit)).collect(),
    }
}

/// The largest so many, largest first; of equals the lower id.
fn likeliest(logits: &[f32], most: usize) -> Vec<(f32, u32)> {
    #[derive(PartialEq)]
    struct Entry(f32, u32);
    impl Eq for Entry {}
    impl Ord for Entry {
        fn cmp(&self, other: &Self) -> std::cmp::Ordering {
            self.0.total_cmp(&other.0).then(other.1.cmp(&self.1))
        }
    }
    impl PartialOrd for Entry {
        fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
            Some(self.cmp(other))
        }
    }
    let mut kept: BinaryHeap<Reverse<Entry>> = BinaryHeap::with_capacity(most + 1);
    for (&logit, id) in logits.iter().zip(0..) {
        let entry = Entry(logit + 0.0, id);
        if kept.len() < most {
            kept.push(Reverse(entry));
        } else if kept.peek().is_some_and(|Reverse(least)| *least < entry) {
            kept.pop();
            kept.push(Reverse(entry));
        }
    }
    // Ascending by the reversed order, which is descending.
    kept.into_sorted_vec().into_iter().map(|Reverse(Entry(logit, id))| (logit, id)).collect()
}
