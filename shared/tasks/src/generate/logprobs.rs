//! Log-probabilities of tokens, from logits as the model gives them.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::generate::job::{Logprob, Logprobs};
use crate::generate::pieces::Pieces;
use crate::generate::sampler::exp;

/// What stands for a probability of 0, as with `OpenAI`: JSON has no infinity.
const LEAST: f32 = -9999.0;

/// What the model said of `chosen` and of the `most` likeliest tokens.
pub(crate) fn logprobs(logits: &[f32], chosen: u32, most: usize, pieces: &Pieces) -> Logprobs {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let normaliser = f64::from(largest) + libm::log(exp::sum(logits, largest, 1.0));
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn they_are_logarithms_of_the_softmax(
            logits in prop::collection::vec(prop_oneof![(-3i8..4).prop_map(f32::from), -40.0f32..9.0], 1..40),
            chosen in any::<prop::sample::Index>(),
            most in 0usize..50,
        ) {
            let image = Pieces::compile(br#"{"model":{"vocab":{"a":0}},"decoder":{"type":"ByteLevel"}}"#).unwrap();
            let pieces = Pieces::open(image.into()).unwrap();
            let chosen = u32::try_from(chosen.index(logits.len())).unwrap();
            let told = logprobs(&logits, chosen, most, &pieces);
            let total: f64 = logits.iter().map(|&logit| f64::from(logit).exp()).sum();
            let expected = |id: u32| (f64::from(logits[id as usize]).exp() / total).ln();
            let mut order: Vec<u32> = (0..).take(logits.len()).collect();
            order.sort_by(|&a, &b| logits[b as usize].total_cmp(&logits[a as usize]));
            order.truncate(most);
            prop_assert_eq!(told.top.iter().map(|one| one.id).collect::<Vec<_>>(), order);
            prop_assert_eq!(told.chosen.id, chosen);
            let better = logits.iter().filter(|&&logit| logit > logits[chosen as usize]).count();
            prop_assert_eq!(told.rank, better + 1);
            for one in told.top.iter().chain([&told.chosen]) {
                prop_assert!((f64::from(one.logprob) - expected(one.id)).abs() < 1e-4);
                prop_assert_eq!(&one.bytes[..], if one.id == 0 { &b"a"[..] } else { &[] });
            }
        }
    }
}
