//! Requests as the clients of each service send them, each with the answer its client reads.

use defrost_api::{
    ErrorStyle, Limits, Normalization, RerankBody, RerankFacts, RerankRequest, Route, Scored,
    Shape, answer,
};
use serde_json::{Value, json};

fn read(route: Route, body: &Value) -> RerankRequest {
    let body = RerankBody::parse_on(route, body.to_string().as_bytes()).expect("the body is read");
    body.into_request(route, &Limits::default()).expect("the request is valid")
}

fn refused(route: Route, body: &Value) -> (Option<String>, u16) {
    let error = RerankBody::parse_on(route, body.to_string().as_bytes())
        .and_then(|body| body.into_request(route, &Limits::default()))
        .expect_err("the request is refused");
    let status = error.status();
    (error.param, status)
}

fn answered(request: &RerankRequest, scores: &[f64]) -> Value {
    let scored: Vec<_> =
        scores.iter().map(|&score| Scored { score, tokens: 5, ..Scored::default() }).collect();
    let texts: Vec<&str> =
        request.groups.iter().flat_map(|work| &work.documents).map(String::as_str).collect();
    let facts = RerankFacts {
        id: "rerank-1",
        created: 7,
        model: "m",
        score_type: "sigmoid",
        normalized: request.normalization.is_none_or(Normalization::is_normalized),
        lengths: (1, 1),
        ..RerankFacts::default()
    };
    serde_json::to_value(answer(request, &scored, &texts, &facts)).expect("answers are json")
}

fn meta(tokens: usize) -> Value {
    json!({
        "api_version": {"version": "2"},
        "billed_units": {"search_units": 1},
        "tokens": {"input_tokens": tokens, "output_tokens": 0},
    })
}

#[test]
fn example_1_canonical() {
    let request = read(Route::Rerank, &json!({"query": "q", "documents": ["a", "b"]}));
    assert_eq!(request.shape, Shape::Canonical);
    assert_eq!(
        answered(&request, &[0.25, 0.75]),
        json!({
            "id": "rerank-1", "object": "rerank", "created": 7, "model": "m",
            "results": [
                {"index": 1, "relevance_score": 0.75},
                {"index": 0, "relevance_score": 0.25},
            ],
            "score_type": "sigmoid",
            "usage": {"prompt_tokens": 10, "total_tokens": 10},
            "meta": meta(10),
        })
    );
}

#[test]
fn example_2_nulls_are_absent() {
    let request = read(
        Route::Rerank,
        &json!({"model": "x", "query": "q", "documents": ["a"], "top_n": null, "max_tokens_per_doc": null}),
    );
    assert_eq!(request.model.as_deref(), Some("x"));
    assert_eq!(request.top_n, None);
    assert!(answered(&request, &[0.5]).get("data").is_none());
    let every_null = read(
        Route::Rerank,
        &json!({
            "query": "q", "documents": ["a"], "model": null, "texts": null, "input": null, "passage": null,
            "passages": null, "pairs": null, "top_n": null, "return_documents": null, "return_text": null,
            "return_input": null, "rank_fields": null, "raw_scores": null, "use_activation": null,
            "normalize": null, "normalization": null, "instruction": null, "truncate": null,
            "truncation_direction": null, "truncation_side": null, "truncate_prompt_tokens": null,
            "max_tokens_per_query": null, "max_tokens_per_doc": null, "max_chunks_per_doc": null,
        }),
    );
    assert_eq!(every_null, read(Route::Rerank, &json!({"query": "q", "documents": ["a"]})));
}

#[test]
fn example_3_tei() {
    let request = read(
        Route::Rerank,
        &json!({"query": "q", "texts": ["a", "b"], "raw_scores": false, "return_text": true, "truncate": true}),
    );
    assert_eq!(request.shape, Shape::Tei);
    assert_eq!(
        answered(&request, &[0.25, 0.75]),
        json!([{"index": 1, "score": 0.75, "text": "b"}, {"index": 0, "score": 0.25, "text": "a"}])
    );
}

