//! No body, however odd, makes a reader panic.

use defrost_api::{
    DetokenizeBody, EmbedBody, EmbedFacts, EmbedLimits, EmbedRoute, Embedded, Limits, RerankBody,
    Route, ScoreBody, TokenizeBody, embed_answer,
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

const NAMES: [&str; 12] = [
    "a", "base64", "int8", "binary", "sparse", "colbert", "END", "left", "query", "s2s", "true", "",
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

proptest! {
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
    }
}
