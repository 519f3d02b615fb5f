//! Completions of many requests on one model, a step at a time.
//!
//! ```text
//! push ──> waiting ──open──> running ──plan──> pieces ──Decoder::step──> logits ──sampler──> tokens ──text──> the job
//!             ^                 │                                                     │
//!             └── no room: the youngest is closed, and computed again later           └─> its next piece, or its end
//! ```
//!
//! Every completion is a *branch*: its tokens, some of which the model has computed. A branch that has a sequence is given the
//! rest of them in pieces, a prompt and a token that was just chosen alike, and after the last one the next token is chosen.
//! One step of the model takes the next pieces of all branches ([`plan`]). Nothing waits for a timer, and a branch joins and
//! leaves between any two steps.
//!
//! Of a prompt with several completions the first branch computes the prompt; the others are forks of it.
//!
//! **Memory.** Branches start in the order in which their requests came, while there is memory for all of their prompts. If later
//! there is none for the next step, the youngest branch is closed and waits; when it comes to its turn again, its tokens are
//! computed again, as far as they are not kept, and it goes on as if nothing had been. The oldest branch always goes on: alone
//! it has room for its longest completion, so every request ends.
//!
//! **Guesses.** While few branches run, the model computes tokens that are only guessed beside the one that is known
//! ([`lookup`]). Those that turn out as the sampler would have chosen stay, the others are taken back. Tokens that a constraint
//! forces are computed together in the same way, and need no taking back.
//!
//! What a request is told depends on its task alone: not on what else runs, on memory or on guesses.

mod branch;
mod entry;
mod lookup;
mod plan;
mod prompt;
mod turn;

use defrost_model::{Decoder, Logits, SequenceId};

use crate::generate::job::{GenerationJob, Usage};
use crate::generate::pieces::Pieces;
use crate::{Error, Failed, GenerationLimits};
use branch::Branch;
use entry::Entry;
use plan::{Budget, plan};
use turn::Turn;

/// How requests share a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SchedulerOptions {
    /// The most completions that run at once.
    pub slots: usize,
    /// Tokens of prompts in a step in which nobody waits for a next token.
    pub step_tokens: usize,
    /// Tokens of prompts in any other step.
    pub beside: usize,
    /// The most tokens that are guessed at once; 0: none.
    pub guesses: usize,
}

impl Default for SchedulerOptions {
    /// 512 tokens use a processor to the full, and what comes in meanwhile waits well under a second on two cores.
    ///
    /// 24 tokens of a prompt beside 16 streams: the 99th percentile of the time from a token to the next is then 2.3 times the
    /// usual median while a prompt of 2,000 comes in (0.5B in `q8_0`, two cores with AVX-512 VNNI, 2026-12-01,
    /// `examples/generate_speed streams=16`), with 16 tokens 1.9 times and with 32 tokens 3.6. The prompt takes 7.9 s instead
    /// of 11.1 with 16, and of 7.4 with 32.
    fn default() -> Self {
        Self { slots: 32, step_tokens: 512, beside: 24, guesses: 8 }
    }
}

/// The most rows of a step that holds guesses: so many take hardly longer than one, as kernels multiply a few rows at a time.
const GUESSED_ROWS: usize = 12;

/// Tokens that every running branch may need beside its pending ones before another one starts.
const SLACK: usize = 32;

/// What all requests to a model have in common.
#[derive(Debug, Clone)]
pub(crate) struct Common {
    pub(crate) pieces: Pieces,
    /// The tokens that end a turn.
    pub(crate) ends: Vec<u32>,
    pub(crate) limits: GenerationLimits,
}

/// A request that is done with.
#[derive(Debug)]
pub struct Generated<J> {
    /// The job itself.
    pub job: J,
    /// What it took, or what went wrong with it; completions that have not been told to be finished are then incomplete.
    pub result: Result<Usage, Error>,
}

/// How much there is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SchedulerLoad {
    /// Completions that run.
    pub running: usize,
    /// Completions that wait to start, or for memory to go on.
    pub waiting: usize,
    /// How often a completion has been put back to wait for memory.
    pub preempted: u64,
}

/// See the module page.
#[derive(Debug)]
pub struct Scheduler<J> {
    common: Common,
    options: SchedulerOptions,
    /// The requests in order of arrival, which is that of their numbers.
    entries: Vec<Entry<J>>,
    next_id: u64,
    ended: Vec<Generated<J>>,
    /// Whether the next branch found no memory, and none has been given back since.
    is_full: bool,
    preempted: u64,
}

impl<J: GenerationJob> Scheduler<J> {
    /// For a model of these tokens, some of which end a turn.
    pub fn of(
        pieces: Pieces,
        ends: Vec<u32>,
        limits: GenerationLimits,
        options: SchedulerOptions,
    ) -> Self {
        Self::new(Common { pieces, ends, limits }, options)
    }

    pub(crate) fn new(common: Common, options: SchedulerOptions) -> Self {
        Self {
            common,
            options,
            entries: Vec::new(),
            next_id: 0,
            ended: Vec::new(),
            is_full: false,
            preempted: 0,
        }
    }

