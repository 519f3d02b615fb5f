//! Vectors written down in the shape that was asked for.
//!
//! A number takes 50 ns to write in decimals: the vectors of 2,000 texts are a tenth of a second,
//! in which a thread that reads requests would answer no other request, probes neither. Large
//! answers are therefore written beside those threads.

use std::sync::Arc;
use std::time::Instant;

use axum::http::{HeaderName, HeaderValue, header};
use axum::response::{IntoResponse as _, Response};
use defrost_api::{
    EmbedFacts, EmbedRequest, Embedded, RawAnswer, embed_answer, embed_warnings, raw_answer,
};
use defrost_tasks::{EmbedTask, Embedding, Input};

use crate::app::App;
use crate::edge::budget::Held;
use crate::edge::cost::Cost;
use crate::error::ApiError;
use crate::models::model::Model;
use crate::models::usage::Times;
use crate::routes::X_TRUNCATED_INPUTS;
use crate::routes::tei::{self, Took};
use crate::services::embed::translate::embedded;
use crate::services::embed::vectorizer::Vectorizer;

const OCTETS: &str = "application/octet-stream";

/// vLLM's clients look for what describes the bytes in a header of this name.
const METADATA: HeaderName = HeaderName::from_static("metadata");

/// Python's `http.client` ends the request at a header line of 64 KiB, other clients and proxies at
/// less.
const LONGEST_METADATA: usize = 32 << 10;
const NO_METADATA: &str = "the header metadata is left out: it would be longer than clients read; send encoding_format: bytes_only";

/// Bytes set aside for an answer from which on it is written beside the threads that read requests:
/// 12,000 numbers, half a millisecond.
const LARGE_ANSWER: usize = 256 << 10;

/// All that an answer is written from.
pub(super) struct AnswerWriter {
    pub(super) request: EmbedRequest,
    pub(super) asked: Arc<EmbedTask>,
    pub(super) embeddings: Vec<Embedding>,
    /// The model by its service's trait; dropped before `model`, which it must not outlive.
    pub(super) vectorizer: Arc<dyn Vectorizer>,
    pub(super) model: Arc<Model>,
    pub(super) id: String,
    /// When the process began, in seconds since 1970.
    pub(super) created: u64,
    pub(super) begun: Instant,
    pub(super) times: Times,
    pub(super) held: Held,
}

/// The answer to a request.
pub(super) async fn answer(app: &App, writer: AnswerWriter) -> Result<Response, ApiError> {
    let times = writer.times;
    let mut response = if writer.held.bytes() < LARGE_ANSWER {
        writer.write()?
    } else {
        let written = app.tokenising.apart(move || writer.write()).await;
        written.map_err(|error| ApiError::from(&error))??
    };
    crate::routes::timing(app, response.headers_mut(), &times);
    Ok(response)
}

impl AnswerWriter {
    fn write(mut self) -> Result<Response, ApiError> {
        let info = self.vectorizer.facts();
        if let Some(norm) = self.request.norm {
            for one in &mut self.embeddings {
                norm.apply(&mut one.dense);
            }
        }
        let wanted = self.asked.outputs;
        let embedded: Vec<Embedded<'_>> =
            self.embeddings.iter().map(|one| embedded(one, wanted, info)).collect();
        let texts: Vec<&str> = self.asked.inputs.iter().map(text).collect();
        let facts = EmbedFacts {
            id: &self.id,
            created: self.created,
            model: self.model.name_for(self.request.model.as_deref()),
            processing_ms: self.begun.elapsed().as_secs_f64() * 1e3,
        };
        let raw = raw_answer(&self.request, &embedded, &facts);
        let raw =
            raw.map_err(|error| ApiError::internal(&format!("writing the answer: {error}")))?;
        let mut warnings = embed_warnings(&self.request, &embedded);
        let mut response = if let Some(mut raw) = raw {
            if raw.metadata.as_ref().is_some_and(|text| text.len() > LONGEST_METADATA) {
                raw.metadata = None;
                warnings.push(NO_METADATA.to_owned());
            }
            bytes(self.held, raw)?
        } else {
            let answer = embed_answer(&self.request, &embedded, &texts, &facts);
            crate::routes::json(self.held, &answer)?
        };
        let (items, tokens) = (embedded.len(), embedded.iter().map(|one| one.tokens).sum());
        response.extensions_mut().insert(Cost { items, tokens, times: self.times });
        let characters = texts.iter().map(|text| text.chars().count() as u64).sum();
        let took = Took { begun: self.begun, characters, tokens, times: self.times };
        tei::tell(response.headers_mut(), &took);
        let truncated = embedded.iter().filter(|one| one.truncated).count();
        if truncated > 0 {
            response.headers_mut().insert(X_TRUNCATED_INPUTS, HeaderValue::from(truncated));
        }
        crate::routes::warn(&mut response, &warnings);
        Ok(response)
    }
}

fn bytes(held: Held, RawAnswer { body, metadata }: RawAnswer) -> Result<Response, ApiError> {
    let mut response = ([(header::CONTENT_TYPE, OCTETS)], held.answer(body)?).into_response();
    // A model's name may hold what no header can carry; the vectors are worth more than their
    // description.
    if let Some(value) = metadata.and_then(|text| HeaderValue::try_from(text).ok()) {
        response.headers_mut().insert(METADATA, value);
    }
    Ok(response)
}

/// Cohere's answers repeat the texts; ids have none.
fn text(input: &Input) -> &str {
    match input {
        Input::Text(text) => text,
        Input::Tokens(_) => "",
    }
}
