//! What a request asks to be generated, and what it may ask for.

use crate::Error;

/// A prompt to go on from. [`crate::Generator::check`] says whether a model can.
#[allow(clippy::struct_excessive_bools, reason = "independent wishes")]
#[derive(Debug, Clone, PartialEq)]
pub struct GenerationTask {
    /// The tokens of the prompt, special ones included; not empty.
    pub prompt: Vec<u32>,
    /// The most tokens of a completion; `None`: as many as fit the context.
    pub max_tokens: Option<usize>,
    /// No token ends a completion before it has so many.
    pub min_tokens: usize,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// Texts that end a completion. They are no part of it, unless [`GenerationTask::include_stop`].
    pub stop: Vec<String>,
    /// Tokens that end a completion, beside those that end a turn of the model's.
    pub stop_ids: Vec<u32>,
    /// Whether the text that ended a completion is a part of it.
    pub include_stop: bool,
    /// Whether the tokens that end a turn end nothing.
    pub ignore_eos: bool,
    /// Whether special tokens have no text.
    pub skip_special: bool,
    /// The number of completions, each with its own random numbers.
    pub n: usize,
    /// Whether log-probabilities of the completion's tokens are told (and of the prompt's, with [`GenerationTask::echo`]), and
    /// of how many of the likeliest others at each place.
    pub logprobs: Option<usize>,
    /// The same for the tokens of the prompt, which [`crate::GenerationJob::prompt_scored`] gets.
    pub prompt_logprobs: Option<usize>,
    /// Whether the prompt comes before each completion.
    pub echo: bool,
}

impl GenerationTask {
    /// One greedy completion that goes on from this prompt until the model ends its turn or the context is full.
    pub fn new(prompt: Vec<u32>) -> Self {
        Self {
            prompt,
            max_tokens: None,
            min_tokens: 0,
            sampling: Sampling::GREEDY,
            stop: Vec::new(),
            stop_ids: Vec::new(),
            include_stop: false,
            ignore_eos: false,
            skip_special: true,
            n: 1,
            logprobs: None,
            prompt_logprobs: None,
            echo: false,
        }
    }

    /// How many of the likeliest tokens are told at each place of the prompt, if any logits of it are wanted.
    pub(crate) fn prompt_scores(&self) -> Option<usize> {
        self.prompt_logprobs.max(self.logprobs.filter(|_| self.echo))
    }
}

/// How the next token is chosen from logits. The steps are taken in this order, that of vLLM; each is off at the value that is
/// named with it.
///
/// 1. `repetition_penalty`, `frequency_penalty`, `presence_penalty`
/// 2. `logit_bias`
/// 3. at `temperature` 0 the token with the largest logit, of equals the lowest id; else logits are divided by it
/// 4. `top_k`, `top_p`, `typical_p`, `min_p`, each on what the one before has left
/// 5. one of what is left, by its probability
#[derive(Debug, Clone, PartialEq)]
pub struct Sampling {
    /// From 0, which is greedy; 1 takes the model's probabilities as they are.
    pub temperature: f32,
    /// Only the likeliest so many; 0: off.
    pub top_k: usize,
    /// Only the likeliest that together have this probability; 1: off.
    pub top_p: f32,
    /// Only those at least this part as likely as the likeliest; 0: off.
    pub min_p: f32,
    /// Only those whose surprise is closest to the expected one, that together have this probability; 1: off.
    pub typical_p: f32,
    /// Logits of tokens that the prompt or the completion has: positive ones are divided by it, negative ones multiplied; 1: off.
    pub repetition_penalty: f32,
    /// The last so many tokens are what [`Sampling::repetition_penalty`] looks at; `None`: all.
    pub repetition_window: Option<usize>,
    /// What is taken from the logit of a token for each time that the completion has it; 0: off.
    pub frequency_penalty: f32,
    /// What is taken from the logit of a token once if the completion has it; 0: off.
    pub presence_penalty: f32,
    /// What is added to the logits of tokens.
    pub logit_bias: Vec<(u32, f32)>,
    /// What random numbers are made of, with the number of the completion and that of the token. Whoever has none draws one.
    pub seed: u64,
}

impl Sampling {
    /// The likeliest token, always.
    pub const GREEDY: Self = Self {
        temperature: 0.0,
        top_k: 0,
        top_p: 1.0,
        min_p: 0.0,
        typical_p: 1.0,
        repetition_penalty: 1.0,
        repetition_window: None,
        frequency_penalty: 0.0,
        presence_penalty: 0.0,
        logit_bias: Vec::new(),
        seed: 0,
    };

