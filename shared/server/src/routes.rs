//! The handlers, and what their answers have in common.

pub(crate) mod admin;
mod body;
#[cfg(feature = "chat")]
pub(crate) mod chat;
pub(crate) mod embed;
mod gzip;
pub(crate) mod invocations;
pub(crate) mod models;
pub(crate) mod predict;
pub(crate) mod probes;
pub(crate) mod rerank;
pub(crate) mod score;
#[cfg(feature = "chat")]
pub(crate) mod slots;
pub(crate) mod tei;
pub(crate) mod tokenize;
mod values;
pub(crate) mod vertex;

use std::borrow::Cow;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::http::{HeaderMap, HeaderName, HeaderValue, Uri, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use defrost_api::Invalid;
use serde::Deserialize;

use crate::app::App;
use crate::edge::budget::Held;
use crate::error::ApiError;
use crate::models::model::Model;
use crate::models::role::Role;
use crate::models::usage::Times;

const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");
pub(crate) const X_TRUNCATED_DOCUMENTS: HeaderName =
    HeaderName::from_static("x-truncated-documents");
pub(crate) const X_TRUNCATED_INPUTS: HeaderName = HeaderName::from_static("x-truncated-inputs");
pub(crate) const X_WARNINGS: HeaderName = HeaderName::from_static("x-warnings");

/// What was answered to this body on this path before, if such answers are kept; else what `answer`
/// gives.
pub(crate) async fn cached<'a, F>(
    app: &'a App,
    role: &Role,
    uri: &Uri,
    body: Bytes,
    answer: impl FnOnce(Bytes) -> F,
) -> Result<Response, ApiError>
where
    F: Future<Output = Result<Response, ApiError>> + 'a,
{
    let Some(cache) = &app.cache else { return answer(body).await };
    // Which model answers must be known; while it is not loaded, there is nothing to be had.
    let Some(model) = addressee(app, role, &body) else { return answer(body).await };
    // Not the model itself, which could not be unloaded and loaded again while its own request
    // waited for that.
    let behaviour = format!("{} {}", model.info.snapshot, model.config.behaviour());
    drop(model);
    let result = answer(body.clone());
    cache.answer(&behaviour, uri.path(), &body, result).await
}

/// Bodies from this size on are parsed beside the threads that read requests: a quarter of a
/// millisecond, and ten megabytes of small objects are half a second, in which such a thread would
/// answer no other request.
const LARGE_BODY: usize = 64 << 10;

/// What `parse` makes of a body.
async fn parsed<T: Send + 'static>(
    app: &App,
    bytes: Bytes,
    parse: impl FnOnce(&[u8]) -> Result<T, Invalid> + Send + 'static,
) -> Result<T, ApiError> {
    if bytes.len() < LARGE_BODY {
        return Ok(parse(&bytes)?);
    }
    let parsed = app.tokenising.apart(move || parse(&bytes)).await;
    Ok(parsed.map_err(|error| ApiError::from(&error))??)
}

/// The loaded model that a body is for, on a path of this role's service.
fn addressee(app: &App, role: &Role, body: &[u8]) -> Option<Arc<Model>> {
    if !app.fleet.has_several() {
        return app.ready_model_of(role);
    }
    // A body that cannot be read has no answer that is kept.
    let Named { model } = serde_json::from_slice(body).ok()?;
    app.fleet.find(Some(role), model.as_deref()).here()?.ready()
}

/// What every body says of its model.
#[derive(Deserialize)]
struct Named<'a> {
    #[serde(borrow, default)]
    model: Option<Cow<'a, str>>,
}

/// The model that a body names.
fn named(body: &[u8]) -> Option<Cow<'_, str>> {
    serde_json::from_slice::<Named<'_>>(body).ok()?.model
}

/// Tells in a header too what of a request was not honoured: not every shape has a place for it.
fn warn(response: &mut Response, warnings: &[String]) {
    if !warnings.is_empty()
        && let Ok(value) = HeaderValue::from_str(&warnings.join("; "))
    {
        response.headers_mut().insert(X_WARNINGS, value);
    }
}

/// An answer, whose bytes are held until the client has taken them; `held` are those that were set
/// aside for it.
fn json(held: Held, answer: &impl serde::Serialize) -> Result<Response, ApiError> {
    let mut json = held.buffer();
    serde_json::to_writer(&mut json, answer)
        .map_err(|error| ApiError::internal(&format!("writing the answer: {error}")))?;
    Ok(([(header::CONTENT_TYPE, "application/json")], held.answer(json)?).into_response())
}

/// Tells how long the request took, and with the first answer how long boot took.
fn timing(app: &App, headers: &mut HeaderMap, times: &Times) {
    let [queue, tokenize, inference] =
        [times.queue, times.tokenize, times.inference].map(|time| time.as_secs_f64() * 1e3);
    let mut timing =
        format!("queue;dur={queue:.3}, tokenize;dur={tokenize:.3}, inference;dur={inference:.3}");
    if !app.answered.swap(true, Ordering::Relaxed) {
        for (phase, duration) in app.phases.phases() {
            // Writing to a String does not fail.
            let _ = write!(timing, ", boot_{phase};dur={:.3}", duration.as_secs_f64() * 1e3);
        }
    }
    if let Ok(value) = HeaderValue::from_str(&timing) {
        headers.insert(SERVER_TIMING, value);
    }
}
