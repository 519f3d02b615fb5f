//! What the tests of chat share.

use defrost_api::{
    Alternative, ChatCall, ChatLimits, ChatRequest, ChatRoute, CompletionRequest, Finish, Invalid,
    ReplyDelta, ReplyFacts, ReplyWriter, Timings, TokenLogprob, Usage,
};
use serde_json::{Value, json};

pub(crate) fn parse(route: ChatRoute, body: &Value) -> Result<ChatCall, Invalid> {
    route.parse(body.to_string().as_bytes(), &ChatLimits::default())
}

pub(crate) fn chat_on(route: ChatRoute, body: &Value) -> ChatRequest {
    match parse(route, body) {
        Ok(ChatCall::Chat(request)) => request,
        other => panic!("{other:?}"),
    }
}

pub(crate) fn completion_on(route: ChatRoute, body: &Value) -> CompletionRequest {
    match parse(route, body) {
        Ok(ChatCall::Completion(request)) => request,
        other => panic!("{other:?}"),
    }
}

/// A chat completion of one message, with these fields.
pub(crate) fn chat(fields: &Value) -> ChatRequest {
    chat_on(ChatRoute::Chat, &with_message(fields))
}

pub(crate) fn refused_chat(fields: &Value) -> Invalid {
    refused(ChatRoute::Chat, &with_message(fields))
}

pub(crate) fn refused(route: ChatRoute, body: &Value) -> Invalid {
    parse(route, body).expect_err("the request is refused")
}

pub(crate) fn with_message(fields: &Value) -> Value {
    with(&json!({"messages": [{"role": "user", "content": "hi"}]}), fields)
}

/// A body of this route with these fields.
pub(crate) fn body(route: ChatRoute, fields: &Value) -> Value {
    match route {
        ChatRoute::Completions | ChatRoute::LlamaCompletion => {
            with(&json!({"prompt": "a"}), fields)
        }
        ChatRoute::Responses => with(&json!({"input": "a"}), fields),
        _ => with_message(fields),
    }
}

/// `body` with the fields of `extra`.
pub(crate) fn with(body: &Value, extra: &Value) -> Value {
    let mut body = body.clone();
    body.as_object_mut().expect("an object").extend(extra.as_object().expect("an object").clone());
    body
}

pub(crate) fn facts() -> ReplyFacts {
    ReplyFacts {
        id: "1".to_owned(),
        created: 7,
        model: "m".to_owned(),
        fingerprint: "f".to_owned(),
    }
}

pub(crate) const USAGE: Usage =
    Usage { prompt_tokens: 12, cached_tokens: 5, completion_tokens: 9, reasoning_tokens: 2 };

pub(crate) const TIMINGS: Timings =
    Timings { prompt_tokens: 7, prompt_ms: 14.0, predicted_tokens: 9, predicted_ms: 90.0 };

/// One call of the writer.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    Delta(usize, ReplyDelta, Vec<TokenLogprob>),
    Finish(usize, Finish),
}

pub(crate) fn content(text: &str) -> Step {
    Step::Delta(0, ReplyDelta::Content(text.to_owned()), vec![])
}

pub(crate) fn reasoning(text: &str) -> Step {
    Step::Delta(0, ReplyDelta::Reasoning(text.to_owned()), vec![])
}

pub(crate) fn call(index: usize, id: &str, name: &str) -> Step {
    let (id, name) = (id.to_owned(), name.to_owned());
    Step::Delta(0, ReplyDelta::ToolCall { index, id, name }, vec![])
}

pub(crate) fn arguments(index: usize, fragment: &str) -> Step {
    let fragment = fragment.to_owned();
    Step::Delta(0, ReplyDelta::Arguments { index, fragment }, vec![])
}

pub(crate) fn finish(finish: Finish) -> Step {
    Step::Finish(0, finish)
}

/// A reply with everything in it.
pub(crate) fn full_reply() -> Vec<Step> {
    vec![
        reasoning("hm"),
        reasoning("m"),
        content("Let me "),
        content("look."),
        call(0, "call_a", "weather"),
        arguments(0, "{\"place\":"),
        arguments(0, "\"Bern\"}"),
        call(1, "call_b", "time"),
        arguments(1, "{}"),
        finish(Finish::Stop),
    ]
}

pub(crate) fn logprob(text: &str, logprob: f32, top: &[(&str, f32)]) -> TokenLogprob {
    let alternative = |&(text, logprob): &(&str, f32)| Alternative {
        id: 9,
        text: text.to_owned(),
        bytes: text.as_bytes().to_vec(),
        logprob,
    };
    TokenLogprob {
        id: 8,
        text: text.to_owned(),
        bytes: text.as_bytes().to_vec(),
        logprob: Some(logprob),
        top: top.iter().map(alternative).collect(),
    }
}

pub(crate) fn play(mut writer: ReplyWriter, steps: &[Step], timings: Option<&Timings>) -> String {
    let mut out = Vec::new();
    let before = Usage { completion_tokens: 0, reasoning_tokens: 0, ..USAGE };
    writer.begin(&before, &mut out);
    for step in steps {
        match step {
            Step::Delta(choice, delta, logprobs) => {
                writer.delta(*choice, delta, logprobs, &mut out);
            }
            Step::Finish(choice, finish) => writer.finish(*choice, finish, &[], &mut out),
        }
    }
    assert!(writer.is_stream() || out.is_empty(), "a whole answer comes at its end");
    writer.end(&USAGE, timings, &mut out);
    String::from_utf8(out).expect("answers are text")
}

pub(crate) fn whole(request: &ChatRequest, steps: &[Step]) -> Value {
    let text = play(ReplyWriter::chat(request, facts()), steps, None);
    serde_json::from_str(&text).expect("answers are json")
}

pub(crate) fn streamed(request: &ChatRequest, steps: &[Step]) -> Vec<(String, Value)> {
    events(&play(ReplyWriter::chat(request, facts()), steps, Some(&TIMINGS)))
}

pub(crate) fn whole_completion(request: &CompletionRequest, steps: &[Step]) -> Value {
    let writer = ReplyWriter::completion(request, facts(), vec!["p".to_owned()]);
    serde_json::from_str(&play(writer, steps, Some(&TIMINGS))).expect("answers are json")
}

pub(crate) fn streamed_completion(
    request: &CompletionRequest,
    steps: &[Step],
) -> Vec<(String, Value)> {
    let writer = ReplyWriter::completion(request, facts(), vec!["p".to_owned()]);
    events(&play(writer, steps, Some(&TIMINGS)))
}

/// Names and data of events; `[DONE]` as a string.
pub(crate) fn events(stream: &str) -> Vec<(String, Value)> {
    let all = stream.strip_suffix("\n\n").expect("an empty line ends an event");
    let read = |event: &str| {
        let (name, data) = match event.strip_prefix("event: ") {
            Some(named) => named.split_once('\n').expect("data follows the name"),
            None => ("", event),
        };
        let data = data.strip_prefix("data: ").expect("an event is data");
        let data = serde_json::from_str(data).unwrap_or_else(|_| Value::from(data));
        (name.to_owned(), data)
    };
    all.split("\n\n").map(read).collect()
}
