//! The routes beside the main ones that every function has: texts as tokens and back, and Vertex
//! AI's envelope.

use defrost_api::{
    DETOKENIZE_FORMS, DetokenizeAnswer, EmbedRules, Form, LlamaTokens, SchemaBook, TOKENIZE_FORMS,
    Token, VERTEX_PATH, VllmTokens,
};
use serde_json::{Map, Value, json};

use super::parts::{OTHER_NAMES, Parts, TruncationHeader, any_of, operation_id};

const TOKENIZE: &str = "/tokenize";
const DETOKENIZE: [&str; 2] = ["/detokenize", "/decode"];

/// What Vertex AI's envelope may hold.
pub(super) struct Instances {
    /// The schemas of the forms that an instance may have.
    pub(super) forms: Vec<Value>,
    /// The most instances that there may be.
    pub(super) most: usize,
}

pub(super) fn describe(
    paths: &mut Map<String, Value>,
    parts: &mut Parts,
    book: &mut SchemaBook,
    rules: &EmbedRules,
    tag: &str,
    instances: Option<Instances>,
    conversations: &'static [Form],
) {
    if let Some(instances) = instances {
        vertex(paths, parts, instances);
    }
    let mut insert = |path: &str, about: &str, body: &Value, answers: &Value| {
        let operation = json!({"post": {
            "tags": [tag],
            "summary": about,
            "operationId": operation_id(path),
            "requestBody": body,
            "responses": answers,
        }});
        paths.insert(path.to_owned(), operation);
    };
    let mut schemas: Vec<Value> =
        TOKENIZE_FORMS.iter().map(|form| book.tokenize_form(form, rules)).collect();
    schemas.extend(conversations.iter().map(|form| book.chat_tokenize_form(form)));
    let forms = TOKENIZE_FORMS.iter().chain(conversations);
    let tokenize = parts.body("Tokenize", forms, schemas);
    let schemas = DETOKENIZE_FORMS.iter().map(|form| book.detokenize_form(form, rules)).collect();
    let detokenize = parts.body("Detokenize", &DETOKENIZE_FORMS, schemas);
    let token = book.answer::<Token<'_>>();
    let shapes = vec![
        json!({"type": "array", "items": {"type": "array", "items": token}}),
        book.answer::<VllmTokens<'_>>(),
        book.answer::<LlamaTokens<'_>>(),
    ];
    let about = "The tokens, in the shape of the request.";
    let answers = parts.work_answers(about, TruncationHeader::Never, shapes);
    insert(TOKENIZE, "Texts as the model's tokens", &tokenize, &answers);
    for path in DETOKENIZE {
        let shapes = vec![book.answer::<DetokenizeAnswer<'_>>()];
        let about = "The texts, in the shape of the request.";
        let answers = parts.work_answers(about, TruncationHeader::Never, shapes);
        insert(path, "Tokens as text", &detokenize, &answers);
    }
}

/// Describes Vertex's route, whose instances are the bodies of other routes, and whose predictions
/// are their answers.
fn vertex(paths: &mut Map<String, Value>, parts: &Parts, Instances { forms, most }: Instances) {
    let answer = json!({
        "type": "object",
        "properties": {"predictions": {"type": "array", "description": "The answers, in the order of the instances."}},
        "required": ["predictions"],
    });
    let about = "What TEI's own routes answer to each instance.";
    paths.insert(
        VERTEX_PATH.to_owned(),
        json!({"post": {
            "tags": [OTHER_NAMES],
            "summary": "Several requests of TEI's form in Vertex AI's envelope",
            "operationId": operation_id(VERTEX_PATH),
            "requestBody": {"required": true, "content": {"application/json": {"schema": {
                "type": "object",
                "properties": {"instances": {
                    "type": "array", "minItems": 1, "maxItems": most, "items": any_of(forms),
                    "description": "Bodies of TEI's form: `query` with `texts`, or `inputs`.",
                }},
                "required": ["instances"],
            }}}},
            "responses": parts.work_answers(about, TruncationHeader::Inputs, vec![answer]),
        }}),
    );
}
