//! How the next token is chosen from logits; the steps and their order are those of [`Sampling`].
//!
//! A choice depends on the logits, the tokens before, the task and the place, never on what else runs: the random number of
//! a place is made of the seed, the number of the completion and that of the token ([`random`]). Nothing is asked of the
//! machine's own library: exponentials are [`exp`], and sums run in a fixed order, so that equal logits are equal choices on every
//! machine.
//!
//! Most of a vocabulary never matters: a few passes find the likeliest token and the sum of all probabilities, and only as many
//! tokens are ranked as the limits take ([`Ranks`]); without limits, none.

pub(crate) mod exp;

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
        let repeats = sampling.penalises_repetition();
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
        if sampling.penalises_repetition() {
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
    // Where few may come, the others are left out of all that follows; ids stay in order.
    let ids: Option<Vec<u32>> = place.allowed.map(|mask| mask.iter().collect());
    if let Some(ids) = &ids {
        logits = ids.iter().filter_map(|&id| logits.get(id as usize).copied()).collect();
    }
    let at = choose_place(&logits, place)?;
    Ok(ids.map_or(at, |ids| ids[at as usize]))
}

const NOTHING: &str = "all tokens are ruled out, by the grammar or by logit_bias";
const NO_NUMBER: &str = "the model's logits are not finite numbers";

/// The place of the one that is chosen.
fn choose_place(logits: &[f32], place: &Place<'_>) -> Result<u32, &'static str> {
    let sampling = place.sampling;
    let best = largest(logits).ok_or(NO_NUMBER)?;
    if best == f32::NEG_INFINITY {
        return Err(NOTHING);
    }
    if sampling.is_greedy() {
        let first = (0..).zip(logits).find(|(_, logit)| **logit >= best);
        return first.map(|(at, _)| at).ok_or(NOTHING);
    }
    let random = random(sampling.seed, place.choice, place.position);
    draw(logits, best, sampling, random)
}

/// The largest of all; `None` if one is no finite number, unless it is ruled out. Several at once, as there is no order in it.
fn largest(logits: &[f32]) -> Option<f32> {
    let (chunks, rest) = logits.as_chunks::<16>();
    let mut largest = [f32::NEG_INFINITY; 16];
    let mut are_right = [true; 16];
    let chunks = chunks.iter().map(|chunk| &chunk[..]).chain([rest]);
    for chunk in chunks {
        for ((most, is_right), &logit) in largest.iter_mut().zip(&mut are_right).zip(chunk) {
            *most = if logit > *most { logit } else { *most };
            *is_right &= logit < f32::INFINITY;
        }
    }
    let is_right = are_right.iter().all(|&is_right| is_right);
    is_right.then(|| largest.into_iter().fold(f32::NEG_INFINITY, f32::max))
}

/// A token that may come: its logit, in an order of whole numbers, above the complement of its place, so that the largest is the
/// likeliest, of equals the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Candidate(u64);

impl Candidate {
    fn new(logit: f32, at: u32) -> Self {
        // Both zeros are equal.
        let bits = (logit + 0.0).to_bits();
        let ordered = if bits >> 31 == 1 { !bits } else { bits | 1 << 31 };
        Self(u64::from(ordered) << 32 | u64::from(!at))
    }

    fn at(self) -> u32 {
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

/// All that may come, likeliest first, without sorting more than is asked for: those near the best come first, then those of
/// lower and lower bands.
#[derive(Debug)]
struct Ranks<'a> {
    logits: &'a [f32],
    best: f32,
    temperature: f32,
    /// The band that the heap holds reaches down to it.
    floor: f32,
    /// How far below the best the next band reaches, over the temperature.
    depth: f32,
    heap: BinaryHeap<Candidate>,
}

impl<'a> Ranks<'a> {
    fn new(logits: &'a [f32], best: f32, temperature: f32) -> Self {
        Self {
            logits,
            best,
            temperature,
            floor: f32::INFINITY,
            depth: FIRST_BAND,
            heap: BinaryHeap::new(),
        }
    }

    /// Everything, for whoever ranks all.
    fn all(self) -> Self {
        Self { depth: f32::INFINITY, ..self }
    }
}

/// A token that is so far below the best is 20 times less likely. Mostly all that is drawn from lies above.
const FIRST_BAND: f32 = 3.0;
/// Each band reaches so many times as far down as the one before; after [`LAST_BAND`] comes all the rest.
const WIDER: f32 = 3.0;
const LAST_BAND: f32 = 30.0;

/// A candidate in its rank, and its probability as a part of the likeliest one's.
#[derive(Debug, Clone, Copy)]
struct Ranked {
    at: u32,
    weight: f64,
}

impl Iterator for Ranks<'_> {
    type Item = Ranked;

    fn next(&mut self) -> Option<Ranked> {
        while self.heap.is_empty() && self.floor > f32::NEG_INFINITY {
            let is_last = self.depth > LAST_BAND;
            let below = self.best - self.depth * self.temperature;
            let next = if is_last { f32::NEG_INFINITY } else { below };
            self.heap = band(self.logits, next, self.floor).into();
            (self.floor, self.depth) = (next, self.depth * WIDER);
        }
        let candidate = self.heap.pop()?;
        let weight = exp::exp((candidate.logit() - self.best) / self.temperature);
        Some(Ranked { at: candidate.at(), weight: f64::from(weight) })
    }
}

/// Those from `least` to below `floor`, in their order.
fn band(logits: &[f32], least: f32, floor: f32) -> Vec<Candidate> {
    let mut found = Vec::new();
    for (first, chunk) in (0..).step_by(16).zip(logits.chunks(16)) {
        // Mostly there is none in so many, which is seen at once.
        let larger = |most: f32, logit: f32| if logit > most { logit } else { most };
        if chunk.iter().copied().fold(f32::NEG_INFINITY, larger) >= least {
            for (at, &logit) in (first..).zip(chunk) {
                if logit >= least && logit < floor && logit > f32::NEG_INFINITY {
                    found.push(Candidate::new(logit, at));
                }
            }
        }
    }
    found
}

/// Draws one by its probability among what the limits leave; `random` is from 0 to below 1.
fn draw(logits: &[f32], best: f32, sampling: &Sampling, random: f64) -> Result<u32, &'static str> {
    let ranks = Ranks::new(logits, best, sampling.temperature);
    let top_k = if sampling.top_k == 0 { usize::MAX } else { sampling.top_k };
    let is_typical = sampling.typical_p < 1.0;
    if top_k >= logits.len() && !is_typical {
        let total = exp::sum(logits, best, sampling.temperature);
        if sampling.top_p < 1.0 || sampling.min_p > 0.0 {
            return draw_ranked(ranks, total, sampling, random);
        }
        // Nobody asks who is likelier.
        let weigh = |logit: f32| f64::from(exp::exp((logit - best) / sampling.temperature));
        let all = (0..).zip(logits).map(|(at, &logit)| Ranked { at, weight: weigh(logit) });
        return draw_one(all, total, random);
    }
    let ranks = if top_k >= logits.len() { ranks.all() } else { ranks };
    let mut left: Vec<Ranked> = ranks.take(top_k).collect();
    if is_typical {
        keep_typical(&mut left, f64::from(sampling.typical_p));
    }
    let total = sum(&left);
    draw_ranked(left.into_iter(), total, sampling, random)
}