    /// Whether tokens that are there already count for less, or for more.
    pub(crate) fn penalises_repetition(&self) -> bool {
        (self.repetition_penalty - 1.0).abs() > 0.0
    }

    /// Whether the seed makes no difference.
    pub fn is_greedy(&self) -> bool {
        self.temperature == 0.0
    }
}

impl Default for Sampling {
    /// The model's probabilities as they are.
    fn default() -> Self {
        Self { temperature: 1.0, ..Self::GREEDY }
    }
}

/// The most completions of one prompt: each holds memory while the others run.
pub const MOST_CHOICES: usize = 128;
/// The most texts that end a completion: every character is looked at for each.
pub const MOST_STOPS: usize = 64;
/// The longest of them in bytes: as much text may have to be held back until it is decided.
pub const LONGEST_STOP: usize = 1024;
/// The most log-probabilities that are told of a place.
pub const MOST_LOGPROBS: usize = 128;

/// What a model takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GenerationLimits {
    /// Token ids are below it.
    pub vocab: usize,
    /// The most tokens of prompt and completion together.
    pub context: usize,
}

impl GenerationLimits {
    /// How many tokens a completion of this task has at most, if the model can do it.
    ///
    /// # Errors
    /// If a value is out of its range ([`Error::InvalidInput`], with the name of the field), or prompt and completion do not fit
    /// ([`Error::ContextExceeded`]).
    pub fn check(&self, task: &GenerationTask) -> Result<usize, Error> {
        let Self { vocab, context } = *self;
        let refuse =
            |param: &'static str, message: String| Err(Error::InvalidInput { param, message });
        if task.prompt.is_empty() {
            return refuse("prompt", "prompt has no tokens, expected at least one".to_owned());
        }
        let named = [("prompt", &task.prompt), ("stop_token_ids", &task.stop_ids)];
        let biased: Vec<u32> = task.sampling.logit_bias.iter().map(|&(id, _)| id).collect();
        for (param, ids) in named.into_iter().chain([("logit_bias", &biased)]) {
            if let Some(id) = ids.iter().find(|&&id| id as usize >= vocab) {
                let message = format!(
                    "{param}: token id {id} is not in the model's vocabulary, which has ids below {vocab}"
                );
                return refuse(param, message);
            }
        }
        check_counts(task)?;
        check_sampling(&task.sampling)?;
        let prompt = task.prompt.len();
        let room = context.saturating_sub(prompt);
        let asked = task.max_tokens.unwrap_or_else(|| room.max(1));
        // All but the last token of a completion are in the context.
        if asked > room || prompt > context {
            return Err(Error::ContextExceeded {
                limit: context,
                prompt,
                completion: task.max_tokens,
            });
        }
        if task.min_tokens > asked {
            let message =
                format!("min_tokens is {}, expected at most max_tokens, {asked}", task.min_tokens);
            return refuse("min_tokens", message);
        }
        Ok(asked)
    }
}

fn check_counts(task: &GenerationTask) -> Result<(), Error> {
    let within = |param: &'static str, found: usize, least: usize, most: usize| {
        if (least..=most).contains(&found) {
            return Ok(());
        }
        let message = format!("{param} is {found}, expected {least} to {most}");
        Err(Error::InvalidInput { param, message })
    };
    within("n", task.n, 1, MOST_CHOICES)?;
    within("logprobs", task.logprobs.unwrap_or(0), 0, MOST_LOGPROBS)?;
    within("prompt_logprobs", task.prompt_logprobs.unwrap_or(0), 0, MOST_LOGPROBS)?;
    let stop = |found: String| {
        let message = format!(
            "stop has {found}, expected at most {MOST_STOPS} texts of 1 to {LONGEST_STOP} bytes"
        );
        Err(Error::InvalidInput { param: "stop", message })
    };
    if task.stop.len() > MOST_STOPS {
        return stop(format!("{} texts", task.stop.len()));
    }
    match task.stop.iter().map(String::len).find(|len| !(1..=LONGEST_STOP).contains(len)) {
        Some(len) => stop(format!("a text of {len} bytes")),
        None => Ok(()),
    }
}

