//! What every answer gets, whatever the route: an id, its times, a count, a log line; and the check
//! of the key in front of the routes that need one.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tracing::Instrument as _;

use crate::app::App;
use crate::edge::cache::X_CACHE;
use crate::edge::cost::Cost;
use crate::edge::request_id::RequestId;
use crate::edge::ticket::Ticket;
use crate::error::{ApiError, ErrorReport};
use crate::life::logging;
use crate::web;

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const X_PROCESS_TIME: HeaderName = HeaderName::from_static("x-process-time");
const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");
/// The header in which Azure's clients send their key.
const API_KEY: HeaderName = HeaderName::from_static("api-key");

/// Paths that are answered without a key: probes and scrapers have none.
const PUBLIC: [&str; 6] = ["/health", "/v1/health", "/ready", "/live", "/ping", "/metrics"];

pub(crate) async fn observe(
    State(app): State<Arc<App>>,
    mut request: Request,
    next: Next,
) -> Response {
    let begun = Instant::now();
    let ticket = Ticket::new(&app, PUBLIC.contains(&request.uri().path()));
    let id = RequestId::of(request.headers().get(X_REQUEST_ID));
    let method = request.method().clone();
    // The pattern, not the path: a label per path would let clients grow the metrics without end.
    let matched = request.extensions().get::<MatchedPath>().cloned();
    let route = matched.as_ref().map_or("unmatched", MatchedPath::as_str);
    request.extensions_mut().insert(id.clone());

    // Whatever is logged on the way carries the id that the client gets.
    let span = tracing::error_span!("request", id = %id.0);
    let mut response = next.run(request).instrument(span).await;

    let elapsed = begun.elapsed();
    let code = response.status().as_u16();
    app.metrics.answered(route, code, elapsed);
    let headers = response.headers_mut();
    if let Ok(value) = HeaderValue::from_str(&id.0) {
        headers.insert(X_REQUEST_ID, value);
    }
    if let Ok(value) = HeaderValue::from_str(&format!("{:.6}", elapsed.as_secs_f64())) {
        headers.insert(X_PROCESS_TIME, value);
    }
    match response.headers().get(X_CACHE).map(HeaderValue::as_bytes) {
        Some(b"hit") => drop(app.metrics.cache_hits.inc()),
        Some(_) => drop(app.metrics.cache_misses.inc()),
        None => {}
    }
    let (ms, request_id) = (elapsed.as_secs_f64() * 1e3, &*id.0);
    if let Some(Cost { items, tokens, times }) = response.extensions().get() {
        let [queue_ms, tokenize_ms, inference_ms] =
            [times.queue, times.tokenize, times.inference].map(logging::ms);
        tracing::info!(
            route,
            code,
            items,
            tokens,
            queue_ms,
            tokenize_ms,
            inference_ms,
            request_id,
            "answered in {ms:.1} ms"
        );
    } else if code < 400 {
        tracing::debug!(%method, route, code, request_id, "answered in {ms:.1} ms");
    } else {
        // What clients may not know of a fault of ours is a line of its own; this is what they were
        // told.
        let told = response.extensions().get::<ErrorReport>();
        let (error, field) = told.map_or(("", None), |told| (told.code, told.param.as_deref()));
        let reason = told.map(|told| logging::without_quotes(&told.message)).unwrap_or_default();
        let reason = &*reason;
        if code < 500 {
            tracing::info!(
                %method, route, code, error, field, reason, request_id, "refused in {ms:.1} ms"
            );
        } else {
            tracing::warn!(
                %method, route, code, error, field, reason, request_id, "failed in {ms:.1} ms"
            );
        }
    }
    ticket.move_into(response, &id)
}

pub(crate) async fn authorize(
    State(app): State<Arc<App>>,
    request: Request,
    next: Next,
) -> Response {
    let keys = &app.config.api_keys;
    if keys.is_empty() || PUBLIC.contains(&request.uri().path()) || web::is_public(&request) {
        return next.run(request).await;
    }
    match sent_key(request.headers()) {
        Some(key) if known(keys, key) => next.run(request).await,
        Some(_) => {
            ApiError::unauthorized("the api key is not known here; check it").into_response()
        }
        None => ApiError::unauthorized(
            "an api key is needed; send it as authorization: Bearer <key>, as x-api-key or as api-key",
        )
        .into_response(),
    }
}

/// The key as `Bearer <key>`, as the bare key (`LlamaIndex`'s TEI client), or in `x-api-key` or
/// `api-key`. An empty header counts as none: Dify sends one.
fn sent_key(headers: &HeaderMap) -> Option<&[u8]> {
    let authorization = headers.get(header::AUTHORIZATION).map(|value| {
        let value = value.as_bytes().trim_ascii();
        match value.split_at_checked(6) {
            Some((scheme, key)) if scheme.eq_ignore_ascii_case(b"bearer") => key.trim_ascii(),
            _ => value,
        }
    });
    let own = |name| headers.get(name).map(|value: &HeaderValue| value.as_bytes().trim_ascii());
    let keys = [authorization, own(X_API_KEY), own(API_KEY)];
    keys.into_iter().flatten().find(|key| !key.is_empty())
}

/// Compares with every key in full, so that the time taken says nothing about how much matched.
fn known(keys: &[String], sent: &[u8]) -> bool {
    keys.iter().fold(false, |found, key| found | same(key.as_bytes(), sent))
}

fn same(a: &[u8], b: &[u8]) -> bool {
    if a.len() != b.len() {
        return false;
    }
    black_box(a.iter().zip(b).fold(0, |difference, (a, b)| black_box(difference | (a ^ b)))) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key_of(pairs: &[(&'static str, &'static str)]) -> Option<String> {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.insert(*name, HeaderValue::from_static(value));
        }
        sent_key(&headers).map(|key| String::from_utf8_lossy(key).into_owned())
    }

    #[test]
    fn keys_are_found_in_every_form() {
        assert_eq!(key_of(&[("authorization", "Bearer abc")]).as_deref(), Some("abc"));
        assert_eq!(key_of(&[("authorization", "bearer  abc")]).as_deref(), Some("abc"));
        assert_eq!(key_of(&[("authorization", "abc")]).as_deref(), Some("abc"));
        assert_eq!(key_of(&[("authorization", ""), ("x-api-key", "k")]).as_deref(), Some("k"));
        assert_eq!(key_of(&[("api-key", "azure")]).as_deref(), Some("azure"));
        assert_eq!(key_of(&[("authorization", "Bearer ")]), None);
        assert_eq!(key_of(&[]), None);
    }

    #[test]
    fn only_whole_keys_match() {
        let keys = ["one".to_owned(), "three".to_owned()];
        assert!(known(&keys, b"one") && known(&keys, b"three"));
        assert!(!known(&keys, b"on") && !known(&keys, b"ones") && !known(&keys, b""));
    }
}
