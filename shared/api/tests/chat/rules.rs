//! Ranges, names of one option, and what contradicts itself.

use defrost_api::{
    ChatRoute, CompletionApi, EmbedInput, OutputFormat, Piece, RepeatWindow, SamplingOptions,
    Streaming,
};
use serde_json::{Value, json};

use super::common::{body, chat, chat_on, completion_on, refused, refused_chat, with};

const ROUTES: [ChatRoute; 4] =
    [ChatRoute::Chat, ChatRoute::Completions, ChatRoute::Responses, ChatRoute::Messages];

#[test]
fn every_null_is_absent() {
    let nulls = |fields: &[&str]| -> Value {
        fields
            .iter()
            .map(|field| ((*field).to_owned(), Value::Null))
            .collect::<serde_json::Map<_, _>>()
            .into()
    };
    for (route, own) in [
        (ChatRoute::Chat, "messages"),
        (ChatRoute::Responses, "input"),
        (ChatRoute::Messages, "messages"),
    ] {
        let forms = route.forms();
        let fields: Vec<&str> =
            forms.iter().flat_map(|form| form.fields()).filter(|field| *field != own).collect();
        let nulled = chat_on(route, &with(&body(route, &json!({})), &nulls(&fields)));
        assert_eq!(nulled, chat_on(route, &body(route, &json!({}))), "{route:?}");
    }
    for route in [ChatRoute::Completions, ChatRoute::LlamaCompletion] {
        let forms = route.forms();
        let fields: Vec<&str> = forms
            .iter()
            .flat_map(|form| form.fields())
            .filter(|field| *field != "prompt")
            .collect();
        let nulled = completion_on(route, &with(&body(route, &json!({})), &nulls(&fields)));
        assert_eq!(nulled, completion_on(route, &body(route, &json!({}))), "{route:?}");
    }
}

#[test]
fn defaults() {
    let request = chat(&json!({}));
    let generation = request.generation;
    assert_eq!(generation.sampling, SamplingOptions::default());
    assert_eq!((generation.max_tokens, generation.n, generation.logprobs), (None, 1, None));
    assert_eq!((generation.format, generation.stream), (OutputFormat::Text, None));
    assert!(generation.cache_prompt && !generation.ignore_eos && request.warnings.is_empty());
    assert!(request.conversation.parallel_tool_calls);
}

#[test]
fn every_field_of_sampling() {
    let fields = json!({
        "temperature": 0.5, "top_p": 0.25, "top_k": 40, "min_p": 0.125, "frequency_penalty": -2,
        "presence_penalty": 2, "repeat_penalty": 1.5, "repeat_last_n": 64, "seed": 7,
        "logit_bias": {"15": -100, "3": 0.5},
    });
    let expected = SamplingOptions {
        temperature: Some(0.5),
        top_p: Some(0.25),
        top_k: Some(40),
        min_p: Some(0.125),
        frequency_penalty: Some(-2.0),
        presence_penalty: Some(2.0),
        repeat_penalty: Some(1.5),
        repeat_last_n: Some(RepeatWindow::Last(64)),
        seed: Some(7),
        logit_bias: vec![(3, 0.5), (15, -100.0)],
    };
    for route in ROUTES {
        let generation = match route {
            ChatRoute::Completions => completion_on(route, &body(route, &fields)).generation,
            _ => chat_on(route, &body(route, &fields)).generation,
        };
        assert_eq!(generation.sampling, expected, "{route:?}");
    }
    let sampling = |fields: Value| chat(&fields).generation.sampling;
    assert_eq!(sampling(json!({"repetition_penalty": 1.5})).repeat_penalty, Some(1.5));
    assert_eq!(sampling(json!({"repeat_last_n": -1})).repeat_last_n, Some(RepeatWindow::All));
    for all in [0, -1] {
        assert_eq!(sampling(json!({"top_k": all})).top_k, Some(0));
    }
    for (seed, expected) in [
        (json!(-1), None),
        (json!(-2), Some(u64::MAX - 1)),
        (json!(u64::MAX), Some(u64::MAX)),
        (json!(0), Some(0)),
    ] {
        assert_eq!(sampling(json!({"seed": seed})).seed, expected);
    }
    let llama = json!({"logit_bias": [[5, -1.5], [4, false]]});
    assert_eq!(sampling(llama).logit_bias, [(4, f32::NEG_INFINITY), (5, -1.5)]);
}

