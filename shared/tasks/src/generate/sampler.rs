//! How the next token is chosen from logits; the steps and their order are those of [`Sampling`].
//!
//! A choice depends on the logits, the tokens before, the task and the place, never on what else runs: the random number of
//! a place is made of the seed, the number of the completion and that of the token ([`random`]). Exponentials are those of
//! `libm`, the same on every machine, and sums run in a fixed order.
//!
//! Most of a vocabulary never matters: candidates lie in a heap, which takes one pass to build, and only as many leave it as
//! the limits take, likeliest first.

use std::collections::{BinaryHeap, HashMap};

use defrost_model::TokenMask;

use crate::Sampling;

/// The tokens before a place, as penalties see them.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    /// How often the completion has each token that it or the prompt has. Empty where no penalty asks.
    counts: HashMap<u32, u32>,
    counting: bool,
}

impl Seen {
    pub(crate) fn new(sampling: &Sampling, prompt: &[u32]) -> Self {
        let repeats = sampling.repetition_penalty != 1.0;
        let counting =
            repeats || sampling.frequency_penalty != 0.0 || sampling.presence_penalty != 0.0;
        let prompt = prompt.iter().filter(|_| repeats);
        Self { counts: prompt.map(|&id| (id, 0)).collect(), counting }
    }

    /// The completion has one token more.
    pub(crate) fn push(&mut self, id: u32) {
        if self.counting {
            *self.counts.entry(id).or_default() += 1;
        }
    }

    fn penalise(&self, sampling: &Sampling, tokens: &[u32], logits: &mut [f32]) {
        if !self.counting {
            return;
        }
        let mut repeat = |id: u32| {
            if let Some(logit) = logits.get_mut(id as usize) {
                let by = sampling.repetition_penalty;
                *logit = if *logit > 0.0 { *logit / by } else { *logit * by };
            }
        };
        if sampling.repetition_penalty != 1.0 {
            match sampling.repetition_window {
                None => self.counts.keys().copied().for_each(&mut repeat),
                Some(window) => {
                    let mut last = tokens[tokens.len().saturating_sub(window)..].to_vec();
                    last.sort_unstable();
                    last.dedup();
                    last.into_iter().for_each(&mut repeat);
                }
            }
        }
        for (&id, &count) in self.counts.iter().filter(|(_, count)| **count > 0) {
            if let Some(logit) = logits.get_mut(id as usize) {
                let each = sampling.frequency_penalty * count as f32;
                *logit -= each + sampling.presence_penalty;
            }
        }
    }
}

/// Where a token is chosen.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place<'a> {
    pub(crate) sampling: &'a Sampling,
    /// All tokens before it, prompt included.
    pub(crate) tokens: &'a [u32],
    pub(crate) seen: &'a Seen,
    /// The number of the completion.
    pub(crate) choice: usize,
    /// The number of the token in it.
    pub(crate) position: usize,
    /// The tokens that may come; `None`: all.
    pub(crate) allowed: Option<&'a TokenMask>,
    /// Tokens that may not.
    pub(crate) forbidden: &'a [u32],
}

/// The token that comes at a place, of which the model says this; the reason, if there is none.
pub(crate) fn choose(mut logits: Vec<f32>, place: &Place<'_>) -> Result<u32, &'static str> {
    let sampling = place.sampling;
    place.seen.penalise(sampling, place.tokens, &mut logits);
    for &(id, bias) in &sampling.logit_bias {
        if let Some(logit) = logits.get_mut(id as usize) {
            *logit += bias;
        }
    }
    for &id in place.forbidden {
        if let Some(logit) = logits.get_mut(id as usize) {
            *logit = f32::NEG_INFINITY;
        }
    }
    let mut candidates = match place.allowed {
        None => candidates(logits.iter().copied().zip(0..), sampling)?,
        Some(mask) => {
            let allowed = mask.iter().filter_map(|id| Some((*logits.get(id as usize)?, id)));
            candidates(allowed, sampling)?
        }
    };
    if sampling.is_greedy() {
        let best = candidates.into_iter().max_by_key(|candidate| candidate.0);
        return best.map(Candidate::id).ok_or(NOTHING);
    }
    let random = random(sampling.seed, place.choice, place.position);
    draw(&mut candidates, sampling, random)
}

const NOTHING: &str = "all tokens are ruled out, by the grammar or by logit_bias";
const NO_NUMBER: &str = "the model's logits are not finite numbers";

/// A token that may come: its logit, in an order of whole numbers, above the complement of its id, so that the largest is the
/// likeliest, of equals that of the lowest id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Candidate(u64);

impl Candidate {
    fn new(logit: f32, id: u32) -> Self {
        // Both zeros are equal.
        let bits = (logit + 0.0).to_bits();
        let ordered = if bits >> 31 == 1 { !bits } else { bits | 1 << 31 };
        Self(u64::from(ordered) << 32 | u64::from(!id))
    }

    fn id(self) -> u32 {
        !low(self.0)
    }

    fn logit(self) -> f32 {
        let ordered = low(self.0 >> 32);
        f32::from_bits(if ordered >> 31 == 1 { ordered & !(1 << 31) } else { !ordered })
    }
}

#[allow(clippy::cast_possible_truncation, reason = "the lower half is what is meant")]
fn low(word: u64) -> u32 {
    word as u32
}

/// The tokens that have a chance, by their logits over the temperature.
fn candidates(
    logits: impl Iterator<Item = (f32, u32)>,
    sampling: &Sampling,
) -> Result<Vec<Candidate>, &'static str> {
    let temperature = if sampling.is_greedy() { 1.0 } else { sampling.temperature };
    let mut found = Vec::new();
    for (logit, id) in logits {
        if logit.is_nan() || logit == f32::INFINITY {
            return Err(NO_NUMBER);
        }
        if logit > f32::NEG_INFINITY {
            // A temperature near 0 must not make infinities, which would be equal to each other.
            let logit = (logit / temperature).clamp(f32::MIN, f32::MAX);
            found.push(Candidate::new(logit, id));
        }
    }
    if found.is_empty() { Err(NOTHING) } else { Ok(found) }
}

