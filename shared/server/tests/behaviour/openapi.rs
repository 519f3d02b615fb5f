//! The OpenAPI document: whole, true to the router, and its examples are requests.

use std::collections::BTreeSet;

use axum::Router;
use defrost_api::{
    EmbedBody, EmbedLimits, EmbedRoute, EmbedRules, Limits, RerankBody, Route, VectorKinds,
};
use defrost_server::{Api, Description, openapi};
use serde_json::{Value, json};

use super::toy::{FUNCTION, get, post, ready};

fn described(api: Api) -> Value {
    together(vec![api])
}

/// The document of a process that has all of these.
fn together(apis: Vec<Api>) -> Value {
    openapi(&Description {
        function: FUNCTION,
        apis,
        needs_key: true,
        strict_model: true,
        snapshot_hooks: true,
    })
}

/// Of a model that has everything.
fn rules() -> EmbedRules {
    let outputs = VectorKinds { dense: true, sparse: true, colbert: true, hidden: true };
    EmbedRules { outputs, late_chunking: true, ..EmbedRules::default() }
}

fn both() -> [Value; 2] {
    [described(Api::rerank(defrost_api::RerankRules::default())), described(Api::embed(rules()))]
}

/// Those of every kind of function.
fn all() -> Vec<Value> {
    let mut all = both().to_vec();
    let mut several = vec![Api::embed(rules()), Api::rerank(defrost_api::RerankRules::default())];
    #[cfg(feature = "chat")]
    {
        let chat = || Api::chat(defrost_api::ChatRules::default());
        all.push(described(chat()));
        several.push(chat());
    }
    all.push(together(several));
    all
}

#[test]
fn what_the_model_has_not_is_not_described() {
    let of = |outputs| described(Api::embed(EmbedRules { outputs, ..rules() }))["paths"].clone();
    let dense = of(VectorKinds { dense: true, ..VectorKinds::default() });
    assert!(dense.get("/embed_sparse").is_none() && dense.get("/embed_all").is_none());
    assert!(dense.get("/v1/embeddings").is_some());
    let sparse = of(VectorKinds { dense: true, sparse: true, ..VectorKinds::default() });
    assert!(sparse.get("/embed_sparse").is_some() && sparse.get("/embed_all").is_none());

    let document = |late_chunking| {
        let rules = EmbedRules { late_chunking, ..rules() };
        described(Api::embed(rules))["components"]["schemas"].clone()
    };
    let late = |has| document(has)["JinaEmbeddingRequest"]["properties"]["late_chunking"].clone();
    assert_eq!(late(false)["enum"], json!([false, "false", null]));
    assert_eq!(late(true)["enum"], json!([true, false, "true", "false", null]));
}

/// Every value in a tree, with its path.
fn walk<'a>(value: &'a Value, path: &str, visit: &mut dyn FnMut(&str, &'a Value)) {
    visit(path, value);
    match value {
        Value::Array(values) => {
            values.iter().enumerate().for_each(|(i, v)| walk(v, &format!("{path}/{i}"), visit));
        }
        Value::Object(map) => map.iter().for_each(|(k, v)| walk(v, &format!("{path}/{k}"), visit)),
        _ => {}
    }
}

#[test]
fn references_lead_somewhere_and_everything_is_referred_to() {
    for document in all() {
        let mut used = BTreeSet::new();
        walk(&document, "", &mut |path, value| {
            if let Some(reference) = value.get("$ref").and_then(Value::as_str) {
                let pointer = reference.strip_prefix('#').expect("within the document");
                assert!(document.pointer(pointer).is_some(), "{reference} at {path}");
                used.insert(pointer.to_owned());
            }
        });
        for (kind, components) in document["components"].as_object().expect("components") {
            for name in components.as_object().expect("named").keys() {
                // Paths that are not there, and methods that are not taken, have no operation.
                let of_no_operation =
                    ["MethodNotAllowed", "Forbidden", "bearer", "key"].contains(&name.as_str());
                let pointer = format!("/components/{kind}/{name}");
                assert!(of_no_operation || used.contains(&pointer), "{pointer} is not used");
            }
        }
    }
}

#[test]
fn operations_are_named_once_and_described() {
    for document in all() {
        let mut ids = BTreeSet::new();
        for (path, item) in document["paths"].as_object().expect("paths") {
            for (method, operation) in item.as_object().expect("operations") {
                let place = format!("{method} {path}");
                let id = operation["operationId"].as_str().unwrap_or_else(|| panic!("{place}"));
                assert!(ids.insert(id.to_owned()), "{id} twice");
                assert!(operation["summary"].is_string(), "{place}");
                assert!(operation["responses"]["200"].is_object(), "{place}");
                let is_public = operation["security"] == json!([]);
                let says_key = operation["responses"]["401"].is_object();
                assert!(is_public != says_key, "{place}");
            }
        }
    }
}