#[test]
fn example_4_baai_pair() {
    let request = read(Route::Rerank, &json!({"query": "q", "passage": "p", "normalize": true}));
    assert_eq!(
        answered(&request, &[0.5]),
        json!({"score": 0.5, "normalized": true, "query_length": 1, "passage_length": 1})
    );
    for (route, body) in [
        (Route::Rerank, json!({"query": "q", "passage": "p"})),
        (Route::Batch, json!({"pairs": [{"query": "q", "passage": "p"}]})),
        (Route::Query, json!({"query": "q", "passages": ["p"]})),
    ] {
        assert_eq!(read(route, &body).normalization, None, "the server's setting decides: {body}");
    }
}

#[test]
fn example_5_baai_batch() {
    let request = read(
        Route::Batch,
        &json!({"pairs": [
            {"query": "a", "passage": "1"}, {"query": "b", "passage": "2"}, {"query": "a", "passage": "3"},
        ], "normalize": false}),
    );
    assert_eq!(request.groups.len(), 2, "pairs of one query go together");
    assert_eq!(request.groups[0].positions, [0, 2]);
    assert_eq!(
        answered(&request, &[0.1, 0.9, 0.5]),
        json!({"scores": [0.1, 0.9, 0.5], "normalized": false, "pairs_count": 3})
    );
    let lists = read(Route::Batch, &json!({"pairs": [["a", "1"]]}));
    assert_eq!(lists.groups[0].query, "a");
}

#[test]
fn baai_query() {
    let request = read(Route::Query, &json!({"query": "q", "passages": ["a", "b"]}));
    assert_eq!(
        answered(&request, &[0.25, 0.75]),
        json!({"re_ranked": [{"passage": "b", "score": 0.75}, {"passage": "a", "score": 0.25}]})
    );
}

#[test]
fn example_6_voyage_gets_data() {
    let body =
        json!({"query": "q", "documents": ["a"], "model": "m", "top_k": null, "truncation": true});
    let request = read(Route::Rerank, &body);
    assert!(!request.truncation.forbidden);
    assert_eq!(
        answered(&request, &[0.5])["data"],
        json!([{"index": 0, "relevance_score": 0.5, "score": 0.5}])
    );
    let request = read(
        Route::Rerank,
        &json!({"query": "q", "documents": ["a", "b"], "top_k": 1, "return_documents": true}),
    );
    let body = answered(&request, &[0.1, 0.5]);
    assert_eq!(
        body["data"],
        json!([{"index": 1, "relevance_score": 0.5, "score": 0.5, "document": "b"}])
    );
    assert_eq!(
        body["results"],
        json!([{"index": 1, "relevance_score": 0.5, "document": {"text": "b"}}])
    );
}

#[test]
fn example_7_mixedbread() {
    let request = read(
        Route::Rerank,
        &json!({"model": "m", "query": "q", "input": ["a"], "top_k": 1, "return_input": true}),
    );
    assert_eq!(
        answered(&request, &[0.5]),
        json!({
            "usage": {"prompt_tokens": 5, "total_tokens": 5}, "model": "m", "object": "list",
            "data": [{"index": 0, "score": 0.5, "input": "a", "object": "rank_result"}],
            "top_k": 1, "return_input": true, "score_type": "sigmoid",
        })
    );
}

#[test]
fn example_8_objects_and_string_booleans() {
    let request = read(
        Route::Rerank,
        &json!({"query": "q", "documents": [{"text": "a"}, {"text": "b"}], "return_documents": "true"}),
    );
    assert!(request.return_documents);
    assert_eq!(request.groups[0].documents, ["a", "b"]);
    let ranked = read(
        Route::Rerank,
        &json!({"query": "q", "documents": [{"title": "t", "n": 3, "x": null}], "rank_fields": ["n", "title", "x"]}),
    );
    assert_eq!(ranked.groups[0].documents, ["3\nt"]);
}

#[test]
fn example_9_top_n_zero_is_all() {
    let request = read(Route::Rerank, &json!({"query": "q", "documents": ["a", "b"], "top_n": 0}));
    assert_eq!(answered(&request, &[0.1, 0.2])["results"].as_array().map(Vec::len), Some(2));
}

#[test]
fn example_11_documents_that_are_none() {
    for (documents, param) in [
        (json!([]), "documents"),
        (json!(null), "documents"),
        (json!(123), "documents"),
        (json!([1, 2, 3]), "documents[0]"),
        (json!(["a", null]), "documents[1]"),
        (json!([{"title": "a"}]), "documents[0]"),
        (json!([{"text": 3}]), "documents[0]"),
    ] {
        let body = json!({"query": "q", "documents": documents});
        assert_eq!(refused(Route::Rerank, &body), (Some(param.into()), 400), "{body}");
    }
}

