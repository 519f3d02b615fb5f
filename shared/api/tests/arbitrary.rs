//! No body, however odd, makes a reader panic.

use defrost_api::{
    ChatCall, ChatLimits, ChatRoute, DetokenizeBody, EmbedBody, EmbedFacts, EmbedLimits,
    EmbedRoute, Embedded, Finish, Limits, ReplyDelta, ReplyFacts, ReplyWriter, RerankBody, Route,
    ScoreBody, TokenizeBody, Usage, embed_answer,
};
use proptest::prelude::*;
use serde_json::{Value, json};

const RERANK_KEYS: [&str; 16] = [
    "query",
    "documents",
    "texts",
    "input",
    "passage",
    "passages",
    "pairs",
    "top_n",
    "top_k",
    "truncate",
    "truncation",
    "normalize",
    "normalization",
    "rank_fields",
    "max_tokens_per_doc",
    "text",
];

const SCORE_KEYS: [&str; 12] = [
    "queries",
    "documents",
    "items",
    "text_1",
    "text_2",
    "data_1",
    "data_2",
    "content",
    "type",
    "text",
    "use_activation",
    "truncate",
];

const EMBED_KEYS: [&str; 24] = [
    "input",
    "inputs",
    "texts",
    "text",
    "content",
    "source_sentence",
    "sentences",
    "parameters",
    "encoding_format",
    "dimensions",
    "output_dimension",
    "normalize",
    "input_type",
    "task",
    "prompt",
    "prompt_name",
    "embedding_type",
    "embedding_types",
    "output_dtype",
    "return_sparse",
    "truncate",
    "truncate_prompt_tokens",
    "messages",
    "tokens",
];

const CHAT_KEYS: [&str; 58] = [
    "messages",
    "prompt",
    "input",
    "role",
    "content",
    "type",
    "text",
    "tool_calls",
    "tool_call_id",
    "function",
    "name",
    "arguments",
    "call_id",
    "output",
    "summary",
    "thinking",
    "tool_use_id",
    "tools",
    "parameters",
    "input_schema",
    "functions",
    "function_call",
    "tool_choice",
    "allowed_tools",
    "mode",
    "response_format",
    "json_schema",
    "schema",
    "format",
    "output_config",
    "structured_outputs",
    "grammar",
    "guided_choice",
    "system",
    "instructions",
    "temperature",
    "top_p",
    "top_k",
    "logit_bias",
    "seed",
    "stop",
    "stop_sequences",
    "n",
    "best_of",
    "logprobs",
    "top_logprobs",
    "include",
    "stream",
    "stream_options",
    "max_tokens",
    "chat_template_kwargs",
    "reasoning",
    "metadata",
    "truncation",
    "add_generation_prompt",
    "continue_final_message",
    "echo",
    "suffix",
];

const NAMES: [&str; 24] = [
    "user",
    "assistant",
    "tool",
    "system",
    "function",
    "text",
    "json_schema",
    "message",
    "function_call",
    "tool_use",
    "tool_result",
    "auto",
    "a",
    "base64",
    "int8",
    "binary",
    "sparse",
    "colbert",
    "END",
    "left",
    "query",
    "s2s",
    "true",
    "",
];

