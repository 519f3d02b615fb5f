//! One request: its completions, and what it is told beside them.

use std::time::Instant;

use defrost_model::{Decoder, LogitsOf, OpenedSequence};

use super::branch::{Branch, Hand, Rules};
use super::plan::FEW;
use super::prompt::{self, Scores};
use super::turn::Turn;
use super::{Common, Generated};
use crate::Error;
use crate::generate::job::{Finish, GenerationJob, Usage};

/// The most places of a prompt whose logits are looked at in a step: each is a row as long as the vocabulary.
const SCORED_PLACES: usize = 32;

/// See the module page.
#[derive(Debug)]
pub(super) struct Entry<J> {
    pub(super) id: u64,
    pub(super) job: J,
    rules: Rules,
    /// Those that have not ended; the first one only, until it has computed the prompt.
    pub(super) branches: Vec<Branch>,
    /// Whether all completions have begun.
    pub(super) is_begun: bool,
    scores: Option<Scores>,
    usage: Usage,
    /// What has gone wrong.
    pub(super) error: Option<Error>,
    pushed: Instant,
    started: Option<Instant>,
    first: Option<Instant>,
}

impl<J: GenerationJob> Entry<J> {
    pub(super) fn new(id: u64, job: J, limit: usize, common: &Common) -> Self {
        let task = job.task();
        let rules = Rules::new(task, limit, common);
        Self {
            id,
            branches: vec![Branch::new(0, &task.prompt, &rules)],
            is_begun: false,
            scores: Scores::of(task),
            usage: Usage { prompt: task.prompt.len(), ..Usage::default() },
            rules,
            error: None,
            pushed: Instant::now(),
            started: None,
            first: None,
            job,
        }
    }

    /// Completions that have not ended.
    pub(super) fn unfinished(&self) -> usize {
        if self.is_begun { self.branches.len() } else { self.job.task().n }
    }

    /// Ends a request for no tokens that wants to know nothing for which the model would have to be asked.
    pub(super) fn skip_prompt(&mut self, common: &Common) {
        if self.rules.limit == 0 && self.scores.is_none() && !self.is_begun {
            self.begin(common);
        }
    }

    /// Opens a sequence for the branch at this place.
    pub(super) fn open(&self, decoder: &dyn Decoder, at: usize) -> Result<OpenedSequence, Error> {
        let tokens = &self.branches[at].tokens;
        let mut opened = decoder.open(tokens)?;
        // The logits that are wanted of a prompt come of its computation.
        let scored = self.scores.as_ref().map(|scores| scores.tokens.len());
        let scored = scored.filter(|&scored| scored < self.usage.prompt);
        if let Some(most) = scored.map(|scored| scored - 1).filter(|&most| opened.cached > most) {
            if let Err(error) = decoder.truncate(opened.id, most) {
                decoder.close(opened.id);
                return Err(error.into());
            }
            opened.cached = most;
        }
        Ok(opened)
    }

    /// Takes the sequence for the branch at this place. A single completion begins at once: what a constraint lets it begin with
    /// is computed with the prompt.
    pub(super) fn start(&mut self, at: usize, opened: OpenedSequence, common: &Common) {
        self.branches[at].sequence = Some(opened.id);
        self.branches[at].computed = opened.cached;
        if self.started.is_some() {
            return;
        }
        self.started = Some(Instant::now());
        self.usage.queued = self.pushed.elapsed();
        self.usage.cached = opened.cached;
        self.job.started(opened.cached);
        if self.job.task().n == 1 && self.scores.is_none() {
            self.begin(common);
            let Self { job, rules, branches, usage, .. } = self;
            let mut hand = Hand { job, rules, common, usage };
            if let Err(wrong) = branches[at].force(&mut hand) {
                self.error = Some(wrong);
            }
            self.note_first();
        }
    }

    /// Notes when the first token came.
    fn note_first(&mut self) {
        if self.usage.completion > 0 {
            self.first.get_or_insert_with(Instant::now);
        }
    }

    /// What the next step computes for the branch at this place: `len` tokens, and perhaps guesses beside the last one.
    pub(super) fn turn(
        &mut self,
        at: usize,
        len: usize,
        guesses: usize,
        common: &Common,
    ) -> Result<Option<Turn>, Error> {
        let Self { id, job, rules, branches, is_begun, scores, usage, .. } = self;
        let branch = &mut branches[at];
        let Some(sequence) = branch.sequence else { return Ok(None) };
        let is_scored = scores.is_some() && !*is_begun;
        let len = if is_scored { len.min(SCORED_PLACES) } else { len };
        let known = branch.tokens[branch.computed..][..len].to_vec();
        let mut turn = Turn {
            entry: *id,
            choice: branch.choice,
            sequence,
            ids: known,
            guessed: 0,
            logits: LogitsOf::None,
            allowed: None,
        };
        if is_scored {
            turn.logits = LogitsOf::All;
        } else if len == branch.pending() {
            turn.logits = LogitsOf::Last;
            let mut hand = Hand { job, rules, common, usage };
            // Log-probabilities are told of all tokens, and choices have a constraint each.
            let is_shared = !*is_begun && hand.job.task().n > 1;
            let allowed = branch.allowed(&mut hand)?;
            let is_free = allowed.is_none_or(|mask| mask.count() > mask.vocab() / 2);
            if rules.logprobs.is_none() && !is_shared {
                turn.allowed = allowed.cloned();
            }
            let most = guesses.min(rules.limit.saturating_sub(branch.len() + 1));
            // All rows of a piece with guesses are looked at, so it must be short.
            let guess = if is_free && len <= FEW { branch.guess(most) } else { Vec::new() };
            if *is_begun && !guess.is_empty() {
                turn.guessed = guess.len();
                turn.ids.extend(guess);
                (turn.logits, turn.allowed) = (LogitsOf::All, None);
            }
        }
        Ok(Some(turn))
    }