#[test]
fn every_rule_names_its_field() {
    for (body, param) in [
        (json!({"documents": ["a"]}), "query"),
        (json!({"query": "", "documents": ["a"]}), "query"),
        (json!({"query": " \n", "documents": ["a"]}), "query"),
        (json!({"query": 3, "documents": ["a"]}), "query"),
        (json!({"query": "q", "documents": ["a"], "texts": ["a"]}), "documents"),
        (json!({"query": "q", "documents": ["a"], "input": ["a"]}), "documents"),
        (json!({"query": "q", "pairs": []}), "pairs"),
        (json!({"query": "q", "passages": ["a"]}), "passages"),
        (json!({"query": "q", "documents": ["a"], "top_n": -1}), "top_n"),
        (json!({"query": "q", "documents": ["a"], "top_n": 1.5}), "top_n"),
        (json!({"query": "q", "documents": ["a"], "top_n": "x".repeat(5000)}), "top_n"),
        (json!({"query": "q", "documents": ["a"], "top_n": 1, "top_k": 2}), "top_k"),
        (
            json!({"query": "q", "documents": ["a"], "return_documents": "maybe"}),
            "return_documents",
        ),
        (json!({"query": "q", "documents": ["a"], "normalization": "x"}), "normalization"),
        (
            json!({"query": "q", "documents": ["a"], "raw_scores": true, "normalize": true}),
            "raw_scores",
        ),
        (json!({"query": "q", "documents": ["a"], "truncate": "MIDDLE"}), "truncate"),
        (json!({"query": "q", "documents": ["a"], "truncation_side": "top"}), "truncation_side"),
        (
            json!({"query": "q", "documents": ["a"], "truncate": "START", "truncation_direction": "Right"}),
            "truncation_direction",
        ),
        (
            json!({"query": "q", "documents": ["a"], "truncation_direction": "Left", "max_chunks_per_doc": 2}),
            "max_chunks_per_doc",
        ),
        (
            json!({"query": "q", "documents": ["a"], "truncation": false, "truncate_prompt_tokens": 5}),
            "truncate_prompt_tokens",
        ),
        (
            json!({"query": "q", "documents": ["a"], "truncate_prompt_tokens": -2}),
            "truncate_prompt_tokens",
        ),
        (
            json!({"query": "q", "documents": ["a"], "instruct": "x", "instruction": "y"}),
            "instruct",
        ),
        (
            json!({"query": "q", "documents": ["a"], "truncate": false, "truncation": true}),
            "truncation",
        ),
        (json!({"query": "q", "documents": ["a"], "max_tokens_per_doc": -2}), "max_tokens_per_doc"),
    ] {
        let status = if body.get("texts").is_some() { 413 } else { 400 };
        assert_eq!(refused(Route::Rerank, &body), (Some(param.into()), status), "{body}");
    }
    let too_many = json!({"query": "q", "documents": vec!["a"; 1001]});
    assert_eq!(refused(Route::Rerank, &too_many), (Some("documents".into()), 400));
}

#[test]
fn baai_bounds_are_422() {
    for (route, body, param) in [
        (Route::Rerank, json!({"query": "q", "passage": ""}), "passage"),
        (Route::Rerank, json!({"query": " ", "passage": "p"}), "query"),
        (Route::Rerank, json!({"query": "q", "passage": 3}), "passage"),
        (Route::Rerank, json!({"query": "q", "passage": "é".repeat(10_001)}), "passage"),
        (Route::Batch, json!({}), "pairs"),
        (Route::Batch, json!({"pairs": []}), "pairs"),
        (Route::Batch, json!({"pairs": [{"query": "q"}]}), "pairs[0].passage"),
        (Route::Batch, json!({"pairs": vec![json!({"query": "q", "passage": "p"}); 101]}), "pairs"),
        (Route::Query, json!({"query": "q", "passages": ["a", ""]}), "passages[1]"),
        (Route::Query, json!({"query": "q", "documents": ["a"]}), "documents"),
    ] {
        assert_eq!(refused(route, &body), (Some(param.into()), 422), "{body}");
    }
    read(Route::Rerank, &json!({"query": "q", "passage": "é".repeat(10_000)}));
}

