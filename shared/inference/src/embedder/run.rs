//! Runs sequences and hands each its share of what the model said.
//!
//! Equal sequences are run once and share what came of it. Where something is wanted of every token, sequences do not
//! share beginnings (see [`Answers`]), which costs time and changes nothing.

use std::ops::Range;
use std::rc::Rc;

use defrost_engine::{Answers, Wanted};

use crate::Error;
use crate::batches::Batches;
use crate::runner::Runner;
use crate::tokenizer::Tokens;

/// What the model said about one sequence: one row of [`Answers::pooled`], and its tokens' rows of the rest.
pub(super) type Share = Rc<Answers>;

/// The share of every sequence, in order. An empty one has none: there is no hidden state.
pub(super) fn run(
    model: &Runner,
    max_batch_tokens: usize,
    sequences: &[&Tokens],
    wanted: Wanted,
    cancelled: &(dyn Fn() -> bool + Sync),
) -> Result<Vec<Option<Share>>, Error> {
    let width = model.outputs();
    let mut all = sequences.iter().copied();
    if let Some(answers) = model.run_all(&mut all, max_batch_tokens, cancelled) {
        let answers = answers?;
        let pooled = answers.chunks_exact(width).map(<[f32]>::to_vec);
        let share = |pooled| Some(Rc::new(Answers { pooled, ..Answers::default() }));
        return Ok(pooled.map(share).collect());
    }
    let share_prefixes = wanted == Wanted::default() && model.shares_prefixes();
    let batches = Batches::plan(sequences.iter().copied(), max_batch_tokens, share_prefixes);
    let mut lengths = batches.lengths().iter().copied();
    let mut shares = Vec::with_capacity(lengths.len());
    for batch in batches.batches() {
        if cancelled() {
            return Err(Error::Cancelled);
        }
        let answers = model.forward_with(batch, wanted)?;
        let mut tokens = 0..0;
        for (at, length) in lengths.by_ref().take(batch.len()).enumerate() {
            tokens = tokens.end..tokens.end + length;
            let row = |values: &[f32], rows: Range<usize>, all: usize| {
                let width = values.len() / all;
                values[rows.start * width..rows.end * width].to_vec()
            };
            let of_tokens = |values| {
                // Empty where not wanted; batches with shared beginnings have fewer tokens than their sequences.
                if wanted == Wanted::default() {
                    Vec::new()
                } else {
                    row(values, tokens.clone(), batch.tokens())
                }
            };
            shares.push(Rc::new(Answers {
                pooled: row(&answers.pooled, at..at + 1, batch.len()),
                hidden: of_tokens(&answers.hidden),
                sparse: of_tokens(&answers.sparse),
                colbert: of_tokens(&answers.colbert),
            }));
        }
    }
    Ok(batches.places().iter().map(|place| place.map(|at| Rc::clone(&shares[at]))).collect())
}
