//! What embedding options mean, and what is refused.

use super::common::{dense, parse, read, refused, with};
use defrost_api::{
    Cut, EmbedBody, EmbedLimits, EmbedRoute, Embedded, ErrorStyle, Prompt, Rows, VectorKinds,
    first_non_finite,
};
use serde_json::{Value, json};

const OPENAI: EmbedRoute = EmbedRoute::Embeddings;

fn plain(extra: &Value) -> Value {
    with(&json!({"input": "a"}), extra)
}

#[test]
fn rule_1_nothing_to_embed() {
    for (route, body, param, status, code) in [
        (OPENAI, json!({}), Some("input"), 400, "invalid_request"),
        (OPENAI, json!({"input": null}), Some("input"), 400, "invalid_request"),
        (OPENAI, json!({"input": []}), Some("input"), 400, "empty_input"),
        (OPENAI, json!({"input": ""}), Some("input"), 400, "empty_input"),
        (OPENAI, json!({"input": ["a", ""]}), Some("input[1]"), 400, "empty_input"),
        (OPENAI, json!({"input": [[]]}), Some("input[0]"), 400, "empty_input"),
        (EmbedRoute::Embed, json!({}), None, 422, "invalid_request"),
        (EmbedRoute::Embed, json!({"inputs": []}), Some("inputs"), 400, "empty_input"),
        (EmbedRoute::Embed, json!({"inputs": ""}), Some("inputs"), 400, "empty_input"),
        (EmbedRoute::Embed, json!({"text": ""}), Some("text"), 422, "empty_input"),
        (EmbedRoute::Embed, json!({"text": " \n"}), Some("text"), 422, "empty_input"),
        (EmbedRoute::Embed, json!({"texts": []}), Some("texts"), 422, "empty_input"),
        (EmbedRoute::Embed, json!({"texts": ["a", " "]}), Some("texts[1]"), 422, "empty_input"),
        (EmbedRoute::EmbedBatch, json!({}), Some("texts"), 422, "invalid_request"),
        (EmbedRoute::EmbedBatch, json!({"texts": [""]}), Some("texts[0]"), 422, "empty_input"),
        (EmbedRoute::CohereV2, json!({"texts": []}), Some("texts"), 400, "empty_input"),
        (
            EmbedRoute::CohereV2,
            json!({"inputs": [{"content": ""}]}),
            Some("inputs[0]"),
            400,
            "empty_input",
        ),
        (
            EmbedRoute::CohereV2,
            json!({"inputs": [{"content": [{"text": ""}, {"text": ""}]}]}),
            Some("inputs[0]"),
            400,
            "empty_input",
        ),
        (
            EmbedRoute::Similarity,
            json!({"inputs": {"source_sentence": "a", "sentences": []}}),
            Some("inputs.sentences"),
            400,
            "empty_input",
        ),
        (
            EmbedRoute::Similarity,
            json!({"inputs": {"source_sentence": "a", "sentences": ["b", ""]}}),
            Some("inputs.sentences[1]"),
            400,
            "empty_input",
        ),
        (
            EmbedRoute::Similarity,
            json!({"inputs": {"sentences": ["b"]}}),
            Some("inputs.source_sentence"),
            422,
            "invalid_request",
        ),
    ] {
        let invalid = refused(route, &body);
        let found = (invalid.param.as_deref(), invalid.status(), invalid.code);
        assert_eq!(found, (param, status, code), "{body}");
    }
}

