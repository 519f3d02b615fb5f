//! What a few bytes of a request may not grow into.

use defrost_api::{Limits, RerankBody, Route, ScoreBody};
use serde_json::{Value, json};

fn rerank(body: &Value) -> Result<Vec<defrost_api::QueryGroup>, String> {
    let body = RerankBody::parse_on(Route::Rerank, body.to_string().as_bytes());
    let request = body.and_then(|body| body.into_request(Route::Rerank, &Limits::default()));
    request.map(|request| request.groups).map_err(|invalid| invalid.message)
}

#[test]
fn fields_are_named_once_and_are_few() {
    let body = |fields: Vec<String>| json!({"query": "q", "documents": [{"f": "x".repeat(100_000)}], "rank_fields": fields});
    for (fields, expected) in [
        (vec!["f".to_owned(); 80_000], "at most 100"),
        (vec!["f".to_owned(), "g".to_owned(), "f".to_owned()], "\"f\" is named twice"),
        ((0..101).map(|number| number.to_string()).collect(), "found 101"),
    ] {
        let error = rerank(&body(fields)).unwrap_err();
        assert!(error.contains("rank_fields") && error.contains(expected), "{error}");
    }
    let work = rerank(&body((0..99).map(|n| n.to_string()).chain(["f".into()]).collect())).unwrap();
    assert_eq!(work[0].documents[0].len(), 100_000);
}

#[test]
fn pieces_of_a_document_are_bounded() {
    let body =
        |pieces: u64| json!({"query": "q", "documents": ["d"], "max_chunks_per_doc": pieces});
    let error = rerank(&body(1_000_000_000)).unwrap_err();
    assert!(
        error.contains("max_chunks_per_doc: expected at most 1000, found 1000000000"),
        "{error}"
    );
    assert!(rerank(&body(1000)).is_ok());
}

/// Before the number of documents is looked at, each object would take 650 bytes of memory for 8 of
/// the body.
#[test]
fn a_million_small_objects_are_not_built() {
    let body = format!(r#"{{"query":"q","documents":[{}{{}}]}}"#, "{\"a\":0},".repeat(200_000));
    let error = RerankBody::parse_on(Route::Rerank, body.as_bytes()).unwrap_err();
    assert!(error.message.contains("at most 100000 documents may be objects"), "{}", error.message);
}

#[test]
fn one_text_beside_many_is_there_once() {
    let body = json!({"text_1": "long", "text_2": vec!["short"; 1000]}).to_string();
    let request = ScoreBody::parse(body.as_bytes()).unwrap();
    let work = request.into_request(&Limits::default()).unwrap().groups;
    assert_eq!((work.len(), work[0].query.as_str(), work[0].documents.len()), (1, "long", 1000));
    let body = json!({"text_1": ["a", "b", "a"], "text_2": ["x", "y", "z"]}).to_string();
    let request = ScoreBody::parse(body.as_bytes()).unwrap();
    let work = request.into_request(&Limits::default()).unwrap().groups;
    let all: Vec<_> = work
        .iter()
        .map(|one| (one.query.as_str(), one.documents.join(" "), one.positions.clone()))
        .collect();
    assert_eq!(all, [("a", "x z".into(), vec![0, 2]), ("b", "y".into(), vec![1])]);
}
