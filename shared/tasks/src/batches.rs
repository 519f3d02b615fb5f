//! From sequences to micro-batches: what need not be computed twice is not.
//!
//! - Sequences of a causal model that begin alike (the template, the instruction, the query) run their common beginning
//!   once a micro-batch.
//! - What they begin with as far as it is stored with the weights, they do not run at all.
//!
//! Neither changes an answer by a bit, because a sequence's answer depends on its tokens alone. Sequences keep their
//! order; those of one request follow each other and so find each other's beginnings.

use defrost_engine::{Batch, Prefix};

use crate::tokenizer::Tokens;

/// Shortest beginning worth sharing: fewer tokens do not fill a tile of the kernels.
const SHORTEST_PREFIX: usize = 8;

/// Packs distinct sequences into batches of at most `max_tokens` tokens, or of one sequence that has more; answers come in
/// the same order. `stored` is the stored prefix, maybe empty, of models that share prefixes.
pub(crate) fn plan(sequences: &[&Tokens], max_tokens: usize, stored: Option<&[u32]>) -> Vec<Batch> {
    let distinct: Vec<Distinct<'_>> =
        sequences.iter().map(|tokens| Distinct::new(tokens, stored)).collect();
    let mut batches = Vec::new();
    let mut batch = Batch::default();
    let mut rest = distinct.as_slice();
    while !rest.is_empty() {
        let room = max_tokens.saturating_sub(batch.tokens());
        let run = Run::start(rest, room, stored.is_some());
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
    batches
}

/// A sequence to run.
#[derive(Debug, Clone, Copy)]
struct Distinct<'a> {
    /// Tokens that it has in common with the stored prefix.
    stored: usize,
    /// Those after them; at least one, which the head reads.
    ids: &'a [u32],
    types: &'a [u32],
}

impl<'a> Distinct<'a> {
    fn new(tokens: &'a Tokens, stored: Option<&[u32]>) -> Self {
        let Tokens { ids, types } = tokens;
        let stored = common_prefix(&ids[..ids.len() - 1], stored.unwrap_or_default());
        Self { stored, ids: &ids[stored..], types }
    }
}

/// Sequences that follow each other and share a beginning, or one alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Run {
    members: usize,
    /// Tokens after the stored ones that they share.
    prefix: usize,
    /// Tokens to compute.
    tokens: usize,
}

impl Run {
    /// The run that `sequences` start with: it goes on while the next sequence fits and sharing with it saves more than
    /// ending here.
    fn start(sequences: &[Distinct<'_>], room: usize, share_prefixes: bool) -> Self {
        let first = sequences[0];
        let mut run = Self { members: 1, prefix: 0, tokens: first.ids.len() };
        if !share_prefixes {
            return run;
        }
        // What the members have in common; a sequence always keeps a token of its own, which the head reads.
        let mut common = first.ids.len() - 1;
        let mut total = first.ids.len();
        for next in &sequences[1..] {
            let shared = common_prefix(&first.ids[..common], next.ids).min(next.ids.len() - 1);
            let saved = shared * run.members;
            let before = if run.members > 1 { run.prefix * (run.members - 1) } else { 0 };
            let tokens = total + next.ids.len() - saved;
            let fits = first.stored == next.stored && tokens <= room;
            if shared < SHORTEST_PREFIX || saved < before || !fits {
                break;
            }
            common = shared;
            total += next.ids.len();
            run = Self { members: run.members + 1, prefix: shared, tokens };
        }
        run
    }

    fn push(self, members: &[Distinct<'_>], batch: &mut Batch) {
        let first = members[0];
        let stored = Prefix::stored(first.stored);
        if self.members == 1 {
            if first.stored == 0 {
                batch.push(first.ids, first.types);
            } else {
                batch.push_after(&stored, first.ids);
            }
            return;
        }
        let prefix = batch.push_prefix(&stored, &first.ids[..self.prefix]);
        for member in members {
            batch.push_after(&prefix, &member.ids[self.prefix..]);
        }
    }
}

/// How many ids both begin with.
pub(crate) fn common_prefix(a: &[u32], b: &[u32]) -> usize {
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
        fn every_sequence_is_there_and_fits(
            documents in prop::collection::vec((0u32..3, prop::collection::vec(20u32..24, 0..9)), 0..30),
            max_tokens in 1usize..200,
            stored in prop::option::of(0usize..14),
        ) {
            let all = sequences(&documents);
            let stored: Option<Vec<u32>> = stored.map(|tokens| (100..).take(tokens).collect());
            let batches = plan(&all.iter().collect::<Vec<_>>(), max_tokens, stored.as_deref());
            for batch in &batches {
                prop_assert!(batch.tokens() <= max_tokens || batch.len() == 1);
                prop_assert!(!batch.is_empty());
            }
            prop_assert_eq!(batches.iter().map(Batch::len).sum::<usize>(), all.len());
        }
    }

    #[test]
    fn what_is_shared_is_counted_once() {
        let all = sequences(&[(1, vec![20]), (1, vec![21, 22]), (2, vec![30]), (2, vec![31])]);
        let all: Vec<&Tokens> = all.iter().collect();
        let tokens = |stored: Option<&[u32]>| -> Vec<usize> {
            plan(&all, 1000, stored).iter().map(Batch::tokens).collect()
        };
        // Four sequences of 12 + 20 + document + 2 tokens.
        assert_eq!(tokens(None), [35 + 36 + 35 + 35]);
        assert_eq!(tokens(Some(&[])), [(32 + 3 + 4) + (32 + 3 + 3)]);
        // Of the twelve of the template, ten are stored.
        let template: Vec<u32> = (100..110).chain([0, 0]).collect();
        assert_eq!(tokens(Some(&template)), [(22 + 3 + 4) + (22 + 3 + 3)]);
    }
}
