//! One prompt on the model's thread: what is told of its completions on the way, and how much of that may lie unread.
//!
//! ```text
//! scheduler ── started, produced, finished ──> ReplyJob ── ReplyPart, … ──> the request
//!                                                  └─ counts bytes ─> Unread <─ takes them off ─┘
//! ```
//!
//! Sending never waits, since the model's thread serves other requests too. What the request has not taken is bounded
//! by [`Unread`]: a job whose parts are not read is given up, as one is whose request has gone. That is the last of
//! several bounds. A connection that takes nothing is cut after half a minute ([`crate::edge::pace`]), and until then
//! there is room for the tokens of a minute.

use std::mem::size_of;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use defrost_chat::{ReplyForm, ReplyParser};
use defrost_model::Constraint;
use defrost_tasks::{
    Finish, GenerationJob, GenerationTask, Logprob, Logprobs, Produced, ProducedToken,
};

use crate::models::events::{End, Sink};
use crate::models::job::Generating;
use crate::models::usage::{Completions, Usage};

/// Tokens that may lie unread: those of a minute at a hundred a second, twice the grace of a connection.
const UNREAD_TOKENS: usize = 6 << 10;

/// Bytes of a token's text with its place on the heap, on average and generously.
const BYTES_OF_A_TEXT: usize = 64;

/// A prompt, as it was made.
#[derive(Debug)]
pub(crate) struct Prepared {
    /// Its tokens.
    pub(crate) tokens: usize,
    /// Its text, where an answer repeats it.
    pub(crate) text: String,
    /// What a reply to it is to be read as.
    pub(crate) form: ReplyForm,
    /// What ids of calls are made of.
    pub(crate) seed: u64,
}

impl Prepared {
    /// What reads the reply of this number.
    pub(crate) fn parser(&self, choice: usize) -> ReplyParser {
        ReplyParser::new(&self.form, self.seed.wrapping_add(choice as u64))
    }
}

/// What a request hears of the completions of a prompt.
#[derive(Debug)]
pub(crate) enum ReplyPart {
    /// The prompt is made; always the first part.
    Prepared(Prepared),
    /// The first step is about to run; so many tokens of the prompt are known already.
    Started { cached: usize },
    /// The tokens of the prompt.
    PromptScored(Vec<ProducedToken>),
    /// More of a completion.
    Produced { choice: usize, produced: Produced },
    /// Nothing of this completion follows.
    Finished { choice: usize, finish: Finish },
    /// What all of them took; nothing follows.
    Took(defrost_tasks::Usage),
}

impl ReplyPart {
    /// Bytes that it takes while it lies there.
    fn bytes(&self) -> usize {
        let of_logprobs = |logprobs: &Logprobs| bytes_of_logprobs(logprobs.top.len());
        let of_tokens = |tokens: &[ProducedToken]| -> usize {
            let of = |token: &ProducedToken| token.logprobs.as_ref().map_or(0, of_logprobs);
            tokens.iter().map(|token| size_of::<ProducedToken>() + of(token)).sum()
        };
        let own = match self {
            Self::PromptScored(tokens) => of_tokens(tokens),
            Self::Produced { produced, .. } => produced.text.len() + of_tokens(&produced.tokens),
            Self::Prepared(prepared) => prepared.text.len(),
            Self::Started { .. } | Self::Finished { .. } | Self::Took(_) => 0,
        };
        size_of::<Self>() + own
    }
}

/// Bytes of the log-probabilities at a place, with so many alternatives.
fn bytes_of_logprobs(top: usize) -> usize {
    (top + 1) * (size_of::<Logprob>() + 16)
}

/// Bytes of a token, with what the model said at its place if that is wanted.
pub(crate) fn bytes_of_a_token(logprobs: Option<usize>) -> usize {
    let text = size_of::<ReplyPart>() + size_of::<ProducedToken>() + BYTES_OF_A_TEXT;
    text + logprobs.map_or(0, bytes_of_logprobs)
}

/// The bytes of parts that a request has not taken yet, and how many there may be; none until a task says how many.
#[derive(Debug, Default)]
pub(crate) struct Unread {
    bytes: AtomicUsize,
    most: AtomicUsize,
}

impl Unread {
    /// Allows as many as a task that makes so many tokens at most should have.
    pub(crate) fn allow(&self, task: &GenerationTask, most_tokens: usize) {
        let each = bytes_of_a_token(task.logprobs);
        let made = most_tokens.min(UNREAD_TOKENS).saturating_add(2).saturating_mul(task.n);
        // The prompt comes in one part, which nobody could have taken before it was there.
        let scored = if task.echo { task.logprobs } else { None }.max(task.prompt_logprobs);
        let told = task.prompt.len() * scored.map_or(0, |top| bytes_of_a_token(Some(top)));
        let most = made.saturating_mul(each).saturating_add(told.saturating_mul(1 + task.n));
        self.most.store(most, Ordering::Relaxed);
    }

    /// How many bytes there may be.
    pub(crate) fn most(&self) -> usize {
        self.most.load(Ordering::Relaxed)
    }

