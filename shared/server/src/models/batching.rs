//! Jobs of many requests on one model: which of them run, and how each ends.
//!
//! ```text
//! waiting: tokenised ──> Executor: micro-batches, rounds ──> ended: result and times
//! ```
//!
//! The executor runs a micro-batch at a time. Between two of them everything is looked at anew: jobs
//! that have come in, requests that have been given up, and which job is next. So a small request
//! waits for one micro-batch, however many sequences large ones have left, and it runs together with
//! whatever else is there. Nothing waits for company. As many jobs may run as may wait
//! (`MAX_QUEUE`), counted apart for those of one micro-batch and for larger ones: each holds its
//! tokens, which must not grow with the number of clients.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use defrost_model::planning::costs;
use defrost_model::{Answers, Planned, Share, Tokens, Wanted};
use defrost_tasks::{Error, Executor, Order, Rounds};
use tokio::sync::OwnedSemaphorePermit;

use crate::models::command::Queued;
use crate::models::events::End;
use crate::models::job::{Job, Next, Work};
use crate::models::pipeline::Pipeline;
use crate::models::turns::{Ended, Round, Turns};
use crate::models::usage::Times;

/// A job from its place in the queue to its end.
struct Tracked {
    job: Box<dyn Job>,
    /// Whether it takes more than one micro-batch.
    large: bool,
    /// Its place in the queue, until the model begins with it.
    place: Option<OwnedSemaphorePermit>,
    since: Instant,
    tokenize: Duration,
    started: Option<Instant>,
}

impl Tracked {
    /// Ends it, with the error if there is one.
    fn end(self, result: Result<(), Arc<Error>>) -> Ended {
        let Self { job, started, since, tokenize, .. } = self;
        let started = started.unwrap_or_else(Instant::now);
        let queue = (started - since).saturating_sub(tokenize);
        let times = Times { queue, tokenize, inference: started.elapsed() };
        Ended { job: Work::Passes(job), end: End { result, times } }
    }
}

impl Rounds for Tracked {
    fn sequences(&self) -> &[Tokens] {
        self.job.sequences()
    }

    fn shares(&self) -> &[Share] {
        self.job.shares()
    }

    fn wanted(&self) -> Wanted {
        self.job.wanted()
    }

    fn is_cancelled(&self) -> bool {
        self.job.is_abandoned()
    }

    fn start(&mut self) {
        self.started = Some(Instant::now());
        self.place = None;
    }

    fn advance(&mut self, answers: Vec<Answers>) -> Result<Next, Error> {
        self.job.advance(&answers)
    }
}

/// All jobs that have been taken from the queue and are not done.
pub(crate) struct Batching {
    waiting: VecDeque<Tracked>,
    executor: Executor<Tracked>,
    /// Most jobs that run at once, of small ones and of large ones each.
    most: usize,
    /// Most tokens of a micro-batch.
    budget: usize,
}

impl Batching {
    /// Micro-batches of at most `budget` tokens, of at most so many jobs at once.
    pub(crate) fn new(budget: usize, most: usize) -> Self {
        let executor = Executor::new(Order::Fair, budget);
        Self { waiting: VecDeque::new(), executor, most, budget }
    }

    pub(crate) fn push(&mut self, queued: Queued) {
        let Queued { job, tokenize, since, place } = queued;
        #[allow(
            clippy::infallible_destructuring_match,
            reason = "there is one kind of work in a build without chat"
        )]
        let job = match job {
            Work::Passes(job) => job,
            #[cfg(feature = "chat")]
            other @ Work::Generation(_) => return other.refuse(),
        };
        let cost: usize = costs(job.sequences(), job.shares()).map(|cost| cost.beside).sum();
        let (large, place, started) = (cost > self.budget, Some(place), None);
        self.waiting.push_back(Tracked { job, large, place, since, tokenize, started });
    }

    /// Whether there is nothing to do.
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.executor.is_empty()
    }

    /// Runs one micro-batch.
    pub(crate) fn round(&mut self, pipeline: &dyn Pipeline) -> Round {
        let cancelled = self.drop_cancelled();
        self.admit();
        let pass = |sequences: &[Planned<'_>], wanted| pipeline.run(sequences, wanted);
        let ended = match self.executor.step(pipeline.measure(), pass) {
            Ok(ended) => {
                let ended = ended.into_iter();
                ended.map(|one| one.job.end(one.result.map_err(Arc::new))).collect()
            }
            Err(failed) => {
                let error = Arc::new(failed.error);
                let jobs = failed.jobs.into_iter();
                jobs.map(|job| job.end(Err(Arc::clone(&error)))).collect()
            }
        };
        Round { ended, cancelled, load: None }
    }

    /// Drops jobs whose requests have been given up; returns how many.
    fn drop_cancelled(&mut self) -> usize {
        let before = self.waiting.len();
        self.waiting.retain(|waiting| !waiting.is_cancelled());
        before - self.waiting.len() + self.executor.drop_cancelled()
    }

    /// Gives jobs that wait to the executor, as many as may run: of small ones and of large ones
    /// each, so that a small one never waits for a large one to end.
    fn admit(&mut self) {
        for large in [false, true] {
            let running = self.executor.jobs().filter(|job| job.large == large).count();
            let mut free = self.most.saturating_sub(running);
            let mut at = 0;
            while free > 0 && at < self.waiting.len() {
                if self.waiting[at].large == large
                    && let Some(waiting) = self.waiting.remove(at)
                {
                    free -= 1;
                    self.executor.push(waiting);
                } else {
                    at += 1;
                }
            }
        }
    }
}

