//! Bodies as real clients send them, caught on loopback, each with what the client read from the
//! answer: openai 3.57, cohere 5.21, voyageai 0.5, mixedbread 0.54, langchain-cohere 0.6,
//! langchain-openai 1.7, llama-index-core 0.14, `huggingface_hub` 2.4 (2026-11-25).

use defrost_api::{
    Cut, Dtype, EmbedInput, EmbedRoute, EmbedShape, Encoding, Format, Norm, Piece, Prompt,
};
use serde_json::{Value, json};

use super::common::{answered, read, refused};

const OPENAI: EmbedRoute = EmbedRoute::Embeddings;

#[test]
fn openai_sdk() {
    for body in [
        json!({"model": "m", "input": ["a", "b"], "encoding_format": "base64"}),
        json!({"model": "m", "input": [[1, 2], [3]], "encoding_format": "base64"}),
        // langchain-openai with check_embedding_ctx_length=False
        json!({"model": "m", "input": ["a"], "encoding_format": "base64"}),
    ] {
        let request = read(OPENAI, &body);
        assert_eq!(request.formats, [Format::BASE64]);
        assert!(answered(&request, &[&[1.0]])["data"][0]["embedding"].is_string());
    }
    let body = json!({"model": "m", "input": "a", "dimensions": 4, "encoding_format": "float"});
    assert_eq!(read(OPENAI, &body).dimensions, Some(4));
    let invalid = refused(OPENAI, &json!({"model": "m", "input": [], "encoding_format": "base64"}));
    let body = serde_json::to_value(invalid.error_body()).expect("json");
    assert_eq!(
        (&body["error"]["code"], &body["error"]["param"], &body["error"]["type"]),
        (&json!("empty_input"), &json!("input"), &json!("invalid_request_error"))
    );
    assert!(body["error"]["message"].is_string());
}

#[test]
fn voyage_sdk() {
    let body = |extra: Value| {
        let plain = json!({
            "input": ["a"], "model": "voyage-3", "input_type": null, "truncation": true,
            "output_dtype": null, "output_dimension": null, "encoding_format": "base64",
        });
        read(OPENAI, &super::common::with(&plain, &extra))
    };
    let request = body(json!({"input_type": "query"}));
    assert_eq!((&request.prompt, request.truncation), (&Prompt::Query, Cut::End));
    assert_eq!(request.formats, [Format::BASE64]);
    let request = body(json!({"output_dtype": "int8", "output_dimension": 8}));
    assert_eq!(request.dimensions, Some(8));
    assert_eq!(answered(&request, &[&[1.0]])["data"][0]["embedding"], "fw==");
    let request = body(json!({"output_dtype": "ubinary", "truncation": false}));
    assert_eq!(request.truncation, Cut::Refuse);
    let answer = answered(&request, &[&[1.0]]);
    assert_eq!(answer["data"][0]["embedding"], "gA==");
    assert_eq!(answer["usage"]["total_tokens"], 5);
}

#[test]
fn cohere_sdk() {
    let body = json!({"texts": ["a"], "model": "m", "input_type": "search_document"});
    let request = read(EmbedRoute::CohereV1, &body);
    assert_eq!(request.shape, EmbedShape::CohereV1Floats);
    assert_eq!(answered(&request, &[&[0.5]])["embeddings"], json!([[0.5]]));
    // langchain-cohere
    let body = json!({
        "texts": ["a", "b"], "model": "m", "input_type": "search_document",
        "embedding_types": ["float"], "truncate": null,
    });
    let request = read(EmbedRoute::CohereV1, &body);
    assert_eq!(
        answered(&request, &[&[0.5], &[0.25]])["embeddings"]["float"],
        json!([[0.5], [0.25]])
    );
    let body = json!({
        "model": "m", "input_type": "search_query", "output_dimension": 4,
        "inputs": [{"content": [{"type": "text", "text": "a"}]}],
    });
    let request = read(EmbedRoute::CohereV2, &body);
    assert_eq!(request.inputs, [EmbedInput::Text("a".to_owned())]);
    let answer = answered(&request, &[&[0.5]]);
    assert_eq!(answer["embeddings"], json!({"float": [[0.5]]}));
    assert_eq!(answer["meta"]["billed_units"]["input_tokens"], 5);
}

