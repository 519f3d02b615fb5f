//! A loaded model and the micro-batches it is given.

use defrost_model::{Answers, Measure, Planned, Runner, Wanted};

use crate::Error;
use crate::prepared::Prepared;
use crate::schedule::{Schedule, Turn};

/// Runs all sequences of a request in micro-batches of so many tokens, each by `pass`; `cancelled` is asked before each.
///
/// # Errors
/// What a pass says, or [`Error::Cancelled`].
pub fn in_batches<T, E: From<Error>>(
    prepared: &Prepared<T>,
    max_batch_tokens: usize,
    measure: Measure,
    cancelled: &dyn Fn() -> bool,
    pass: impl Fn(&[Planned<'_>], Wanted) -> Result<Vec<Answers>, E>,
) -> Result<Vec<Answers>, E> {
    let mut schedule = Schedule::new(max_batch_tokens);
    let sequences = prepared.sequences().iter().zip(prepared.shares());
    schedule.push(0, 0, sequences.map(|(tokens, share)| share.cost(tokens.ids.len())));
    let mut answers = Vec::new();
    while let Some(Turn { sequences, .. }) = schedule.next_batch(measure).pop() {
        if cancelled() {
            return Err(Error::Cancelled.into());
        }
        answers.extend(pass(&prepared.planned(sequences), prepared.wanted())?);
    }
    Ok(answers)
}

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

    /// How full a micro-batch is.
    pub(crate) fn measure(&self) -> Measure {
        self.runner.grouping(Wanted::default()).measure()
    }

    /// The answer to each of these sequences, in one pass.
    pub(crate) fn run(
        &self,
        sequences: &[Planned<'_>],
        wanted: Wanted,
    ) -> Result<Vec<Answers>, Error> {
        Ok(self.runner.run(sequences, wanted)?)
    }

    /// The answers to all sequences of a request, micro-batch by micro-batch.
    pub(crate) fn run_all<T>(
        &self,
        prepared: &Prepared<T>,
        cancelled: &dyn Fn() -> bool,
    ) -> Result<Vec<Answers>, Error> {
        let pass = |sequences: &[Planned<'_>], wanted| self.run(sequences, wanted);
        in_batches(prepared, self.max_batch_tokens, self.measure(), cancelled, pass)
    }
}