    /// Takes what the model says; `slots` is how many more branches may run.
    pub(super) fn take(
        &mut self,
        decoder: &dyn Decoder,
        turn: &Turn,
        rows: &[Vec<f32>],
        slots: usize,
        common: &Common,
    ) -> Result<(), Error> {
        let Some(at) = self.branches.iter().position(|branch| branch.choice == turn.choice) else {
            return Ok(());
        };
        if self.is_begun {
            self.go_on(decoder, at, turn, rows, common)?;
            self.note_first();
            return Ok(());
        }
        let branch = &mut self.branches[at];
        let first = branch.computed;
        branch.computed += turn.ids.len();
        if let Some(scores) = &mut self.scores {
            scores.take(&branch.tokens, first, rows, common);
        }
        let is_computed = branch.pending() == 0;
        match rows.last().filter(|_| is_computed) {
            Some(last) => {
                self.begin_with(decoder, last, slots, common)?;
                self.note_first();
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Begins all completions with what the model says after the prompt.
    fn begin_with(
        &mut self,
        decoder: &dyn Decoder,
        logits: &[f32],
        slots: usize,
        common: &Common,
    ) -> Result<(), Error> {
        let computed = self.branches[0].sequence;
        self.begin(common);
        let Self { job, rules, branches, usage, .. } = self;
        for branch in branches.iter_mut().filter(|branch| !branch.is_finished) {
            branch.take(logits, &mut Hand { job, rules, common, usage })?;
        }
        let Some(computed) = computed else { return Ok(()) };
        let unborn = branches.iter_mut().skip(1).filter(|branch| !branch.is_finished);
        for branch in unborn.take(slots) {
            branch.sequence = Some(decoder.fork(computed)?);
            branch.computed = self.usage.prompt;
        }
        Ok(())
    }

    /// Tells what is told of the prompt, and makes a branch of each completion.
    fn begin(&mut self, common: &Common) {
        self.is_begun = true;
        let Self { job, rules, branches, scores, usage, .. } = self;
        if let Some((scores, most)) = scores.as_ref().zip(job.task().prompt_logprobs) {
            job.prompt_scored(scores.with(most));
        }
        let (choices, is_echoed) = (job.task().n, job.task().echo);
        let echo = is_echoed.then(|| prompt::echo(job.task(), scores.as_ref(), rules, common));
        for choice in 1..choices {
            branches.push(Branch::new(choice, &job.task().prompt, rules));
        }
        for branch in branches {
            if let Some(echo) = &echo {
                job.produced(branch.choice, echo.clone());
            }
            if rules.limit == 0 {
                branch.finish(&Finish::Length, &mut Hand { job, rules, common, usage });
            }
        }
    }

    /// Goes on with the branch at this place, as far as what was computed is what comes.
    fn go_on(
        &mut self,
        decoder: &dyn Decoder,
        at: usize,
        turn: &Turn,
        rows: &[Vec<f32>],
        common: &Common,
    ) -> Result<(), Error> {
        let Self { job, rules, branches, usage, .. } = self;
        let branch = &mut branches[at];
        let first = branch.computed;
        let first_row = turn.ids.len() - rows.len();
        while !branch.is_finished {
            let last = branch.tokens.len() - first - 1;
            let is_computed = turn.ids.starts_with(&branch.tokens[first..]);
            let row = last.checked_sub(first_row).and_then(|row| rows.get(row));
            let Some(row) = row.filter(|_| is_computed) else { break };
            branch.take(row, &mut Hand { job, rules, common, usage })?;
        }
        let come = branch.tokens[first..].iter().zip(&turn.ids);
        let right = come.take_while(|(token, id)| token == id).count();
        branch.computed = first + right;
        if turn.guessed > 0 {
            let accepted = right.saturating_sub(turn.ids.len() - turn.guessed);
            usage.guessed += turn.guessed;
            usage.accepted += accepted;
            branch.learn(turn.guessed, accepted);
        }
        if right < turn.ids.len() && !branch.is_finished {
            decoder.truncate(turn.sequence, branch.computed)?;
        }
        Ok(())
    }

    /// Closes the branches that have ended; says how many sequences.
    pub(super) fn close_finished(&mut self, decoder: &dyn Decoder) -> usize {
        let mut closed = 0;
        self.branches.retain(|branch| {
            if let Some(sequence) = branch.sequence.filter(|_| branch.is_finished) {
                decoder.close(sequence);
                closed += 1;
            }
            !branch.is_finished
        });
        closed
    }

    /// Closes all branches.
    pub(super) fn close(&mut self, decoder: &dyn Decoder) {
        for sequence in self.branches.drain(..).filter_map(|branch| branch.sequence) {
            decoder.close(sequence);
        }
    }

    /// The job, with how it went.
    pub(super) fn into_generated(self) -> Generated<J> {
        let Self { job, mut usage, error, started, first, .. } = self;
        if let Some((started, first)) = started.zip(first) {
            usage.prefill = first - started;
            usage.decoding = first.elapsed();
        }
        Generated { job, result: error.map_or(Ok(usage), Err) }
    }
}