    /// Takes a job in. One whose task the model cannot do ends with the next step.
    pub fn push(&mut self, job: J) {
        match self.common.limits.check(job.task()) {
            Ok(limit) => {
                self.entries.push(Entry::new(self.next_id, job, limit, &self.common));
                self.next_id += 1;
            }
            Err(error) => self.ended.push(Generated { job, result: Err(error) }),
        }
    }

    /// The jobs that are not done, in order of arrival.
    pub fn jobs(&self) -> impl Iterator<Item = &J> {
        self.entries.iter().map(|entry| &entry.job)
    }

    /// The completions that run, each as its job and its number among those of the job, in order of arrival.
    pub fn completions(&self) -> impl Iterator<Item = (&J, usize)> {
        self.entries.iter().flat_map(|entry| {
            let running = entry.branches.iter().filter(|branch| branch.sequence.is_some());
            running.map(|branch| (&entry.job, branch.choice))
        })
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.ended.is_empty()
    }

    /// How much there is to do.
    pub fn load(&self) -> SchedulerLoad {
        let running = self.running();
        let all: usize = self.entries.iter().map(Entry::unfinished).sum();
        SchedulerLoad { running, waiting: all - running, preempted: self.preempted }
    }

    /// Drops the jobs that have been given up, and what the model holds for them; says how many.
    pub fn drop_cancelled(&mut self, decoder: &dyn Decoder) -> usize {
        self.drop_if(decoder, GenerationJob::is_cancelled).len()
    }

    /// Takes all jobs back that are not done, in order of arrival; the model then holds nothing for any.
    pub fn close(&mut self, decoder: &dyn Decoder) -> Vec<J> {
        self.drop_if(decoder, |_| true)
    }

    fn drop_if(&mut self, decoder: &dyn Decoder, gone: impl Fn(&J) -> bool) -> Vec<J> {
        let entries = std::mem::take(&mut self.entries);
        let mut dropped = Vec::new();
        for mut entry in entries {
            if gone(&entry.job) {
                entry.close(decoder);
                dropped.push(entry.job);
            } else {
                self.entries.push(entry);
            }
        }
        self.is_full &= dropped.is_empty();
        dropped
    }

    /// Runs one pass of the model, and gives the jobs that are done by it.
    ///
    /// # Errors
    /// What the model says, with the jobs that had a part in the pass; they are done with.
    pub fn step(&mut self, decoder: &dyn Decoder) -> Result<Vec<Generated<J>>, Failed<J>> {
        self.skip_prompts();
        self.admit(decoder);
        self.settle(decoder);
        let mut turns = self.turns();
        if let Err(error) = self.make_room(decoder, &mut turns) {
            return Err(self.fail(decoder, &turns, error));
        }
        if !turns.is_empty() {
            match turn::run(decoder, &turns) {
                Ok(rows) => self.hand_out(decoder, &turns, rows),
                Err(error) => return Err(self.fail(decoder, &turns, error)),
            }
        }
        self.settle(decoder);
        Ok(std::mem::take(&mut self.ended))
    }

    /// The branches that have a sequence.
    fn running(&self) -> usize {
        let branches = self.entries.iter().flat_map(|entry| &entry.branches);
        branches.filter(|branch| branch.sequence.is_some()).count()
    }

    /// The place of a request by its number.
    fn place(&self, id: u64) -> Option<usize> {
        self.entries.binary_search_by_key(&id, |entry| entry.id).ok()
    }

    /// Ends requests for no tokens that want to know nothing that the model would have to be asked.
    fn skip_prompts(&mut self) {
        let Self { entries, common, .. } = self;
        for entry in entries.iter_mut() {
            entry.skip_prompt(common);
        }
    }

    /// Opens sequences for branches that wait, oldest first.
    fn admit(&mut self, decoder: &dyn Decoder) {
        let mut running = self.running();
        let branches = self.entries.iter().flat_map(|entry| &entry.branches);
        let running_branches = branches.filter(|branch| branch.sequence.is_some());
        let mut promised: usize = running_branches.map(|branch| branch.pending() + SLACK).sum();
        for entry in self.entries.iter_mut().filter(|entry| entry.error.is_none()) {
            for at in 0..entry.branches.len() {
                if entry.branches[at].sequence.is_some() || entry.branches[at].is_finished {
                    continue;
                }
                if self.is_full || running >= self.options.slots {
                    return;
                }
                let opened = match entry.open(decoder, at) {
                    Ok(opened) => opened,
                    Err(wrong) => {
                        entry.error = Some(wrong);
                        break;
                    }
                };
                let needed = entry.branches[at].tokens.len() - opened.cached;
                let room = decoder.room();
                let free = room.total.saturating_sub(room.held + promised);
                if running > 0 && needed + SLACK > free {
                    decoder.close(opened.id);
                    self.is_full = true;
                    return;
                }
                entry.start(at, opened, &self.common);
                running += 1;
                promised += needed + SLACK;
            }
        }
    }

