//! A request as sequences to run: what lies between its meaning and the decision what runs when.
//!
//! ```text
//! request --prepare--> Prepared --(micro-batches, maybe with others': Executor)--> answers --finish--> result
//! ```
//!
//! Equal sequences have equal answers, so each is run once. An answer depends on the sequence's tokens alone, so they
//! may be run in any order and company.

use std::collections::HashMap;
use std::fmt;
use std::ops::Range;

use defrost_model::planning::{planned, shares};
use defrost_model::{Answers, Grouping, Planned, Share, Tokens, Wanted};

use crate::Error;

/// A sequence and the answer to it; nothing for an empty one, which has no hidden state.
pub type Said<'a> = Option<(&'a Tokens, &'a Answers)>;

type Finish<T> = Box<dyn FnOnce(&[Said<'_>]) -> Result<T, Error> + Send>;

/// Sequences to run and what becomes of their answers.
pub struct Prepared<T> {
    distinct: Vec<Tokens>,
    shares: Vec<Share>,
    wanted: Wanted,
    numbers: usize,
    /// The place, for each sequence, of the distinct one that it equals; `None` if it is empty.
    places: Vec<Option<usize>>,
    finish: Finish<T>,
}

impl<T> Prepared<T> {
    /// `finish` gets each of `sequences` with the answer to it, and what is `wanted` of every token.
    pub fn new(
        sequences: Vec<Tokens>,
        grouping: Grouping<'_>,
        wanted: Wanted,
        finish: impl FnOnce(&[Said<'_>]) -> Result<T, Error> + Send + 'static,
    ) -> Self {
        let (mut distinct, mut places) = distinct(sequences);
        if let Grouping::ByLength = grouping {
            by_length(&mut distinct, &mut places);
        }
        let shares = shares(&distinct, grouping);
        Self { distinct, shares, wanted, numbers: 0, places, finish: Box::new(finish) }
    }

    /// The sequences to run, in the order that costs least.
    pub fn sequences(&self) -> &[Tokens] {
        &self.distinct
    }

    /// The way in which each sequence comes by its beginning, and so what it costs.
    pub fn shares(&self) -> &[Share] {
        &self.shares
    }

    /// Sequences that follow each other, as they are run in one micro-batch.
    pub fn planned(&self, sequences: Range<usize>) -> Vec<Planned<'_>> {
        planned(&self.distinct[sequences.clone()], &self.shares[sequences]).collect()
    }

    /// The answers that are wanted of every token of the sequences.
    pub fn wanted(&self) -> Wanted {
        self.wanted
    }

    /// Says how many numbers the result will have, for one that may be large.
    #[must_use]
    pub fn with_numbers(self, numbers: usize) -> Self {
        Self { numbers, ..self }
    }

    /// Numbers of the result, as far as it was said; 0 for a small one.
    pub fn numbers(&self) -> usize {
        self.numbers
    }

    /// The result, from the answers to all [`Prepared::sequences`].
    pub fn finish(self, answers: &[Answers]) -> Result<T, Error> {
        let said = |at: usize| Some((self.distinct.get(at)?, answers.get(at)?));
        let all: Vec<Said<'_>> = self.places.iter().map(|place| place.and_then(said)).collect();
        (self.finish)(&all)
    }

    /// The same work with another result, which `f` makes of the first.
    pub fn map<U>(self, f: impl FnOnce(T) -> U + Send + 'static) -> Prepared<U>
    where
        T: 'static,
    {
        let Self { distinct, shares, wanted, numbers, places, finish } = self;
        let finish: Finish<U> = Box::new(move |answers| finish(answers).map(f));
        Prepared { distinct, shares, wanted, numbers, places, finish }
    }
}

impl<T> fmt::Debug for Prepared<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.places.len();
        write!(f, "Prepared({count} sequences, {} distinct)", self.distinct.len())
    }
}

/// Each sequence once, and for all of them which it is.
fn distinct(sequences: Vec<Tokens>) -> (Vec<Tokens>, Vec<Option<usize>>) {
    let mut known: HashMap<&Tokens, usize> = HashMap::new();
    let places: Vec<Option<usize>> = sequences
        .iter()
        .map(|tokens| {
            let next = known.len();
            (!tokens.ids.is_empty()).then(|| *known.entry(tokens).or_insert(next))
        })
        .collect();
    let mut next = 0;
    let mut places_of = places.iter();
    let distinct = sequences
        .into_iter()
        .filter(|_| {
            let first = *places_of.next().unwrap_or(&None) == Some(next);
            next += usize::from(first);
            first
        })
        .collect();
    (distinct, places)
}

/// Longest first, as batches that are padded to their first want them.
fn by_length(distinct: &mut Vec<Tokens>, places: &mut [Option<usize>]) {
    let mut order: Vec<usize> = (0..distinct.len()).collect();
    order.sort_by_key(|&at| std::cmp::Reverse(distinct[at].ids.len()));
    let mut rank = vec![0; order.len()];
    for (to, &from) in order.iter().enumerate() {
        rank[from] = to;
    }
    let mut sorted: Vec<Tokens> =
        order.iter().map(|&from| std::mem::take(&mut distinct[from])).collect();
    std::mem::swap(distinct, &mut sorted);
    for place in places.iter_mut().flatten() {
        *place = rank[*place];
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tokens(ids: &[u32]) -> Tokens {
        Tokens { ids: ids.to_vec(), types: Vec::new() }
    }

    /// The ids themselves, as what the model says to them.
    fn answers(prepared: &Prepared<Vec<Vec<f32>>>) -> Vec<Answers> {
        let ids = |tokens: &Tokens| {
            let pooled = tokens.ids.iter().map(|&id| id as f32).collect();
            Answers { pooled, ..Answers::default() }
        };
        prepared.sequences().iter().map(ids).collect()
    }

    proptest! {
        #[test]
        fn every_sequence_gets_its_own_answer(
            sequences in prop::collection::vec(prop::collection::vec(0u32..3, 0..4), 0..30),
            grouping in 0..3,
        ) {
            let all: Vec<Tokens> = sequences.iter().map(|ids| tokens(ids)).collect();
            let grouping = match grouping {
                0 => Grouping::AsTheyCome,
                1 => Grouping::ByBeginning(&[1, 2]),
                _ => Grouping::ByLength,
            };
            let prepared = Prepared::new(all, grouping, Wanted::default(), |answers| {
                let pooled = |said: Said<'_>| said.map_or(Vec::new(), |(_, answer)| answer.pooled.clone());
                Ok(answers.iter().copied().map(pooled).collect::<Vec<_>>())
            });
            let distinct: std::collections::HashSet<&Vec<u32>> =
                sequences.iter().filter(|ids| !ids.is_empty()).collect();
            prop_assert_eq!(prepared.sequences().len(), distinct.len());
            for (share, tokens) in prepared.shares().iter().zip(prepared.sequences()) {
                let cost = share.cost(tokens.ids.len());
                prop_assert!(1 <= cost.beside && cost.beside <= cost.alone && cost.alone <= tokens.ids.len());
            }
            if let Grouping::ByLength = grouping {
                prop_assert!(prepared.sequences().is_sorted_by_key(|tokens| std::cmp::Reverse(tokens.ids.len())));
            }
            let expected: Vec<Vec<f32>> =
                sequences.iter().map(|ids| ids.iter().map(|&id| id as f32).collect()).collect();
            let given = answers(&prepared);
            prop_assert_eq!(prepared.finish(&given).unwrap(), expected);
        }
    }
}
