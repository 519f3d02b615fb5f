//! The headers in which Text Embeddings Inference tells what a request took: whole milliseconds,
//! characters and tokens.

use std::time::{Duration, Instant};

use axum::http::{HeaderMap, HeaderName, HeaderValue};

use crate::models::usage::Times;

const COMPUTE_TYPE: HeaderName = HeaderName::from_static("x-compute-type");
const COMPUTE_TIME: HeaderName = HeaderName::from_static("x-compute-time");
pub(super) const COMPUTE_CHARACTERS: HeaderName = HeaderName::from_static("x-compute-characters");
const COMPUTE_TOKENS: HeaderName = HeaderName::from_static("x-compute-tokens");
const TOTAL_TIME: HeaderName = HeaderName::from_static("x-total-time");
const TOKENIZATION_TIME: HeaderName = HeaderName::from_static("x-tokenization-time");
const QUEUE_TIME: HeaderName = HeaderName::from_static("x-queue-time");
const INFERENCE_TIME: HeaderName = HeaderName::from_static("x-inference-time");

/// All of these headers, as browsers must be told them.
pub(crate) const HEADERS: [HeaderName; 8] = [
    COMPUTE_TYPE,
    COMPUTE_TIME,
    COMPUTE_CHARACTERS,
    COMPUTE_TOKENS,
    TOTAL_TIME,
    TOKENIZATION_TIME,
    QUEUE_TIME,
    INFERENCE_TIME,
];

/// What a request took.
#[derive(Debug, Clone, Copy)]
pub(super) struct Took {
    /// When the request's body had been read.
    pub(super) begun: Instant,
    /// How many characters its texts have.
    pub(super) characters: u64,
    /// How many tokens were run for it.
    pub(super) tokens: usize,
    pub(super) times: Times,
}

/// A count that an answer tells in a header; 0 if it does not.
pub(super) fn count_in(headers: &HeaderMap, name: &HeaderName) -> u64 {
    let told = headers.get(name).and_then(|value| value.to_str().ok());
    told.and_then(|count| count.parse().ok()).unwrap_or(0)
}

/// Tells it in headers.
pub(super) fn tell(headers: &mut HeaderMap, took: &Took) {
    let Took { begun, characters, tokens, times } = *took;
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let total = millis(begun.elapsed());
    headers.insert(COMPUTE_TYPE, HeaderValue::from_static("cpu"));
    for (name, value) in [
        (COMPUTE_TIME, total),
        (COMPUTE_CHARACTERS, characters),
        (COMPUTE_TOKENS, tokens as u64),
        (TOTAL_TIME, total),
        (TOKENIZATION_TIME, millis(times.tokenize)),
        (QUEUE_TIME, millis(times.queue)),
        (INFERENCE_TIME, millis(times.inference)),
    ] {
        headers.insert(name, HeaderValue::from(value));
    }
}
