//! Reading a request body within its limits.
//!
//! The bound holds for bodies with and without a Content-Length. A body that is refused is still
//! read, up to a bound, before the answer goes out: a connection closed on unread bytes is reset,
//! and the client would see the reset instead of the 413. A client that asked first
//! (`Expect: 100-continue`) has not sent its body and is answered at once.

use std::time::Duration;

use axum::body::Body;
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use tokio::time::timeout;

use crate::error::ApiError;

/// Longest silence inside a body. Generous for a mobile uplink, short enough that a client that
/// stops sending does not hold its buffer for long.
const MAX_SILENCE: Duration = Duration::from_secs(30);

/// Most bytes of a refused body that are read and thrown away; more than this is cheaper to cut.
const MAX_DISCARD_BYTES: usize = 64 << 20;

/// Longest time spent on throwing a refused body away.
const MAX_DISCARD_TIME: Duration = Duration::from_secs(5);

/// Reads the whole body of a JSON request.
pub(super) async fn read(parts: &Parts, mut body: Body, limit: usize) -> Result<Bytes, ApiError> {
    check_media_type(&parts.headers)?;
    let announced = parts
        .headers
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.parse::<u64>().ok());
    if let Some(length) = announced.filter(|&length| length > limit as u64) {
        if !parts.headers.contains_key(header::EXPECT) {
            discard(body).await;
        }
        return Err(ApiError::body_too_large(limit, Some(length)));
    }
    let mut bytes = BytesMut::new();
    while let Some(chunk) = next_chunk(&mut body).await? {
        if chunk.len() > limit - bytes.len() {
            discard(body).await;
            return Err(ApiError::body_too_large(limit, None));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes.freeze())
}

async fn next_chunk(body: &mut Body) -> Result<Option<Bytes>, ApiError> {
    loop {
        match timeout(MAX_SILENCE, body.frame()).await {
            Err(_) => return Err(ApiError::body_too_slow(MAX_SILENCE.as_secs())),
            Ok(None) => return Ok(None),
            Ok(Some(Err(_))) => return Err(ApiError::body_incomplete()),
            Ok(Some(Ok(frame))) => {
                if let Ok(data) = frame.into_data() {
                    return Ok(Some(data));
                }
            }
        }
    }
}

async fn discard(mut body: Body) {
    let all = async {
        let mut left = MAX_DISCARD_BYTES;
        while let Ok(Some(chunk)) = next_chunk(&mut body).await {
            match left.checked_sub(chunk.len()) {
                Some(rest) => left = rest,
                None => break,
            }
        }
    };
    // Late or not, the answer is the same.
    let _ = timeout(MAX_DISCARD_TIME, all).await;
}

fn check_media_type(headers: &HeaderMap) -> Result<(), ApiError> {
    if let Some(encoding) = headers.get(header::CONTENT_ENCODING)
        && !encoding.as_bytes().eq_ignore_ascii_case(b"identity")
    {
        return Err(ApiError::media_type("compressed bodies are not read; send the json as it is"));
    }
    let Some(value) = headers.get(header::CONTENT_TYPE) else {
        return Ok(());
    };
    let essence = value
        .to_str()
        .unwrap_or("?")
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase();
    if essence.is_empty() || essence == "application/json" || essence.ends_with("+json") {
        return Ok(());
    }
    Err(ApiError::media_type("expected content-type: application/json, found another one"))
}
