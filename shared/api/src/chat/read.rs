//! From a body to what it asks for.

mod blocks;
mod format;
mod generation;
mod items;
mod messages;
mod template;
mod tools;

pub(crate) use generation::{MAX_STOPS, MAX_TOP_LOGPROBS};
use serde_json::Map;

use super::body::{ChatBody, Json, Messages, Tools};
use super::message::Conversation;
use super::refused::{self, WITHOUT_EFFECT};
use super::request::{
    ChatApi, ChatLimits, ChatRequest, CompletionApi, CompletionRequest, ResponsesEcho,
};
use super::route::{ChatCall, ChatRoute};
use crate::checks;
use crate::error::Invalid;
use crate::lenient::Flag;

impl ChatRoute {
    /// Reads a JSON body; an error takes the style that clients of this route expect.
    pub fn parse(self, bytes: &[u8], limits: &ChatLimits) -> Result<ChatCall, Invalid> {
        ChatBody::parse(bytes, self.example())
            .map_err(|invalid| self.about_prompt(invalid))
            .and_then(|body| self.read(body, limits))
            .map_err(|invalid| invalid.styled(self.error_style()))
    }

    /// A `prompt` is the text of completions; one of responses names a prompt that is stored.
    fn about_prompt(self, invalid: Invalid) -> Invalid {
        let is_prompt = invalid.param.as_deref().is_some_and(|param| {
            param
                .strip_prefix("prompt")
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        });
        if self != Self::Responses || !is_prompt {
            return invalid;
        }
        Invalid::new(
            "prompt",
            "prompt is not honoured here: no prompt is stored; send its text as instructions and input",
        )
    }

    fn read(self, body: ChatBody, limits: &ChatLimits) -> Result<ChatCall, Invalid> {
        let route = self.by_keys(&body)?;
        refused::refuse(&body.names)?;
        let warnings = route.unread(&body);
        match route {
            Self::Completions => completion(CompletionApi::Completions, body, limits, warnings),
            Self::LlamaCompletion => completion(CompletionApi::LlamaCpp, body, limits, warnings),
            Self::Responses => chat(ChatApi::Responses, body, limits, warnings),
            Self::Messages => chat(ChatApi::Messages, body, limits, warnings),
            Self::Chat | Self::Invocations if body.functions.is_some() => {
                chat(ChatApi::ChatFunctions, body, limits, warnings)
            }
            Self::Chat | Self::Invocations => chat(ChatApi::Chat, body, limits, warnings),
            Self::CountTokens => {
                let mut body = body;
                let model = body.model.take();
                let conversation = conversation(ChatApi::Messages, &mut body)?;
                Ok(ChatCall::CountTokens { model, conversation })
            }
            Self::ApplyTemplate => {
                let mut body = body;
                let model = body.model.take();
                let conversation = conversation(ChatApi::Chat, &mut body)?;
                Ok(ChatCall::ApplyTemplate { model, conversation })
            }
        }
    }

    /// Which route this is by what the body holds. A body with two of the keys that hold what is to
    /// be answered contradicts itself.
    fn by_keys(self, body: &ChatBody) -> Result<Self, Invalid> {
        let keys = [
            ("messages", body.messages.is_some(), Self::Chat),
            ("prompt", body.prompt.is_some(), Self::Completions),
            ("input", body.input.is_some(), Self::Responses),
        ];
        let mut given = keys.into_iter().filter(|&(_, given, _)| given);
        let (first, second) = (given.next(), given.next());
        if let (Some((first, ..)), Some((second, ..))) = (first, second) {
            return Err(checks::contradiction(first, second));
        }
        let expected = match self {
            Self::Chat | Self::Messages | Self::CountTokens | Self::ApplyTemplate => "messages",
            Self::Completions | Self::LlamaCompletion => "prompt",
            Self::Responses => "input",
            Self::Invocations => {
                return first.map(|(_, _, route)| route).ok_or_else(|| {
                    Invalid::body(
                        "the body has none of messages, prompt and input; send a conversation in \
                         messages, or a text to continue in prompt",
                    )
                });
            }
        };
        match first {
            Some((found, ..)) if found == expected => Ok(self),
            Some((found, _, route)) => {
                let path = route.path();
                Err(Invalid::new(
                    found,
                    format!(
                        "this route expects {expected}, found {found}, which is read on {path}; send it there"
                    ),
                ))
            }
            None => Err(Invalid::new(
                expected,
                format!("{expected} is missing; send an object such as {}", self.example()),
            )),
        }
    }

