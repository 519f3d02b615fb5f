//! The body as it arrives: every field of every API, all optional.
//!
//! Four APIs share most of their fields, and clients of one send those of another (`top_k` to
//! `OpenAI`'s routes, `chat_template_kwargs` to all). So one body reads them all, and which of them a
//! route documents is said in the forms of its schema: the others that come are told as unread.

mod content;
mod messages;
mod schema;
mod values;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::error::Invalid;
use crate::fields;
use crate::json;
use crate::lenient::{Count, Flag, Inputs, Names, TokenId};

pub(crate) use messages::{Messages, Tools};
pub(crate) use values::Json;

pub(super) use content::{Part, Parts, TextContent, lines};
pub(super) use messages::{
    Arguments, CalledFunction, ChoiceBody, ChoiceObject, FunctionBody, Functions, Input, ItemBody,
    MessageBody, ToolBody,
};
use values::Object;
pub(super) use values::{FlagOrCount, LogitBias, Number, Seed, Texts};

/// Every field that a client of the chat routes may send. Other fields are told in the answer, null means absent.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ChatBody {
    /// Name of the model, any name unless the server is strict.
    pub(super) model: Option<String>,

    /// The conversation so far.
    pub(super) messages: Option<Messages>,
    /// The text to continue, a list of texts, or token ids.
    pub(super) prompt: Option<Inputs>,
    /// Responses: the conversation so far, or the user's one message.
    pub(super) input: Option<Input>,
    /// Responses: what the assistant is told before the conversation.
    pub(super) instructions: Option<String>,
    /// Anthropic: what the assistant is told before the conversation.
    pub(super) system: Option<TextContent>,

    /// Functions that the model may call.
    pub(super) tools: Option<Tools>,
    /// Which of them it may or must call: `none`, `auto`, `required`, or an object that names one.
    pub(super) tool_choice: Option<ChoiceBody>,
    /// Whether the model may call several functions at once.
    pub(super) parallel_tool_calls: Option<Flag>,
    /// An older name of `tools`; calls come back as `function_call`.
    pub(super) functions: Option<Functions>,
    /// An older name of `tool_choice`.
    pub(super) function_call: Option<ChoiceBody>,

    /// The form of the answer: `text`, `json_object`, `json_schema`, `regex` or `gbnf_grammar`.
    pub(super) response_format: Option<Object<FormatBody>>,
    /// Responses: `format`, as `response_format`.
    pub(super) text: Option<Object<TextBody>>,
    /// Anthropic: `format`, a JSON schema; `effort`, as `reasoning_effort`.
    pub(super) output_config: Option<Object<OutputBody>>,
    /// Anthropic's older name of `output_config.format`.
    pub(super) output_format: Option<Object<FormatBody>>,
    /// llama.cpp: a grammar (GBNF) that the answer follows.
    pub(super) grammar: Option<String>,
    /// llama.cpp: a JSON schema that the answer follows.
    pub(super) json_schema: Option<Json>,
    /// vLLM: a JSON schema that the answer follows.
    pub(super) guided_json: Option<Json>,
    /// vLLM: a regular expression that the answer matches.
    pub(super) guided_regex: Option<String>,
    /// vLLM: texts of which the answer is one.
    pub(super) guided_choice: Option<Texts>,
    /// vLLM: a grammar that the answer follows.
    pub(super) guided_grammar: Option<String>,
    /// vLLM: the form of the answer by `json`, `regex`, `choice`, `grammar` or `json_object`.
    pub(super) structured_outputs: Option<Object<StructuredBody>>,

    /// 0 (the likeliest token always) to 2.
    pub(super) temperature: Option<Number>,
    /// Among the likeliest tokens whose probabilities sum up to this.
    pub(super) top_p: Option<Number>,
    /// Among so many of the likeliest tokens; 0 or -1: among all.
    pub(super) top_k: Option<Count>,
    /// Only tokens at least this part as likely as the likeliest.
    pub(super) min_p: Option<Number>,
    /// Lowers tokens by how often they came, -2 to 2.
    pub(super) frequency_penalty: Option<Number>,
    /// Lowers tokens that came, -2 to 2.
    pub(super) presence_penalty: Option<Number>,
    /// llama.cpp: divides the logits of tokens that came; 1 is off.
    pub(super) repeat_penalty: Option<Number>,
    /// vLLM's name of `repeat_penalty`.
    pub(super) repetition_penalty: Option<Number>,
    /// llama.cpp: how many tokens back `repeat_penalty` looks; -1: to the beginning.
    pub(super) repeat_last_n: Option<Count>,
    /// Added to the logits of tokens by their ids, -100 to 100.
    pub(super) logit_bias: Option<LogitBias>,
    /// The same seed, the same answer; -1 for a random one.
    pub(super) seed: Option<Seed>,

    /// Most tokens to make; -1: as many as fit.
    pub(super) max_tokens: Option<Count>,
    /// `OpenAI`'s newer name of `max_tokens`.
    pub(super) max_completion_tokens: Option<Count>,
    /// The name that responses have for `max_tokens`.
    pub(super) max_output_tokens: Option<Count>,
    /// llama.cpp's name of `max_tokens`.
    pub(super) n_predict: Option<Count>,
    /// A text or texts that end the answer and are no part of it.
    pub(super) stop: Option<Texts>,
    /// Anthropic's name of `stop`.
    pub(super) stop_sequences: Option<Texts>,
    /// vLLM: tokens that end the answer.
    pub(super) stop_token_ids: Option<Vec<TokenId>>,
    /// Go on where the model would end.
    pub(super) ignore_eos: Option<Flag>,
    /// How many answers.
    pub(super) n: Option<Count>,
    /// How many answers to choose from: no more than `n` are made.
    pub(super) best_of: Option<Count>,
    /// Return log probabilities; in completions, of how many tokens at each place.
    pub(super) logprobs: Option<FlagOrCount>,
    /// Log probabilities of how many tokens at each place.
    pub(super) top_logprobs: Option<Count>,
    /// llama.cpp's name of `logprobs` in completions.
    pub(super) n_probs: Option<Count>,
    /// Responses: `message.output_text.logprobs` asks for log probabilities.
    pub(super) include: Option<Names>,
    /// Return the prompt before what continues it.
    pub(super) echo: Option<Flag>,
    /// Send the answer as it is made, as server-sent events.
    pub(super) stream: Option<Flag>,
    /// `include_usage`: a last event says how many tokens there were.
    pub(super) stream_options: Option<Object<StreamBody>>,
    /// llama.cpp: false computes the whole prompt again. The answer is the same.
    pub(super) cache_prompt: Option<Flag>,
    /// Who the client asks for.
    pub(super) user: Option<String>,
    /// Repeated in the answer of responses.
    pub(super) metadata: Option<Json>,

    /// Further variables of the model's chat template, such as `enable_thinking`.
    pub(super) chat_template_kwargs: Option<Json>,
    /// vLLM: documents for templates that know of them.
    pub(super) documents: Option<Json>,
    /// vLLM: whether the prompt ends where the assistant begins to speak.
    pub(super) add_generation_prompt: Option<Flag>,
    /// vLLM: the model continues the last message.
    pub(super) continue_final_message: Option<Flag>,
    /// Whether a model that can think does: `chat_template_kwargs.enable_thinking`.
    pub(super) enable_thinking: Option<Flag>,
    /// Anthropic, `DeepSeek`: `{"type": "enabled"}` or `{"type": "disabled"}`, as `enable_thinking`.
    pub(super) thinking: Option<Object<KindBody>>,
    /// How much to think, for templates that know of it; `none` as `enable_thinking: false`.
    pub(super) reasoning_effort: Option<String>,
    /// Responses: `effort`, as `reasoning_effort`.
    pub(super) reasoning: Option<Object<ReasoningBody>>,
    /// llama.cpp: `none` leaves thoughts in the answer, `deepseek` puts them into `reasoning_content`.
    pub(super) reasoning_format: Option<String>,
    /// vLLM: false leaves thoughts out.
    pub(super) include_reasoning: Option<Flag>,
    /// `OpenAI`: what the answer consists of; text.
    pub(super) modalities: Option<Names>,
    /// Responses: `auto` is not done: what does not fit is refused.
    pub(super) truncation: Option<String>,

    /// The names of all fields that came.
    #[serde(skip)]
    #[schemars(skip)]
    pub(super) names: fields::Names,
}

