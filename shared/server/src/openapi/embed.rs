//! The embedding routes, and those that turn texts into tokens and back.

use std::collections::BTreeMap;

use defrost_api::{
    BaaiEmbeddings, CohereEmbeddings, DETOKENIZE_FORMS, DenseList, DetokenizeAnswer, EmbedRoute,
    EmbedRules, Form, HiddenList, LlamaTokens, MlxBatchEmbedding, MlxEmbedding, OpenAiEmbeddings,
    SchemaBook, Similarities, SparseList, TOKENIZE_FORMS, Token, VllmTokens,
};
use serde_json::{Map, Value, json};

use super::parts::{Cut, OTHER_NAMES, Parts};
use super::rerank::operation_id;

const TOKENIZE: &str = "/tokenize";
const DETOKENIZE: [&str; 2] = ["/detokenize", "/decode"];

pub(super) fn describe(
    paths: &mut Map<String, Value>,
    parts: &mut Parts,
    book: &mut SchemaBook,
    rules: &EmbedRules,
) {
    // Routes of one kind share the body that the first of them is named after.
    let mut bodies: BTreeMap<&str, Value> = BTreeMap::new();
    for (path, route) in EmbedRoute::PATHS {
        if !is_answered(route, rules) {
            continue;
        }
        let (name, summary) = facts(route);
        let body = bodies.entry(name).or_insert_with(|| {
            let schemas = route.forms().iter().map(|form| book.embed_form(form, rules)).collect();
            parts.body(name, route.forms(), schemas)
        });
        let about = "The vectors, in the shape of the request.";
        let mut answers = parts.work_answers(about, Cut::Inputs, answers(route, book));
        if matches!(route, EmbedRoute::Embeddings | EmbedRoute::Invocations) {
            answers["200"]["content"]["application/octet-stream"] = json!({"schema": {
                "type": "string", "format": "binary",
                "description": "The vectors one after the other, little-endian, for `encoding_format: bytes`; \
                                the header `metadata` says where each begins and ends.",
            }});
        }
        insert(paths, path, summary, body, &answers);
    }
    let mut token_body =
        |name: &str, forms: &[Form], schemas: Vec<Value>| parts.body(name, forms, schemas);
    let schemas = TOKENIZE_FORMS.iter().map(|form| book.tokenize_form(form, rules)).collect();
    let tokenize = token_body("Tokenize", &TOKENIZE_FORMS, schemas);
    let schemas = DETOKENIZE_FORMS.iter().map(|form| book.detokenize_form(form, rules)).collect();
    let detokenize = token_body("Detokenize", &DETOKENIZE_FORMS, schemas);
    let token = book.answer::<Token<'_>>();
    let shapes = vec![
        json!({"type": "array", "items": {"type": "array", "items": token}}),
        book.answer::<VllmTokens<'_>>(),
        book.answer::<LlamaTokens<'_>>(),
    ];
    let about = "The tokens, in the shape of the request.";
    let answers = parts.work_answers(about, Cut::Never, shapes);
    insert(paths, TOKENIZE, "Texts as the model's tokens", &tokenize, &answers);
    for path in DETOKENIZE {
        let shapes = vec![book.answer::<DetokenizeAnswer<'_>>()];
        let about = "The texts, in the shape of the request.";
        let answers = parts.work_answers(about, Cut::Never, shapes);
        insert(paths, path, "Tokens as text", &detokenize, &answers);
    }
}

/// Whether the model has what this route is for: it refuses every request otherwise.
fn is_answered(route: EmbedRoute, rules: &EmbedRules) -> bool {
    match route {
        EmbedRoute::EmbedSparse => rules.outputs.sparse,
        EmbedRoute::EmbedAll => rules.outputs.hidden,
        _ => true,
    }
}

fn insert(paths: &mut Map<String, Value>, path: &str, about: &str, body: &Value, answers: &Value) {
    let is_canonical = ["/v1/embeddings", TOKENIZE, DETOKENIZE[0]].contains(&path);
    paths.insert(
        path.to_owned(),
        json!({"post": {
            "tags": [if is_canonical { "embed" } else { OTHER_NAMES }],
            "summary": about,
            "operationId": operation_id(path),
            "requestBody": body,
            "responses": answers,
        }}),
    );
}

/// The body's name, and what the route is for.
fn facts(route: EmbedRoute) -> (&'static str, &'static str) {
    match route {
        EmbedRoute::Embeddings => ("Embeddings", "Texts as vectors"),
        EmbedRoute::Invocations => ("Invocations", "Texts as vectors, in any form"),
        EmbedRoute::Embed => ("Embed", "Texts as vectors, for clients of TEI, BAAI and MLX"),
        EmbedRoute::EmbedBatch => ("EmbedBatch", "Texts as vectors, for clients of MLX"),
        EmbedRoute::EmbedSparse => ("EmbedParts", "Texts as weights of their tokens"),
        EmbedRoute::EmbedAll => ("EmbedParts", "Texts as one vector a token"),
        EmbedRoute::Similarity => ("Similarity", "How near texts are to one text"),
        EmbedRoute::CohereV1 => ("CohereEmbed", "Texts as vectors, for clients of Cohere v1"),
        EmbedRoute::CohereV2 => ("CohereEmbed", "Texts as vectors, for clients of Cohere v2"),
    }
}

fn answers(route: EmbedRoute, book: &mut SchemaBook) -> Vec<Value> {
    match route {
        EmbedRoute::Embeddings => vec![book.answer::<OpenAiEmbeddings<'_>>()],
        EmbedRoute::Invocations => vec![
            book.answer::<OpenAiEmbeddings<'_>>(),
            book.answer::<DenseList<'_>>(),
            book.answer::<BaaiEmbeddings<'_>>(),
            book.answer::<MlxEmbedding<'_>>(),
        ],
        EmbedRoute::Embed => vec![
            book.answer::<DenseList<'_>>(),
            book.answer::<BaaiEmbeddings<'_>>(),
            book.answer::<MlxEmbedding<'_>>(),
        ],
        EmbedRoute::EmbedBatch => vec![book.answer::<MlxBatchEmbedding<'_>>()],
        EmbedRoute::EmbedSparse => vec![book.answer::<SparseList<'_>>()],
        EmbedRoute::EmbedAll => vec![book.answer::<HiddenList<'_>>()],
        EmbedRoute::Similarity => vec![book.answer::<Similarities<'_>>()],
        EmbedRoute::CohereV1 | EmbedRoute::CohereV2 => vec![book.answer::<CohereEmbeddings<'_>>()],
    }
}
