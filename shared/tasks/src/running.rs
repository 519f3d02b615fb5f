//! A loaded model and the micro-batches it is given.

use defrost_model::planning::{Filling, shares};
use defrost_model::{Answers, Grouping, Planned, Runner, Share, Tokens, Wanted};

use crate::Error;
use crate::prepared::Prepared;
use crate::schedule::{Schedule, Turn};

/// A model that runs.
#[derive(Debug)]
pub(crate) struct Running {
    runner: Box<dyn Runner>,
    max_batch_tokens: usize,
}

impl Running {
    pub(crate) fn new(runner: Box<dyn Runner>, max_batch_tokens: usize) -> Self {
        Self { runner, max_batch_tokens: max_batch_tokens.max(1) }
    }

    pub(crate) fn runner(&self) -> &dyn Runner {
        &*self.runner
    }

    /// See [`crate::Reranker::set_batching`].
    pub(crate) fn set_batching(&mut self, max_batch_tokens: usize, together: bool) {
        self.max_batch_tokens = max_batch_tokens.max(1);
        self.runner.set_together(together);
    }

    /// The answer to each of these sequences, none of them empty, in passes of at most the budget's tokens.
    pub(crate) fn run(&self, sequences: &[&Tokens], wanted: Wanted) -> Result<Vec<Answers>, Error> {
        let grouping = self.runner.grouping(wanted);
        let mut order: Vec<usize> = (0..sequences.len()).collect();
        if grouping == Grouping::ByLength {
            order.sort_by_key(|&at| std::cmp::Reverse(sequences[at].ids.len()));
        }
        let ordered: Vec<&Tokens> = order.iter().map(|&at| sequences[at]).collect();
        let shares = shares(&ordered, grouping);
        let mut found = Vec::with_capacity(ordered.len());
        while found.len() < ordered.len() {
            let (mut filling, mut pass) =
                (Filling::new(grouping.measure(), self.max_batch_tokens), Vec::new());
            for (tokens, share) in ordered.iter().zip(&shares).skip(found.len()) {
                let cost = share.cost(tokens.ids.len());
                let joins = share.joins && !pass.is_empty();
                if !filling.take(if joins { cost.beside } else { cost.alone }) {
                    break;
                }
                pass.push(Planned { tokens, share: Share { joins, ..*share } });
            }
            found.extend(self.runner.run(&pass, wanted)?);
        }
        let mut answers: Vec<(usize, Answers)> = order.into_iter().zip(found).collect();
        answers.sort_by_key(|&(at, _)| at);
        Ok(answers.into_iter().map(|(_, answer)| answer).collect())
    }

    /// The answers to all sequences of a request, micro-batch by micro-batch.
    pub(crate) fn run_all<T>(
        &self,
        prepared: &Prepared<T>,
        cancelled: &(dyn Fn() -> bool + Sync),
    ) -> Result<Vec<Answers>, Error> {
        let mut schedule = Schedule::new(self.max_batch_tokens);
        schedule.push(0, 0, prepared.costs());
        let mut answers = Vec::new();
        while let Some(Turn { sequences, .. }) = schedule.next_batch().pop() {
            if cancelled() {
                return Err(Error::Cancelled);
            }
            let batch: Vec<&Tokens> = prepared.sequences()[sequences].iter().collect();
            answers.extend(self.run(&batch, prepared.wanted())?);
        }
        Ok(answers)
    }
}
