//! vLLM's score requests, each with the answer its client reads.

use defrost_api::{
    Invalid, Limits, Normalization, PredictBody, RerankFacts, RerankRequest, ScoreBody, Scored,
    Shape, answer,
};
use serde_json::{Value, json};

fn request(body: &Value) -> Result<RerankRequest, Invalid> {
    ScoreBody::parse(body.to_string().as_bytes())?.into_request(&Limits::default())
}

fn read(body: &Value) -> RerankRequest {
    request(body).expect("the request is valid")
}

/// The pairs in input order, as the server will put scores into it.
fn pairs(request: &RerankRequest) -> Vec<(&str, &str)> {
    let mut pairs = vec![("", ""); request.document_count()];
    for work in &request.groups {
        for (document, &position) in work.documents.iter().zip(&work.positions) {
            pairs[position] = (&work.query, document);
        }
    }
    pairs
}

#[test]
fn one_text_against_many_under_every_name() {
    for (left, right) in
        [("queries", "documents"), ("queries", "items"), ("text_1", "text_2"), ("data_1", "data_2")]
    {
        for one in [json!("q"), json!(["q"]), json!([{"text": "q"}])] {
            let request = read(&json!({left: one, right: ["a", "b"]}));
            assert_eq!(request.shape, Shape::Score);
            assert_eq!(pairs(&request), [("q", "a"), ("q", "b")], "{left}");
            assert_eq!(request.groups.len(), 1, "the query is prepared once");
        }
    }
    let single = read(&json!({"text_1": "q", "text_2": "a"}));
    assert_eq!(pairs(&single), [("q", "a")]);
    let content = json!({"content": [{"type": "text", "text": "a"}]});
    assert_eq!(pairs(&read(&json!({"data_1": "q", "data_2": content}))), [("q", "a")]);
}

#[test]
fn texts_pair_up() {
    let request = read(&json!({"queries": ["q", "r", "q"], "documents": ["a", "b", "c"]}));
    assert_eq!(pairs(&request), [("q", "a"), ("r", "b"), ("q", "c")]);
    assert_eq!(request.groups.len(), 2, "pairs of one query go together");
}

#[test]
fn answers_are_in_input_order() {
    let request = read(&json!({"model": "x", "text_1": "q", "text_2": ["a", "b"]}));
    assert_eq!(request.model.as_deref(), Some("x"));
    let scored = [0.25, 0.75].map(|score| Scored { score, tokens: 5, ..Scored::default() });
    let facts = RerankFacts {
        id: "score-1",
        created: 7,
        model: "m",
        score_type: "sigmoid",
        default_top_n: Some(1),
        always_data: true,
        legacy: false,
        ..RerankFacts::default()
    };
    assert_eq!(
        serde_json::to_value(answer(&request, &scored, &["a", "b"], &facts)).expect("json"),
        json!({
            "id": "score-1", "object": "list", "created": 7, "model": "m",
            "data": [
                {"index": 0, "object": "score", "score": 0.25},
                {"index": 1, "object": "score", "score": 0.75},
            ],
            "score_type": "sigmoid",
            "usage": {"prompt_tokens": 10, "total_tokens": 10},
        })
    );
}

#[test]
fn options_are_those_of_rerank() {
    let body = |extra: Value| {
        let mut body = json!({"queries": "q", "documents": ["a"]});
        let fields = extra.as_object().expect("an object").clone();
        body.as_object_mut().expect("an object").extend(fields);
        read(&body)
    };
    assert_eq!(body(json!({})).normalization, None);
    let raw = body(json!({"use_activation": false}));
    assert_eq!(raw.normalization, Some(Normalization::Raw));
    assert_eq!(body(json!({"normalize": false})), raw);
    let cut = body(json!({"max_tokens_per_doc": 4, "truncate": "NONE"})).truncation;
    assert!(cut.forbidden && cut.max_tokens_per_doc == Some(4));
    assert_eq!(body(json!({"instruction": "i"})).instruction.as_deref(), Some("i"));
    let nulls = json!({
        "model": null, "use_activation": null, "raw_scores": null, "normalization": null,
        "normalize": null, "instruction": null, "truncate": null, "max_tokens_per_query": null,
        "max_tokens_per_doc": null, "items": null, "text_1": null, "text_2": null,
        "data_1": null, "data_2": null, "priority": 0, "user": "u",
    });
    assert_eq!(body(nulls), body(json!({})));
}