/// Draws one of these, which are in the order of their ranks and weigh `total` together, by what `top_p` and `min_p` leave.
fn draw_ranked(
    ranks: impl Iterator<Item = Ranked>,
    total: f64,
    sampling: &Sampling,
    random: f64,
) -> Result<u32, &'static str> {
    let (top_p, min_p) = (f64::from(sampling.top_p), f64::from(sampling.min_p));
    let mut kept: Vec<Ranked> = Vec::new();
    let mut weight = 0.0;
    for ranked in ranks {
        // The likeliest one is the first.
        let least = min_p * kept.first().map_or(ranked.weight, |first| first.weight);
        if ranked.weight < least {
            break;
        }
        weight += ranked.weight;
        kept.push(ranked);
        if top_p < 1.0 && weight >= top_p * total {
            break;
        }
    }
    draw_one(kept.iter().copied(), sum(&kept), random)
}

/// Draws one of these, which weigh `total` together.
fn draw_one(
    all: impl Iterator<Item = Ranked>,
    total: f64,
    random: f64,
) -> Result<u32, &'static str> {
    let (mut passed, mut last) = (0.0, None);
    for Ranked { at, weight } in all.filter(|ranked| ranked.weight > 0.0) {
        passed += weight;
        last = Some(at);
        if passed > random * total {
            break;
        }
    }
    // Rounding may leave the last one short of the total.
    last.ok_or(NOTHING)
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