    /// What to tell of fields that this route does not read.
    fn unread(self, body: &ChatBody) -> Vec<String> {
        let known: Vec<&str> = self.forms().iter().flat_map(|form| form.fields()).collect();
        let others: Vec<&str> =
            refused::refusable().chain(WITHOUT_EFFECT.iter().copied()).collect();
        body.names.unread_beside(&known, &others)
    }
}

fn chat(
    api: ChatApi,
    mut body: ChatBody,
    limits: &ChatLimits,
    mut warnings: Vec<String>,
) -> Result<ChatCall, Invalid> {
    let conversation = conversation(api, &mut body)?;
    let reasoning = template::reasoning_output(&body)?;
    refuse_modalities(&body)?;
    let echo = match api {
        ChatApi::Responses => items::echo(&body, &conversation, &mut warnings)?,
        ChatApi::Chat | ChatApi::ChatFunctions | ChatApi::Messages => ResponsesEcho(Map::new()),
    };
    let reads = match api {
        ChatApi::Chat | ChatApi::ChatFunctions => generation::Reads::Chat,
        ChatApi::Responses => generation::Reads::Responses,
        ChatApi::Messages => generation::Reads::Messages,
    };
    let generation = generation::read(&mut body, reads, limits, &mut warnings)?;
    Ok(ChatCall::Chat(ChatRequest {
        api,
        model: body.model,
        conversation,
        generation,
        reasoning,
        echo,
        warnings,
    }))
}

/// What a prompt is made of, of a body with other fields than those of chat.
#[derive(Debug)]
pub(crate) struct PromptFields {
    pub(crate) messages: Messages,
    pub(crate) tools: Option<Tools>,
    pub(crate) chat_template_kwargs: Option<Json>,
    pub(crate) add_generation_prompt: Option<Flag>,
    pub(crate) continue_final_message: Option<Flag>,
}

impl PromptFields {
    pub(crate) fn into_conversation(self) -> Result<Conversation, Invalid> {
        let mut body = ChatBody {
            messages: Some(self.messages),
            tools: self.tools,
            chat_template_kwargs: self.chat_template_kwargs,
            add_generation_prompt: self.add_generation_prompt,
            continue_final_message: self.continue_final_message,
            ..ChatBody::default()
        };
        conversation(ChatApi::Chat, &mut body)
    }
}

fn conversation(api: ChatApi, body: &mut ChatBody) -> Result<Conversation, Invalid> {
    let mut conversation = match api {
        ChatApi::Chat | ChatApi::ChatFunctions => messages::read(body)?,
        ChatApi::Responses => items::read(body)?,
        ChatApi::Messages => blocks::read(body)?,
    };
    messages::name_results(&mut conversation.messages);
    // There is room for one call in a `function_call`.
    conversation.parallel_tool_calls &= api != ChatApi::ChatFunctions;
    Ok(conversation)
}

fn completion(
    api: CompletionApi,
    mut body: ChatBody,
    limits: &ChatLimits,
    mut warnings: Vec<String>,
) -> Result<ChatCall, Invalid> {
    let prompt = body.prompt.take().unwrap_or_default();
    let most = limits.max_prompts;
    let single = prompt.single;
    let prompts = checks::counted("prompt", Some(prompt.items), most, "texts of one request")?;
    let reads = match api {
        CompletionApi::Completions => generation::Reads::Completions,
        CompletionApi::LlamaCpp => generation::Reads::LlamaCpp,
    };
    let generation = generation::read(&mut body, reads, limits, &mut warnings)?;
    let echo = body.echo.is_some_and(|echo| echo.0);
    Ok(ChatCall::Completion(CompletionRequest {
        api,
        model: body.model,
        prompts,
        single,
        echo,
        generation,
        warnings,
    }))
}

fn refuse_modalities(body: &ChatBody) -> Result<(), Invalid> {
    let named = body.modalities.iter().flat_map(|modalities| &modalities.names);
    match named.into_iter().find(|name| *name != "text") {
        None => Ok(()),
        Some(_) => Err(Invalid::new(
            "modalities",
            "modalities: answers are text; leave it out or send [\"text\"]",
        )),
    }
}
