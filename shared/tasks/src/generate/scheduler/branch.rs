//! One completion while it grows: its tokens, those of the prompt among them, and how many of them the model has computed.

use defrost_model::{Constraint, SequenceId, TokenMask};

use super::Common;
use super::lookup::Lookup;
use crate::Error;
use crate::generate::job::{Finish, GenerationJob, Produced, ProducedToken, Usage};
use crate::generate::logprobs::logprobs;
use crate::generate::sampler::{Place, Seen, choose};
use crate::generate::text::{Added, TextStream};
use crate::{GenerationTask, Sampling};

/// What of a task matters for each token.
#[derive(Debug)]
pub(super) struct Rules {
    sampling: Sampling,
    stop: Vec<String>,
    stop_ids: Vec<u32>,
    include_stop: bool,
    skip_special: bool,
    min_tokens: usize,
    /// The most tokens of a completion.
    pub(super) limit: usize,
    pub(super) logprobs: Option<usize>,
    /// Tokens that end a turn, unless they are to be ignored.
    ends: Vec<u32>,
    /// All that end a completion.
    all_ends: Vec<u32>,
}

impl Rules {
    pub(super) fn new(task: &GenerationTask, limit: usize, common: &Common) -> Self {
        let ends = if task.ignore_eos { Vec::new() } else { common.ends.clone() };
        Self {
            sampling: task.sampling.clone(),
            stop: task.stop.clone(),
            stop_ids: task.stop_ids.clone(),
            include_stop: task.include_stop,
            skip_special: task.skip_special,
            min_tokens: task.min_tokens,
            limit,
            logprobs: task.logprobs,
            all_ends: ends.iter().chain(&task.stop_ids).copied().collect(),
            ends,
        }
    }

    /// The bytes of a token in the text.
    pub(super) fn bytes<'a>(&self, id: u32, common: &'a Common) -> &'a [u8] {
        let pieces = &common.pieces;
        if self.skip_special && pieces.is_special(id) { &[] } else { pieces.bytes(id) }
    }

    /// Why a token ends a completion, if it does. A stop text that is the name of a special token means that token, which
    /// has no text where those are skipped.
    fn end_by(&self, id: u32, common: &Common) -> Option<Finish> {
        if self.ends.contains(&id) {
            return Some(Finish::EndOfTurn(id));
        }
        if self.stop_ids.contains(&id) {
            return Some(Finish::StopToken(id));
        }
        if !(self.skip_special && common.pieces.is_special(id)) {
            return None;
        }
        let name = common.pieces.bytes(id);
        self.stop.iter().find(|stop| stop.as_bytes() == name).cloned().map(Finish::StopText)
    }
}

/// See the module page.
#[derive(Debug)]
pub(super) struct Branch {
    pub(super) choice: usize,
    /// All tokens, prompt first.
    pub(super) tokens: Vec<u32>,
    prompt: usize,
    /// The open sequence; `None` while it waits.
    pub(super) sequence: Option<SequenceId>,
    /// How many of the tokens the sequence has.
    pub(super) computed: usize,
    pub(super) is_finished: bool,
    text: TextStream,
    seen: Seen,
    lookup: Lookup,
    /// What may come next, once that has been asked.
    mask: Option<Next>,
}

/// What may come next.
#[derive(Debug, Clone)]
pub(super) struct Next {
    /// The tokens, those that end a completion among them if it may end; `None`: all.
    allowed: Option<TokenMask>,
    may_end: bool,
}

/// What has a say in the next token.
pub(super) struct Hand<'a, J> {
    pub(super) job: &'a mut J,
    pub(super) rules: &'a Rules,
    pub(super) common: &'a Common,
    pub(super) usage: &'a mut Usage,
}

impl Branch {
    pub(super) fn new(choice: usize, prompt: &[u32], rules: &Rules) -> Self {
        Self {
            choice,
            tokens: prompt.to_vec(),
            prompt: prompt.len(),
            sequence: None,
            computed: 0,
            is_finished: false,
            text: TextStream::new(&rules.stop, rules.include_stop),
            seen: Seen::new(&rules.sampling, prompt),
            lookup: Lookup::new(),
            mask: None,
        }
    }

    /// How many tokens the model has not computed.
    pub(super) fn pending(&self) -> usize {
        self.tokens.len() - self.computed
    }

    /// Tokens of the completion.
    pub(super) fn len(&self) -> usize {
        self.tokens.len() - self.prompt
    }

    /// The tokens that may come next, which are asked for once.
    pub(super) fn allowed<J: GenerationJob>(
        &mut self,
        hand: &mut Hand<'_, J>,
    ) -> Result<Option<&TokenMask>, Error> {
        if self.mask.is_none() {
            self.mask = Some(self.ask(hand)?);
        }
        Ok(self.mask.as_ref().and_then(|next| next.allowed.as_ref()))
    }

