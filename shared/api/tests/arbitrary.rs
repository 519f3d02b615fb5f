//! No body, however odd, makes the reader panic.

use defrost_api::{Limits, RerankBody, Route};
use proptest::prelude::*;
use serde_json::Value;

fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,8}".prop_map(Value::from),
    ];
    let key = prop_oneof![
        prop::sample::select(vec![
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
        ])
        .prop_map(str::to_owned),
        ".{0,4}",
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
}

proptest! {
    #[test]
    fn arbitrary_json(value in json()) {
        read(value.to_string().as_bytes());
    }

    #[test]
    fn arbitrary_bytes(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        read(&bytes);
    }
}
