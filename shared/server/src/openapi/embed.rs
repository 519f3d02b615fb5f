//! The embedding routes.

use std::collections::BTreeMap;

use defrost_api::{
    BaaiEmbeddings, CohereEmbeddings, DenseList, EmbedRoute, EmbedRules, HiddenList,
    LlamaEmbedding, MlxBatchEmbedding, MlxEmbedding, OpenAiEmbeddings, PooledList, SchemaBook,
    Similarities, SparseList,
};
use serde_json::{Map, Value, json};

use super::description::Api;
use super::fields::{count, text, text_or_null};
use super::parts::{OTHER_NAMES, Parts, TruncationHeader, operation_id};
use super::tokens::{self, Instances};

impl Api {
    /// `/v1/embeddings` and its kin, tokens included.
    pub fn embed(rules: EmbedRules) -> Self {
        Self {
            name: "embed",
            about: "Texts as vectors.",
            describe: Box::new(move |paths, parts, book| {
                describe(paths, parts, book, &rules);
                let forms = EmbedRoute::Embed.forms().iter();
                let forms = forms.map(|form| book.embed_form(form, &rules)).collect();
                let instances = Instances { forms, most: rules.limits.max_inputs };
                tokens::describe(paths, parts, book, &rules, "embed", Some(instances), &[]);
            }),
            info,
            props: Vec::new,
        }
    }
}

fn info() -> Vec<(&'static str, Value)> {
    vec![
        ("pooling", text("What dense vectors are made of.")),
        ("dimensions", count("Length of dense vectors.")),
        ("matryoshka", text("To what they may be shortened.")),
        ("normalizes", json!({"type": "boolean"})),
        ("prompts", json!({"type": "object", "additionalProperties": {"type": "string"}})),
        ("default_prompt_name", text_or_null("The prompt of inputs of no particular kind.")),
        ("outputs", json!({"type": "object", "additionalProperties": {"type": "boolean"}})),
        ("auto_truncate", json!({"type": "boolean"})),
        ("max_inputs", count("Most inputs of one request.")),
    ]
}

fn describe(
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
        let (name, summary) = named(route);
        let body = bodies.entry(name).or_insert_with(|| {
            let schemas = route.forms().iter().map(|form| book.embed_form(form, rules)).collect();
            parts.body(name, route.forms(), schemas)
        });
        let about = "The vectors, in the shape of the request.";
        let mut answers = parts.work_answers(about, TruncationHeader::Inputs, answers(route, book));
        let takes_bytes = [EmbedRoute::Embeddings, EmbedRoute::Invocations, EmbedRoute::Embed];
        if takes_bytes.contains(&route) {
            answers["200"]["content"]["application/octet-stream"] = json!({"schema": {
                "type": "string", "format": "binary",
                "description": "The vectors one after the other, little-endian, for `encoding_format: bytes`; \
                                the header `metadata` says where each begins and ends.",
            }});
        }
        insert(paths, path, summary, body, &answers);
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
    let mut operation = json!({"post": {
        "tags": [if path == "/v1/embeddings" { "embed" } else { OTHER_NAMES }],
        "summary": about,
        "operationId": operation_id(path),
        "requestBody": body,
        "responses": answers,
    }});
    if path.contains("{deployment}") {
        operation["post"]["parameters"] = json!([{
            "name": "deployment", "in": "path", "required": true, "schema": {"type": "string"},
            "description": "The model, where the body names none.",
        }]);
    }
    paths.insert(path.to_owned(), operation);
}

/// The body's name, and what the route is for.
fn named(route: EmbedRoute) -> (&'static str, &'static str) {
    match route {
        EmbedRoute::Embeddings => ("Embeddings", "Texts as vectors"),
        EmbedRoute::Invocations => ("Invocations", "Texts as vectors, in any form"),
        EmbedRoute::Embed => ("Embed", "Texts as vectors, for clients of TEI, BAAI and MLX"),
        EmbedRoute::EmbedBatch => ("EmbedBatch", "Texts as vectors, for clients of MLX"),
        EmbedRoute::EmbedSparse => ("EmbedParts", "Texts as weights of their tokens"),
        EmbedRoute::EmbedAll => ("EmbedParts", "Texts as one vector a token"),
        EmbedRoute::Llama => ("Llama", "Texts as vectors, for clients of llama.cpp"),
        EmbedRoute::Pooling => ("Pooling", "Texts as vectors, for clients of vLLM"),
        EmbedRoute::Similarity => ("Similarity", "How near texts are to one text"),
        EmbedRoute::CohereV1 => ("CohereEmbed", "Texts as vectors, for clients of Cohere v1"),
        EmbedRoute::CohereV2 => ("CohereEmbed", "Texts as vectors, for clients of Cohere v2"),
    }
}

fn answers(route: EmbedRoute, book: &mut SchemaBook) -> Vec<Value> {
    match route {
        EmbedRoute::Embeddings => {
            let llama = book.answer::<LlamaEmbedding<'_>>();
            vec![book.answer::<OpenAiEmbeddings<'_>>(), json!({"type": "array", "items": llama})]
        }
        EmbedRoute::Llama => {
            vec![json!({"type": "array", "items": book.answer::<LlamaEmbedding<'_>>()})]
        }
        EmbedRoute::Pooling => vec![book.answer::<PooledList<'_>>()],
        // A body with `input` is OpenAI's on both.
        EmbedRoute::Invocations | EmbedRoute::Embed => vec![
            book.answer::<OpenAiEmbeddings<'_>>(),
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
