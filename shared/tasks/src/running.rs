//! A loaded model and the micro-batches it is given.

use defrost_model::{Answers, Measure, Planned, Runner, Share, Tokens, Wanted};

use crate::Error;
use crate::executor::{Ended, Executor, Next, Rounds};
use crate::prepared::Prepared;
use crate::schedule::Order;

/// A request that has the executor to itself.
struct Alone<'a, T> {
    prepared: &'a Prepared<T>,
    cancelled: &'a dyn Fn() -> bool,
    answers: Vec<Answers>,
}

impl<T> Rounds for Alone<'_, T> {
    fn sequences(&self) -> &[Tokens] {
        self.prepared.sequences()
    }

    fn shares(&self) -> &[Share] {
        self.prepared.shares()
    }

    fn wanted(&self) -> Wanted {
        self.prepared.wanted()
    }

    fn is_cancelled(&self) -> bool {
        (self.cancelled)()
    }

    fn advance(&mut self, answers: Vec<Answers>) -> Result<Next, Error> {
        self.answers = answers;
        Ok(Next::End)
    }
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

    /// The answers to all sequences of a request, micro-batch by micro-batch; `cancelled` is asked before each.
    pub(crate) fn run_all<T>(
        &self,
        prepared: &Prepared<T>,
        cancelled: &dyn Fn() -> bool,
    ) -> Result<Vec<Answers>, Error> {
        let mut executor = Executor::new(Order::Arrival, self.max_batch_tokens);
        executor.push(Alone { prepared, cancelled, answers: Vec::new() });
        while executor.drop_cancelled() == 0 {
            let pass = |sequences: &[Planned<'_>], wanted| self.run(sequences, wanted);
            let ended = executor.step(self.measure(), pass).map_err(|failed| failed.error)?;
            if let Some(Ended { job, result }) = ended.into_iter().next() {
                return result.map(|()| job.answers);
            }
        }
        Err(Error::Cancelled)
    }
}
