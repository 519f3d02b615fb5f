//! `/tokenize`, `/detokenize` and `/decode` of TEI, vLLM and llama.cpp.

use defrost_api::{
    ChatMessage, DetokenizeBody, DetokenizeRequest, EmbedLimits, ErrorStyle, Invalid, Role,
    ToTokenize, Token, TokenShape, TokenizeBody, TokenizeRequest, detokenize_answer,
    tokenize_answer,
};
use serde_json::{Value, json};

fn tokenize(body: &Value) -> Result<TokenizeRequest, Invalid> {
    TokenizeBody::parse(body.to_string().as_bytes())
        .and_then(|body| body.into_request(&EmbedLimits::default()))
}

fn detokenize(body: &Value) -> Result<DetokenizeRequest, Invalid> {
    DetokenizeBody::parse(body.to_string().as_bytes())
        .and_then(|body| body.into_request(&EmbedLimits::default()))
}

fn texts(texts: &[&str]) -> ToTokenize {
    ToTokenize::Texts(texts.iter().map(|&text| text.to_owned()).collect())
}

fn answered(request: &TokenizeRequest) -> Value {
    let tokens = [vec![
        Token { id: 101, text: "[CLS]", special: true, start: None, stop: None },
        Token { id: 7, text: "test", special: false, start: Some(0), stop: Some(4) },
    ]];
    serde_json::to_value(tokenize_answer(request, &tokens, 512)).expect("json")
}

#[test]
fn tei_tokenize() {
    let request = tokenize(&json!({"inputs": "test"})).expect("valid");
    assert_eq!((request.shape, &request.input), (TokenShape::Tei, &texts(&["test"])));
    assert!(request.add_special_tokens);
    assert_eq!(
        answered(&request),
        json!([[
            {"id": 101, "text": "[CLS]", "special": true, "start": null, "stop": null},
            {"id": 7, "text": "test", "special": false, "start": 0, "stop": 4},
        ]])
    );
    let body = json!({"inputs": ["a", "b"], "add_special_tokens": false, "prompt_name": "query"});
    let request = tokenize(&body).expect("valid");
    assert_eq!((&request.input, request.add_special_tokens), (&texts(&["a", "b"]), false));
    assert_eq!(request.prompt_name.as_deref(), Some("query"));
}

#[test]
fn vllm_tokenize() {
    let request = tokenize(&json!({"model": "m", "prompt": "test"})).expect("valid");
    assert_eq!((request.shape, request.add_special_tokens), (TokenShape::Vllm, true));
    assert_eq!(answered(&request), json!({"count": 2, "max_model_len": 512, "tokens": [101, 7]}));
    let request = tokenize(&json!({"prompt": "test", "return_token_strs": true})).expect("valid");
    assert_eq!(answered(&request)["token_strs"], json!(["[CLS]", "test"]));

    let body = json!({"messages": [
        {"role": "system", "content": "s"},
        {"role": "user", "content": [{"type": "text", "text": "u"}]},
    ]});
    let request = tokenize(&body).expect("valid");
    let ToTokenize::Messages(conversation) = &request.input else { panic!("a conversation") };
    let messages = [ChatMessage::text(Role::System, "s"), ChatMessage::text(Role::User, "u")];
    assert_eq!(conversation.messages, messages);
    assert!(conversation.add_generation_prompt && !conversation.continue_final_message);
    let more = json!({
        "messages": [{"role": "assistant", "content": "a"}], "continue_final_message": true,
        "tools": [{"type": "function", "function": {"name": "f"}}],
        "chat_template_kwargs": {"enable_thinking": false},
    });
    let more = tokenize(&more).expect("valid");
    let ToTokenize::Messages(conversation) = &more.input else { panic!("a conversation") };
    assert!(conversation.continue_final_message && !conversation.add_generation_prompt);
    assert_eq!(conversation.tools[0].name, "f");
    assert_eq!(conversation.template_kwargs["enable_thinking"], false);
    assert!(!request.add_special_tokens, "a template writes them itself");
}

#[test]
fn llamacpp_tokenize() {
    let request = tokenize(&json!({"content": "test"})).expect("valid");
    assert_eq!((request.shape, request.add_special_tokens), (TokenShape::LlamaCpp, false));
    assert_eq!(answered(&request), json!({"tokens": [101, 7]}));
    let body = json!({"content": "test", "add_special": true, "with_pieces": true});
    let request = tokenize(&body).expect("valid");
    assert!(request.add_special_tokens);
    assert_eq!(
        answered(&request),
        json!({"tokens": [{"id": 101, "piece": "[CLS]"}, {"id": 7, "piece": "test"}]})
    );
}

#[test]
fn detokenize_and_decode() {
    let request = detokenize(&json!({"tokens": [101, 7]})).expect("valid");
    assert_eq!((&request.ids, request.skip_special_tokens), (&vec![vec![101, 7]], false));
    assert_eq!(
        serde_json::to_value(detokenize_answer(&request, &["a".to_owned()])).expect("json"),
        json!({"prompt": "a", "content": "a"})
    );
    let request = detokenize(&json!({"ids": [101, 7]})).expect("valid");
    assert_eq!((&request.ids, request.skip_special_tokens), (&vec![vec![101, 7]], true));
    let body = json!({"ids": [[1], [2, 3]], "skip_special_tokens": false});
    let request = detokenize(&body).expect("valid");
    assert_eq!((&request.ids, request.skip_special_tokens), (&vec![vec![1], vec![2, 3]], false));
    let texts = ["a".to_owned(), "b".to_owned()];
    assert_eq!(
        serde_json::to_value(detokenize_answer(&request, &texts)).expect("json"),
        json!(["a", "b"])
    );
}

#[test]
fn what_cannot_be_read_is_named() {
    for (body, param, style) in [
        (json!({}), None, ErrorStyle::OpenAi),
        (json!({"inputs": []}), Some("inputs"), ErrorStyle::Tei),
        (json!({"inputs": ["a", [1]]}), Some("inputs[1]"), ErrorStyle::Tei),
        (json!({"inputs": [1]}), Some("inputs"), ErrorStyle::Tei),
        (json!({"inputs": "a", "prompt": "a"}), Some("prompt"), ErrorStyle::Tei),
        (json!({"prompt": 3}), Some("prompt"), ErrorStyle::OpenAi),
        (json!({"messages": []}), Some("messages"), ErrorStyle::OpenAi),
        (
            json!({"messages": [{"content": [{"type": "image_url"}]}]}),
            Some("messages[0].content[0]"),
            ErrorStyle::OpenAi,
        ),
    ] {
        let invalid = tokenize(&body).expect_err("refused");
        assert_eq!((invalid.param.as_deref(), invalid.style), (param, style), "{body}");
    }
    for (body, param, style) in [
        (json!({}), "tokens", ErrorStyle::OpenAi),
        (json!({"tokens": [1, -1]}), "tokens[1]", ErrorStyle::OpenAi),
        (json!({"tokens": [1], "ids": [1]}), "tokens", ErrorStyle::Tei),
        (json!({"ids": []}), "ids", ErrorStyle::Tei),
        (json!({"ids": "a"}), "ids", ErrorStyle::Tei),
        (json!({"ids": [[1], "a"]}), "ids[1]", ErrorStyle::Tei),
    ] {
        let invalid = detokenize(&body).expect_err("refused");
        assert_eq!((invalid.param.as_deref(), invalid.style), (Some(param), style), "{body}");
    }
}
