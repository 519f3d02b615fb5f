//! What the clients of each service send to the chat routes.

use super::Form;
use crate::chat::ChatRoute;

/// On `/v1/chat/completions`.
const CHAT: [Form; 2] = [
    Form {
        name: "ChatRequest",
        title: "OpenAI, vLLM, llama.cpp",
        about: "The canonical form. A tool that must be called is named in `tool_choice` as \
                `{\"type\": \"function\", \"function\": {\"name\": …}}`.",
        examples: &[
            ("", r#"{"messages": [{"role": "user", "content": "Say hello."}], "max_tokens": 32}"#),
            (
                "OpenAI, streamed",
                r#"{"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Say hello."}],
                    "stream": true, "stream_options": {"include_usage": true}, "max_completion_tokens": 32}"#,
            ),
            (
                "OpenAI, a JSON schema",
                r#"{"messages": [{"role": "user", "content": "Where is Bern?"}], "response_format": {"type": "json_schema",
                    "json_schema": {"name": "place", "schema": {"type": "object", "properties": {"country": {"type": "string"}},
                    "required": ["country"], "additionalProperties": false}}}}"#,
            ),
            (
                "OpenAI, tools",
                r#"{"messages": [{"role": "user", "content": "How is the weather in Bern?"}], "tools": [{"type": "function",
                    "function": {"name": "weather", "description": "The weather of a place.", "parameters": {"type": "object",
                    "properties": {"place": {"type": "string"}}, "required": ["place"]}}}], "tool_choice": "auto"}"#,
            ),
            (
                "llama.cpp, a grammar",
                r#"{"messages": [{"role": "user", "content": "Is it raining?"}], "grammar": "root ::= \"yes\" | \"no\""}"#,
            ),
        ],
        required: &["messages"],
        optional: &[
            "model",
            "tools",
            "tool_choice",
            "parallel_tool_calls",
            "response_format",
            "grammar",
            "json_schema",
            "guided_json",
            "guided_regex",
            "guided_choice",
            "guided_grammar",
            "structured_outputs",
            "temperature",
            "top_p",
            "top_k",
            "min_p",
            "frequency_penalty",
            "presence_penalty",
            "repeat_penalty",
            "repetition_penalty",
            "repeat_last_n",
            "logit_bias",
            "seed",
            "max_tokens",
            "max_completion_tokens",
            "n_predict",
            "stop",
            "stop_token_ids",
            "ignore_eos",
            "n",
            "logprobs",
            "top_logprobs",
            "n_probs",
            "stream",
            "stream_options",
            "cache_prompt",
            "user",
            "chat_template_kwargs",
            "documents",
            "add_generation_prompt",
            "continue_final_message",
            "enable_thinking",
            "thinking",
            "reasoning_effort",
            "reasoning_format",
            "include_reasoning",
            "modalities",
        ],
    },
    Form {
        name: "ChatFunctionsRequest",
        title: "OpenAI, functions",
        about: "What tools were called before; a call comes back as `function_call`.",
        examples: &[(
            "",
            r#"{"messages": [{"role": "user", "content": "How is the weather in Bern?"}], "functions": [{"name": "weather",
                "parameters": {"type": "object", "properties": {"place": {"type": "string"}}}}], "function_call": "auto"}"#,
        )],
        required: &["messages", "functions"],
        optional: &["model", "function_call", "temperature", "max_tokens", "stream"],
    },
];

