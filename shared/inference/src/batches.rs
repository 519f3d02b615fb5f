//! From sequences to micro-batches: what need not be computed twice is not.
//!
//! - Equal sequences have equal answers: each is run once.
//! - Sequences of a causal model that begin alike (the template, the instruction, the query) run their common beginning
//!   once a micro-batch.
//!
//! Neither changes an answer by a bit, because a sequence's answer depends on its tokens alone. Sequences keep their
//! order; those of one request follow each other and so find each other's beginnings.

use std::collections::HashMap;

use defrost_engine::Batch;

use crate::tokenizer::Tokens;

/// Shortest beginning worth sharing: fewer tokens do not fill a tile of the kernels.
const SHORTEST_PREFIX: usize = 8;

/// What to run, and whose answers come of it.
#[derive(Debug, Default)]
pub(crate) struct Batches {
    packed: Vec<Batch>,
    /// For each sequence its answer's place among all; `None` for an empty one, which has no hidden state.
    answers: Vec<Option<usize>>,
    /// Tokens of the sequence of each answer.
    lengths: Vec<usize>,
}

impl Batches {
    /// Plans batches of at most `max_tokens` tokens, or of one sequence that has more.
    pub(crate) fn plan<'a>(
        sequences: impl Iterator<Item = &'a Tokens>,
        max_tokens: usize,
        share_prefixes: bool,
    ) -> Self {
        let mut places: HashMap<&Tokens, usize> = HashMap::new();
        let mut distinct: Vec<&Tokens> = Vec::new();
        let answers = sequences
            .map(|sequence| {
                (!sequence.ids.is_empty()).then(|| {
                    *places.entry(sequence).or_insert_with(|| {
                        distinct.push(sequence);
                        distinct.len() - 1
                    })
                })
            })
            .collect();
        let mut batches = Vec::new();
        let mut batch = Batch::default();
        let mut rest = distinct.as_slice();
        while !rest.is_empty() {
            let room = max_tokens.saturating_sub(batch.tokens());
            let run = Run::start(rest, room, share_prefixes);
            if run.tokens > room && !batch.is_empty() {
                batches.push(std::mem::take(&mut batch));
                continue;
            }
            let (members, left) = rest.split_at(run.members);
            rest = left;
            run.push(members, &mut batch);
        }
        if !batch.is_empty() {
            batches.push(batch);
        }
        let lengths = distinct.iter().map(|sequence| sequence.ids.len()).collect();
        Self { packed: batches, answers, lengths }
    }

    /// In the order of their answers.
    pub(crate) fn batches(&self) -> &[Batch] {
        &self.packed
    }

    /// For each sequence its answer's place among all; `None` for an empty one.
    pub(crate) fn places(&self) -> &[Option<usize>] {
        &self.answers
    }

    /// Tokens of the sequence of each answer.
    pub(crate) fn lengths(&self) -> &[usize] {
        &self.lengths
    }

    /// The answer of `width` numbers of every sequence, from those of all batches one after the other. An empty
    /// sequence's is zero.
    pub(crate) fn spread(&self, answers: &[f32], width: usize) -> Vec<f32> {
        let mut all = Vec::with_capacity(self.answers.len() * width);
        for answer in &self.answers {
            match answer {
                Some(at) => all.extend_from_slice(&answers[at * width..][..width]),
                None => all.resize(all.len() + width, 0.0),
            }
        }
        all
    }
}

/// Sequences that follow each other and share a beginning, or one alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Run {
    members: usize,
    prefix: usize,
    /// Tokens to compute.
    tokens: usize,
}