/// `response_format`, in the spellings of four servers.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default)]
pub(crate) struct FormatBody {
    pub(crate) r#type: Option<String>,
    pub(crate) json_schema: Option<Json>,
    pub(crate) schema: Option<Json>,
    pub(crate) grammar: Option<String>,
    pub(crate) regex: Option<String>,
    pub(crate) pattern: Option<String>,
    pub(crate) value: Option<Json>,
    /// Responses have them beside the schema.
    pub(crate) name: Option<String>,
    pub(crate) description: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default)]
pub(crate) struct TextBody {
    pub(crate) format: Option<Object<FormatBody>>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default)]
pub(crate) struct OutputBody {
    pub(crate) format: Option<Object<FormatBody>>,
    pub(crate) effort: Option<String>,
}

/// vLLM's `structured_outputs`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default)]
pub(crate) struct StructuredBody {
    pub(crate) json: Option<Json>,
    pub(crate) regex: Option<String>,
    pub(crate) choice: Option<Texts>,
    pub(crate) grammar: Option<String>,
    pub(crate) json_object: Option<Flag>,
    #[schemars(skip)]
    pub(crate) structural_tag: Option<serde::de::IgnoredAny>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default)]
pub(crate) struct StreamBody {
    pub(crate) include_usage: Option<Flag>,
    pub(crate) continuous_usage_stats: Option<Flag>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default)]
pub(crate) struct KindBody {
    pub(crate) r#type: Option<String>,
    /// Anthropic: `omitted` leaves thoughts out.
    pub(crate) display: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default)]
pub(crate) struct ReasoningBody {
    pub(crate) effort: Option<String>,
}

impl ChatBody {
    /// Reads a JSON body; `example` shows in the error what one of this route looks like.
    pub(super) fn parse(bytes: &[u8], example: &str) -> Result<Self, Invalid> {
        let mut body: Self = json::read(bytes, example)?;
        body.names = fields::Names::of(bytes);
        Ok(body)
    }
}