    fn ask<J: GenerationJob>(&self, hand: &mut Hand<'_, J>) -> Result<Next, Error> {
        let Hand { job, rules, .. } = hand;
        let Some(constraint) = job.constraint(self.choice) else {
            return Ok(Next { allowed: None, may_end: true });
        };
        let mut allowed = constraint.mask()?;
        let may_end = constraint.may_end();
        if let Some(mask) = &mut allowed {
            for &id in &rules.all_ends {
                if may_end { mask.allow(id) } else { mask.forbid(id) }
            }
        }
        Ok(Next { allowed, may_end })
    }

    /// What may come after all tokens, at most so many.
    pub(super) fn guess(&mut self, most: usize) -> Vec<u32> {
        self.lookup.guess(&self.tokens, most)
    }

    /// Learns how good a guess was.
    pub(super) fn learn(&mut self, guessed: usize, right: usize) {
        self.lookup.learn(guessed, right);
    }

    /// Takes what the model says after all tokens: the next one comes, and all that must come after it.
    pub(super) fn take<J: GenerationJob>(
        &mut self,
        logits: &[f32],
        hand: &mut Hand<'_, J>,
    ) -> Result<(), Error> {
        if self.force(hand)? {
            return Ok(());
        }
        let id = match self.next_forced(hand) {
            Some(id) => id,
            None => self.choose(logits, hand)?,
        };
        let (rules, pieces) = (hand.rules, &hand.common.pieces);
        let told = rules.logprobs.map(|most| logprobs(logits, id, most, pieces));
        self.accept(ProducedToken { id, logprobs: told }, hand)?;
        if !self.is_finished {
            self.force(hand)?;
        }
        Ok(())
    }

    fn choose<J: GenerationJob>(
        &mut self,
        logits: &[f32],
        hand: &mut Hand<'_, J>,
    ) -> Result<u32, Error> {
        let next = match self.mask.take() {
            Some(next) => next,
            None => self.ask(hand)?,
        };
        let rules = hand.rules;
        let is_long_enough = self.len() >= rules.min_tokens;
        let place = Place {
            sampling: &rules.sampling,
            tokens: &self.tokens,
            seen: &self.seen,
            choice: self.choice,
            position: self.len(),
            allowed: next.allowed.as_ref(),
            forbidden: if next.may_end && is_long_enough { &[] } else { &rules.all_ends },
        };
        let position = self.tokens.len();
        choose(logits.to_vec(), &place).map_err(|why| Error::NoToken { position, why })
    }

    /// The token that must come next where each is to be looked at, since its log-probability is wanted.
    fn next_forced<J: GenerationJob>(&self, hand: &mut Hand<'_, J>) -> Option<u32> {
        hand.rules.logprobs?;
        hand.job.constraint(self.choice)?.forced().first().copied()
    }

    /// Takes all tokens that must come next; whether there were any.
    pub(super) fn force<J: GenerationJob>(
        &mut self,
        hand: &mut Hand<'_, J>,
    ) -> Result<bool, Error> {
        if hand.rules.logprobs.is_some() {
            return Ok(false);
        }
        let forced = hand.job.constraint(self.choice).map(Constraint::forced).unwrap_or_default();
        let mut is_any = false;
        for id in forced {
            if self.is_finished {
                break;
            }
            hand.usage.forced += 1;
            is_any = true;
            self.accept(ProducedToken { id, logprobs: None }, hand)?;
        }
        Ok(is_any)
    }

    /// Takes the next token, and ends the completion if that is what it does.
    fn accept<J: GenerationJob>(
        &mut self,
        token: ProducedToken,
        hand: &mut Hand<'_, J>,
    ) -> Result<(), Error> {
        let Hand { rules, common, .. } = *hand;
        let id = token.id;
        self.mask = None;
        self.tokens.push(id);
        self.seen.push(id);
        hand.usage.completion += 1;
        if let Some(finish) = rules.end_by(id, common) {
            if rules.include_stop {
                self.text.end(token, common.pieces.bytes(id));
            }
            self.finish(&finish, hand);
            return Ok(());
        }
        if let Some(constraint) = hand.job.constraint(self.choice) {
            constraint.accept(id)?;
        }
        let Added { produced, stopped } = self.text.push(token, rules.bytes(id, common));
        self.tell(produced, hand);
        let is_done = |job: &mut J| job.constraint(self.choice).is_some_and(Constraint::is_done);
        if let Some(stop) = stopped {
            self.finish(&Finish::StopText(rules.stop[stop].clone()), hand);
        } else if is_done(hand.job) {
            self.finish(&Finish::Complete, hand);
        } else if self.len() >= rules.limit {
            self.finish(&Finish::Length, hand);
        }
        Ok(())
    }

    fn tell<J: GenerationJob>(&self, produced: Option<Produced>, hand: &mut Hand<'_, J>) {
        if let Some(produced) = produced {
            hand.job.produced(self.choice, produced);
        }
    }

    /// Ends the completion.
    pub(super) fn finish<J: GenerationJob>(&mut self, finish: &Finish, hand: &mut Hand<'_, J>) {
        self.is_finished = true;
        let rest = self.text.finish();
        self.tell(rest, hand);
        hand.job.finished(self.choice, finish);
    }
}