    /// Whether more lies there than may.
    pub(crate) fn is_too_much(&self) -> bool {
        self.bytes.load(Ordering::Relaxed) > self.most()
    }

    /// Notes that the request has taken a part.
    pub(crate) fn taken(&self, part: &ReplyPart) {
        self.bytes.fetch_sub(part.bytes(), Ordering::Relaxed);
    }

    /// Notes that a part is on its way.
    pub(crate) fn sent(&self, part: &ReplyPart) {
        self.bytes.fetch_add(part.bytes(), Ordering::Relaxed);
    }
}

/// See the module page.
pub(crate) struct ReplyJob {
    task: GenerationTask,
    /// What restricts each completion; empty: nothing does.
    constraints: Vec<Box<dyn Constraint>>,
    sink: Sink<ReplyPart>,
    unread: Arc<Unread>,
    usage: Usage,
}

impl ReplyJob {
    pub(crate) fn new(
        task: GenerationTask,
        constraints: Vec<Box<dyn Constraint>>,
        sink: Sink<ReplyPart>,
        unread: Arc<Unread>,
    ) -> Self {
        Self { task, constraints, sink, unread, usage: Usage::default() }
    }

    /// Sends a part.
    pub(crate) fn tell(&self, part: ReplyPart) {
        self.unread.sent(&part);
        self.sink.part(part);
    }
}

impl GenerationJob for ReplyJob {
    fn task(&self) -> &GenerationTask {
        &self.task
    }

    fn constraint(&mut self, choice: usize) -> Option<&mut dyn Constraint> {
        match self.constraints.get_mut(choice) {
            Some(constraint) => Some(&mut **constraint),
            None => None,
        }
    }

    fn is_cancelled(&self) -> bool {
        self.sink.is_abandoned() || self.unread.is_too_much()
    }

    fn started(&mut self, cached: usize) {
        self.tell(ReplyPart::Started { cached });
    }

    fn prompt_scored(&mut self, tokens: Vec<ProducedToken>) {
        self.tell(ReplyPart::PromptScored(tokens));
    }

    fn produced(&mut self, choice: usize, produced: Produced) {
        self.tell(ReplyPart::Produced { choice, produced });
    }

    fn finished(&mut self, choice: usize, finish: &Finish) {
        self.tell(ReplyPart::Finished { choice, finish: finish.clone() });
    }
}

impl Generating for ReplyJob {
    fn bytes(&self) -> usize {
        self.unread.most()
    }

    fn took(&mut self, took: defrost_tasks::Usage) {
        // Taken apart whole: what is new there must be looked at here.
        let defrost_tasks::Usage {
            prompt,
            cached,
            completion,
            guessed,
            accepted,
            forced,
            queued: _,
            prefill,
            decoding,
        } = took;
        let choices = self.task.n;
        self.usage.lengths = vec![prompt];
        self.usage.completions = Some(Completions {
            choices,
            tokens: completion,
            cached,
            guessed,
            accepted,
            forced,
            prefill,
            decoding,
        });
        self.tell(ReplyPart::Took(took));
    }

    fn usage(&self) -> &Usage {
        &self.usage
    }

    fn end(self: Box<Self>, end: End) {
        self.sink.end(end);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::events;

    fn said(text: &str) -> Produced {
        let tokens = vec![ProducedToken { id: 1, logprobs: None }];
        Produced { text: text.to_owned(), tokens, is_echo: false }
    }

    /// As many tokens as fit a minute are kept for a request that takes none of them, and no more.
    #[tokio::test]
    async fn a_job_whose_parts_are_not_read_is_given_up() {
        let task = GenerationTask::new(vec![1]);
        let unread = Arc::new(Unread::default());
        unread.allow(&task, usize::MAX);
        let (sink, mut events) = events::channel();
        let mut job = ReplyJob::new(task, Vec::new(), sink, Arc::clone(&unread));
        for _ in 0..UNREAD_TOKENS {
            assert!(!job.is_cancelled());
            job.produced(0, said("word"));
        }
        let mut more = 0;
        while !job.is_cancelled() {
            job.produced(0, said("word"));
            more += 1;
        }
        assert!(more < UNREAD_TOKENS, "a text takes no more than was reckoned");
        for _ in 0..=more {
            let Some(events::Event::Part(part)) = events.next().await else { panic!("a part") };
            unread.taken(&part);
        }
        assert!(!job.is_cancelled(), "what is taken makes room");
        drop(events);
        assert!(job.is_cancelled());
    }

    #[test]
    fn a_short_completion_asks_for_little() {
        let task = GenerationTask { max_tokens: Some(16), ..GenerationTask::new(vec![1; 1000]) };
        let most = |task: &GenerationTask| {
            let unread = Unread::default();
            unread.allow(task, 16);
            unread.most()
        };
        let short = most(&task);
        assert!(short < 8 << 10, "{short}");
        assert!(most(&GenerationTask { logprobs: Some(20), ..task }) > 4 * short);
    }
}
