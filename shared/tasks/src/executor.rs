//! Jobs on one model, a micro-batch at a time: the one loop in which a model runs, of a server, of a file and of a call.
//!
//! ```text
//! push ──> jobs with sequences ──Schedule──> micro-batch ──pass──> answers ──advance──> jobs that are done with
//!                  ^                                                  │
//!                  └──────────────── next round of a job <────────────┘
//! ```
//!
//! The caller has the thread, the model and the jobs. It drives the executor: between two micro-batches it pushes what has
//! come in ([`Executor::push`]) and drops what has been given up ([`Executor::drop_cancelled`]); then [`Executor::step`] runs
//! the next micro-batch, made of the sequences of as many jobs as fit, by a pass that the caller brings. Nothing waits: what
//! is there runs. Tokenising is no part of this: a job comes with its tokens.
//!
//! A job runs in rounds. In each, all of its sequences run once, in their order, and then [`Rounds::advance`] gets the
//! answers. Whose turn it is says the [`Order`]. A pass that fails ends the jobs of its micro-batch, and no other.

use defrost_model::planning::{costs, planned};
use defrost_model::{Answers, Measure, Planned, Share, Tokens, Wanted};

use crate::Error;
use crate::schedule::{Order, Schedule, Turn};

/// What an executor asks of a job.
pub trait Rounds {
    /// The sequences of this round, none of them empty.
    fn sequences(&self) -> &[Tokens];

    /// The way in which each of them comes by its beginning, and so what it costs.
    fn shares(&self) -> &[Share];

    /// The answers that are wanted of every token of them.
    fn wanted(&self) -> Wanted;

    /// Whether the job has been given up.
    fn is_cancelled(&self) -> bool {
        false
    }

    /// Hears that the first micro-batch with a sequence of the job is about to run.
    fn start(&mut self) {}

    /// Takes the answers to all sequences of this round, in their order.
    ///
    /// # Errors
    /// What is wrong with the answers; the job is then done with.
    fn advance(&mut self, answers: Vec<Answers>) -> Result<Next, Error>;
}

/// Whether a job is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// It has other sequences now, which are to run.
    Round,
    /// It is to be ended.
    End,
}

/// A job that is done with.
#[derive(Debug)]
pub struct Ended<J> {
    /// The job itself.
    pub job: J,
    /// What its last [`Rounds::advance`] said.
    pub result: Result<(), Error>,
}

/// A micro-batch that failed.
#[derive(Debug)]
pub struct Failed<J> {
    /// The jobs that had a sequence in it. They are done with.
    pub jobs: Vec<J>,
    /// The error of the pass.
    pub error: Error,
}

/// See the module page.
#[derive(Debug)]
pub struct Executor<J> {
    order: Order,
    /// The jobs in order of arrival, which is that of their numbers.
    jobs: Vec<Entry<J>>,
    schedule: Schedule,
    next_id: u64,
}

#[derive(Debug)]
struct Entry<J> {
    id: u64,
    job: J,
    is_started: bool,
    /// The answers to the first sequences of its round.
    answers: Vec<Answers>,
}

impl<J: Rounds> Entry<J> {
    fn is_answered(&self) -> bool {
        self.answers.len() == self.job.sequences().len()
    }
}

impl<J: Rounds> Executor<J> {
    /// Micro-batches of at most `budget` tokens, or of one sequence that has more.
    pub fn new(order: Order, budget: usize) -> Self {
        Self { order, jobs: Vec::new(), schedule: Schedule::new(order, budget), next_id: 0 }
    }

    /// Takes a job in. One without sequences is answered already, and ends with the next step.
    pub fn push(&mut self, job: J) {
        let id = self.next_id;
        self.next_id += 1;
        self.jobs.push(Entry { id, job, is_started: false, answers: Vec::new() });
        self.schedule_round(self.jobs.len() - 1);
    }

    /// The jobs that are not done, in order of arrival.
    pub fn jobs(&self) -> impl Iterator<Item = &J> {
        self.jobs.iter().map(|entry| &entry.job)
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }

    /// Drops the jobs that have been given up; says how many.
    pub fn drop_cancelled(&mut self) -> usize {
        let before = self.jobs.len();
        let Self { jobs, schedule, .. } = self;
        jobs.retain(|entry| {
            let is_cancelled = entry.job.is_cancelled();
            if is_cancelled {
                schedule.remove(entry.id);
            }
            !is_cancelled
        });
        before - self.jobs.len()
    }

