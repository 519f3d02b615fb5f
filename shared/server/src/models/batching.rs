//! Jobs of many requests on one model, a micro-batch at a time.
//!
//! ```text
//! waiting: tokenised ──> running: sequences ──Schedule──> micro-batch ──model──> answers ──finish──> reply
//! ```
//!
//! Between two micro-batches everything is looked at anew: jobs that have come in, clients that have gone, whose turn it
//! is. So a small request waits for one micro-batch, however much work large ones have left, and it runs together with
//! whatever else is there. Nothing waits for company. As many jobs may run as may wait (`MAX_QUEUE`), counted apart for those
//! of one micro-batch and for larger ones: each holds its tokens, which must not grow with the number of clients.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use defrost_model::{Answers, Tokens, Wanted};
use defrost_tasks::{Error, Prepared, Schedule, Turn};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::models::backend::{Backend, Outputs};

/// What one request asks, on its way to the model.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) prepared: Prepared<Outputs>,
    /// How long tokenising it took.
    pub(crate) tokenize: Duration,
    pub(crate) reply: oneshot::Sender<Outcome>,
    pub(crate) queued: Instant,
    /// Its place in the queue, given up when the model begins with it.
    pub(crate) place: OwnedSemaphorePermit,
}

/// What came of a job, and how long it took.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// The model's error is that of every job in the micro-batch.
    pub(crate) result: Result<Outputs, Arc<Error>>,
    pub(crate) times: Times,
}

/// Where a job's time went.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Times {
    /// Until its first micro-batch began, without its own tokenising.
    pub(crate) queue: Duration,
    pub(crate) tokenize: Duration,
    /// From its first micro-batch until its last one was done.
    pub(crate) inference: Duration,
}

/// A job that has not begun.
struct Waiting {
    job: Job,
    /// Whether it takes more than one micro-batch.
    large: bool,
}

/// A job that the schedule knows.
struct Running {
    id: u64,
    large: bool,
    prepared: Prepared<Outputs>,
    /// Of its first sequences.
    answers: Vec<Answers>,
    started: Option<Instant>,
    place: Option<OwnedSemaphorePermit>,
    queued: Instant,
    tokenize: Duration,
    reply: oneshot::Sender<Outcome>,
}

impl Running {
    /// Ends it with what its answers make, or with the model's error.
    fn end(self, error: Option<Arc<Error>>) -> Ended {
        let Self { prepared, answers, started, queued, tokenize, reply, .. } = self;
        let result = match error {
            None => prepared.finish(&answers).map_err(Arc::new),
            Some(error) => Err(error),
        };
        let started = started.unwrap_or_else(Instant::now);
        let queue = (started - queued).saturating_sub(tokenize);
        let times = Times { queue, tokenize, inference: started.elapsed() };
        Ended { outcome: Outcome { result, times }, reply }
    }
}

/// A job that is done with, and whom to tell.
pub(crate) struct Ended {
    pub(crate) outcome: Outcome,
    pub(crate) reply: oneshot::Sender<Outcome>,
}

/// What happened between two looks at the queue.
#[derive(Default)]
pub(crate) struct Round {
    pub(crate) ended: Vec<Ended>,
    /// Jobs whose clients have gone.
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
    /// Tokens of a micro-batch.
    budget: usize,
}

impl Batching {
    /// Micro-batches of at most `budget` tokens, of at most so many jobs at once.
    pub(crate) fn new(budget: usize, most: usize) -> Self {
        let schedule = Schedule::new(budget);
        Self { waiting: VecDeque::new(), running: Vec::new(), schedule, next_id: 0, most, budget }
    }

    pub(crate) fn push(&mut self, job: Job) {
        let tokens = job.prepared.sequences().iter().map(|tokens| tokens.ids.len());
        let large = tokens.sum::<usize>() > self.budget;
        self.waiting.push_back(Waiting { job, large });
    }

    /// Whether there is nothing to do.
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.running.is_empty()
    }

    /// Runs one micro-batch.
    pub(crate) fn round(&mut self, backend: &dyn Backend) -> Round {
        let mut round = Round { cancelled: self.forget_the_gone(), ..Round::default() };
        self.admit(&mut round.ended);
        let turns = self.schedule.next_batch();
        if turns.is_empty() {
            return round;
        }
        self.start(&turns);
        let (sequences, wanted) = self.sequences(&turns);
        match backend.run(&sequences, wanted) {
            Ok(answers) => self.hand_out(turns, answers, &mut round.ended),
            Err(error) => self.fail(&turns, error, &mut round.ended),
        }
        round
    }

    /// Drops jobs whose clients have gone; returns how many.
    fn forget_the_gone(&mut self) -> usize {
        let before = self.waiting.len() + self.running.len();
        self.waiting.retain(|waiting| !waiting.job.reply.is_closed());
        let Self { running, schedule, .. } = self;
        running.retain(|job| {
            let gone = job.reply.is_closed();
            if gone {
                schedule.remove(job.id);
            }
            !gone
        });
        before - self.waiting.len() - self.running.len()
    }

    /// Puts jobs that wait into the schedule, as many as may run: of small ones and of large ones each, so that a small one
    /// never waits for a large one to end.
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

    fn begin(&mut self, Waiting { job, large }: Waiting, ended: &mut Vec<Ended>) {
        let Job { prepared, tokenize, reply, queued, place } = job;
        let id = self.next_id;
        self.next_id += 1;
        self.schedule.push(id, kind(prepared.wanted()), prepared.costs());
        let nothing_to_run = prepared.sequences().is_empty();
        let (answers, started, place) = (Vec::new(), None, Some(place));
        let running =
            Running { id, large, prepared, answers, started, place, queued, tokenize, reply };
        if nothing_to_run {
            ended.push(running.end(None));
        } else {
            self.running.push(running);
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
    fn sequences(&self, turns: &[Turn]) -> (Vec<&Tokens>, Wanted) {
        let job = |turn: &Turn| self.running.iter().find(|job| job.id == turn.job);
        let wanted = turns.first().and_then(job).map(|job| job.prepared.wanted());
        let of = |turn: &Turn| {
            job(turn).map_or(&[][..], |job| &job.prepared.sequences()[turn.sequences.clone()])
        };
        (turns.iter().flat_map(of).collect(), wanted.unwrap_or_default())
    }

    fn hand_out(&mut self, turns: Vec<Turn>, answers: Vec<Answers>, ended: &mut Vec<Ended>) {
        let mut answers = answers.into_iter();
        for Turn { job: id, sequences } in turns {
            let own = answers.by_ref().take(sequences.len());
            let Some(at) = self.running.iter().position(|job| job.id == id) else { continue };
            let job = &mut self.running[at];
            job.answers.extend(own);
            if job.answers.len() == job.prepared.sequences().len() {
                ended.push(self.running.remove(at).end(None));
            }
        }
    }

    fn fail(&mut self, turns: &[Turn], error: Error, ended: &mut Vec<Ended>) {
        let error = Arc::new(error);
        for Turn { job: id, .. } in turns {
            self.schedule.remove(*id);
            if let Some(at) = self.running.iter().position(|job| job.id == *id) {
                ended.push(self.running.remove(at).end(Some(Arc::clone(&error))));
            }
        }
    }
}

/// Jobs that want the same of every token run together.
fn kind(Wanted { hidden, sparse, colbert }: Wanted) -> u64 {
    u64::from(hidden) | u64::from(sparse) << 1 | u64::from(colbert) << 2
}
