//! The rerank routes.

use defrost_api::{
    BATCH_FORMS, BaaiBatch, BaaiQuery, BaaiSingle, Canonical, Classes, Form, Mixedbread,
    PREDICT_FORMS, PREDICT_PATHS, Prediction, QUERY_FORMS, RERANK_FORMS, RERANK_PATHS, RerankRules,
    SCORE_FORMS, SCORE_PATHS, SchemaBook, Scores, SglangRank, TeiRank,
};
use serde_json::{Map, Value, json};

use super::description::Api;
use super::fields::{count, text};
use super::parts::{OTHER_NAMES, Parts, TruncationHeader, operation_id};
use super::tokens::{self, Instances};

const BEST_FIRST: &str = "The documents, best first, in the shape of the request.";

impl Api {
    /// `/v1/rerank` and its kin, tokens included.
    pub fn rerank(rules: RerankRules) -> Self {
        Self {
            name: "rerank",
            about: "Order documents by how well they answer a query.",
            describe: Box::new(move |paths, parts, book| {
                describe(paths, parts, book, &rules);
                let forms = vec![
                    // Text Embeddings Inference's.
                    book.rerank_form(&RERANK_FORMS[1], &rules),
                    book.predict_form(&PREDICT_FORMS[0], &rules),
                ];
                let instances = Instances { forms, most: rules.limits.max_documents };
                tokens::describe(
                    paths,
                    parts,
                    book,
                    &rules.of_tokens(),
                    "rerank",
                    Some(instances),
                    &[],
                );
            }),
            info: || {
                vec![
                    ("takes_instruction", json!({"type": "boolean"})),
                    ("score_type", text("What scores are when a request does not say.")),
                    ("max_documents", count("Most documents of one request.")),
                ]
            },
            props: Vec::new,
        }
    }
}

fn describe(
    paths: &mut Map<String, Value>,
    parts: &mut Parts,
    book: &mut SchemaBook,
    rules: &RerankRules,
) {
    let mut body = |name: &str, forms: &[Form]| {
        let schemas = forms.iter().map(|form| book.rerank_form(form, rules)).collect();
        parts.body(name, forms, schemas)
    };
    let rerank = body("Rerank", &RERANK_FORMS);
    let batch = body("RerankBatch", &BATCH_FORMS);
    let query = body("RerankQuery", &QUERY_FORMS);
    let forms = SCORE_FORMS.iter().map(|form| book.score_form(form, rules)).collect();
    let pairs = parts.body("Score", &SCORE_FORMS, forms);
    for path in SCORE_PATHS {
        let scores = vec![book.answer::<Scores<'_>>()];
        paths.insert(
            path.to_owned(),
            json!({"post": {
                "tags": ["rerank"],
                "summary": "Score texts against texts",
                "operationId": operation_id(path),
                "requestBody": pairs,
                "responses": parts.work_answers("The scores, in the order of the pairs.", TruncationHeader::Documents, scores),
            }}),
        );
    }
    let forms = PREDICT_FORMS.iter().map(|form| book.predict_form(form, rules)).collect();
    let predict = parts.body("Predict", &PREDICT_FORMS, forms);
    for path in PREDICT_PATHS {
        let prediction = book.answer::<Prediction>();
        let one = json!({"type": "array", "items": prediction});
        let classes =
            vec![one.clone(), json!({"type": "array", "items": one}), book.answer::<Classes<'_>>()];
        paths.insert(
            path.to_owned(),
            json!({"post": {
                "tags": [OTHER_NAMES],
                "summary": "Pairs as classes, of which there is one",
                "operationId": operation_id(path),
                "requestBody": predict,
                "responses": parts.work_answers("The class of each pair.", TruncationHeader::Documents, classes),
            }}),
        );
    }
    let shapes = vec![
        book.answer::<Canonical<'_>>(),
        json!({"type": "array", "items": book.answer::<TeiRank<'_>>()}),
        book.answer::<BaaiSingle>(),
        book.answer::<Mixedbread<'_>>(),
        json!({"type": "array", "items": book.answer::<SglangRank<'_>>()}),
    ];
    for path in RERANK_PATHS.into_iter().chain(["/"]) {
        let (tag, about) = match path {
            "/v1/rerank" => ("rerank", "Order documents by how well they answer a query"),
            _ => (OTHER_NAMES, "As /v1/rerank, under the name that another service has for it"),
        };
        paths.insert(
            path.to_owned(),
            json!({"post": {
                "tags": [tag],
                "summary": about,
                "operationId": operation_id(path),
                "requestBody": rerank,
                "responses": parts.work_answers(BEST_FIRST, TruncationHeader::Documents, shapes.clone()),
            }}),
        );
    }
    paths.insert(
        "/rerank/batch".to_owned(),
        json!({"post": {
            "tags": [OTHER_NAMES],
            "summary": "Score pairs of query and passage",
            "operationId": "rerank_batch",
            "requestBody": batch,
            "responses": parts.work_answers("The scores, in the order of the pairs.", TruncationHeader::Documents, vec![book.answer::<BaaiBatch>()]),
        }}),
    );
    paths.insert(
        "/rerank/query".to_owned(),
        json!({"post": {
            "tags": [OTHER_NAMES],
            "summary": "Order passages by how well they answer a query",
            "operationId": "rerank_query",
            "requestBody": query,
            "responses": parts.work_answers("The passages, best first.", TruncationHeader::Documents, vec![book.answer::<BaaiQuery<'_>>()]),
        }}),
    );
}
