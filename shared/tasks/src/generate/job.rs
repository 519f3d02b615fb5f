//! What whoever asked for completions hears of them.

use std::time::Duration;

use defrost_model::Constraint;

use crate::GenerationTask;

/// A request that completions are generated for. The scheduler calls it, between steps of the model; what it does there
/// holds every other request up, so it hands things on and returns.
pub trait GenerationJob {
    /// What is asked for; always the same, and checked ([`crate::GenerationLimits::check`]).
    fn task(&self) -> &GenerationTask;

    /// What restricts the completion of this number, if anything does; for each number always the same one.
    fn constraint(&mut self, choice: usize) -> Option<&mut dyn Constraint> {
        let _ = choice;
        None
    }

    /// Whether the request has been given up.
    fn is_cancelled(&self) -> bool;

    /// Hears once that its first step is about to run, and how many tokens of the prompt need not be computed again.
    fn started(&mut self, cached: usize) {
        let _ = cached;
    }

    /// Gets the tokens of the prompt with their log-probabilities, in order, before anything is produced, if
    /// [`GenerationTask::prompt_logprobs`] asks for them. The first one has none.
    fn prompt_scored(&mut self, tokens: Vec<ProducedToken>) {
        let _ = tokens;
    }

    /// Gets the next part of a completion.
    fn produced(&mut self, choice: usize, produced: Produced);

    /// Hears that a completion has ended; nothing of it follows.
    fn finished(&mut self, choice: usize, finish: &Finish);
}

/// A part of a completion: text that is decided. Parts joined are the whole.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Produced {
    /// Whole characters, and nothing that could yet turn out to be a part of a stop text. Empty if the tokens have none.
    pub text: String,
    /// The tokens whose text ends here, in order. Those of a stop text are never here; one that began before it is, with all
    /// its bytes.
    pub tokens: Vec<ProducedToken>,
    /// Whether it is of the prompt ([`GenerationTask::echo`]).
    pub is_echo: bool,
}

/// A token of a completion.
#[derive(Debug, Clone, PartialEq)]
pub struct ProducedToken {
    /// Its id.
    pub id: u32,
    /// What the model said at its place, if that was asked for.
    pub logprobs: Option<Logprobs>,
}

/// What the model said at a place, before anything of [`crate::Sampling`] and before any constraint.
#[derive(Debug, Clone, PartialEq)]
pub struct Logprobs {
    /// The token that came.
    pub chosen: Logprob,
    /// How many tokens were likelier, plus 1.
    pub rank: usize,
    /// The likeliest ones, likeliest first; of equals the lower id.
    pub top: Vec<Logprob>,
}

/// The log-probability of a token.
#[derive(Debug, Clone, PartialEq)]
pub struct Logprob {
    /// The id of the token.
    pub id: u32,
    /// The natural logarithm of its probability.
    pub logprob: f32,
    /// The bytes that it stands for; perhaps no whole characters. Special tokens have those of their name.
    pub bytes: Vec<u8>,
}

/// Why a completion ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finish {
    /// By this token, which ends a turn of the model's.
    EndOfTurn(u32),
    /// By this token of [`GenerationTask::stop_ids`].
    StopToken(u32),
    /// By this text of [`GenerationTask::stop`].
    StopText(String),
    /// What restricts it lets nothing follow.
    Complete,
    /// It has as many tokens as it may have.
    Length,
}

impl Finish {
    /// Whether it was cut off.
    pub fn is_length(&self) -> bool {
        *self == Self::Length
    }
}

/// What a request took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Tokens of the prompt.
    pub prompt: usize,
    /// How many of them were known already.
    pub cached: usize,
    /// Tokens of all completions; one that ends a turn counts.
    pub completion: usize,
    /// Tokens that were guessed, and computed before it was known whether they come.
    pub guessed: usize,
    /// How many of those came.
    pub accepted: usize,
    /// Tokens that could only come as they did, and were not waited for.
    pub forced: usize,
    /// The time from [`crate::Scheduler::push`] to its first step.
    pub queued: Duration,
    /// The time from its first step to its first token.
    pub prefill: Duration,
    /// The time from its first token to the end.
    pub decoding: Duration,
}