    /// What the next step computes, oldest branch first.
    fn turns(&mut self) -> Vec<Turn> {
        let is_running = |branch: &&Branch| branch.sequence.is_some();
        let needs = self
            .entries
            .iter()
            .filter(|entry| entry.error.is_none())
            .flat_map(|entry| entry.branches.iter().filter(is_running).map(Branch::pending));
        let needs: Vec<usize> = needs.collect();
        let SchedulerOptions { step_tokens, beside, guesses, .. } = self.options;
        let lens = plan(&needs, Budget { alone: step_tokens.max(1), beside: beside.max(1) });
        let rows: usize = lens.iter().sum();
        let is_prefilled =
            lens.iter().zip(&needs).all(|(len, need)| len == need) && rows <= GUESSED_ROWS;
        // Shared among all: a guess is as good in any of them.
        let each = if is_prefilled && rows > 0 { (GUESSED_ROWS - rows) / needs.len() } else { 0 };
        let guesses = guesses.min(each);
        let mut lens = lens.into_iter();
        let mut turns = Vec::new();
        for entry in self.entries.iter_mut().filter(|entry| entry.error.is_none()) {
            let before = turns.len();
            for at in 0..entry.branches.len() {
                if entry.branches[at].sequence.is_none() {
                    continue;
                }
                // All are asked for, so that those of other requests stay theirs.
                let len = lens.next().unwrap_or(0);
                if len == 0 || entry.error.is_some() {
                    continue;
                }
                match entry.turn(at, len, guesses, &self.common) {
                    Ok(turn) => turns.extend(turn),
                    Err(wrong) => {
                        entry.error = Some(wrong);
                        turns.truncate(before);
                    }
                }
            }
        }
        turns
    }

    /// Makes room for these turns, or for fewer: guesses go first, then the youngest branches.
    fn make_room(&mut self, decoder: &dyn Decoder, turns: &mut Vec<Turn>) -> Result<(), Error> {
        loop {
            let wanted: Vec<(SequenceId, usize)> =
                turns.iter().map(|turn| (turn.sequence, turn.ids.len())).collect();
            if wanted.is_empty() || decoder.make_room(&wanted)? {
                return Ok(());
            }
            if turns.iter().any(|turn| turn.guessed > 0) {
                turns.iter_mut().for_each(Turn::forget_guesses);
            } else if self.running() > 1 {
                self.preempt(decoder, turns);
            } else if let Some(turn) = turns.first_mut().filter(|turn| turn.ids.len() > 1) {
                turn.halve();
            } else {
                let total = decoder.room().total;
                return Err(Error::Runtime(defrost_model::Error::OutOfMemory(format!(
                    "there is memory for the keys and values of {total} tokens and a single sequence finds none; raise KV_TOKENS"
                ))));
            }
        }
    }

    /// Closes the youngest branch that runs, to be opened again later.
    fn preempt(&mut self, decoder: &dyn Decoder, turns: &mut Vec<Turn>) {
        let mut branches =
            self.entries.iter_mut().rev().flat_map(|entry| entry.branches.iter_mut().rev());
        let youngest = branches.find_map(|branch| Some((branch.sequence.take()?, branch)));
        if let Some((sequence, branch)) = youngest {
            branch.computed = 0;
            decoder.close(sequence);
            turns.retain(|turn| turn.sequence != sequence);
            self.preempted += 1;
            self.is_full = true;
        }
    }

    /// Hands each branch what the model says.
    fn hand_out(&mut self, decoder: &dyn Decoder, turns: &[Turn], rows: Vec<Logits>) {
        for (turn, Logits(rows)) in turns.iter().zip(rows) {
            let Some(at) = self.place(turn.entry) else { continue };
            let slots = self.options.slots.saturating_sub(self.running());
            let entry = &mut self.entries[at];
            if entry.error.is_none()
                && let Err(wrong) = entry.take(decoder, turn, &rows, slots, &self.common)
            {
                entry.error = Some(wrong);
            }
        }
    }

    /// Closes what has ended, and takes requests out that are done with.
    fn settle(&mut self, decoder: &dyn Decoder) {
        let mut at = 0;
        while let Some(entry) = self.entries.get_mut(at) {
            let closed = entry.close_finished(decoder);
            self.is_full &= closed == 0;
            let is_over = entry.error.is_some() || entry.is_begun && entry.branches.is_empty();
            if is_over {
                let mut entry = self.entries.remove(at);
                entry.close(decoder);
                self.is_full = false;
                self.ended.push(entry.into_generated());
            } else {
                at += 1;
            }
        }
    }

    /// Takes the requests out that had a part in a pass.
    fn fail(&mut self, decoder: &dyn Decoder, turns: &[Turn], error: Error) -> Failed<J> {
        let mut jobs = Vec::new();
        for turn in turns {
            if let Some(at) = self.place(turn.entry) {
                let mut entry = self.entries.remove(at);
                entry.close(decoder);
                jobs.push(entry.job);
            }
        }
        self.is_full = false;
        Failed { jobs, error }
    }
}

#[cfg(test)]
mod tests;