fn check_sampling(sampling: &Sampling) -> Result<(), Error> {
    let Sampling { temperature, top_p, min_p, typical_p, .. } = *sampling;
    let Sampling { repetition_penalty, frequency_penalty, presence_penalty, .. } = *sampling;
    // Penalties beyond these drown every logit.
    let ranges: [(&'static str, f32, bool, &str); 7] = [
        ("temperature", temperature, (0.0..=100.0).contains(&temperature), "0 to 100"),
        ("top_p", top_p, top_p > 0.0 && top_p <= 1.0, "above 0, to 1"),
        ("min_p", min_p, (0.0..=1.0).contains(&min_p), "0 to 1"),
        ("typical_p", typical_p, typical_p > 0.0 && typical_p <= 1.0, "above 0, to 1"),
        (
            "repetition_penalty",
            repetition_penalty,
            repetition_penalty > 0.0 && repetition_penalty <= 100.0,
            "above 0, to 100",
        ),
        (
            "frequency_penalty",
            frequency_penalty,
            (-100.0..=100.0).contains(&frequency_penalty),
            "-100 to 100",
        ),
        (
            "presence_penalty",
            presence_penalty,
            (-100.0..=100.0).contains(&presence_penalty),
            "-100 to 100",
        ),
    ];
    for (param, found, is_right, expected) in ranges {
        if !is_right {
            let message = format!("{param} is {found}, expected {expected}");
            return Err(Error::InvalidInput { param, message });
        }
    }
    match sampling.logit_bias.iter().find(|(_, bias)| bias.is_nan() || *bias == f32::INFINITY) {
        Some((id, bias)) => Err(Error::InvalidInput {
            param: "logit_bias",
            message: format!(
                "logit_bias of token {id} is {bias}, expected a number, or negative infinity"
            ),
        }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_out_of_range_is_refused_by_its_name() {
        let limits = GenerationLimits { vocab: 10, context: 20 };
        let task = || GenerationTask::new(vec![1, 2]);
        let sampled = |sampling| GenerationTask { sampling, ..task() };
        let usual = Sampling::default;
        assert_eq!(limits.check(&task()).unwrap(), 18);
        assert_eq!(limits.check(&GenerationTask { max_tokens: Some(0), ..task() }).unwrap(), 0);
        let nan = f32::NAN;
        for (name, task) in [
            ("prompt", GenerationTask::new(vec![])),
            ("prompt", GenerationTask::new(vec![10])),
            ("stop_token_ids", GenerationTask { stop_ids: vec![10], ..task() }),
            ("n", GenerationTask { n: 0, ..task() }),
            ("n", GenerationTask { n: MOST_CHOICES + 1, ..task() }),
            ("logprobs", GenerationTask { logprobs: Some(MOST_LOGPROBS + 1), ..task() }),
            ("prompt_logprobs", GenerationTask { prompt_logprobs: Some(1000), ..task() }),
            ("stop", GenerationTask { stop: vec![String::new()], ..task() }),
            ("stop", GenerationTask { stop: vec!["x".repeat(LONGEST_STOP + 1)], ..task() }),
            ("stop", GenerationTask { stop: vec!["x".to_owned(); MOST_STOPS + 1], ..task() }),
            ("min_tokens", GenerationTask { min_tokens: 19, ..task() }),
            ("temperature", sampled(Sampling { temperature: -0.1, ..usual() })),
            ("temperature", sampled(Sampling { temperature: nan, ..usual() })),
            ("top_p", sampled(Sampling { top_p: 0.0, ..usual() })),
            ("min_p", sampled(Sampling { min_p: 1.1, ..usual() })),
            ("typical_p", sampled(Sampling { typical_p: 1.1, ..usual() })),
            ("repetition_penalty", sampled(Sampling { repetition_penalty: 0.0, ..usual() })),
            ("frequency_penalty", sampled(Sampling { frequency_penalty: nan, ..usual() })),
            ("presence_penalty", sampled(Sampling { presence_penalty: 101.0, ..usual() })),
            ("logit_bias", sampled(Sampling { logit_bias: vec![(10, 1.0)], ..usual() })),
            ("logit_bias", sampled(Sampling { logit_bias: vec![(1, nan)], ..usual() })),
        ] {
            let error = limits.check(&task).unwrap_err();
            let Error::InvalidInput { param, message } = error else { panic!("{error}") };
            assert_eq!(param, name, "{message}");
            assert!(message.contains("expected") || message.contains("below"), "{message}");
        }
        for (prompt, max_tokens) in [(20, None), (21, Some(0)), (2, Some(19))] {
            let task = GenerationTask { max_tokens, ..GenerationTask::new(vec![1; prompt]) };
            let error = limits.check(&task).unwrap_err();
            assert!(matches!(error, Error::ContextExceeded { limit: 20, .. }), "{error}");
        }
    }
}