#[test]
fn bodies_that_are_no_object() {
    let cases: [&[u8]; 9] = [
        b"",
        b" ",
        b"[]",
        b"null",
        b"3",
        b"\"x\"",
        b"{",
        b"{\"query\":\"q\"} x",
        b"{\"query\":\"\xff\"}",
    ];
    for bytes in cases {
        let error = RerankBody::parse(bytes).expect_err("no object");
        assert_eq!((error.param.as_deref(), error.status()), (None, 400), "{bytes:?}");
    }
    let huge = format!(r#"{{"query":"q","top_n":"{}"}}"#, "ü".repeat(1 << 20));
    let error = RerankBody::parse(huge.as_bytes()).expect_err("no number");
    assert!(error.message.len() < 400, "a message does not quote a megabyte");
    assert_eq!(error.param.as_deref(), Some("top_n"));
}

#[test]
fn scores_can_be_asked_for_by_several_names() {
    use Normalization::{Mxbai, Normalized, Raw, Sigmoid};
    for (extra, expected) in [
        (json!({}), None),
        (json!({"raw_scores": true}), Some(Raw)),
        (json!({"use_activation": false}), Some(Raw)),
        (json!({"normalize": false}), Some(Raw)),
        (json!({"normalize": "mxbai"}), Some(Mxbai)),
        (json!({"normalization": "sigmoid"}), Some(Sigmoid)),
        (json!({"raw_scores": false}), Some(Normalized)),
        (json!({"raw_scores": false, "normalization": "mxbai"}), Some(Mxbai)),
        (json!({"normalize": "false", "raw_scores": "true"}), Some(Raw)),
    ] {
        let mut body = json!({"query": "q", "documents": ["a"]});
        body.as_object_mut()
            .expect("an object")
            .extend(extra.as_object().expect("an object").clone());
        assert_eq!(read(Route::Rerank, &body).normalization, expected, "{body}");
    }
}

/// N5: a long document in pieces, as Cohere's v1 asks for it.
#[test]
fn n5_chunks_are_asked_for_by_number() {
    for (chunks, expected) in [(json!(4), Some(4)), (json!(1), None), (json!(null), None)] {
        let body = json!({"query": "q", "documents": ["a"], "max_chunks_per_doc": chunks});
        assert_eq!(read(Route::Rerank, &body).truncation.max_chunks_per_doc, expected, "{body}");
    }
}

#[test]
fn errors_take_the_style_of_the_shape() {
    let style = |body: &[u8]| RerankBody::parse(body).expect_err("refused").style;
    // TEI's own statuses: bodies that cannot be read, and rules that are broken.
    let status = |body: &[u8]| {
        let request = RerankBody::parse(body);
        let request = request.and_then(|body| body.into_request(Route::Rerank, &Limits::default()));
        request.expect_err("refused").status()
    };
    assert_eq!(status(br#"{"query":"q","texts":3}"#), 422);
    assert_eq!(status(br#"{"query":" ","texts":["a"]}"#), 413);
    assert_eq!(status(br#"{"query":" ","documents":["a"]}"#), 400);
    assert_eq!(style(br#"{"query":"q","texts":3}"#), ErrorStyle::Tei);
    assert_eq!(style(br#"{"query":3,"passage":"p"}"#), ErrorStyle::FastApi);
    assert_eq!(style(br#"{"query":3}"#), ErrorStyle::OpenAi);
}

/// F7: under the names of TEI, vLLM and Cohere, on the rerank and the score routes.
#[test]
fn over_long_texts_are_cut_where_the_request_says() {
    for (extra, from_start, max_tokens, forbidden) in [
        (json!({}), false, None, false),
        (json!({"truncate": true, "truncation_direction": "Left"}), true, None, false),
        (json!({"truncate": true, "truncation_direction": "Right"}), false, None, false),
        (json!({"truncation_direction": "left"}), true, None, false),
        (json!({"truncation_side": "left", "truncate_prompt_tokens": 5}), true, Some(5), false),
        (json!({"truncate_prompt_tokens": 5}), false, Some(5), false),
        (json!({"truncate_prompt_tokens": -1}), false, None, false),
        (json!({"truncate": "START"}), true, None, false),
        (json!({"truncate": "NONE", "truncation_side": "left"}), false, None, true),
        (json!({"truncationSide": "left", "truncatePromptTokens": 7}), true, Some(7), false),
    ] {
        for key in ["documents", "texts"] {
            let mut body = json!({"query": "q", key: ["a"]});
            body.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
            let truncation = read(Route::Rerank, &body).truncation;
            assert_eq!(
                (truncation.from_start, truncation.max_tokens, truncation.forbidden),
                (from_start, max_tokens, forbidden),
                "{body}"
            );
        }
    }
}

#[test]
fn fields_that_nothing_reads_are_told() {
    let body = json!({"query": "q", "documents": ["a"], "topn": 1, "user": "u", "overlap": null});
    let request = read(Route::Rerank, &body);
    let told = "topn is not read here and was ignored: did you mean top_n?";
    assert_eq!(request.warnings, [told]);
    assert_eq!(answered(&request, &[0.5])["warnings"], json!([told]));
}

/// A client of Voyage may send no more than these three, and one in JavaScript writes names its own
/// way.
#[test]
fn every_request_of_voyage_gets_data() {
    for (body, wanted) in [
        (json!({"query": "q", "documents": ["a"], "model": "rerank-2"}), true),
        (json!({"query": "q", "documents": ["a"], "model": "rerank-2", "topK": 1}), true),
        (
            json!({"query": "q", "documents": ["a"], "model": "rerank-2", "returnDocuments": true}),
            true,
        ),
        (json!({"query": "q", "documents": ["a"]}), false),
        (json!({"query": "q", "documents": ["a"], "model": "m", "top_n": 1}), false),
        (
            json!({"query": "q", "documents": ["a"], "model": "m", "max_tokens_per_doc": null}),
            false,
        ),
    ] {
        let request = read(Route::Rerank, &body);
        assert!(request.warnings.is_empty(), "{:?}", request.warnings);
        let answer = answered(&request, &[0.5]);
        assert_eq!(answer.get("data").is_some(), wanted, "{body}");
        if body.get("returnDocuments").is_some() {
            assert_eq!(answer["data"][0]["document"], "a");
        }
    }
}

/// Ids and urls come back with the documents that they came with.
#[test]
fn documents_come_back_as_they_came() {
    let documents = json!([{"text": "a", "id": 7, "url": "https://a.example"}, "b"]);
    for rank_fields in [json!(null), json!(["id", "text"])] {
        let request = read(
            Route::Rerank,
            &json!({"query": "q", "documents": documents, "return_documents": true, "rank_fields": rank_fields, "top_k": 2}),
        );
        let answer = answered(&request, &[0.9, 0.1]);
        assert_eq!(answer["results"][0]["document"], documents[0]);
        assert_eq!(answer["results"][1]["document"], json!({"text": "b"}));
        assert!(answer["data"][0]["document"].is_string(), "Voyage's documents are texts");
    }
    let mixedbread = json!({"query": "q", "input": documents, "return_input": true});
    let answer = answered(&read(Route::Rerank, &mixedbread), &[0.9, 0.1]);
    assert_eq!(
        (&answer["data"][0]["input"], &answer["data"][1]["input"]),
        (&documents[0], &json!("b"))
    );
    let kept = read(Route::Rerank, &json!({"query": "q", "documents": documents}));
    assert!(kept.originals.is_empty(), "nothing is kept that is not asked for");
}

#[test]
fn sglang_reads_a_list() {
    let body = json!({"model": "m", "query": "q", "documents": ["a", "b"], "instruct": "find it", "top_n": 1});
    let request = read(Route::Rerank, &body);
    assert_eq!(request.instruction.as_deref(), Some("find it"));
    assert_eq!(
        answered(&request, &[0.25, 0.75]),
        json!([{"score": 0.75, "document": "b", "index": 1, "meta_info": {"id": "rerank-1", "prompt_tokens": 5}}])
    );
    let bare =
        json!({"query": "q", "documents": ["a"], "instruct": null, "return_documents": false});
    let answer = answered(&read(Route::Rerank, &bare), &[0.5]);
    assert!(answer[0].get("document").is_none(), "{answer}");
}