/// Any JSON, with the keys that a reader looks for more often than others.
fn any_json(keys: &'static [&'static str]) -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (0_u32..9).prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,8}".prop_map(Value::from),
        prop::sample::select(&NAMES[..]).prop_map(Value::from),
    ];
    let key = prop_oneof![
        3 => prop::sample::select(keys).prop_map(str::to_owned),
        1 => ".{0,4}",
    ];
    leaf.prop_recursive(4, 64, 8, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::btree_map(key.clone(), inner, 0..6)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

fn read(bytes: &[u8]) {
    for route in [Route::Rerank, Route::Batch, Route::Query] {
        if let Ok(body) = RerankBody::parse_on(route, bytes) {
            let _ = body.into_request(route, &Limits::default());
        }
    }
    if let Ok(request) =
        ScoreBody::parse(bytes).and_then(|body| body.into_request(&Limits::default()))
    {
        let mut positions: Vec<_> =
            request.groups.iter().flat_map(|work| work.positions.clone()).collect();
        positions.sort_unstable();
        assert!(positions.iter().copied().eq(0..request.document_count()), "one score a pair");
    }
    let limits = EmbedLimits::default();
    for (_, route) in EmbedRoute::PATHS {
        let request =
            EmbedBody::parse_on(route, bytes).and_then(|body| body.into_request(route, &limits));
        match request {
            Ok(request) => {
                assert!(!request.inputs.is_empty() && !request.formats.is_empty());
                let one = Embedded { dense: Some(&[0.5; 3]), ..Embedded::default() };
                let embedded = vec![one; request.inputs.len()];
                let facts = EmbedFacts::default();
                let answer = embed_answer(&request, &embedded, &[], &facts);
                assert!(serde_json::to_vec(&answer).is_ok());
                let _ = request.too_long(request.inputs.len() - 1, 1, 2).error_body();
            }
            Err(invalid) => assert!(matches!(invalid.status(), 400 | 413 | 422)),
        }
    }
    let _ = TokenizeBody::parse(bytes).and_then(|body| body.into_request(&limits));
    let _ = DetokenizeBody::parse(bytes).and_then(|body| body.into_request(&limits));
}

fn read_chat(bytes: &[u8]) {
    for (_, route) in ChatRoute::PATHS {
        let writer = match route.parse(bytes, &ChatLimits::default()) {
            Ok(ChatCall::Chat(request)) => {
                assert!(!request.conversation.messages.is_empty() && request.generation.n > 0);
                ReplyWriter::chat(&request, ReplyFacts::default())
            }
            Ok(ChatCall::Completion(request)) => {
                assert!(!request.prompts.is_empty() && request.generation.n > 0);
                ReplyWriter::completion(&request, ReplyFacts::default(), vec![])
            }
            Ok(ChatCall::CountTokens { .. } | ChatCall::ApplyTemplate { .. }) => continue,
            Err(invalid) => {
                assert_eq!(invalid.status(), 400);
                assert!(serde_json::to_vec(&invalid.error_body()).is_ok());
                continue;
            }
        };
        answer(writer);
    }
}

/// Whatever the request, and however a reply comes, the answer is text.
fn answer(mut writer: ReplyWriter) {
    let (usage, mut out) = (Usage::default(), Vec::new());
    writer.begin(&usage, &mut out);
    for delta in [
        ReplyDelta::Arguments { index: 3, fragment: "{".to_owned() },
        ReplyDelta::ToolCall { index: 7, id: String::new(), name: "f".to_owned() },
        ReplyDelta::Content("\u{2028}".to_owned()),
        ReplyDelta::Arguments { index: 7, fragment: "}".to_owned() },
        ReplyDelta::Reasoning("a".to_owned()),
    ] {
        writer.delta(0, &delta, &[], &mut out);
    }
    writer.finish(0, &Finish::Length, &[], &mut out);
    writer.end(&usage, None, &mut out);
    assert!(!out.is_empty() && String::from_utf8(out).is_ok());
}

/// Bodies of chat that are nearly right: an object of its keys.
fn chat_body() -> impl Strategy<Value = Value> {
    let key = prop::sample::select(&CHAT_KEYS[..]).prop_map(str::to_owned);
    prop::collection::btree_map(key, any_json(&CHAT_KEYS), 0..5)
        .prop_map(|map| Value::Object(map.into_iter().collect()))
}

proptest! {
    #[test]
    fn arbitrary_chat_json(value in any_json(&CHAT_KEYS)) {
        read_chat(value.to_string().as_bytes());
    }

    #[test]
    fn arbitrary_chat_options(mut body in chat_body(), own in 0_usize..3) {
        let (key, value) = [
            ("messages", json!([{"role": "user", "content": "a"}])),
            ("prompt", json!("a")),
            ("input", json!("a")),
        ][own].clone();
        for key in ["messages", "prompt", "input"] {
            body.as_object_mut().expect("an object").remove(key);
        }
        body[key] = value;
        read_chat(body.to_string().as_bytes());
    }

    #[test]
    fn arbitrary_messages(messages in prop::collection::vec(
        prop::collection::btree_map(
            prop::sample::select(&CHAT_KEYS[3..17]).prop_map(str::to_owned), any_json(&CHAT_KEYS), 0..5,
        ), 0..4),
    ) {
        for key in ["messages", "input"] {
            read_chat(json!({key: messages}).to_string().as_bytes());
        }
    }

    #[test]
    fn arbitrary_rerank_json(value in any_json(&RERANK_KEYS)) {
        read(value.to_string().as_bytes());
    }

    #[test]
    fn arbitrary_score_json(value in any_json(&SCORE_KEYS)) {
        read(value.to_string().as_bytes());
    }

    #[test]
    fn arbitrary_embed_json(value in any_json(&EMBED_KEYS)) {
        read(value.to_string().as_bytes());
    }

    #[test]
    fn arbitrary_embed_options(
        options in prop::collection::btree_map(
            prop::sample::select(&EMBED_KEYS[8..]), any_json(&EMBED_KEYS), 0..4,
        ),
    ) {
        for (key, value) in [("input", json!("a")), ("inputs", json!(["a"])), ("texts", json!(["a"]))] {
            let mut body = json!(options);
            body[key] = value;
            read(body.to_string().as_bytes());
        }
    }

    #[test]
    fn arbitrary_bytes(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        read(&bytes);
        read_chat(&bytes);
    }
}
