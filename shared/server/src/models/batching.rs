//! Jobs of many requests on one model, a micro-batch at a time.
//!
//! ```text
//! waiting: tokenised ──> running: sequences ──Schedule──> micro-batch ──model──> answers ──advance──> events
//!                           ^                                                       │
//!                           └──────────────────── next round of its own <───────────┘
//! ```
//!
//! Between two micro-batches everything is looked at anew: jobs that have come in, requests that
//! have been given up, and which job is next. So a small request waits for one micro-batch, however
//! many sequences large ones have left, and it runs together with whatever else is there. Nothing
//! waits for company. As many jobs may run as may wait (`MAX_QUEUE`), counted apart for those of
//! one micro-batch and for larger ones: each holds its tokens, which must not grow with the number
//! of clients.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use defrost_model::planning::planned;
use defrost_model::{Answers, Planned, Wanted};
use defrost_tasks::{Error, Schedule, Turn};
use tokio::sync::OwnedSemaphorePermit;

use crate::models::command::Queued;
use crate::models::events::End;
use crate::models::job::{Job, Next};
use crate::models::pipeline::Pipeline;
use crate::models::usage::Times;

/// A job that has not begun.
struct Waiting {
    queued: Queued,
    /// Whether it takes more than one micro-batch.
    large: bool,
}

/// A job that the schedule knows.
struct Running {
    id: u64,
    large: bool,
    job: Box<dyn Job>,
    /// The answers to the first sequences of its round.
    answers: Vec<Answers>,
    started: Option<Instant>,
    place: Option<OwnedSemaphorePermit>,
    since: Instant,
    tokenize: Duration,
}

impl Running {
    fn is_answered(&self) -> bool {
        self.answers.len() == self.job.sequences().len()
    }

    /// Ends it, with the error if there is one.
    fn end(self, result: Result<(), Arc<Error>>) -> Ended {
        let Self { job, started, since, tokenize, .. } = self;
        let started = started.unwrap_or_else(Instant::now);
        let queue = (started - since).saturating_sub(tokenize);
        let times = Times { queue, tokenize, inference: started.elapsed() };
        Ended { job, end: End { result, times } }
    }
}

/// A job that is done with, and what it is to be told.
pub(crate) struct Ended {
    pub(crate) job: Box<dyn Job>,
    pub(crate) end: End,
}

/// What happened between two looks at the queue.
#[derive(Default)]
pub(crate) struct Round {
    pub(crate) ended: Vec<Ended>,
    /// How many jobs were dropped because their requests have been given up.
    pub(crate) cancelled: usize,
}

/// All jobs that have been taken from the queue and are not done.
pub(crate) struct Batching {
    waiting: VecDeque<Waiting>,
    running: Vec<Running>,
    schedule: Schedule,
    next_id: u64,
    /// Most jobs that run at once, of small ones and of large ones each.
    most: usize,
    /// Most tokens of a micro-batch.
    budget: usize,
}

impl Batching {
    /// Micro-batches of at most `budget` tokens, of at most so many jobs at once.
    pub(crate) fn new(budget: usize, most: usize) -> Self {
        let schedule = Schedule::new(budget);
        Self { waiting: VecDeque::new(), running: Vec::new(), schedule, next_id: 0, most, budget }
    }

    pub(crate) fn push(&mut self, queued: Queued) {
        let sequences = queued.job.sequences().iter().zip(queued.job.shares());
        let costs = sequences.map(|(tokens, share)| share.cost(tokens.ids.len()).beside);
        let large = costs.sum::<usize>() > self.budget;
        self.waiting.push_back(Waiting { queued, large });
    }

