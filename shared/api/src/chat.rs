//! Chat and completions: what four services' clients send, as one request, and the answer to it,
//! whole or as it is made, in the shape that the client reads.
//!
//! ```text
//! body --ChatRoute::parse--> ChatCall: ChatRequest | CompletionRequest | …    (this crate)
//!                              |  the service: template, tokens, model, parser of the reply
//! bytes <---- ReplyWriter <---- ReplyDelta, TokenLogprob, Finish, Usage       (this crate)
//! ```
//!
//! Everything here is a function of values: the id, the time and the model's name are given.
//!
//! - [`ChatRequest`]: chat completions (`OpenAI`, vLLM, llama.cpp), responses (`OpenAI`) and
//!   messages (Anthropic), whose [`Conversation`] alone makes the prompt;
//! - [`CompletionRequest`]: completions (`OpenAI`, vLLM) and llama.cpp's own;
//! - [`ReplyDelta`], [`Finish`], [`Usage`], [`TokenLogprob`]: what a reply consists of;
//! - [`ReplyWriter`]: the answer's bytes, whole or streamed, in the shape of each.

mod body;
mod message;
mod read;
mod refused;
mod reply;
mod request;
mod route;
mod write;

pub use body::ChatBody;
pub(crate) use body::{Json, Messages, Tools};
pub use message::{ChatMessage, Conversation, Role, Tool, ToolCall, ToolChoice};
pub(crate) use read::{MAX_STOPS, MAX_TOP_LOGPROBS, PromptFields};
pub use reply::{Alternative, Finish, ReplyDelta, ReplyFacts, Timings, TokenLogprob, Usage};
pub use request::{
    ChatApi, ChatLimits, ChatRequest, CompletionApi, CompletionPrompt, CompletionRequest,
    Generation, OutputFormat, ReasoningOutput, RepeatWindow, ResponsesEcho, SamplingOptions,
    Streaming,
};
pub use route::{ChatCall, ChatRoute};
pub use write::{
    AppliedTemplate, ChatChunk, ChatCompletion, CountedTokens, LlamaCompletion, MessagesAnswer,
    ReplyWriter, ResponsesAnswer, TextCompletion,
};