#[test]
fn rule_1_empty_texts_can_be_allowed() {
    let limits = EmbedLimits { allow_empty_input: true, ..EmbedLimits::default() };
    let request = |route, body: &[u8]| {
        EmbedBody::parse_on(route, body).and_then(|body| body.into_request(route, &limits))
    };
    assert!(request(OPENAI, br#"{"input":["a",""]}"#).is_ok());
    assert!(request(OPENAI, br#"{"input":[]}"#).is_err());
    assert!(request(EmbedRoute::Embed, br#"{"text":""}"#).is_err());
}

#[test]
fn b22_d3_limits() {
    for (route, body, param, status) in [
        (OPENAI, json!({"input": vec!["a"; 2049]}), "input", 400),
        (EmbedRoute::Embed, json!({"inputs": vec!["a"; 2049]}), "inputs", 413),
        (EmbedRoute::Embed, json!({"texts": vec!["a"; 101]}), "texts", 422),
        (EmbedRoute::Embed, json!({"texts": ["é".repeat(50_001)]}), "texts[0]", 422),
        (EmbedRoute::Embed, json!({"text": "é".repeat(81_921)}), "text", 422),
        (EmbedRoute::EmbedBatch, json!({"texts": vec!["a"; 1025]}), "texts", 422),
    ] {
        let invalid = refused(route, &body);
        assert_eq!((invalid.param.as_deref(), invalid.status()), (Some(param), status));
    }
    read(OPENAI, &json!({"input": vec!["a"; 2048]}));
    read(EmbedRoute::Embed, &json!({"texts": vec!["é".repeat(50_000); 100]}));
}

#[test]
fn rule_3_dimensions() {
    for (extra, expected) in [
        (json!({}), None),
        (json!({"dimensions": 0}), None),
        (json!({"dimensions": 256}), Some(256)),
        (json!({"output_dimension": 256}), Some(256)),
        (json!({"dimensions": 256, "output_dimension": 256}), Some(256)),
    ] {
        assert_eq!(read(OPENAI, &plain(&extra)).dimensions, expected);
    }
    let fitted = |dimensions: usize, full, trained: bool| {
        let mut request = read(OPENAI, &plain(&json!({"dimensions": dimensions})));
        request.fit_dimensions(full, |_| trained);
        (request.dimensions, request.warnings)
    };
    assert_eq!(fitted(256, 1024, true), (Some(256), Vec::new()));
    assert_eq!(fitted(256, 256, false), (None, Vec::new()));
    let (width, warnings) = fitted(256, 1024, false);
    assert_eq!(
        width,
        Some(256),
        "cut all the same, as the services do that such clients come from"
    );
    assert!(warnings[0].contains("not trained to be shortened to 256"), "{warnings:?}");
    let (width, warnings) = fitted(256, 128, true);
    assert_eq!(width, None, "the model's own");
    assert!(warnings[0].starts_with("dimensions is ignored: the model gives 128"), "{warnings:?}");
}

#[test]
fn vectors_have_the_length_that_is_asked_for_or_that_the_service_or_the_model_gives() {
    for (route, body, by_request) in [
        (OPENAI, json!({"input": "a"}), None),
        (OPENAI, json!({"input": "a", "normalized": false}), Some(false)),
        (OPENAI, json!({"input": "a", "use_activation": true}), Some(true)),
        (EmbedRoute::Pooling, json!({"input": "a"}), None),
        (EmbedRoute::Invocations, json!({"input": "a"}), None),
        (EmbedRoute::CohereV1, json!({"texts": ["a"]}), None),
        (EmbedRoute::CohereV2, json!({"texts": ["a"], "embedding_types": ["float"]}), None),
        (EmbedRoute::Embed, json!({"inputs": "a"}), Some(true)),
        (EmbedRoute::Embed, json!({"inputs": "a", "normalize": false}), Some(false)),
        (EmbedRoute::Embed, json!({"text": "a"}), Some(true)),
        (EmbedRoute::Embed, json!({"texts": ["a"]}), Some(true)),
        (EmbedRoute::EmbedBatch, json!({"texts": ["a"]}), Some(true)),
        (EmbedRoute::EmbedAll, json!({"inputs": "a"}), Some(false)),
        (EmbedRoute::Llama, json!({"content": "a"}), Some(true)),
    ] {
        let request = read(route, &body);
        assert_eq!(request.normalize, by_request, "{body}");
        for model in [true, false] {
            let mut request = request.clone();
            request.fit_scale(model);
            assert_eq!(request.normalize, by_request.or(Some(model)), "{body}");
        }
    }
    let mut cut = read(OPENAI, &json!({"input": "a", "dimensions": 2}));
    cut.fit_dimensions(3, |_| true);
    cut.fit_scale(false);
    assert_eq!(cut.normalize, Some(true), "vectors that are cut are scaled anew");
    let mut whole = read(OPENAI, &json!({"input": "a", "dimensions": 3}));
    whole.fit_dimensions(3, |_| true);
    whole.fit_scale(false);
    assert_eq!(whole.normalize, Some(false), "the model's own width is no cut");
}

#[test]
fn rule_4_prompts() {
    let named = |name: &str| Prompt::Named(name.to_owned());
    let purpose = |name: &str| Prompt::Purpose(name.to_owned());
    let instruction = |text: &str| Prompt::Instruction(text.to_owned());
    for (extra, expected) in [
        (json!({}), Prompt::Default),
        (json!({"input_type": null}), Prompt::Default),
        (json!({"input_type": "none"}), Prompt::Prefix(String::new())),
        (json!({"task": "none"}), Prompt::Prefix(String::new())),
        (json!({"input_type": "query"}), Prompt::Query),
        (json!({"input_type": "SEARCH_QUERY"}), Prompt::Query),
        (json!({"input_type": "passage"}), Prompt::Document),
        (json!({"input_type": "search_document"}), Prompt::Document),
        (json!({"input_type": "clustering"}), purpose("clustering")),
        (json!({"task": "retrieval.query"}), Prompt::Query),
        (json!({"task": "retrieval.passage"}), Prompt::Document),
        (json!({"task": "code.query"}), Prompt::Query),
        (json!({"task": "text-matching"}), purpose("text-matching")),
        (json!({"task": "retrieval.query", "input_type": "query"}), Prompt::Query),
        (json!({"prompt_name": "s2s"}), named("s2s")),
        (json!({"prompt_name": "query", "input_type": "query"}), named("query")),
        (json!({"prompt": "q: "}), Prompt::Prefix("q: ".to_owned())),
        (json!({"prompt": ""}), Prompt::Prefix(String::new())),
        (json!({"instruction": "find"}), instruction("find")),
        (json!({"instruction": "find", "input_type": "query"}), instruction("find")),
        (json!({"instruction": " "}), Prompt::Default),
    ] {
        let request = read(OPENAI, &plain(&extra));
        assert_eq!(request.prompt, expected, "{extra}");
        assert!(request.warnings.is_empty());
    }
    let request =
        read(OPENAI, &plain(&json!({"instruction": "find", "task": "retrieval.passage"})));
    assert_eq!((request.prompt, request.warnings.len()), (Prompt::Document, 1));
}

#[test]
fn rule_6_truncation() {
    for (extra, expected) in [
        (json!({}), (Cut::ServerDefault, None)),
        (json!({"truncate": true}), (Cut::End, None)),
        (json!({"truncate": "true"}), (Cut::End, None)),
        (json!({"truncate": "END"}), (Cut::End, None)),
        (json!({"truncate": "START"}), (Cut::Start, None)),
        (json!({"truncate": "NONE"}), (Cut::Refuse, None)),
        (json!({"truncate": false}), (Cut::Refuse, None)),
        (json!({"truncation": false}), (Cut::Refuse, None)),
        (json!({"truncate": true, "truncation_direction": "Left"}), (Cut::Start, None)),
        (json!({"truncate": true, "truncation_direction": "Right"}), (Cut::End, None)),
        (json!({"truncate_prompt_tokens": -1}), (Cut::End, None)),
        (json!({"truncate_prompt_tokens": 0}), (Cut::ServerDefault, None)),
        (json!({"truncate_prompt_tokens": 8}), (Cut::End, Some(8))),
        (json!({"truncate_prompt_tokens": 8, "truncation_side": "left"}), (Cut::Start, Some(8))),
        (json!({"max_tokens": 8}), (Cut::ServerDefault, Some(8))),
    ] {
        let request = read(OPENAI, &plain(&extra));
        assert_eq!((request.truncation, request.max_tokens), expected, "{extra}");
    }
    // TEI and Voyage cut unless told otherwise; requests of Voyage are known by what only it has.
    for (route, body, expected) in [
        (EmbedRoute::Embed, json!({"inputs": "a"}), Cut::End),
        (EmbedRoute::Embed, json!({"inputs": "a", "truncation_direction": "Left"}), Cut::Start),
        (EmbedRoute::Embed, json!({"inputs": "a", "truncate": false}), Cut::Refuse),
        (EmbedRoute::EmbedSparse, json!({"inputs": "a"}), Cut::End),
        (EmbedRoute::EmbedAll, json!({"inputs": "a"}), Cut::End),
        (
            EmbedRoute::Similarity,
            json!({"inputs": {"source_sentence": "a", "sentences": ["b"]}}),
            Cut::End,
        ),
        (OPENAI, json!({"input": "a", "input_type": "document"}), Cut::End),
        (OPENAI, json!({"input": "a", "output_dimension": 8}), Cut::End),
        (OPENAI, json!({"input": "a", "output_dtype": "float"}), Cut::End),
        (OPENAI, json!({"input": "a", "input_type": "query", "truncation": false}), Cut::Refuse),
        (OPENAI, json!({"input": "a", "model": "m"}), Cut::ServerDefault),
    ] {
        assert_eq!(read(route, &body).truncation, expected, "{body}");
    }
    let request = read(OPENAI, &plain(&json!({"truncation_direction": "left"})));
    assert_eq!((request.truncation, request.warnings.len()), (Cut::ServerDefault, 1));

    let request = read(OPENAI, &plain(&json!({"truncate_prompt_tokens": 8})));
    assert_eq!(request.token_limit(512), Ok(8));
    let invalid = request.token_limit(4).expect_err("refused");
    assert!(invalid.message.contains("Please request a smaller truncation size."));
    let cohere = read(EmbedRoute::CohereV2, &json!({"texts": ["a"], "max_tokens": 128_000}));
    assert_eq!(cohere.token_limit(512), Ok(512));
}

#[test]
fn rule_6_too_long_in_every_style() {
    for (route, body, param, status, style) in [
        (OPENAI, json!({"input": ["a", "b"]}), "input[1]", 400, ErrorStyle::OpenAi),
        (EmbedRoute::Embed, json!({"inputs": ["a", "b"]}), "inputs[1]", 413, ErrorStyle::Tei),
        (EmbedRoute::CohereV1, json!({"texts": ["a", "b"]}), "texts[1]", 400, ErrorStyle::OpenAi),
        (
            EmbedRoute::EmbedBatch,
            json!({"texts": ["a", "b"]}),
            "texts[1]",
            422,
            ErrorStyle::FastApi,
        ),
    ] {
        let invalid = read(route, &body).too_long(1, 512, 700);
        assert_eq!(invalid.code, "context_length_exceeded");
        assert_eq!(invalid.param.as_deref(), Some(param));
        assert_eq!((invalid.status(), invalid.style), (status, style));
    }
    let tei = read(EmbedRoute::Embed, &json!({"inputs": "a"})).too_long(0, 512, 700);
    let body = serde_json::to_value(tei.error_body()).expect("json");
    assert_eq!(body["error_type"], "Validation");
    assert!(body["error"].as_str().is_some_and(|error| error.contains("input is too large")));
}

#[test]
fn what_contradicts_itself_or_cannot_be_done_is_named() {
    for (extra, param) in [
        (json!({"inputs": "a"}), "inputs"),
        (json!({"texts": ["a"]}), "texts"),
        (json!({"messages": []}), "messages"),
        (json!({"images": ["x"]}), "images"),
        (json!({"encoding_format": "hex"}), "encoding_format"),
        (json!({"encoding_format": "hex"}), "encoding_format"),
        (json!({"encoding_format": 3}), "encoding_format"),
        (json!({"dimensions": -1}), "dimensions"),
        (json!({"dimensions": 1.5}), "dimensions"),
        (json!({"dimensions": 1, "output_dimension": 2}), "output_dimension"),
        (json!({"late_chunking": 3}), "late_chunking"),
        (json!({"modality": "image"}), "modality"),
        (json!({"endianness": "big"}), "endianness"),
        (json!({"input_type": "image"}), "input_type"),
        (json!({"task": "x"}), "task"),
        (json!({"task": "retrieval.query", "input_type": "document"}), "task"),
        (json!({"prompt": "a", "prompt_name": "b"}), "prompt"),
        (json!({"prompt_name": "passage", "input_type": "query"}), "prompt_name"),
        (json!({"embedding_type": "dens"}), "embedding_type"),
        (json!({"embedding_type": ["dense", 3]}), "embedding_type[1]"),
        (json!({"embedding_type": ["int8", "float"]}), "embedding_type"),
        (json!({"embedding_types": ["int8", "float"]}), "embedding_types"),
        (json!({"output_dtype": "float16"}), "output_dtype"),
        (json!({"output_dtype": "int8", "embedding_type": "binary"}), "output_dtype"),
        (json!({"embedding_type": "base64", "encoding_format": "float"}), "encoding_format"),
        (json!({"return_dense": false}), "return_dense"),
        (json!({"normalize": true, "normalized": false}), "normalized"),
        (json!({"normalize": "maybe"}), "normalize"),
        (json!({"truncate": "MIDDLE"}), "truncate"),
        (json!({"truncate": false, "truncation": true}), "truncation"),
        (json!({"truncate": false, "truncate_prompt_tokens": 3}), "truncate_prompt_tokens"),
        (json!({"truncate_prompt_tokens": -2}), "truncate_prompt_tokens"),
        (json!({"truncate": "START", "truncation_side": "right"}), "truncation_direction"),
        (json!({"truncation_side": "up"}), "truncation_side"),
    ] {
        let invalid = refused(OPENAI, &plain(&extra));
        assert_eq!((invalid.param.as_deref(), invalid.status()), (Some(param), 400), "{extra}");
    }
    for (route, body, param) in [
        (EmbedRoute::Embed, json!({"inputs": "a", "text": "a"}), "text"),
        (EmbedRoute::Embed, json!({"inputs": "a", "return_sparse": true}), "return_sparse"),
        (EmbedRoute::EmbedBatch, json!({"text": "a"}), "text"),
        (EmbedRoute::EmbedSparse, json!({"inputs": "a", "output_dtype": "int8"}), "output_dtype"),
        (EmbedRoute::CohereV2, json!({"texts": ["a"], "inputs": ["b"]}), "texts"),
        (EmbedRoute::CohereV2, json!({"input": ["a"]}), "input"),
        (
            EmbedRoute::CohereV2,
            json!({"inputs": [{"content": [{"type": "image_url"}]}]}),
            "inputs[0].content[0]",
        ),
        (
            EmbedRoute::CohereV1,
            json!({"texts": ["a"], "encoding_format": "base64"}),
            "encoding_format",
        ),
        (
            EmbedRoute::CohereV2,
            json!({"texts": ["a"], "encoding_format": "int8"}),
            "encoding_format",
        ),
        (
            EmbedRoute::Similarity,
            json!({"inputs": {"source_sentence": "a", "sentences": ["b", 3]}}),
            "inputs.sentences[1]",
        ),
    ] {
        assert_eq!(refused(route, &body).param.as_deref(), Some(param), "{body}");
    }
}

#[test]
fn errors_take_the_style_of_the_shape() {
    let style = |body: &Value| refused(EmbedRoute::Embed, body).style;
    assert_eq!(style(&json!({"inputs": 3})), ErrorStyle::Tei);
    assert_eq!(style(&json!({"texts": 3})), ErrorStyle::FastApi);
    assert_eq!(style(&json!({"text": 3})), ErrorStyle::FastApi);
    assert_eq!(style(&json!({"input": ""})), ErrorStyle::OpenAi);
    assert_eq!(refused(EmbedRoute::Invocations, &json!({})).style, ErrorStyle::OpenAi);
    assert_eq!(refused(EmbedRoute::Invocations, &json!({"texts": 3})).style, ErrorStyle::FastApi);
    let empty = refused(EmbedRoute::Embed, &json!({"inputs": []}));
    let body = serde_json::to_value(empty.error_body()).expect("json");
    assert_eq!(body["error_type"], "Empty");
}

#[test]
fn n12_small_numbers_want_normalised_vectors() {
    for (dtype, asked, model, warnings) in [
        ("int8", json!(false), true, 1),
        ("uint8", json!(null), false, 1),
        ("int8", json!(null), true, 0),
        ("int8", json!(true), false, 0),
        ("binary", json!(false), true, 0),
    ] {
        let mut request = read(OPENAI, &plain(&json!({"output_dtype": dtype, "normalize": asked})));
        request.fit_scale(model);
        assert_eq!(request.warnings.len(), warnings, "{dtype} {asked} {model}");
    }
}

#[test]
fn n1_kinds_that_the_model_lacks_are_refused() {
    let dense_only = VectorKinds { dense: true, ..VectorKinds::default() };
    let request = read(OPENAI, &plain(&json!({"return_sparse": true})));
    let invalid = request.check_outputs(dense_only).expect_err("refused");
    assert!(invalid.message.contains("sparse"));
    assert_eq!(request.check_outputs(VectorKinds { sparse: true, ..dense_only }), Ok(()));
}

#[test]
fn n9_numbers_that_are_not_finite_are_found() {
    let fine = dense(&[1.0]);
    let rows = Rows { values: &[1.0, f32::INFINITY], width: 1 };
    assert_eq!(first_non_finite(&[fine]), None);
    assert_eq!(first_non_finite(&[fine, dense(&[f32::NAN])]), Some(1));
    assert_eq!(first_non_finite(&[Embedded { colbert: Some(rows), ..fine }]), Some(0));
    assert_eq!(first_non_finite(&[fine, Embedded { hidden: Some(rows), ..fine }]), Some(1));
    assert_eq!(first_non_finite(&[Embedded { sparse: Some(&[(1, f32::NAN)]), ..fine }]), Some(0));
}

#[test]
fn bodies_that_are_no_object() {
    for route in EmbedRoute::PATHS.map(|(_, route)| route) {
        for body in [json!(null), json!([]), json!("a"), json!(3)] {
            let invalid = parse(route, &body).expect_err("no object");
            assert!(invalid.param.is_none(), "{body}");
        }
    }
}

/// The client of a service for BGE-M3 names the kind, and sends its flags with their defaults.
#[test]
fn a_flag_that_is_false_takes_nothing_from_a_name() {
    for (extra, sparse, colbert) in [
        (json!({"embedding_type": "sparse", "return_sparse": false}), true, false),
        (json!({"embedding_type": "colbert", "return_colbert": false}), false, true),
        (json!({"embedding_type": "dense", "return_sparse": false}), false, false),
        (json!({"embedding_type": "dense", "return_sparse": true}), true, false),
    ] {
        let outputs = read(OPENAI, &plain(&extra)).outputs;
        assert_eq!(
            (outputs.dense, outputs.sparse, outputs.colbert),
            (true, sparse, colbert),
            "{extra}"
        );
    }
}

#[test]
fn fields_that_nothing_reads_are_told() {
    let request = read(OPENAI, &plain(&json!({"dimension": 8, "user": "u", "x": null})));
    assert_eq!(
        request.warnings,
        ["dimension is not read here and was ignored: did you mean dimensions?"]
    );
    let body = json!({"inputs": {"source_sentence": "a", "sentences": ["b"]}, "params": {}});
    assert_eq!(read(EmbedRoute::Similarity, &body).warnings.len(), 1);
}
