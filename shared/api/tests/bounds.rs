//! What a few bytes of a request may not grow into.

use defrost_api::{ChatLimits, ChatRoute, Limits, RerankBody, Route, ScoreBody};
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

fn refused_chat(body: &str) -> String {
    let refused = ChatRoute::Chat.parse(body.as_bytes(), &ChatLimits::default());
    refused.expect_err("the body is refused").message
}

#[test]
fn many_small_messages_and_tools_are_not_built() {
    let one = r#"{"role":"user"}"#;
    let many = vec![one; 20_000].join(",");
    let error = refused_chat(&format!(r#"{{"messages":[{many}]}}"#));
    assert!(error.contains("at most 10000 objects"), "{error}");
    let many = vec!["{}"; 20_000].join(",");
    let said = r#"{"messages":[{"role":"user","content":"a"}],"#;
    for field in ["tools", "functions"] {
        let error = refused_chat(&format!(r#"{said}"{field}":[{many}]}}"#));
        assert!(error.contains("at most 1024 objects"), "{error}");
    }
    let calls = format!(r#"{{"messages":[{{"role":"assistant","tool_calls":[{many}]}}]}}"#);
    assert!(refused_chat(&calls).contains("missing field `function`"));
}

/// A tree takes many times the memory of its text.
#[test]
fn json_in_a_body_is_bounded_however_it_is_written() {
    let zeros = format!("[{}0]", "0,".repeat(200_000));
    let empties = format!("[{}{{}}]", "{},".repeat(200_000));
    let text = format!("\"{}\"", "x".repeat(300_000));
    let keys: Vec<String> = (0..50_000).map(|key| format!("\"{key}\":0")).collect();
    let keys = format!("{{{}}}", keys.join(","));
    let said = r#"{"messages":[{"role":"user","content":"a"}],"#;
    for json in [&zeros, &empties, &text, &keys] {
        for field in ["chat_template_kwargs", "guided_json", "metadata"] {
            let error = refused_chat(&format!(r#"{said}"{field}":{{"a":{json}}}}}"#));
            assert!(error.contains("at most 262144 bytes of json"), "{error}");
        }
    }
}

#[test]
fn what_is_nested_deeply_is_refused_and_what_is_nested_is_read() {
    let nested = |depth: usize| {
        format!(
            r#"{{"messages":[{{"role":"user","content":"a"}}],"chat_template_kwargs":{{"a":{}{}}}}}"#,
            "[".repeat(depth),
            "]".repeat(depth)
        )
    };
    let read = ChatRoute::Chat.parse(nested(120).as_bytes(), &ChatLimits::default());
    assert!(read.is_ok(), "{read:?}");
    assert!(refused_chat(&nested(100_000)).contains("recursion limit"));
}
