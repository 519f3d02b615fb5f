//! What a sequence costs in a pass, by the one rule that the scheduler and the pass both obey.
//!
//! ```text
//! sequences of a job --shares--> Share each --(micro-batches)--> Planned --Runner::run--> one pass
//! ```
//!
//! What need not be computed twice is not:
//!
//! - Sequences of a causal model that begin alike (the template, the instruction, the query) form a *run*: those of it that
//!   are in one micro-batch compute their common beginning once.
//! - What they begin with as far as it is stored with the weights, they do not compute at all.
//!
//! Neither changes an answer by a bit, because a sequence's answer depends on its tokens alone. Runs are found once for a
//! job, before anything is cut into micro-batches, so that a sequence's cost is known from its [`Share`] and from whether
//! the one before it is in the same micro-batch: [`Cost`]. A runner computes exactly that many tokens.
//!
//! A runner that takes rectangles computes its padding too, see [`Measure`].

use std::borrow::Borrow;

use crate::Tokens;

/// Shortest beginning worth sharing: fewer tokens do not fill a tile of the kernels.
const SHORTEST_PREFIX: usize = 8;

/// How a runner likes the sequences of a job grouped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grouping<'a> {
    /// Sequences stay as they come: none influences another, or costs less beside it.
    AsTheyCome,
    /// Sequences that begin alike are together, and their beginning is run once; the ids are those of the stored
    /// prefix, which is not run at all.
    ByBeginning(&'a [u32]),
    /// Sequences of like length are together, longest first: shorter ones are padded.
    ByLength,
    /// Each sequence has a pass of its own.
    OneByOne,
}

impl Grouping<'_> {
    /// How full a micro-batch of such sequences is.
    pub fn measure(self) -> Measure {
        match self {
            Self::AsTheyCome | Self::ByBeginning(_) => Measure::Tokens,
            Self::ByLength => Measure::Rectangle,
            Self::OneByOne => Measure::One,
        }
    }
}

/// How full a micro-batch is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Measure {
    /// A micro-batch counts as many tokens as its sequences cost.
    Tokens,
    /// A micro-batch counts its sequences times the tokens of the longest of them.
    Rectangle,
    /// A micro-batch is full with one sequence.
    One,
}

/// How a sequence comes by its beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Share {
    /// The number of tokens that the sequence has in common with the stored prefix.
    pub stored: usize,
    /// The number of tokens after those that all sequences of its run begin with; 0 if the sequence is alone.
    pub prefix: usize,
    /// Whether the sequence belongs to the run of the one before it.
    pub joins: bool,
}

/// Tokens to compute for a sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cost {
    /// The cost in a micro-batch without the sequence before it.
    pub alone: usize,
    /// The cost in one micro-batch with the sequence before it.
    pub beside: usize,
}

impl Share {
    /// What a sequence of `len` tokens costs.
    pub fn cost(self, len: usize) -> Cost {
        let alone = len - self.stored;
        Cost { alone, beside: if self.joins { alone - self.prefix } else { alone } }
    }
}

/// A sequence of a micro-batch.
#[derive(Debug, Clone, Copy)]
pub struct Planned<'a> {
    /// The tokens of the sequence, at least one.
    pub tokens: &'a Tokens,
    /// The way in which it comes by its beginning. The first of a job's sequences in a micro-batch joins none.
    pub share: Share,
}

/// What each of a job's sequences costs.
pub fn costs<'a>(
    sequences: &'a [Tokens],
    shares: &'a [Share],
) -> impl Iterator<Item = Cost> + use<'a> {
    sequences.iter().zip(shares).map(|(tokens, share)| share.cost(tokens.ids.len()))
}

/// Sequences of a job that follow each other, as they are run in one micro-batch.
pub fn planned<'a>(
    sequences: &'a [Tokens],
    shares: &'a [Share],
) -> impl Iterator<Item = Planned<'a>> {
    sequences.iter().zip(shares).enumerate().map(|(at, (tokens, share))| {
        let joins = share.joins && at > 0;
        Planned { tokens, share: Share { joins, ..*share } }
    })
}

/// How each of a job's sequences, none of them empty, comes by its beginning.
pub fn shares(sequences: &[impl Borrow<Tokens>], grouping: Grouping<'_>) -> Vec<Share> {
    let Grouping::ByBeginning(stored) = grouping else {
        return vec![Share::default(); sequences.len()];
    };
    // A sequence always keeps a token of its own, which the head reads.
    let stored_of = |ids: &[u32]| common_prefix(&ids[..ids.len() - 1], stored);
    let rests: Vec<(usize, &[u32])> = sequences
        .iter()
        .map(|tokens| &tokens.borrow().ids[..])
        .map(|ids| (stored_of(ids), ids))
        .map(|(stored, ids)| (stored, &ids[stored..]))
        .collect();
    let mut shares = Vec::with_capacity(sequences.len());
    while shares.len() < rests.len() {
        let run = Run::start(&rests[shares.len()..]);
        let (stored, _) = rests[shares.len()];
        for member in 0..run.members {
            shares.push(Share { stored, prefix: run.prefix, joins: member > 0 });
        }
    }
    shares
}

/// Sequences that follow each other and share a beginning, or one alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Run {
    members: usize,
    /// Tokens after the stored ones that they share.
    prefix: usize,
}