#[test]
fn every_error_of_a_request_is_there() {
    for document in all() {
        for path in [
            "/v1/rerank",
            "/rerank/batch",
            "/v1/embeddings",
            "/similarity",
            "/v1/chat/completions",
            "/tokenize",
        ] {
            let Some(item) = document["paths"].get(path) else { continue };
            for status in
                ["200", "400", "401", "404", "408", "413", "415", "422", "429", "500", "503"]
            {
                assert!(item["post"]["responses"][status].is_object(), "{status} of {path}");
            }
        }
        let responses = &document["components"]["responses"];
        for (name, header) in [
            ("QueueFull", "retry-after"),
            ("Unavailable", "retry-after"),
            ("MethodNotAllowed", "allow"),
        ] {
            assert!(responses[name]["headers"][header].is_object(), "{header} of {name}");
        }
    }
}

#[tokio::test]
async fn the_router_and_the_document_have_the_same_routes() {
    same_routes(&ready(&[("SNAPSHOT_HOOKS", "true")]).await, "toy/words").await;
    #[cfg(feature = "chat")]
    same_routes(&super::chat::toy::ready(&[("SNAPSHOT_HOOKS", "true")]).await, "toy/echo").await;
}

pub(super) async fn same_routes(router: &Router, model: &str) {
    let document = get(router, "/openapi.json").await.json();
    assert_eq!(document["openapi"], "3.1.1");
    let paths = document["paths"].as_object().expect("paths");
    for (template, item) in paths {
        let path = &template.replace("{model}", model).replace("{deployment}", "toy");
        let answer = get(router, path).await;
        assert_eq!(
            answer.status == 405,
            item.get("get").is_none(),
            "GET {path}: {}",
            answer.status
        );
        assert_ne!(answer.status, 404, "{path}");
        let answer = post(router, path, &json!({})).await;
        assert_eq!(
            answer.status == 405,
            item.get("post").is_none(),
            "POST {path}: {}",
            answer.status
        );
    }
    let root = get(router, "/").await.json();
    walk(&root["endpoints"], "", &mut |_, value| {
        if let Some(path) = value.as_str() {
            assert!(paths.contains_key(path), "{path} is not described");
        }
    });
}

/// What a schema says must be in an answer is, and what is in an answer is said.
#[tokio::test]
async fn answers_of_probes_have_the_described_fields() {
    described_fields(&ready(&[]).await).await;
    #[cfg(feature = "chat")]
    described_fields(&super::chat::toy::ready(&[]).await).await;
}

async fn described_fields(router: &Router) {
    let document = get(router, "/openapi.json").await.json();
    for path in [
        "/",
        "/health",
        "/v1/health",
        "/ready",
        "/ping",
        "/live",
        "/version",
        "/v1/models",
        "/models",
        "/info",
        "/props",
    ] {
        let answer = get(router, path).await.json();
        let content = &document["paths"][path]["get"]["responses"]["200"]["content"];
        let reference =
            content["application/json"]["schema"]["$ref"].as_str().expect("a reference");
        let schema = document.pointer(reference.trim_start_matches('#')).expect("a schema");
        let required: BTreeSet<&str> = schema["required"]
            .as_array()
            .expect("a list")
            .iter()
            .filter_map(Value::as_str)
            .collect();
        let found: BTreeSet<&str> =
            answer.as_object().expect("an object").keys().map(String::as_str).collect();
        assert_eq!(found, required, "{path}");
    }
}

#[tokio::test]
async fn limits_and_keys_are_those_of_this_server() {
    let plain = get(&ready(&[]).await, "/openapi.json").await.json();
    assert!(plain.get("security").is_none());
    assert!(plain["components"].get("securitySchemes").is_none());
    assert!(plain["paths"].get("/sleep").is_none());
    assert!(plain["paths"]["/v1/rerank"]["post"]["responses"].get("401").is_none());
    let router = ready(&[("API_KEYS", "k"), ("MAX_DOCUMENTS", "7"), ("MAX_TEXT_CHARS", "9")]).await;
    let document = get(&router, "/openapi.json").await.json();
    assert_eq!(document["security"], json!([{"bearer": []}, {"key": []}]));
    let schemas = &document["components"]["schemas"];
    for kind in schemas["Fitting_documents"]["anyOf"].as_array().expect("kinds") {
        let list = &kind["properties"]["documents"]["anyOf"][0];
        assert_eq!((&list["minItems"], &list["maxItems"]), (&json!(1), &json!(7)));
    }
    assert_eq!(schemas["BaaiRerankRequest"]["properties"]["passage"]["anyOf"][0]["maxLength"], 9);
    // The toy is of mxbai's kind.
    let names = &schemas["ScoresAgree"]["anyOf"][0]["properties"]["normalization"]["enum"];
    assert!(names.as_array().is_some_and(|names| names.contains(&json!("mxbai"))), "{names}");
}