#[test]
fn tei_clients() {
    // llama-index
    let request = read(EmbedRoute::Embed, &json!({"inputs": ["a", "b"], "truncate": true}));
    assert_eq!(answered(&request, &[&[0.5], &[0.25]]), json!([[0.5], [0.25]]));
    // huggingface_hub
    let body = json!({
        "inputs": "a", "normalize": true, "prompt_name": "query", "truncate": true,
        "truncation_direction": "left",
    });
    let request = read(EmbedRoute::Embed, &body);
    assert_eq!((request.shape, request.truncation), (EmbedShape::Tei, Cut::Start));
    assert_eq!(request.prompt, Prompt::Named("query".to_owned()));
    assert_eq!(read(EmbedRoute::Invocations, &json!({"inputs": "a"})).shape, EmbedShape::Tei);
    let body = json!({
        "inputs": {"source_sentence": "a", "sentences": ["b", "c"]}, "parameters": {},
    });
    let answer = answered(&read(EmbedRoute::Similarity, &body), &[&[1.0], &[0.5], &[-0.5]]);
    assert_eq!(answer, json!([1.0, -1.0]));
}

#[test]
fn mixedbread_sdk() {
    let body = |format: Value| {
        json!({
            "model": "m", "input": ["a"], "dimensions": 2, "normalized": true,
            "encoding_format": format,
        })
    };
    // Its `encoding_format` names the type of the numbers too.
    for (name, dtype, embedding) in [
        ("float", Dtype::Float, json!([1.0, -1.0])),
        ("int8", Dtype::Int8, json!([127, -127])),
        ("uint8", Dtype::Uint8, json!([255, 0])),
        ("binary", Dtype::Binary, json!([0])),
        ("ubinary", Dtype::Ubinary, json!([128])),
    ] {
        let request = read(OPENAI, &body(json!(name)));
        assert_eq!(request.formats, [Format { dtype, encoding: Encoding::Array }], "{name}");
        assert_eq!(answered(&request, &[&[1.0, -1.0]])["data"][0]["embedding"], embedding);
    }
    assert_eq!(read(OPENAI, &body(json!("base64"))).formats, [Format::BASE64]);
    assert_eq!(read(OPENAI, &body(Value::Null)).formats, [Format::FLOATS]);
    let mut contradiction = body(json!("int8"));
    contradiction["output_dtype"] = json!("uint8");
    assert_eq!(refused(OPENAI, &contradiction).param.as_deref(), Some("encoding_format"));
}

/// Its own route, and its own key on `OpenAI`'s.
#[test]
fn llama_cpp() {
    let expected = json!([
        {"index": 0, "embedding": [[0.5, 1.0]]}, {"index": 1, "embedding": [[2.0, 0.0]]},
    ]);
    for (route, body) in [
        (EmbedRoute::Llama, json!({"content": ["a", {"prompt_string": "b"}]})),
        (EmbedRoute::Llama, json!({"input": ["a", "b"], "embd_normalize": 2})),
        (EmbedRoute::Embeddings, json!({"content": ["a", "b"]})),
    ] {
        let request = read(route, &body);
        assert!(request.normalize == Some(true) && request.norm.is_none(), "{body}");
        assert_eq!(answered(&request, &[&[0.5, 1.0], &[2.0, 0.0]]), expected, "{body}");
    }
    for (embd_normalize, normalize, norm) in [
        (-1, false, None),
        (0, false, Some(Norm::Largest)),
        (1, false, Some(Norm::Power(1))),
        (2, true, None),
        (3, false, Some(Norm::Power(3))),
    ] {
        let body = json!({"content": "a", "embd_normalize": embd_normalize});
        let request = read(EmbedRoute::Llama, &body);
        assert_eq!((request.normalize, request.norm), (Some(normalize), norm), "{body}");
    }
    let mixed = read(EmbedRoute::Llama, &json!({"content": [12, 34, "a", 56]}));
    let pieces =
        [Piece::Token(12), Piece::Token(34), Piece::Text("a".to_owned()), Piece::Token(56)];
    assert_eq!(mixed.inputs, [EmbedInput::Mixed(pieces.to_vec())]);
    for (body, param) in [
        (json!({"content": "a", "embd_normalize": -2}), "embd_normalize"),
        (json!({"content": "a", "embd_normalize": 1, "normalize": true}), "embd_normalize"),
        (json!({"content": "a", "input": "a"}), "content"),
    ] {
        let invalid = refused(EmbedRoute::Llama, &body);
        assert_eq!(invalid.param.as_deref(), Some(param), "{body}");
    }
}

#[test]
fn vllm_pooling() {
    let request = read(EmbedRoute::Pooling, &json!({"model": "m", "input": ["a"]}));
    assert_eq!(
        answered(&request, &[&[0.5, 1.0]]),
        json!({
            "id": "embd-1", "object": "list", "created": 7, "model": "m",
            "data": [{"index": 0, "object": "pooling", "data": [0.5, 1.0]}],
            "usage": {"prompt_tokens": 5, "total_tokens": 5},
        })
    );
}