#[test]
fn ranges_are_held_with_the_fields_name() {
    for (field, bad, good) in [
        ("temperature", json!([-0.1, 2.1, "hot", true]), json!([0, 2, 0.7])),
        ("top_p", json!([-0.1, 1.1, []]), json!([0, 1])),
        ("min_p", json!([-0.1, 1.1]), json!([0, 1])),
        ("top_k", json!([-2, 1.5, "a"]), json!([-1, 0, 1, 5.0])),
        ("frequency_penalty", json!([-2.1, 2.1]), json!([-2, 2])),
        ("presence_penalty", json!([-2.1, 2.1]), json!([-2, 2])),
        ("repeat_penalty", json!([0, -1, 101]), json!([0.1, 1, 2])),
        ("repetition_penalty", json!([0, -1, 101]), json!([0.1, 1, 2])),
        ("repeat_last_n", json!([-2, 0.5]), json!([-1, 0, 64])),
        ("max_tokens", json!([0, -2, "a", 1.5]), json!([1, -1, 4.0])),
        ("max_completion_tokens", json!([0, -2]), json!([1, -1])),
        ("n_predict", json!([0, -3]), json!([1, -1])),
        ("n", json!([0, 11, -1]), json!([1, 10])),
        ("best_of", json!([2, 0]), json!([1])),
        ("seed", json!([1.5, "a", 1e30]), json!([-9_007_199_254_740_991_i64, 0])),
        ("stop", json!([3, [3], {}]), json!(["a", ["a", "b"], []])),
        ("stop_token_ids", json!([[-1], ["a"], 3]), json!([[], [1, 2.0]])),
        ("logprobs", json!([21, -1, "a"]), json!([true, false, "true", 0, 20])),
        ("n_probs", json!([21, -1]), json!([0, 20])),
        ("logit_bias", json!([{"a": 1}, [[1]], 3, [[1, true]]]), json!([{}, [], {"1": 100}])),
        ("stream", json!(["yes", 1]), json!([true, false, "false"])),
        ("ignore_eos", json!([3]), json!([true])),
        ("modalities", json!([["audio"], ["text", "audio"], 3]), json!([["text"], "text", []])),
    ] {
        for bad in bad.as_array().expect("a list") {
            let invalid = refused_chat(&json!({field: bad}));
            let param = invalid.param.as_deref().expect("a field");
            assert!(
                param == field || param.starts_with(&format!("{field}[")),
                "{field} {bad}: {param}"
            );
            assert!(invalid.message.starts_with(field), "{}", invalid.message);
            assert_eq!(invalid.status(), 400);
        }
        for good in good.as_array().expect("a list") {
            chat(&json!({field: good}));
        }
    }
    let invalid = refused_chat(&json!({"logit_bias": {"7": 101}}));
    assert_eq!(invalid.param.as_deref(), Some("logit_bias.7"));
    let twice = refused_chat(&json!({"logit_bias": [[7, 1], [7, 2]]}));
    assert_eq!(twice.param.as_deref(), Some("logit_bias"));
    // A client that biases the tokens of a text sends those twice that come twice.
    let same = chat(&json!({"logit_bias": [[7, -5], [3, false], [7, -5], [3, false]]}));
    assert_eq!(same.generation.sampling.logit_bias, [(3, f32::NEG_INFINITY), (7, -5.0)]);
    for texts in [json!({"a": 1}), json!([["a", 1]]), json!([[7, 1], [" the", false]])] {
        let invalid = refused_chat(&json!({"logit_bias": texts}));
        assert!(invalid.message.contains("/tokenize turns a text into ids"), "{}", invalid.message);
    }
    let many: Vec<String> = (0..65).map(|at| at.to_string()).collect();
    assert_eq!(refused_chat(&json!({"stop": many})).param.as_deref(), Some("stop"));
    let many = vec!["a"; 2000];
    assert_eq!(refused_chat(&json!({"stop": many})).param.as_deref(), Some("stop"));
}

