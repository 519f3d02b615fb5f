//! Whatever arrives on `/v1/rerank`, the answer is never a 5xx and the server lives on.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::toy::{post_request, ready, send};

fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
        Just(json!("q")),
        Just(json!(["a", "b"])),
    ];
    let keys = vec![
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
        "raw_scores",
        "rank_fields",
        "max_tokens_per_doc",
        "return_documents",
        "text",
        "model",
        "instruction",
        "other",
    ];
    leaf.prop_recursive(3, 48, 8, move |inner| {
        prop_oneof![
            1 => prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            3 => prop::collection::btree_map(prop::sample::select(keys.clone()), inner, 0..6)
                .prop_map(|map| map.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()),
        ]
    })
}

/// A valid request with some fields replaced or added: reaches deeper than noise does.
fn nearly_valid() -> impl Strategy<Value = Value> {
    json_value().prop_map(|noise| {
        let mut body = json!({"query": "q", "documents": ["a", "b"]});
        if let (Some(body), Value::Object(noise)) = (body.as_object_mut(), noise) {
            body.extend(noise);
        }
        body
    })
}

fn check(strategy: impl Strategy<Value = Vec<u8>>) {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let router = runtime.block_on(ready(&[]));
    proptest!(|(bytes in strategy)| {
        for path in ["/v1/rerank", "/rerank/batch", "/rerank/query"] {
            let answer = runtime.block_on(send(&router, post_request(path, bytes.clone())));
            prop_assert!(answer.status.as_u16() < 500, "{} for {}", answer.text, String::from_utf8_lossy(&bytes));
            prop_assert!(serde_json::from_str::<Value>(&answer.text).is_ok());
        }
    });
}

#[test]
fn arbitrary_json() {
    check(json_value().prop_map(|value| value.to_string().into_bytes()));
}

#[test]
fn requests_with_arbitrary_fields() {
    check(nearly_valid().prop_map(|value| value.to_string().into_bytes()));
}

#[test]
fn arbitrary_bytes() {
    check(prop::collection::vec(any::<u8>(), 0..256));
}