/// What is said of a field that several services name is said by the rules alone, and null is as
/// good as nothing.
#[test]
fn forms_leave_to_the_rules_what_these_govern_and_optional_fields_may_be_null() {
    for document in both() {
        let schemas = document["components"]["schemas"].as_object().expect("schemas");
        for (name, form) in schemas.iter().filter(|(_, form)| form.get("allOf").is_some()) {
            for (field, schema) in form["properties"].as_object().expect("fields") {
                if ["use_activation", "normalize", "truncate", "task"].contains(&field.as_str()) {
                    assert!(schema.get("enum").is_none(), "{name}.{field}: {schema}");
                }
            }
        }
    }
    let [rerank, _] = both();
    let model = &rerank["components"]["schemas"]["ScoreRequest"]["properties"]["model"];
    assert_eq!(model["type"], json!(["string", "null"]));
}

/// One text may stand for a list of one on the right side, as vLLM's clients send it.
#[test]
fn the_right_side_of_a_score_is_a_text_or_a_list() {
    let [rerank, _] = both();
    let schemas = &rerank["components"]["schemas"];
    for (form, side) in [
        ("ScoreRequest", "documents"),
        ("ScoreItemsRequest", "items"),
        ("ScoreTextsRequest", "text_2"),
        ("ScoreDataRequest", "data_2"),
    ] {
        let kinds = schemas[form]["properties"][side]["anyOf"].as_array().expect("kinds");
        let kinds: Vec<_> = kinds.iter().map(|kind| &kind["type"]).collect();
        assert_eq!(kinds, ["string", "array"], "{form}.{side}");
    }
}

#[cfg(feature = "chat")]
#[test]
fn examples_of_chat_are_requests() {
    use defrost_api::{ChatLimits, ChatRoute};
    let chat = described(Api::chat(defrost_api::ChatRules::default()));
    for (path, route) in ChatRoute::PATHS {
        let operation = &chat["paths"][path]["post"];
        let body = operation["requestBody"]["$ref"].as_str().expect("a body");
        let body = chat.pointer(body.trim_start_matches('#')).expect("a component");
        let examples = &body["content"]["application/json"]["examples"];
        for (name, example) in examples.as_object().expect("examples") {
            let example = example["value"].to_string();
            let call = route.parse(example.as_bytes(), &ChatLimits::default());
            assert!(call.is_ok(), "{path} {name}: {call:?}");
        }
    }
}

#[test]
fn examples_are_requests() {
    let [rerank, embed] = both();
    let examples = |document: &Value, path: &str| -> Vec<(String, Value)> {
        let body = document["paths"][path]["post"]["requestBody"]["$ref"].as_str().expect("a body");
        let body = document.pointer(body.trim_start_matches('#')).expect("a component");
        let content = &body["content"]["application/json"];
        let forms = content["schema"]["anyOf"].as_array().map_or(1, Vec::len);
        let examples = content["examples"].as_object().expect("examples");
        assert!(examples.len() >= forms, "an example of each form on {path}");
        examples.iter().map(|(name, one)| (name.clone(), one["value"].clone())).collect()
    };
    for (path, route) in [
        ("/v1/rerank", Route::Rerank),
        ("/rerank/batch", Route::Batch),
        ("/rerank/query", Route::Query),
    ] {
        for (name, example) in examples(&rerank, path) {
            let body = RerankBody::parse_on(route, example.to_string().as_bytes()).expect(&name);
            body.into_request(route, &Limits::default()).expect(&name);
        }
    }
    for (path, route) in EmbedRoute::PATHS {
        for (name, example) in examples(&embed, path) {
            let body = EmbedBody::parse_on(route, example.to_string().as_bytes()).expect(&name);
            body.into_request(route, &EmbedLimits::default()).expect(&name);
        }
    }
    for (document, path) in [&rerank, &embed]
        .into_iter()
        .flat_map(|document| ["/tokenize", "/detokenize", "/decode"].map(|path| (document, path)))
    {
        for (name, example) in examples(document, path) {
            let bytes = example.to_string().into_bytes();
            let is_request = if path == "/tokenize" {
                defrost_api::TokenizeBody::parse(&bytes)
                    .and_then(|body| body.into_request(&EmbedLimits::default()))
                    .is_ok()
            } else {
                defrost_api::DetokenizeBody::parse(&bytes)
                    .and_then(|body| body.into_request(&EmbedLimits::default()))
                    .is_ok()
            };
            assert!(is_request, "{name}");
        }
    }
}