#[test]
fn every_rule_names_its_field() {
    for (body, param) in [
        (json!({}), "queries"),
        (json!({"documents": ["a"]}), "queries"),
        (json!({"queries": "q"}), "documents"),
        (json!({"text_1": "q"}), "text_2"),
        (json!({"queries": "q", "text_2": ["a"]}), "text_2"),
        (json!({"text_1": "q", "documents": ["a"]}), "documents"),
        (json!({"queries": "q", "text_1": "q", "documents": ["a"]}), "text_1"),
        (json!({"queries": "q", "documents": ["a"], "items": ["a"]}), "items"),
        (json!({"queries": [], "documents": ["a"]}), "queries"),
        (json!({"queries": "q", "documents": []}), "documents"),
        (json!({"queries": " ", "documents": ["a"]}), "queries[0]"),
        (json!({"queries": ["q", "r"], "documents": ["a"]}), "queries"),
        (json!({"queries": ["q", "r"], "documents": ["a", "b", "c"]}), "queries"),
        (json!({"queries": "q", "documents": [[1, 2]]}), "documents[0]"),
        (json!({"queries": "q", "documents": vec!["a"; 1001]}), "documents"),
        (json!({"queries": "q", "documents": ["a"], "normalization": "x"}), "normalization"),
        (json!({"queries": "q", "documents": ["a"], "normalize": 5e16}), "normalize"),
    ] {
        let invalid = request(&body).expect_err("refused");
        assert_eq!((invalid.param.as_deref(), invalid.status()), (Some(param), 400), "{body}");
    }
    for bytes in [&b""[..], b"[]", b"{"] {
        assert_eq!(ScoreBody::parse(bytes).expect_err("no object").param, None);
    }
}

/// TEI's `/predict` and vLLM's `/classify`: a pair or several, each of the one class.
#[test]
fn pairs_have_a_class() {
    let read = |body: &Value| {
        PredictBody::parse(body.to_string().as_bytes())
            .and_then(|body| body.into_request(&Limits::default()))
    };
    let answered = |body: &Value, scores: &[f64]| {
        let request = read(body).expect("the request is valid");
        let scored: Vec<_> =
            scores.iter().map(|&score| Scored { score, tokens: 5, ..Scored::default() }).collect();
        let facts = RerankFacts { id: "score-1", created: 7, model: "m", ..RerankFacts::default() };
        serde_json::to_value(answer(&request, &scored, &[], &facts)).expect("answers are json")
    };
    assert_eq!(
        answered(&json!({"inputs": ["q", "a"]}), &[0.75]),
        json!([{"score": 0.75, "label": "LABEL_0"}])
    );
    assert_eq!(
        answered(&json!({"inputs": [["q", "a"], ["r", "b"]], "raw_scores": true}), &[0.75, 2.0]),
        json!([[{"score": 0.75, "label": "LABEL_0"}], [{"score": 2.0, "label": "LABEL_0"}]])
    );
    assert_eq!(
        answered(&json!({"model": "m", "input": [["q", "a"]]}), &[0.75]),
        json!({
            "id": "score-1", "object": "list", "created": 7, "model": "m",
            "data": [{"index": 0, "label": "LABEL_0", "probs": [0.75], "num_classes": 1}],
            "usage": {"prompt_tokens": 5, "total_tokens": 5, "completion_tokens": 0},
        })
    );
    for (body, status) in [
        (json!({"inputs": "a text alone"}), 422),
        (json!({"inputs": ["a text alone"]}), 422),
        (json!({"inputs": ["q", "a", "b"]}), 422),
        (json!({"inputs": [["q", "a"], "b"]}), 422),
        (json!({"inputs": []}), 400),
        (json!({"inputs": [[" ", "a"]]}), 400),
        (json!({"inputs": ["q", "a"], "input": ["q", "a"]}), 413),
    ] {
        let invalid = read(&body).expect_err("refused");
        assert_eq!(invalid.status(), status, "{body}: {invalid}");
        if status == 422 {
            assert!(invalid.message.contains("this model scores pairs"), "{invalid}");
        }
    }
}

/// F7: vLLM's names on its own route.
#[test]
fn over_long_texts_are_cut_where_the_request_says() {
    let body = json!({"text_1": "q", "text_2": "a", "truncation_side": "left", "truncate_prompt_tokens": 5});
    let truncation = read(&body).truncation;
    assert_eq!((truncation.from_start, truncation.max_tokens), (true, Some(5)));
    assert!(!read(&json!({"text_1": "q", "text_2": "a"})).truncation.from_start);
}
