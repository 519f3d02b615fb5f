//! Whose request it is: by the path, and by the keys of the body where one path has several.

use super::message::Conversation;
use super::request::{ChatRequest, CompletionRequest};
use crate::error::ErrorStyle;

/// The routes that read a body differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ChatRoute {
    /// `OpenAI`'s chat completions.
    Chat,
    /// `OpenAI`'s completions.
    Completions,
    /// llama.cpp's own completions.
    LlamaCompletion,
    /// `OpenAI`'s responses.
    Responses,
    /// Anthropic's messages.
    Messages,
    /// How many tokens Anthropic's messages are.
    CountTokens,
    /// llama.cpp: the prompt that a conversation makes.
    ApplyTemplate,
    /// `/invocations` and `/`: chat completions by the key `messages`, completions by `prompt`,
    /// responses by `input`.
    Invocations,
}

impl ChatRoute {
    /// Every path with its route.
    pub const PATHS: [(&'static str, Self); 17] = [
        ("/v1/chat/completions", Self::Chat),
        ("/chat/completions", Self::Chat),
        ("/openai/v1/chat/completions", Self::Chat),
        ("/openai/deployments/{deployment}/chat/completions", Self::Chat),
        ("/v1/completions", Self::Completions),
        ("/completions", Self::Completions),
        ("/openai/v1/completions", Self::Completions),
        ("/openai/deployments/{deployment}/completions", Self::Completions),
        ("/completion", Self::LlamaCompletion),
        ("/v1/responses", Self::Responses),
        ("/responses", Self::Responses),
        ("/openai/v1/responses", Self::Responses),
        ("/v1/messages", Self::Messages),
        ("/v1/messages/count_tokens", Self::CountTokens),
        ("/apply-template", Self::ApplyTemplate),
        ("/invocations", Self::Invocations),
        ("/", Self::Invocations),
    ];

    /// How clients of this route expect errors.
    pub fn error_style(self) -> ErrorStyle {
        match self {
            Self::Messages | Self::CountTokens => ErrorStyle::Anthropic,
            Self::Chat
            | Self::Completions
            | Self::LlamaCompletion
            | Self::Responses
            | Self::ApplyTemplate
            | Self::Invocations => ErrorStyle::OpenAi,
        }
    }

    /// The path by which the route is best known.
    pub(super) fn path(self) -> &'static str {
        let known = Self::PATHS.iter().find(|(_, route)| *route == self);
        known.map_or("/", |(path, _)| path)
    }

    /// What a body of this route looks like, for errors.
    pub(super) fn example(self) -> &'static str {
        match self {
            Self::Chat | Self::Invocations | Self::ApplyTemplate | Self::CountTokens => {
                r#"{"messages":[{"role":"user","content":…}]}"#
            }
            Self::Messages => r#"{"max_tokens":100,"messages":[{"role":"user","content":…}]}"#,
            Self::Completions | Self::LlamaCompletion => r#"{"prompt":…}"#,
            Self::Responses => r#"{"input":…}"#,
        }
    }
}

/// What a body asks for.
#[derive(Debug, Clone, PartialEq)]
#[allow(clippy::large_enum_variant, reason = "one lives for the length of one request")]
pub enum ChatCall {
    /// A reply in a conversation.
    Chat(ChatRequest),
    /// Texts to continue.
    Completion(CompletionRequest),
    /// How many tokens the prompt of this conversation has.
    CountTokens {
        /// The model it names.
        model: Option<String>,
        /// What the prompt is made of.
        conversation: Conversation,
    },
    /// The prompt of this conversation.
    ApplyTemplate {
        /// The model it names.
        model: Option<String>,
        /// What the prompt is made of.
        conversation: Conversation,
    },
}
