//! What the tests of embeddings share.

use defrost_api::{
    EmbedBody, EmbedFacts, EmbedLimits, EmbedRequest, EmbedRoute, Embedded, Invalid, embed_answer,
};
use serde_json::Value;

pub(crate) const FACTS: EmbedFacts<'_> =
    EmbedFacts { id: "embd-1", created: 7, model: "m", processing_ms: 1.5 };

pub(crate) fn parse(route: EmbedRoute, body: &Value) -> Result<EmbedRequest, Invalid> {
    EmbedBody::parse_on(route, body.to_string().as_bytes())
        .and_then(|body| body.into_request(route, &EmbedLimits::default()))
}

pub(crate) fn read(route: EmbedRoute, body: &Value) -> EmbedRequest {
    parse(route, body).expect("the request is valid")
}

pub(crate) fn refused(route: EmbedRoute, body: &Value) -> Invalid {
    parse(route, body).expect_err("the request is refused")
}

/// `body` with the fields of `extra`.
pub(crate) fn with(body: &Value, extra: &Value) -> Value {
    let mut body = body.clone();
    body.as_object_mut().expect("an object").extend(extra.as_object().expect("an object").clone());
    body
}

pub(crate) fn dense(values: &[f32]) -> Embedded<'_> {
    Embedded { dense: Some(values), tokens: 5, ..Embedded::default() }
}

pub(crate) fn written(request: &EmbedRequest, vectors: &[&[f32]]) -> String {
    let embedded: Vec<_> = vectors.iter().map(|values| dense(values)).collect();
    let texts: Vec<&str> =
        request.inputs.iter().map(|input| input.as_text().unwrap_or_default()).collect();
    let answer = embed_answer(request, &embedded, &texts, &FACTS);
    serde_json::to_string(&answer).expect("answers are json")
}

/// The answer as a client reads it; through a string, since a tree of values would hold each `f32`
/// with the digits of an `f64`.
pub(crate) fn answered(request: &EmbedRequest, vectors: &[&[f32]]) -> Value {
    serde_json::from_str(&written(request, vectors)).expect("answers are json")
}