/// A candidate that has left the heap, and its probability as a part of the likeliest one's.
#[derive(Debug, Clone, Copy)]
struct Ranked {
    id: u32,
    weight: f64,
}

/// Draws one by its probability among what the limits leave; `random` is from 0 to below 1.
fn draw(
    candidates: &mut Vec<Candidate>,
    sampling: &Sampling,
    random: f64,
) -> Result<u32, &'static str> {
    let best = candidates.iter().max().ok_or(NOTHING)?.logit();
    let weigh = |candidate: Candidate| f64::from(libm::expf(candidate.logit() - best));
    let rank = |candidate: Candidate| Ranked { id: candidate.id(), weight: weigh(candidate) };
    let top_k = if sampling.top_k == 0 { usize::MAX } else { sampling.top_k };
    let is_cut = top_k < candidates.len();
    let mut left = Left {
        // All that are left weigh so much together, where that is known without ranking them.
        total: (!is_cut).then(|| candidates.iter().map(|&candidate| weigh(candidate)).sum()),
        ranked: Vec::new(),
        heap: BinaryHeap::from(std::mem::take(candidates)),
    };
    if is_cut || sampling.typical_p < 1.0 {
        while left.ranked.len() < top_k
            && let Some(candidate) = left.heap.pop()
        {
            left.ranked.push(rank(candidate));
        }
        left.heap.clear();
        left.total = None;
    }
    if sampling.typical_p < 1.0 {
        keep_typical(&mut left.ranked, f64::from(sampling.typical_p));
    }
    let total = left.total.unwrap_or_else(|| sum(&left.ranked));
    // Without any of these limits, as many are ranked as it takes to find the one that is drawn.
    let (top_p, min_p) = (f64::from(sampling.top_p), f64::from(sampling.min_p));
    let is_limited = top_p < 1.0 || min_p > 0.0;
    let until = if is_limited { top_p } else { random };
    let mut kept: Vec<Ranked> = Vec::new();
    let mut weight = 0.0;
    let rest = std::iter::from_fn(|| left.heap.pop().map(rank));
    for ranked in left.ranked.iter().copied().chain(rest) {
        // The likeliest one is the first.
        let least = min_p * kept.first().map_or(ranked.weight, |first| first.weight);
        if ranked.weight < least {
            break;
        }
        weight += ranked.weight;
        kept.push(ranked);
        if is_limited && top_p < 1.0 && weight >= until * total
            || !is_limited && weight > until * total
        {
            break;
        }
    }
    let total = if is_limited { sum(&kept) } else { total };
    let mut passed = 0.0;
    let found = kept.iter().find(|ranked| {
        passed += ranked.weight;
        passed > random * total
    });
    // Where rounding leaves the last one short of the total.
    let last = || kept.iter().rfind(|ranked| ranked.weight > 0.0);
    found.or_else(last).map(|ranked| ranked.id).ok_or(NOTHING)
}

/// What the limits have left so far: what is ranked, then what the heap still holds.
#[derive(Debug)]
struct Left {
    ranked: Vec<Ranked>,
    heap: BinaryHeap<Candidate>,
    total: Option<f64>,
}

fn sum(ranked: &[Ranked]) -> f64 {
    ranked.iter().map(|ranked| ranked.weight).sum()
}

/// Keeps those whose surprise is closest to the expected one and that together have this probability, in their order.
fn keep_typical(ranked: &mut Vec<Ranked>, typical_p: f64) {
    let total = sum(ranked);
    let surprise = |ranked: &Ranked| -libm::log(ranked.weight / total);
    let part = |ranked: &Ranked| ranked.weight / total;
    let with_weight = |ranked: &&Ranked| ranked.weight > 0.0;
    let expected: f64 =
        ranked.iter().filter(with_weight).map(|ranked| part(ranked) * surprise(ranked)).sum();
    let mut order: Vec<usize> = (0..ranked.len()).collect();
    let distance = |at: &usize| (surprise(&ranked[*at]) - expected).abs();
    order.sort_by(|a, b| distance(a).total_cmp(&distance(b)));
    let mut weight = 0.0;
    let mut keep = vec![false; ranked.len()];
    for at in order {
        keep[at] = true;
        weight += ranked[at].weight;
        if weight >= typical_p * total {
            break;
        }
    }
    let mut keep = keep.into_iter();
    ranked.retain(|_| keep.next() == Some(true));
}

/// A number from 0 to below 1 that belongs to a place: three rounds of the mixer of `SplitMix64` (Steele, Lea and Flood, 2014).
fn random(seed: u64, choice: usize, position: usize) -> f64 {
    const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
    let mix = |state: u64, with: usize| {
        let mut word = (state ^ with as u64).wrapping_add(STEP);
        word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ word >> 31
    };
    let word = mix(mix(mix(seed, 0), choice), position);
    // 53 bits are what such a number holds.
    (word >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests;
