//! Between the API's words for a request and the model's.
//!
//! What is translated is taken apart and put together whole, without `..`: a field that is added on
//! one side and forgotten here does not compile.

use std::time::Duration;

use defrost_api::{
    ChatCall, ChatMessage, ChatRequest, CompletionApi, CompletionRequest, Conversation, Generation,
    OutputFormat, RepeatWindow, Role, SamplingOptions, Tool, ToolCall, ToolChoice,
};
use defrost_chat::ResponseFormat;
use defrost_model::spec::{ChatSpec, SamplingDefaults};
use defrost_tasks::{GenerationTask, Sampling};

use crate::config::ChatSettings;

/// Tokens of a completion of `/v1/completions` that says nothing of them: what `OpenAI` gives it.
const USUAL_COMPLETION: usize = 16;

/// The model that a request names.
pub(crate) fn model_of(call: &mut ChatCall) -> &mut Option<String> {
    match call {
        ChatCall::Chat(ChatRequest { model, .. })
        | ChatCall::Completion(CompletionRequest { model, .. })
        | ChatCall::CountTokens { model, .. }
        | ChatCall::ApplyTemplate { model, .. } => model,
    }
}

/// A conversation in the words of templates and grammars.
pub(crate) fn conversation(
    conversation: &Conversation,
    format: &OutputFormat,
    now: Duration,
) -> defrost_chat::Conversation {
    let Conversation {
        messages,
        tools,
        tool_choice,
        parallel_tool_calls,
        add_generation_prompt,
        continue_final_message,
        template_kwargs,
    } = conversation;
    defrost_chat::Conversation {
        messages: messages.iter().map(message).collect(),
        tools: tools.iter().map(tool).collect(),
        tool_choice: choice(tool_choice),
        parallel_tool_calls: *parallel_tool_calls,
        response_format: self::format(format),
        add_generation_prompt: *add_generation_prompt,
        continue_final_message: *continue_final_message,
        chat_template_kwargs: template_kwargs.clone(),
        now: i64::try_from(now.as_secs()).unwrap_or(i64::MAX),
    }
}

fn message(message: &ChatMessage) -> defrost_chat::Message {
    let ChatMessage { role, content, reasoning, tool_calls, tool_call_id, name } = message;
    let call = |ToolCall { id, name, arguments }: &ToolCall| defrost_chat::ToolCall {
        id: id.clone(),
        name: name.clone(),
        arguments: arguments.clone(),
    };
    defrost_chat::Message {
        role: match role {
            Role::System => defrost_chat::Role::System,
            Role::Developer => defrost_chat::Role::Developer,
            Role::User => defrost_chat::Role::User,
            Role::Assistant => defrost_chat::Role::Assistant,
            Role::Tool => defrost_chat::Role::Tool,
        },
        content: content.clone(),
        reasoning: reasoning.clone(),
        tool_calls: tool_calls.iter().map(call).collect(),
        tool_call_id: tool_call_id.clone(),
        name: name.clone(),
    }
}

fn tool(tool: &Tool) -> defrost_chat::Tool {
    let Tool { name, description, parameters, strict } = tool;
    defrost_chat::Tool {
        name: name.clone(),
        description: description.clone(),
        parameters: parameters.clone(),
        strict: *strict,
    }
}

fn choice(choice: &ToolChoice) -> defrost_chat::ToolChoice {
    match choice {
        ToolChoice::Auto => defrost_chat::ToolChoice::Auto,
        ToolChoice::None => defrost_chat::ToolChoice::None,
        ToolChoice::Required => defrost_chat::ToolChoice::Required,
        ToolChoice::Named(name) => defrost_chat::ToolChoice::Named(name.clone()),
        ToolChoice::Allowed { names, required } => {
            defrost_chat::ToolChoice::Allowed { names: names.clone(), required: *required }
        }
    }
}