impl Run {
    /// The run that sequences (how many tokens of each are stored, and the others) start with: it goes on while sharing
    /// with the next one saves more than ending here.
    fn start(sequences: &[(usize, &[u32])]) -> Self {
        let (stored, first) = sequences[0];
        let mut run = Self { members: 1, prefix: 0 };
        let mut common = first.len() - 1;
        for &(next_stored, next) in &sequences[1..] {
            let shared = common_prefix(&first[..common], next).min(next.len() - 1);
            let saved = shared * run.members;
            let before = run.prefix * (run.members - 1);
            if shared < SHORTEST_PREFIX || saved < before || next_stored != stored {
                break;
            }
            common = shared;
            run = Self { members: run.members + 1, prefix: shared };
        }
        run
    }
}

/// A micro-batch that fills up.
#[derive(Debug, Clone)]
pub struct Filling {
    measure: Measure,
    budget: usize,
    sequences: usize,
    tokens: usize,
    longest: usize,
}

impl Filling {
    /// An empty one, which takes `budget` tokens, or one sequence that has more.
    pub fn new(measure: Measure, budget: usize) -> Self {
        Self { measure, budget, sequences: 0, tokens: 0, longest: 0 }
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.sequences == 0
    }

    /// Takes a sequence that costs so many tokens here; gives it back, and stays as it is, if there is no room.
    #[must_use]
    pub fn take(&mut self, cost: usize) -> bool {
        let (sequences, tokens) = (self.sequences + 1, self.tokens + cost);
        let longest = self.longest.max(cost);
        let fits = match self.measure {
            Measure::Tokens => tokens <= self.budget,
            Measure::Rectangle => sequences.saturating_mul(longest) <= self.budget,
            Measure::One => false,
        };
        if fits || self.is_empty() {
            *self = Self { sequences, tokens, longest, ..self.clone() };
            return true;
        }
        false
    }
}

/// How many ids both begin with.
pub fn common_prefix(a: &[u32], b: &[u32]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tokens(ids: &[u32]) -> Tokens {
        Tokens { ids: ids.to_vec(), types: Vec::new() }
    }

    /// Sequences of several requests with the same template: (request, document) to ids.
    fn sequences(documents: &[(u32, Vec<u32>)]) -> Vec<Tokens> {
        documents
            .iter()
            .map(|(query, document)| {
                let template: Vec<u32> = (100..112).collect();
                tokens(&[&template[..], &[*query; 20], document, &[7, 8]].concat())
            })
            .collect()
    }

    /// The cost of all sequences in one micro-batch.
    fn total(all: &[Tokens], grouping: Grouping<'_>) -> usize {
        let shares = shares(all, grouping);
        all.iter().zip(shares).map(|(one, share)| share.cost(one.ids.len()).beside).sum()
    }

    proptest! {
        /// Whatever a sequence does not compute, an earlier one of its run did, or the stored prefix has it.
        #[test]
        fn what_is_shared_is_there(
            documents in prop::collection::vec((0u32..3, prop::collection::vec(20u32..24, 0..9)), 0..30),
            stored in 0usize..14,
        ) {
            let all = sequences(&documents);
            let stored: Vec<u32> = (100..).take(stored).collect();
            let shares = shares(&all, Grouping::ByBeginning(&stored));
            prop_assert_eq!(shares.len(), all.len());
            for (at, (share, own)) in shares.iter().zip(&all).enumerate() {
                prop_assert_eq!(&own.ids[..share.stored], &stored[..share.stored]);
                let Cost { alone, beside } = share.cost(own.ids.len());
                prop_assert!(1 <= beside && beside <= alone && alone <= own.ids.len());
                if share.joins {
                    let before = shares[at - 1];
                    prop_assert_eq!((before.stored, before.prefix), (share.stored, share.prefix));
                    let shared = share.stored + share.prefix;
                    prop_assert!(share.prefix >= SHORTEST_PREFIX);
                    prop_assert_eq!(&own.ids[..shared], &all[at - 1].ids[..shared]);
                }
            }
        }

        #[test]
        fn a_filling_keeps_its_budget(
            costs in prop::collection::vec(1usize..50, 1..40), budget in 1usize..100, rectangle: bool,
        ) {
            let measure = if rectangle { Measure::Rectangle } else { Measure::Tokens };
            let mut filling = Filling::new(measure, budget);
            let taken: Vec<usize> = costs.iter().copied().filter(|&cost| filling.take(cost)).collect();
            let longest = taken.iter().max().copied().unwrap_or(0);
            let full = if rectangle { longest * taken.len() } else { taken.iter().sum() };
            prop_assert!(taken.len() == 1 || full <= budget, "{taken:?}");
            prop_assert_eq!(taken[0], costs[0]);
        }
    }

    #[test]
    fn what_is_shared_is_counted_once() {
        let all = sequences(&[(1, vec![20]), (1, vec![21, 22]), (2, vec![30]), (2, vec![31])]);
        // Four sequences of 12 + 20 + document + 2 tokens.
        assert_eq!(total(&all, Grouping::AsTheyCome), 35 + 36 + 35 + 35);
        assert_eq!(total(&all, Grouping::ByBeginning(&[])), (32 + 3 + 4) + (32 + 3 + 3));
        // Of the twelve of the template, ten are stored.
        let template: Vec<u32> = (100..110).chain([0, 0]).collect();
        assert_eq!(total(&all, Grouping::ByBeginning(&template)), (22 + 3 + 4) + (22 + 3 + 3));
    }

    #[test]
    fn one_by_one_is_one_by_one() {
        let mut filling = Filling::new(Grouping::OneByOne.measure(), 1000);
        assert!(filling.take(10) && !filling.take(1));
    }
}