/// On `/v1/completions`.
const COMPLETIONS: [Form; 1] = [Form {
    name: "CompletionRequest",
    title: "OpenAI, vLLM",
    about: "Continues a text, each of a list of texts, or token ids.",
    examples: &[
        ("", r#"{"prompt": "Once upon a time", "max_tokens": 32, "temperature": 0}"#),
        (
            "evaluation",
            r#"{"prompt": ["Bern is in Switzerland"], "max_tokens": 1, "echo": true, "logprobs": 1}"#,
        ),
    ],
    required: &["prompt"],
    optional: &[
        "model",
        "echo",
        "best_of",
        "response_format",
        "grammar",
        "json_schema",
        "guided_json",
        "guided_regex",
        "guided_choice",
        "guided_grammar",
        "structured_outputs",
        "temperature",
        "top_p",
        "top_k",
        "min_p",
        "frequency_penalty",
        "presence_penalty",
        "repeat_penalty",
        "repetition_penalty",
        "repeat_last_n",
        "logit_bias",
        "seed",
        "max_tokens",
        "stop",
        "stop_token_ids",
        "ignore_eos",
        "n",
        "logprobs",
        "stream",
        "stream_options",
        "cache_prompt",
        "user",
    ],
}];

/// On `/completion`.
const LLAMA: [Form; 1] = [Form {
    name: "LlamaCompletionRequest",
    title: "llama.cpp",
    about: "Continues a text; answered, or streamed, in llama.cpp's own shape.",
    examples: &[("", r#"{"prompt": "Once upon a time", "n_predict": 32}"#)],
    required: &["prompt"],
    optional: &[
        "n_predict",
        "max_tokens",
        "grammar",
        "json_schema",
        "temperature",
        "top_p",
        "top_k",
        "min_p",
        "frequency_penalty",
        "presence_penalty",
        "repeat_penalty",
        "repeat_last_n",
        "logit_bias",
        "seed",
        "stop",
        "ignore_eos",
        "n",
        "n_probs",
        "stream",
        "cache_prompt",
        "model",
    ],
}];

/// On `/v1/responses`.
const RESPONSES: [Form; 1] = [Form {
    name: "ResponsesRequest",
    title: "OpenAI, responses",
    about: "Nothing is stored: each request holds the whole conversation.",
    examples: &[
        ("", r#"{"input": "Say hello.", "max_output_tokens": 32}"#),
        (
            "items",
            r#"{"instructions": "Be brief.", "input": [{"role": "user", "content": [{"type": "input_text", "text": "Say hello."}]}], "stream": true}"#,
        ),
    ],
    required: &["input"],
    optional: &[
        "model",
        "instructions",
        "tools",
        "tool_choice",
        "parallel_tool_calls",
        "text",
        "reasoning",
        "temperature",
        "top_p",
        "top_k",
        "min_p",
        "frequency_penalty",
        "presence_penalty",
        "repetition_penalty",
        "logit_bias",
        "seed",
        "stop",
        "max_output_tokens",
        "include",
        "top_logprobs",
        "stream",
        "stream_options",
        "truncation",
        "metadata",
        "user",
        "chat_template_kwargs",
        "enable_thinking",
    ],
}];

/// On `/v1/messages`.
const MESSAGES: [Form; 1] = [Form {
    name: "MessagesRequest",
    title: "Anthropic",
    about: "Content is a text or blocks of type text, thinking, tool_use and tool_result.",
    examples: &[(
        "",
        r#"{"max_tokens": 32, "system": "Be brief.", "messages": [{"role": "user", "content": "Say hello."}]}"#,
    )],
    required: &["messages"],
    optional: &[
        "model",
        "max_tokens",
        "system",
        "tools",
        "tool_choice",
        "output_config",
        "output_format",
        "thinking",
        "temperature",
        "top_p",
        "top_k",
        "min_p",
        "repetition_penalty",
        "seed",
        "stop_sequences",
        "stream",
        "metadata",
        "chat_template_kwargs",
        "enable_thinking",
    ],
}];

/// On `/v1/messages/count_tokens`.
const COUNT_TOKENS: [Form; 1] = [Form {
    name: "CountTokensRequest",
    title: "Anthropic",
    about: "Answered with how many tokens the prompt has.",
    examples: &[("", r#"{"messages": [{"role": "user", "content": "Say hello."}]}"#)],
    required: &["messages"],
    optional: &[
        "model",
        "system",
        "tools",
        "tool_choice",
        "thinking",
        "output_config",
        "output_format",
        "chat_template_kwargs",
        "enable_thinking",
    ],
}];

/// On `/apply-template`.
const APPLY_TEMPLATE: [Form; 1] = [Form {
    name: "ApplyTemplateRequest",
    title: "llama.cpp",
    about: "Answered with the prompt that the model's chat template makes.",
    examples: &[("", r#"{"messages": [{"role": "user", "content": "Say hello."}]}"#)],
    required: &["messages"],
    optional: &[
        "model",
        "tools",
        "tool_choice",
        "parallel_tool_calls",
        "chat_template_kwargs",
        "documents",
        "add_generation_prompt",
        "continue_final_message",
        "enable_thinking",
        "thinking",
        "reasoning_effort",
    ],
}];

impl ChatRoute {
    /// What the clients of each service send to this route.
    pub fn forms(self) -> Vec<&'static Form> {
        let mine: &'static [Form] = match self {
            Self::Chat => &CHAT,
            Self::Completions => &COMPLETIONS,
            Self::LlamaCompletion => &LLAMA,
            Self::Responses => &RESPONSES,
            Self::Messages => &MESSAGES,
            Self::CountTokens => &COUNT_TOKENS,
            Self::ApplyTemplate => &APPLY_TEMPLATE,
            Self::Invocations => {
                return CHAT.iter().chain(&COMPLETIONS).chain(&RESPONSES).collect();
            }
        };
        mine.iter().collect()
    }
}