    /// Whether there is nothing to do.
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.running.is_empty()
    }

    /// Runs one micro-batch.
    pub(crate) fn round(&mut self, pipeline: &dyn Pipeline) -> Round {
        let mut round = Round { cancelled: self.forget_the_abandoned(), ..Round::default() };
        self.admit(&mut round.ended);
        let turns = self.schedule.next_batch(pipeline.measure());
        if turns.is_empty() {
            return round;
        }
        self.start(&turns);
        let (sequences, wanted) = self.sequences(&turns);
        match pipeline.run(&sequences, wanted) {
            Ok(answers) => self.hand_out(turns, answers, &mut round.ended),
            Err(error) => self.fail(&turns, error, &mut round.ended),
        }
        round
    }

    /// Drops jobs whose requests have been given up; returns how many.
    fn forget_the_abandoned(&mut self) -> usize {
        let before = self.waiting.len() + self.running.len();
        self.waiting.retain(|waiting| !waiting.queued.job.is_abandoned());
        let Self { running, schedule, .. } = self;
        running.retain(|running| {
            let abandoned = running.job.is_abandoned();
            if abandoned {
                schedule.remove(running.id);
            }
            !abandoned
        });
        before - self.waiting.len() - self.running.len()
    }

    /// Puts jobs that wait into the schedule, as many as may run: of small ones and of large ones
    /// each, so that a small one never waits for a large one to end.
    fn admit(&mut self, ended: &mut Vec<Ended>) {
        for large in [false, true] {
            let running = self.running.iter().filter(|job| job.large == large).count();
            let mut free = self.most.saturating_sub(running);
            let mut at = 0;
            while free > 0 && at < self.waiting.len() {
                if self.waiting[at].large == large
                    && let Some(waiting) = self.waiting.remove(at)
                {
                    free -= 1;
                    self.begin(waiting, ended);
                } else {
                    at += 1;
                }
            }
        }
    }

    fn begin(&mut self, Waiting { queued, large }: Waiting, ended: &mut Vec<Ended>) {
        let Queued { job, tokenize, since, place } = queued;
        let id = self.next_id;
        self.next_id += 1;
        let (answers, started, place) = (Vec::new(), None, Some(place));
        self.enlist(Running { id, large, job, answers, started, place, since, tokenize }, ended);
    }

    /// Gives a round of a job to the schedule. One without sequences is answered already.
    fn enlist(&mut self, running: Running, ended: &mut Vec<Ended>) {
        if running.is_answered() {
            return self.advance(running, ended);
        }
        let job = &running.job;
        let sequences = job.sequences().iter().zip(job.shares());
        let costs = sequences.map(|(tokens, share)| share.cost(tokens.ids.len()));
        self.schedule.push(running.id, kind(job.wanted()), costs);
        self.running.push(running);
    }

    /// Hands the answers of a round to its job, for its next round or its end.
    fn advance(&mut self, mut running: Running, ended: &mut Vec<Ended>) {
        let answers = std::mem::take(&mut running.answers);
        match running.job.advance(&answers) {
            Ok(Next::Round) => self.enlist(running, ended),
            Ok(Next::End) => ended.push(running.end(Ok(()))),
            Err(error) => ended.push(running.end(Err(Arc::new(error)))),
        }
    }

    fn start(&mut self, turns: &[Turn]) {
        let now = Instant::now();
        for job in &mut self.running {
            if job.started.is_none() && turns.iter().any(|turn| turn.job == job.id) {
                job.started = Some(now);
                job.place = None;
            }
        }
    }

    /// The sequences of a micro-batch, and what is wanted of them all.
    fn sequences(&self, turns: &[Turn]) -> (Vec<Planned<'_>>, Wanted) {
        let job = |turn: &Turn| {
            let running = self.running.iter().find(|running| running.id == turn.job);
            running.map(|running| &*running.job)
        };
        let wanted = turns.first().and_then(job).map(Job::wanted);
        let of = |turn: &Turn| {
            let range = turn.sequences.clone();
            let own = job(turn).map(|job| (&job.sequences()[range.clone()], &job.shares()[range]));
            own.into_iter().flat_map(|(sequences, shares)| planned(sequences, shares))
        };
        (turns.iter().flat_map(of).collect(), wanted.unwrap_or_default())
    }

    fn hand_out(&mut self, turns: Vec<Turn>, answers: Vec<Answers>, ended: &mut Vec<Ended>) {
        let mut answers = answers.into_iter();
        for Turn { job: id, sequences } in turns {
            let own = answers.by_ref().take(sequences.len());
            let Some(at) = self.running.iter().position(|job| job.id == id) else { continue };
            self.running[at].answers.extend(own);
            if self.running[at].is_answered() {
                let running = self.running.remove(at);
                self.advance(running, ended);
            }
        }
    }

    fn fail(&mut self, turns: &[Turn], error: Error, ended: &mut Vec<Ended>) {
        let error = Arc::new(error);
        for Turn { job: id, .. } in turns {
            self.schedule.remove(*id);
            if let Some(at) = self.running.iter().position(|job| job.id == *id) {
                ended.push(self.running.remove(at).end(Err(Arc::clone(&error))));
            }
        }
    }
}

/// Jobs that want the same of every token run together.
fn kind(Wanted { hidden, sparse, colbert }: Wanted) -> u64 {
    u64::from(hidden) | u64::from(sparse) << 1 | u64::from(colbert) << 2
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
        let job = Box::new(StreamJob::new(parts, sink, Guard::clone(&guard)));
        batching.push(Queued { job, tokenize: Duration::ZERO, since: Instant::now(), place });
        (guard, places, events)
    }

    #[tokio::test]
    async fn a_stream_has_an_event_a_round_and_then_its_end() {
        let mut batching = Batching::new(16, 4);
        let (guard, places, mut events) = queued(&mut batching, 3);
        for round in 1..=3 {
            assert_eq!(places.available_permits(), usize::from(round > 1));
            let Round { ended, cancelled } = batching.round(&Still);
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