#[test]
fn limits_of_tokens_under_every_name() {
    let most = |route, fields: Value| chat_on(route, &body(route, &fields)).generation.max_tokens;
    for (route, name) in [
        (ChatRoute::Chat, "max_tokens"),
        (ChatRoute::Chat, "max_completion_tokens"),
        (ChatRoute::Chat, "n_predict"),
        (ChatRoute::Responses, "max_output_tokens"),
        (ChatRoute::Messages, "max_tokens"),
    ] {
        assert_eq!(most(route, json!({name: 5})), Some(5));
        assert_eq!(most(route, json!({name: -1})), None);
    }
    assert_eq!(
        most(ChatRoute::Chat, json!({"max_tokens": 5, "max_completion_tokens": 5})),
        Some(5)
    );
    let invalid = refused_chat(&json!({"max_tokens": 5, "max_completion_tokens": 6}));
    assert_eq!(invalid.param.as_deref(), Some("max_completion_tokens"));
    for route in [ChatRoute::Completions, ChatRoute::LlamaCompletion] {
        let request = completion_on(route, &body(route, &json!({"max_tokens": 0})));
        assert_eq!(request.generation.max_tokens, Some(0));
    }
    let llama = body(ChatRoute::LlamaCompletion, &json!({"n_predict": -2}));
    assert_eq!(completion_on(ChatRoute::LlamaCompletion, &llama).generation.max_tokens, None);
}

#[test]
fn log_probabilities_under_every_name() {
    let of = |fields: Value| chat(&fields).generation.logprobs;
    assert_eq!(of(json!({"logprobs": false})), None);
    assert_eq!(of(json!({"logprobs": true})), Some(0));
    assert_eq!(of(json!({"logprobs": true, "top_logprobs": 5})), Some(5));
    assert_eq!(of(json!({"logprobs": false, "top_logprobs": 0})), None);
    assert_eq!(of(json!({"n_probs": 3})), Some(3));
    for fields in [
        json!({"top_logprobs": 5}),
        json!({"logprobs": false, "top_logprobs": 1}),
        json!({"logprobs": true, "top_logprobs": 21}),
    ] {
        assert_eq!(refused_chat(&fields).param.as_deref(), Some("top_logprobs"), "{fields}");
    }
    let completion = body(ChatRoute::Completions, &json!({"logprobs": 5, "echo": true}));
    let request = completion_on(ChatRoute::Completions, &completion);
    assert_eq!((request.generation.logprobs, request.echo), (Some(5), true));
    let responses = |fields: Value| {
        chat_on(ChatRoute::Responses, &body(ChatRoute::Responses, &fields)).generation.logprobs
    };
    assert_eq!(
        responses(json!({"include": ["message.output_text.logprobs"], "top_logprobs": 2})),
        Some(2)
    );
    assert_eq!(responses(json!({"include": ["message.output_text.logprobs"]})), Some(0));
    assert_eq!(responses(json!({"include": ["reasoning.encrypted_content"]})), None);
    assert_eq!(responses(json!({"top_logprobs": 0})), None);
}

#[test]
fn streams_and_their_options() {
    let of = |fields: Value| {
        let request = chat(&fields);
        (request.generation.stream, request.warnings.len())
    };
    assert_eq!(of(json!({"stream": true})), (Some(Streaming { include_usage: false }), 0));
    let usage = json!({"stream": "true", "stream_options": {"include_usage": true, "include_obfuscation": false}});
    assert_eq!(of(usage), (Some(Streaming { include_usage: true }), 0));
    assert_eq!(of(json!({"stream": false, "stream_options": {"include_usage": true}})), (None, 1));
    assert_eq!(
        of(json!({"stream": true, "stream_options": {"continuous_usage_stats": true}})).1,
        1
    );
    assert_eq!(
        refused_chat(&json!({"stream_options": []})).param.as_deref(),
        Some("stream_options")
    );
}

#[test]
fn stop_strings() {
    let of = |route, fields: Value| chat_on(route, &body(route, &fields)).generation.stop;
    assert_eq!(of(ChatRoute::Chat, json!({"stop": "a"})), ["a"]);
    assert_eq!(of(ChatRoute::Chat, json!({"stop": ["a", "\n"]})), ["a", "\n"]);
    assert_eq!(of(ChatRoute::Messages, json!({"stop_sequences": ["a"]})), ["a"]);
    let request = chat(&json!({"stop": ["", "a"]}));
    assert_eq!((request.generation.stop.len(), request.warnings.len()), (1, 1));
    let both = refused_chat(&json!({"stop": "a", "stop_sequences": ["b"]}));
    assert_eq!(both.param.as_deref(), Some("stop_sequences"));
}

