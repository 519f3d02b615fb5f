//! What a request asks for, whosever it is.

use serde_json::{Map, Value};

use super::message::Conversation;
use crate::lenient::EmbedInput;

/// Whose chat request it is, and so in what shape the answer goes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ChatApi {
    /// `OpenAI`'s chat completions, as vLLM and llama.cpp extend them.
    Chat,
    /// The same of clients that sent `functions`: calls come back as `function_call`.
    ChatFunctions,
    /// `OpenAI`'s responses.
    Responses,
    /// Anthropic's messages.
    Messages,
}

/// Whose completion request it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CompletionApi {
    /// `OpenAI`'s and vLLM's `/v1/completions`.
    Completions,
    /// llama.cpp's own `/completion`.
    LlamaCpp,
}

/// A request for a reply in a conversation.
#[derive(Debug, Clone, PartialEq)]
pub struct ChatRequest {
    /// Whose request it is.
    pub api: ChatApi,
    /// The model it names.
    pub model: Option<String>,
    /// What the prompt is made of.
    pub conversation: Conversation,
    /// How tokens are chosen, and when they end.
    pub generation: Generation,
    /// What becomes of the model's thoughts.
    pub reasoning: ReasoningOutput,
    /// What an answer of [`ChatApi::Responses`] repeats of its request; empty for others.
    pub echo: ResponsesEcho,
    /// Parts of the request that are not honoured, in words for the client.
    pub warnings: Vec<String>,
}

/// A request to continue texts.
#[derive(Debug, Clone, PartialEq)]
pub struct CompletionRequest {
    /// Whose request it is.
    pub api: CompletionApi,
    /// The model it names.
    pub model: Option<String>,
    /// The texts; at least one. `generation.n` choices continue each.
    pub prompts: Vec<CompletionPrompt>,
    /// Whether `prompts` came without a list around it.
    pub single: bool,
    /// Whether the prompt comes back before what continues it; with log probabilities, its own too.
    pub echo: bool,
    /// How tokens are chosen, and when they end.
    pub generation: Generation,
    /// Parts of the request that are not honoured, in words for the client.
    pub warnings: Vec<String>,
}

/// A text to continue: a text, token ids, or (llama.cpp) both in turn.
pub type CompletionPrompt = EmbedInput;

/// How tokens are chosen, when they end, and how the reply is sent.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Generation {
    /// What shapes the choice of a token.
    pub sampling: SamplingOptions,
    /// Most tokens to make; `None`: not said, or as many as fit. 0 only in completions.
    pub max_tokens: Option<usize>,
    /// Texts that end the reply and are no part of it; none is empty.
    pub stop: Vec<String>,
    /// Tokens that end the reply.
    pub stop_token_ids: Vec<u32>,
    /// Whether the model's own end of a turn does not end the reply.
    pub ignore_eos: bool,
    /// How many replies; 1 or more.
    pub n: usize,
    /// Log probabilities of the tokens that come, and of this many others at each place (0 or
    /// more); `None`: none at all.
    pub logprobs: Option<usize>,
    /// The form of what the model says.
    pub format: OutputFormat,
    /// Whether the reply is sent as it is made, and what is sent with it.
    pub stream: Option<Streaming>,
    /// Whether keys and values of earlier requests may be used. It changes no result.
    pub cache_prompt: bool,
    /// Who the client says it asks for.
    pub user: Option<String>,
}

/// What shapes the choice of a token. `None`: not said, so the server's or the model's default.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SamplingOptions {
    /// 0 (the likeliest token) to 2.
    pub temperature: Option<f32>,
    /// 0 to 1.
    pub top_p: Option<f32>,
    /// Among so many of the likeliest; 0: among all.
    pub top_k: Option<usize>,
    /// 0 (off) to 1: at least this part of the likeliest token's probability.
    pub min_p: Option<f32>,
    /// -2 to 2.
    pub frequency_penalty: Option<f32>,
    /// -2 to 2.
    pub presence_penalty: Option<f32>,
    /// Above 0; 1 is off.
    pub repeat_penalty: Option<f32>,
    /// How far back `repeat_penalty` looks.
    pub repeat_last_n: Option<RepeatWindow>,
    /// Added to the logits of tokens, -100 to 100; minus infinity: never. Each token once.
    pub logit_bias: Vec<(u32, f32)>,
    /// `None`: a random one.
    pub seed: Option<u64>,
}

/// How far back a penalty looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RepeatWindow {
    /// So many tokens.
    Last(usize),
    /// To the beginning.
    All,
}

/// The form of what the model says.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum OutputFormat {
    /// Any text.
    #[default]
    Text,
    /// A JSON object.
    JsonObject,
    /// JSON that a schema validates.
    JsonSchema {
        /// Which field holds the schema, for errors about it.
        field: &'static str,
        /// The schema: an object or a boolean.
        schema: Value,
    },
    /// What a regular expression matches as a whole.
    Regex {
        /// Which field holds it.
        field: &'static str,
        /// The expression.
        pattern: String,
    },
    /// One of these texts.
    Choice {
        /// Which field holds them.
        field: &'static str,
        /// The texts; at least one.
        texts: Vec<String>,
    },
    /// A grammar: llama.cpp's (GBNF) if it has `::=`, else Lark's.
    Grammar {
        /// Which field holds it.
        field: &'static str,
        /// The grammar.
        text: String,
    },
}

/// How a reply is sent as it is made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Streaming {
    /// Whether a last chunk says how many tokens there were.
    pub include_usage: bool,
}

/// What becomes of the model's thoughts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ReasoningOutput {
    /// They come apart from the answer (`reasoning_content`).
    #[default]
    Separate,
    /// They are left in the answer, with the model's own marks around them.
    Inline,
    /// They are left out.
    Hidden,
}

/// Fields of a request that an answer repeats as they came.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ResponsesEcho(pub(crate) Map<String, Value>);

/// Bounds on one request.
#[derive(Debug, Clone)]
pub struct ChatLimits {
    /// Most replies to one prompt.
    pub max_n: usize,
    /// Most prompts of one request for completions.
    pub max_prompts: usize,
}

impl Default for ChatLimits {
    /// 10 replies, as OpenAI-compatible services commonly allow; as many prompts as evaluation
    /// harnesses put into one request.
    fn default() -> Self {
        Self { max_n: 10, max_prompts: 64 }
    }
}
