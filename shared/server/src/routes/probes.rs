//! What the process says about itself: to people, probes and scrapers.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};

use crate::app::App;
use crate::edge::metrics;
use crate::error::ApiError;
use crate::service::Services;
use crate::web::accept;

/// Endpoints of every function.
const PROBES: [(&str, &str); 7] = [
    ("health", "/health"),
    ("ready", "/ready"),
    ("live", "/live"),
    ("models", "/v1/models"),
    ("info", "/info"),
    ("version", "/version"),
    ("metrics", "/metrics"),
];

/// The service as JSON, for programs; browsers get the page of [`crate::web`].
pub(crate) fn root(app: &App) -> Json<Value> {
    let model = app.ready_model();
    let backend = model.as_ref().map_or_else(|| app.function.backend(), |model| model.info.backend);
    let mut endpoints = Map::new();
    for service in &Services::of(app).active {
        if let Value::Object(own) = (service.endpoints)() {
            endpoints.extend(own);
        }
    }
    endpoints.extend(PROBES.map(|(name, path)| (name.to_owned(), path.into())));
    Json(json!({
        "service": app.function.name,
        "description": app.function.about,
        "model": model.as_ref().map(|model| model.name_for(None)),
        "version": app.function.version,
        "backend": backend,
        "status": app.state_word(),
        "endpoints": endpoints,
    }))
}

pub(crate) async fn health(State(app): State<Arc<App>>) -> Response {
    let word = app.state_word();
    let model = app.ready_model();
    let info = model.as_ref().map(|model| &model.info);
    let unix = app.phases.unix().as_secs_f64();
    let phases: Map<String, Value> = app
        .phases
        .phases()
        .into_iter()
        .map(|(phase, time)| (phase.to_owned(), time.as_secs_f64().into()))
        .collect();
    let mut body = json!({
        "status": word,
        "model_loaded": model.is_some(),
        "model_status": match (&model, word) {
            (Some(_), _) => "ready",
            (None, "ok") => "unloaded",
            (None, word) => word,
        },
        "model_name": model.as_ref().map(|model| model.name_for(None)),
        "device": "cpu",
        "version": app.function.version,
        "embedding_dim": info.map(|info| info.hidden),
        "dimensions": info.map(|info| info.hidden),
        "memory_usage_mb": resident_mb(),
        "uptime_seconds": app.phases.since_zero().as_secs_f64(),
        "timestamp": unix,
        "unix": unix,
        "boot": {
            "phases": phases,
            "ready_seconds": model.as_ref().map(|model| model.ready_after.as_secs_f64()),
            "first_score_seconds": app.phases.first_score_after().map(|time| time.as_secs_f64()),
        },
    });
    if word == "ok" {
        return Json(body).into_response();
    }
    if let Some(body) = body.as_object_mut() {
        body.insert("detail".into(), format!("not ready: {word}").into());
    }
    not_ready(&body)
}

pub(crate) async fn ready(State(app): State<Arc<App>>) -> Response {
    match app.state_word() {
        "ok" => Json(json!({"status": "ok"})).into_response(),
        word => not_ready(&json!({"status": word, "detail": format!("not ready: {word}")})),
    }
}

pub(crate) async fn live() -> Json<Value> {
    Json(json!({"status": "ok"}))
}

pub(crate) async fn version(State(app): State<Arc<App>>) -> Json<Value> {
    Json(json!({"version": app.function.version}))
}

/// Prometheus's text, or JSON for clients that ask for it by `Accept` or `?format=json`.
pub(crate) async fn metrics(
    State(app): State<Arc<App>>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let depth = app.config.max_queue - app.places.available_permits();
    let depth = i64::try_from(depth).unwrap_or(i64::MAX);
    app.metrics.queue_depth.set(depth);
    app.metrics.tei.queue_size.set(depth);
    app.metrics.bytes_in_flight.set(i64::try_from(app.budget.held()).unwrap_or(i64::MAX));
    let failed = |error| ApiError::internal(&format!("writing metrics: {error}"));
    let asked = uri.query().is_some_and(|query| query.split('&').any(|one| one == "format=json"));
    if asked || accept::wants_json(&headers) {
        return Ok(Json(app.metrics.to_json().map_err(failed)?).into_response());
    }
    let text = app.metrics.encode().map_err(failed)?;
    if accept::wants_plain(&headers) {
        let plain = metrics::plain(&text);
        return Ok(([(header::CONTENT_TYPE, metrics::PLAIN_CONTENT_TYPE)], plain).into_response());
    }
    Ok(([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response())
}

fn not_ready(body: &Value) -> Response {
    let mut response = (StatusCode::SERVICE_UNAVAILABLE, Json(body)).into_response();
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    response
}

/// Resident memory in MB, as the kernel counts it.
fn resident_mb() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: f64 = line.split_ascii_whitespace().next()?.parse().ok()?;
    Some(kib * 1024.0 / 1e6)
}