#[test]
fn prompts_of_completions() {
    let of = |prompt: Value| completion_on(ChatRoute::Completions, &json!({"prompt": prompt}));
    let text = |text: &str| EmbedInput::Text(text.to_owned());
    assert_eq!((of(json!("a")).prompts, of(json!("a")).single), (vec![text("a")], true));
    assert_eq!(of(json!(["a", "b"])).prompts, [text("a"), text("b")]);
    assert_eq!(of(json!([1, 2])).prompts, [EmbedInput::Tokens(vec![1, 2])]);
    assert_eq!(of(json!([[1], [2]])).prompts.len(), 2);
    assert_eq!(
        of(json!([1, "a"])).prompts,
        [EmbedInput::Mixed(vec![Piece::Token(1), Piece::Text("a".to_owned())])]
    );
    let llama = completion_on(ChatRoute::LlamaCompletion, &json!({"prompt": "a", "n_predict": 3}));
    assert_eq!(llama.api, CompletionApi::LlamaCpp);
    for (route, body, param) in [
        (ChatRoute::Completions, json!({}), "prompt"),
        (ChatRoute::Completions, json!({"prompt": []}), "prompt"),
        (ChatRoute::Completions, json!({"prompt": 3}), "prompt"),
        (ChatRoute::Completions, json!({"prompt": vec!["a"; 65]}), "prompt"),
        (ChatRoute::Completions, json!({"prompt": "a", "suffix": "b"}), "suffix"),
        (ChatRoute::Completions, json!({"prompt": "a", "best_of": 3}), "best_of"),
        (ChatRoute::Completions, json!({"prompt": "a", "n": 2, "best_of": 3}), "best_of"),
        (ChatRoute::LlamaCompletion, json!({"prompt": "a", "mirostat": 2}), "mirostat"),
    ] {
        assert_eq!(refused(route, &body).param.as_deref(), Some(param), "{body}");
    }
    completion_on(
        ChatRoute::Completions,
        &json!({"prompt": "a", "suffix": "", "best_of": 2, "n": 2}),
    );
}

#[test]
fn fields_are_told_or_let_pass() {
    let told = |route, fields: Value| chat_on(route, &body(route, &fields)).warnings;
    assert_eq!(
        told(ChatRoute::Chat, json!({"temprature": 0.5})),
        ["temprature is not read here and was ignored: did you mean temperature?"]
    );
    assert_eq!(
        told(ChatRoute::Chat, json!({"instructions": "x"})),
        ["instructions is not read here and was ignored"]
    );
    // Every field that openai 3.57 has for a chat completion and that is off, or only book-keeping.
    let fields = json!({
        "audio": {"voice": "v", "format": "wav"}, "metadata": {"a": "b"}, "modalities": ["text"],
        "prediction": {"type": "content", "content": "x"}, "prompt_cache_key": "k",
        "prompt_cache_options": {}, "prompt_cache_retention": "24h", "safety_identifier": "s",
        "service_tier": "auto", "store": true, "user": "u", "timings_per_token": true,
        "id_slot": -1, "min_tokens": 0, "samplers": [], "xtc_probability": 0,
    });
    assert_eq!(told(ChatRoute::Chat, fields), [""; 0]);
    let fields = json!({
        "cache_control": {"type": "ephemeral"}, "metadata": {"user_id": "u"}, "service_tier": "auto",
        "speed": "fast", "inference_geo": "eu",
    });
    assert_eq!(told(ChatRoute::Messages, fields.clone()), [""; 0]);
    let user = |fields: &Value| {
        chat_on(ChatRoute::Messages, &body(ChatRoute::Messages, fields)).generation.user
    };
    assert_eq!(user(&fields).as_deref(), Some("u"), "Anthropic's place for it is in metadata");
    assert_eq!(user(&json!({"metadata": {}})), None);
    let truncated = told(ChatRoute::Responses, json!({"truncation": "auto"}));
    assert_eq!(truncated.len(), 1, "{truncated:?}");
    for (route, fields, param) in [
        (ChatRoute::Chat, json!({"web_search_options": {}}), "web_search_options"),
        (ChatRoute::Responses, json!({"previous_response_id": "resp_1"}), "previous_response_id"),
        (ChatRoute::Responses, json!({"background": true}), "background"),
        (ChatRoute::Responses, json!({"truncation": "some"}), "truncation"),
        (ChatRoute::Responses, json!({"metadata": {"a": 1}}), "metadata"),
        (ChatRoute::Responses, json!({"n": 2}), "n"),
        (ChatRoute::Messages, json!({"mcp_servers": [{}]}), "mcp_servers"),
    ] {
        assert_eq!(refused(route, &body(route, &fields)).param.as_deref(), Some(param), "{fields}");
    }
}
