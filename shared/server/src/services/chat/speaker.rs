//! From the parts of a completion to what an answer says of it: deltas, log-probabilities, an end.
//!
//! ```text
//! Produced{text, tokens} ──> content                                          (completions)
//!                        └─> ReplyParser ──> content, reasoning, calls        (chat)
//! ```
//!
//! Text may be held back until it is known what it is. The log-probabilities of its tokens then wait with it, and go
//! out with the first thing that is said after they came.

use defrost_api::{Alternative, Finish as Ended, ReplyDelta, TokenLogprob};
use defrost_chat::{Delta, ReplyParser};
use defrost_tasks::{Finish, Logprob, Logprobs, Pieces, Produced, ProducedToken};

/// A delta, with the log-probabilities of the tokens up to it.
pub(crate) type Said = (ReplyDelta, Vec<TokenLogprob>);

/// One completion, as it is told.
#[derive(Debug)]
pub(crate) struct Speaker {
    /// What tells thoughts and calls from the answer; completions have none.
    parser: Option<ReplyParser>,
    /// Whether log-probabilities of tokens are told.
    logprobs: bool,
    /// Those that wait.
    waiting: Vec<TokenLogprob>,
    /// Tokens whose text was thoughts.
    reasoning_tokens: usize,
}

impl Speaker {
    /// A completion whose text is all there is to it, or a reply in a conversation.
    pub(crate) fn new(parser: Option<ReplyParser>, logprobs: bool) -> Self {
        Self { parser, logprobs, waiting: Vec::new(), reasoning_tokens: 0 }
    }

    /// More of it.
    pub(crate) fn speak(&mut self, produced: &Produced, pieces: &Pieces) -> Vec<Said> {
        let Produced { text, tokens, is_echo } = produced;
        let deltas = match &mut self.parser {
            Some(parser) if !is_echo => parser.feed(text),
            _ if text.is_empty() => Vec::new(),
            _ => vec![Delta::Content(text.clone())],
        };
        if matches!(deltas.first(), Some(Delta::Reasoning(_))) {
            self.reasoning_tokens += tokens.len();
        }
        let told = tokens.iter().filter(|_| self.logprobs);
        self.waiting.extend(told.map(|token| logprob(token, pieces)));
        self.said(deltas)
    }

    /// There is no more of it: what was held back, and log-probabilities that nothing was said with.
    pub(crate) fn finish(&mut self) -> (Vec<Said>, Vec<TokenLogprob>) {
        let deltas = self.parser.as_mut().map(ReplyParser::finish).unwrap_or_default();
        (self.said(deltas), std::mem::take(&mut self.waiting))
    }

    /// How many of its tokens were thoughts.
    pub(crate) fn reasoning_tokens(&self) -> usize {
        self.reasoning_tokens
    }

    fn said(&mut self, deltas: Vec<Delta>) -> Vec<Said> {
        let deltas = deltas.into_iter();
        deltas.map(|delta| (told(delta), std::mem::take(&mut self.waiting))).collect()
    }
}

fn told(delta: Delta) -> ReplyDelta {
    match delta {
        Delta::Content(text) => ReplyDelta::Content(text),
        Delta::Reasoning(text) => ReplyDelta::Reasoning(text),
        Delta::ToolCall { index, id, name } => ReplyDelta::ToolCall { index, id, name },
        Delta::Arguments { index, fragment } => ReplyDelta::Arguments { index, fragment },
    }
}

/// A token in the words of the API; the first one of a prompt has no log-probability.
fn logprob(token: &ProducedToken, pieces: &Pieces) -> TokenLogprob {
    let Some(Logprobs { chosen, rank: _, top }) = &token.logprobs else {
        let bytes = pieces.bytes(token.id).to_vec();
        let text = text(&bytes);
        return TokenLogprob { id: token.id, text, bytes, logprob: None, top: Vec::new() };
    };
    let top = top.iter().map(|Logprob { id, logprob, bytes }| Alternative {
        id: *id,
        text: text(bytes),
        bytes: bytes.clone(),
        logprob: *logprob,
    });
    TokenLogprob {
        id: token.id,
        text: text(&chosen.bytes),
        bytes: chosen.bytes.clone(),
        logprob: Some(chosen.logprob),
        top: top.collect(),
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Why it ended, in the words of the API.
pub(crate) fn ended(finish: &Finish) -> Ended {
    match finish {
        Finish::EndOfTurn(_) | Finish::StopToken(_) | Finish::Complete => Ended::Stop,
        Finish::StopText(text) => Ended::StopString(text.clone()),
        Finish::Length => Ended::Length,
    }
}