    /// Runs one micro-batch, as full as `measure` says, by `pass`, which answers each sequence; the jobs that are done by it.
    ///
    /// # Errors
    /// What the pass says, with the jobs of the micro-batch.
    pub fn step(
        &mut self,
        measure: Measure,
        pass: impl FnOnce(&[Planned<'_>], Wanted) -> Result<Vec<Answers>, Error>,
    ) -> Result<Vec<Ended<J>>, Failed<J>> {
        let turns = self.schedule.next_batch(measure);
        if !turns.is_empty() {
            self.start(&turns);
            match self.run(&turns, pass) {
                Ok(answers) => self.hand_out(turns, answers),
                Err(error) => return Err(Failed { jobs: self.remove(&turns), error }),
            }
        }
        Ok(self.settle())
    }

    /// The place of a job by its number.
    fn place(&self, id: u64) -> Option<usize> {
        self.jobs.binary_search_by_key(&id, |entry| entry.id).ok()
    }

    /// Gives the round of the job at this place to the schedule.
    fn schedule_round(&mut self, at: usize) {
        let Entry { id, job, .. } = &self.jobs[at];
        self.schedule.push(*id, kind(job.wanted()), costs(job.sequences(), job.shares()));
    }

    fn start(&mut self, turns: &[Turn]) {
        for turn in turns {
            if let Some(at) = self.place(turn.job)
                && !std::mem::replace(&mut self.jobs[at].is_started, true)
            {
                self.jobs[at].job.start();
            }
        }
    }

    fn run(
        &self,
        turns: &[Turn],
        pass: impl FnOnce(&[Planned<'_>], Wanted) -> Result<Vec<Answers>, Error>,
    ) -> Result<Vec<Answers>, Error> {
        let job = |turn: &Turn| self.place(turn.job).map(|at| &self.jobs[at].job);
        let wanted = turns.first().and_then(job).map(Rounds::wanted).unwrap_or_default();
        let of = |turn: &Turn| {
            let range = turn.sequences.clone();
            let own = job(turn).map(|job| (&job.sequences()[range.clone()], &job.shares()[range]));
            own.into_iter().flat_map(|(sequences, shares)| planned(sequences, shares))
        };
        let sequences: Vec<Planned<'_>> = turns.iter().flat_map(of).collect();
        let answers = pass(&sequences, wanted)?;
        if answers.len() != sequences.len() {
            let (found, expected) = (answers.len(), sequences.len());
            let what = format!("the model gave {found} answers to {expected} sequences of a pass");
            return Err(Error::Model(what));
        }
        Ok(answers)
    }

    fn hand_out(&mut self, turns: Vec<Turn>, answers: Vec<Answers>) {
        let mut answers = answers.into_iter();
        for Turn { job, sequences } in turns {
            let own = answers.by_ref().take(sequences.len());
            if let Some(at) = self.place(job) {
                self.jobs[at].answers.extend(own);
            }
        }
    }

    /// Takes the jobs of a micro-batch out.
    fn remove(&mut self, turns: &[Turn]) -> Vec<J> {
        let of = |turn: &Turn| {
            self.schedule.remove(turn.job);
            self.place(turn.job).map(|at| self.jobs.remove(at).job)
        };
        turns.iter().filter_map(of).collect()
    }

    /// Hands the answers of every round that has all of them to its job, for its next round or its end.
    fn settle(&mut self) -> Vec<Ended<J>> {
        let mut ended = Vec::new();
        let mut at = 0;
        while let Some(entry) = self.jobs.get_mut(at) {
            if !entry.is_answered() {
                if self.order == Order::Arrival {
                    break;
                }
                at += 1;
                continue;
            }
            let answers = std::mem::take(&mut entry.answers);
            let result = match entry.job.advance(answers) {
                Ok(Next::Round) => {
                    self.schedule_round(at);
                    continue;
                }
                Ok(Next::End) => Ok(()),
                Err(error) => Err(error),
            };
            ended.push(Ended { job: self.jobs.remove(at).job, result });
        }
        ended
    }
}

/// Jobs that want the same of every token run together.
fn kind(Wanted { hidden, sparse, colbert }: Wanted) -> u64 {
    u64::from(hidden) | u64::from(sparse) << 1 | u64::from(colbert) << 2
}

#[cfg(test)]
mod tests;