/// The form of an answer in the words of grammars.
pub(crate) fn format(format: &OutputFormat) -> ResponseFormat {
    match format {
        OutputFormat::Text => ResponseFormat::Text,
        OutputFormat::JsonObject => ResponseFormat::JsonObject,
        OutputFormat::JsonSchema { schema, .. } => ResponseFormat::JsonSchema(schema.clone()),
        OutputFormat::Regex { pattern, .. } => ResponseFormat::Regex(pattern.clone()),
        OutputFormat::Choice { texts, .. } => ResponseFormat::Choice(texts.clone()),
        OutputFormat::Grammar { text, .. } if text.contains("::=") => {
            ResponseFormat::Gbnf(text.clone())
        }
        OutputFormat::Grammar { text, .. } => ResponseFormat::Lark(text.clone()),
    }
}

/// The field of the request that holds the form.
pub(crate) fn field_of(format: &OutputFormat) -> Option<&'static str> {
    match format {
        OutputFormat::Text | OutputFormat::JsonObject => None,
        OutputFormat::JsonSchema { field, .. }
        | OutputFormat::Regex { field, .. }
        | OutputFormat::Choice { field, .. }
        | OutputFormat::Grammar { field, .. } => Some(field),
    }
}

/// How tokens are chosen: as the request says, or the settings, or the model's authors. `drawn` is for random numbers
/// where the request gives none.
pub(crate) fn sampling(
    generation: &Generation,
    settings: &ChatSettings,
    spec: &ChatSpec,
    drawn: u64,
) -> Sampling {
    let SamplingOptions {
        temperature,
        top_p,
        top_k,
        min_p,
        frequency_penalty,
        presence_penalty,
        repeat_penalty,
        repeat_last_n,
        logit_bias,
        seed,
    } = &generation.sampling;
    let SamplingDefaults {
        temperature: own_temperature,
        top_k: own_top_k,
        top_p: own_top_p,
        min_p: own_min_p,
        repetition_penalty: own_penalty,
    } = spec.sampling;
    let usual = Sampling::default();
    let own_top_k = own_top_k.map(|top_k| top_k as usize);
    Sampling {
        temperature: (*temperature)
            .or(settings.temperature)
            .or(own_temperature)
            .unwrap_or(usual.temperature),
        top_k: top_k.or(settings.top_k).or(own_top_k).unwrap_or(usual.top_k),
        top_p: top_p.or(settings.top_p).or(own_top_p).unwrap_or(usual.top_p),
        min_p: min_p.or(settings.min_p).or(own_min_p).unwrap_or(usual.min_p),
        typical_p: usual.typical_p,
        repetition_penalty: (*repeat_penalty)
            .or(settings.repeat_penalty)
            .or(own_penalty)
            .unwrap_or(usual.repetition_penalty),
        repetition_window: match repeat_last_n {
            Some(RepeatWindow::Last(tokens)) => Some(*tokens),
            Some(RepeatWindow::All) | None => None,
        },
        frequency_penalty: frequency_penalty.unwrap_or(usual.frequency_penalty),
        presence_penalty: presence_penalty.unwrap_or(usual.presence_penalty),
        logit_bias: logit_bias.clone(),
        seed: seed.unwrap_or(drawn),
    }
}

/// What a prompt is continued for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Purpose {
    /// Whose completion it is; `None`: a reply in a conversation.
    pub(crate) api: Option<CompletionApi>,
    pub(crate) echo: bool,
    /// Whether special tokens have no text.
    pub(crate) skip_special: bool,
}

/// A prompt's task, for a model of so many tokens of context.
pub(crate) fn task(
    prompt: Vec<u32>,
    purpose: Purpose,
    generation: &Generation,
    sampling: Sampling,
    settings: &ChatSettings,
    context: usize,
) -> GenerationTask {
    let Generation {
        sampling: _,
        max_tokens,
        stop,
        stop_token_ids,
        ignore_eos,
        n,
        logprobs,
        // What restricts the text is no part of the task; the rest is for who writes the answer.
        format: _,
        stream: _,
        cache_prompt: _,
        user: _,
    } = generation;
    let Purpose { api, echo, skip_special } = purpose;
    // A default is no wish: it is cut to what there is.
    let room = context.saturating_sub(prompt.len()).max(1);
    let usual = match api {
        Some(CompletionApi::Completions) => Some(USUAL_COMPLETION),
        Some(CompletionApi::LlamaCpp) | None => None,
    };
    let usual = settings.max_tokens.or(usual).map(|tokens| tokens.min(room));
    GenerationTask {
        prompt,
        max_tokens: max_tokens.or(usual),
        min_tokens: 0,
        sampling,
        stop: stop.clone(),
        stop_ids: stop_token_ids.clone(),
        include_stop: false,
        ignore_eos: *ignore_eos,
        skip_special,
        n: *n,
        logprobs: *logprobs,
        prompt_logprobs: None,
        echo,
    }
}