impl Run {
    /// The run that `sequences` start with: it goes on while the next sequence fits and sharing with it saves more than
    /// ending here.
    fn start(sequences: &[&Tokens], room: usize, share_prefixes: bool) -> Self {
        let first = sequences[0];
        let mut run = Self { members: 1, prefix: 0, tokens: first.ids.len() };
        if !share_prefixes {
            return run;
        }
        // What the members have in common; a sequence always keeps a token of its own, which the head reads.
        let mut common = first.ids.len() - 1;
        let mut total = first.ids.len();
        for next in &sequences[1..] {
            let shared = common_prefix(&first.ids[..common], &next.ids).min(next.ids.len() - 1);
            let saved = shared * run.members;
            let before = if run.members > 1 { run.prefix * (run.members - 1) } else { 0 };
            let tokens = total + next.ids.len() - saved;
            if shared < SHORTEST_PREFIX || saved < before || tokens > room {
                break;
            }
            common = shared;
            total += next.ids.len();
            run = Self { members: run.members + 1, prefix: shared, tokens };
        }
        run
    }

    fn push(self, members: &[&Tokens], batch: &mut Batch) {
        if self.members == 1 {
            batch.push(&members[0].ids, &members[0].types);
            return;
        }
        let prefix = batch.push_prefix(&members[0].ids[..self.prefix]);
        for member in members {
            batch.push_after(&prefix, &member.ids[self.prefix..]);
        }
    }
}

fn common_prefix(a: &[u32], b: &[u32]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tokens(ids: &[u32]) -> Tokens {
        Tokens { ids: ids.to_vec(), types: Vec::new() }
    }

    /// Sequences of two requests with the same template: (request, document) to ids.
    fn sequences(documents: &[(u32, Vec<u32>)]) -> Vec<Tokens> {
        documents
            .iter()
            .map(|(query, document)| {
                let template: Vec<u32> = (100..112).collect();
                tokens(&[&template[..], &[*query; 20], document, &[7, 8]].concat())
            })
            .collect()
    }

    proptest! {
        #[test]
        fn every_sequence_has_its_answer_and_fits(
            documents in prop::collection::vec((0u32..3, prop::collection::vec(20u32..24, 0..9)), 0..30),
            empties in prop::collection::vec(any::<prop::sample::Index>(), 0..3),
            max_tokens in 1usize..200,
            share: bool,
        ) {
            let mut all = sequences(&documents);
            for at in empties {
                all.insert(at.index(all.len() + 1), Tokens::default());
            }
            let batches = Batches::plan(all.iter(), max_tokens, share);
            // A batch fits, or holds one sequence.
            for batch in batches.batches() {
                prop_assert!(batch.tokens() <= max_tokens || batch.len() == 1);
                prop_assert!(!batch.is_empty());
            }
            let distinct: std::collections::HashSet<&Tokens> = all.iter().filter(|tokens| !tokens.ids.is_empty()).collect();
            let count: usize = batches.batches().iter().map(Batch::len).sum();
            prop_assert_eq!(count, distinct.len());
            // Answers go to equal sequences only.
            let answers: Vec<f32> = (1u16..).take(count).map(f32::from).collect();
            let spread = batches.spread(&answers, 1);
            for (a, x) in all.iter().zip(&spread) {
                prop_assert_eq!(a.ids.is_empty(), *x == 0.0);
                for (b, y) in all.iter().zip(&spread) {
                    prop_assert_eq!(a == b, x.to_bits() == y.to_bits());
                }
            }
        }
    }

    #[test]
    fn what_is_shared_is_counted_once() {
        let all = sequences(&[
            (1, vec![20]),
            (1, vec![21, 22]),
            (1, vec![20]),
            (2, vec![30]),
            (2, vec![31]),
        ]);
        let apart = Batches::plan(all.iter(), 1000, false);
        assert_eq!(apart.batches().len(), 1);
        // Four distinct sequences of 12 + 20 + document + 2 tokens.
        assert_eq!(apart.batches()[0].tokens(), 35 + 36 + 35 + 35);
        let shared = Batches::plan(all.iter(), 1000, true);
        assert_eq!(shared.batches()[0].tokens(), (32 + 3 + 4) + (32 + 3 + 3));
        assert_eq!(shared.answers, vec![Some(0), Some(1), Some(0), Some(2), Some(3)]);
    }
}
