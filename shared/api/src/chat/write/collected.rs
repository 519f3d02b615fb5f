//! A choice as far as it has come, for answers that say it as a whole.

use crate::chat::reply::{Finish, ReplyDelta, TokenLogprob};

/// A call of a tool.
#[derive(Debug, Clone, Default)]
pub(super) struct Call {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) arguments: String,
}

/// What has come of one choice.
#[derive(Debug, Clone, Default)]
pub(super) struct Collected {
    pub(super) content: String,
    pub(super) reasoning: String,
    pub(super) calls: Vec<Call>,
    pub(super) logprobs: Vec<TokenLogprob>,
    pub(super) finish: Option<Finish>,
}

impl Collected {
    pub(super) fn push(&mut self, delta: &ReplyDelta, logprobs: &[TokenLogprob]) {
        self.logprobs.extend_from_slice(logprobs);
        match delta {
            ReplyDelta::Content(text) => self.content.push_str(text),
            ReplyDelta::Reasoning(text) => self.reasoning.push_str(text),
            ReplyDelta::ToolCall { id, name, .. } => {
                let (id, name) = (id.clone(), name.clone());
                self.calls.push(Call { id, name, arguments: String::new() });
            }
            ReplyDelta::Arguments { fragment, .. } => {
                if let Some(call) = self.calls.last_mut() {
                    call.arguments.push_str(fragment);
                }
            }
        }
    }

    pub(super) fn end(&mut self, finish: &Finish, logprobs: &[TokenLogprob]) {
        self.logprobs.extend_from_slice(logprobs);
        self.finish = Some(finish.clone());
    }
}

/// Choices as far as they have come; any index is one.
#[derive(Debug, Clone, Default)]
pub(super) struct Choices(pub(super) Vec<Collected>);

impl Choices {
    pub(super) fn at(&mut self, choice: usize) -> &mut Collected {
        if self.0.len() <= choice {
            self.0.resize_with(choice + 1, Collected::default);
        }
        &mut self.0[choice]
    }
}

/// `OpenAI`'s word for why a choice ended.
pub(super) fn finish_reason(finish: &Finish, calls: bool, is_function: bool) -> &'static str {
    match finish {
        Finish::Length => "length",
        Finish::Stop | Finish::StopString(_) if calls && is_function => "function_call",
        Finish::Stop | Finish::StopString(_) if calls => "tool_calls",
        Finish::Stop | Finish::StopString(_) => "stop",
    }
}

/// The stop string, as vLLM names it.
pub(super) fn stop_string(finish: &Finish) -> Option<&str> {
    match finish {
        Finish::StopString(text) => Some(text),
        Finish::Stop | Finish::Length => None,
    }
}