/// Bytes of what a conversation's prompt is made of, about.
pub(crate) fn bytes(conversation: &Conversation) -> usize {
    let of_messages = conversation.messages.iter().map(|message| {
        let calls = message.tool_calls.iter().map(|call| call.name.len() + call.arguments.len());
        let texts = [&message.content, &message.reasoning].into_iter().flatten();
        // A template writes marks around it.
        texts.map(String::len).sum::<usize>() + calls.sum::<usize>() + 64
    });
    let of_tools = conversation.tools.iter().map(|tool| {
        let parameters = tool.parameters.as_ref().map_or(0, |schema| schema.to_string().len());
        tool.name.len() + tool.description.as_ref().map_or(0, String::len) + parameters + 128
    });
    of_messages.chain(of_tools).fold(0, usize::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> ChatSettings {
        ChatSettings {
            context_length: None,
            kv_tokens: None,
            max_running: 1,
            max_tokens: None,
            temperature: None,
            top_p: None,
            top_k: None,
            min_p: None,
            repeat_penalty: None,
            keep_alive: std::time::Duration::ZERO,
        }
    }

    #[test]
    fn the_request_comes_before_the_settings_and_those_before_the_model() {
        let mut generation = Generation { n: 1, ..Generation::default() };
        let (mut settings, mut spec) = (settings(), ChatSpec::default());
        let usual = sampling(&generation, &settings, &spec, 7);
        assert_eq!(usual, Sampling { seed: 7, ..Sampling::default() });
        spec.sampling.temperature = Some(0.7);
        spec.sampling.top_k = Some(20);
        let of_model = sampling(&generation, &settings, &spec, 7);
        assert_eq!((of_model.temperature, of_model.top_k), (0.7, 20));
        settings.temperature = Some(0.2);
        settings.top_k = Some(0);
        let of_settings = sampling(&generation, &settings, &spec, 7);
        assert_eq!((of_settings.temperature, of_settings.top_k), (0.2, 0));
        generation.sampling.temperature = Some(0.0);
        generation.sampling.seed = Some(3);
        let asked = sampling(&generation, &settings, &spec, 7);
        assert_eq!((asked.temperature, asked.top_k, asked.seed), (0.0, 0, 3));
    }

    #[test]
    fn defaults_of_length_are_cut_to_what_there_is_and_wishes_are_not() {
        let generation = |max_tokens| Generation { max_tokens, n: 1, ..Generation::default() };
        let most = |api, max_tokens, setting| {
            let settings = ChatSettings { max_tokens: setting, ..settings() };
            let purpose = Purpose { api, echo: false, skip_special: true };
            let generation = generation(max_tokens);
            task(vec![1; 90], purpose, &generation, Sampling::GREEDY, &settings, 100).max_tokens
        };
        let openai = Some(CompletionApi::Completions);
        for (api, asked, setting, expected) in [
            (None, None, None, None),
            (None, None, Some(5), Some(5)),
            (None, None, Some(500), Some(10)),
            (None, Some(500), Some(5), Some(500)),
            (openai, None, None, Some(10)),
            (openai, None, Some(3), Some(3)),
            (Some(CompletionApi::LlamaCpp), None, None, None),
            (openai, Some(0), None, Some(0)),
        ] {
            assert_eq!(most(api, asked, setting), expected, "{api:?} {asked:?} {setting:?}");
        }
    }
}