/// The jobs of a model that answers in passes.
pub(crate) struct Passes {
    batching: Batching,
    pipeline: Arc<dyn Pipeline>,
}

impl Passes {
    /// As [`Batching::new`], on this model.
    pub(crate) fn new(pipeline: Arc<dyn Pipeline>, budget: usize, most: usize) -> Self {
        Self { batching: Batching::new(budget, most), pipeline }
    }
}

impl Turns for Passes {
    fn push(&mut self, queued: Queued) {
        self.batching.push(queued);
    }

    fn is_empty(&self) -> bool {
        self.batching.is_empty()
    }

    fn round(&mut self) -> Round {
        self.batching.round(&*self.pipeline)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use defrost_tasks::Prepared;
    use tokio::sync::Semaphore;

    use super::*;
    use crate::interleavings::stream::{Guard, StreamJob};
    use crate::models::events::{self, Event, Events};
    use crate::models::info::Info;

    struct Still;

    impl Pipeline for Still {
        fn info(&self) -> Info {
            (&crate::interleavings::toy::info("still")).into()
        }

        fn run(&self, sequences: &[Planned<'_>], _: Wanted) -> Result<Vec<Answers>, Error> {
            Ok(vec![Answers::default(); sequences.len()])
        }

        fn sample(&self) -> Result<Prepared<()>, Error> {
            Err(Error::Model("nothing to warm".into()))
        }
    }

    /// A stream of so many parts in the queue, the permit that it holds, and where its events come.
    fn queued(batching: &mut Batching, parts: usize) -> (Guard, Arc<Semaphore>, Events<Bytes>) {
        let (guard, places) = (Guard::default(), Arc::new(Semaphore::new(1)));
        let place = Arc::clone(&places).try_acquire_owned().expect("a free place");
        let (sink, events) = events::channel();
        let job = Work::Passes(Box::new(StreamJob::new(parts, sink, Guard::clone(&guard))));
        batching.push(Queued { job, tokenize: Duration::ZERO, since: Instant::now(), place });
        (guard, places, events)
    }

    #[tokio::test]
    async fn a_stream_has_an_event_a_round_and_then_its_end() {
        let mut batching = Batching::new(16, 4);
        let (guard, places, mut events) = queued(&mut batching, 3);
        for round in 1..=3 {
            assert_eq!(places.available_permits(), usize::from(round > 1));
            let Round { ended, cancelled, .. } = batching.round(&Still);
            assert_eq!((ended.len(), cancelled), (usize::from(round == 3), 0));
            assert!(matches!(events.next().await, Some(Event::Part(_))));
            for Ended { job, end } in ended {
                assert_eq!((job.usage().items(), job.usage().tokens()), (3, 3));
                job.end(end);
            }
        }
        assert!(batching.is_empty());
        assert!(matches!(events.next().await, Some(Event::End(End { result: Ok(()), .. }))));
        assert!(events.next().await.is_none());
        assert_eq!(Arc::strong_count(&guard), 1, "the job is gone with its last event");
    }

    #[tokio::test]
    async fn a_stream_that_is_given_up_is_dropped_with_all_that_it_holds() {
        let mut batching = Batching::new(16, 4);
        let (gone, _, mut events) = queued(&mut batching, 100);
        let (waits, places, _) = queued(&mut batching, 100);
        let (stays, _, mut others) = queued(&mut batching, 4);
        assert_eq!(batching.round(&Still).cancelled, 1, "its events were never read");
        assert_eq!((Arc::strong_count(&waits), places.available_permits()), (1, 1));
        batching.round(&Still);
        assert!(matches!(events.next().await, Some(Event::Part(_))));
        assert_eq!(Arc::strong_count(&gone), 2);
        drop(events);
        assert_eq!(batching.round(&Still).cancelled, 1);
        assert_eq!(Arc::strong_count(&gone), 1);
        // The stream beside them goes on as if it had been alone.
        let Round { ended, .. } = batching.round(&Still);
        for Ended { job, end } in ended {
            job.end(end);
        }
        let mut parts = 0;
        while let Some(Event::Part(_)) = others.next().await {
            parts += 1;
        }
        assert_eq!((parts, Arc::strong_count(&stays)), (4, 1));
    }
}
