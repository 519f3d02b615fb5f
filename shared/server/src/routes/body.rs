//! Reading a request body within its limits.
//!
//! The bound holds for bodies with and without a Content-Length. What has come is held from the
//! budget of all requests ([`crate::edge::budget`]), and a body that comes too slowly is given up
//! ([`crate::edge::pace`]). A body that is refused is still read, up to a bound, before the answer
//! goes out: a connection closed on unread bytes is reset, and the client would see the reset
//! instead of the 413. A client that asked first (`Expect: 100-continue`) has not sent its body and
//! is answered at once.

use std::io::ErrorKind;
use std::time::Duration;

use axum::body::Body;
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use bytes::Bytes;
use http_body_util::BodyExt as _;
use tokio::time::{timeout, timeout_at};

use super::{gzip, values};
use crate::app::App;
use crate::edge::budget::Held;
use crate::edge::pace::Pace;
use crate::error::ApiError;

/// Most bytes of a refused body that are read and thrown away; more than this is cheaper to cut.
const MAX_DISCARD_BYTES: usize = 64 << 20;

/// Longest time spent on throwing a refused body away.
const MAX_DISCARD_TIME: Duration = Duration::from_secs(5);

/// The whole body of a JSON request, and the bytes that the request holds until it is answered:
/// those of the body and of what is parsed of it.
pub(super) async fn read(app: &App, parts: &Parts, body: Body) -> Result<(Bytes, Held), ApiError> {
    let (bytes, mut held) = received(app, parts, body).await?;
    let (limit, most) = (app.config.max_body_bytes, app.budget.most());
    let parsed = if bytes.len() < super::LARGE_BODY {
        values::held_for(&bytes, limit, most)?
    } else {
        let body = bytes.clone();
        let count = move || values::held_for(&body, limit, most);
        app.tokenising.apart(count).await.map_err(|error| ApiError::from(&error))??
    };
    held.resize(parsed)?;
    Ok((bytes, held))
}

/// The whole body, and the bytes that it takes.
async fn received(app: &App, parts: &Parts, mut body: Body) -> Result<(Bytes, Held), ApiError> {
    let limit = app.config.max_body_bytes;
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
    let most = announced.and_then(|length| usize::try_from(length).ok()).unwrap_or(limit);
    let (mut bytes, mut held, mut pace) = (Vec::new(), app.budget.hold(), Pace::begin());
    while let Some(chunk) = next_chunk(&mut body, &mut pace).await? {
        if chunk.len() > limit - bytes.len() {
            drop((bytes, held));
            discard(body).await;
            return Err(ApiError::body_too_large(limit, None));
        }
        if let Err(error) = make_room(&mut bytes, chunk.len(), most, &mut held) {
            drop((bytes, held));
            discard(body).await;
            return Err(error);
        }
        bytes.extend_from_slice(&chunk);
    }
    if is_gzip(&encodings(&parts.headers)) {
        return gzip::decompressed(bytes.into(), held, limit).await;
    }
    Ok((bytes.into(), held))
}

/// Room for so many bytes more, of which there will be `most` in all. What is held is what is
/// allocated: a buffer that doubled by itself would take twice what has come.
fn make_room(
    bytes: &mut Vec<u8>,
    more: usize,
    most: usize,
    held: &mut Held,
) -> Result<(), ApiError> {
    let needed = bytes.len() + more;
    if needed > bytes.capacity() {
        let capacity = bytes.capacity().saturating_mul(2).min(most).max(needed);
        held.resize(capacity)?;
        bytes.reserve_exact(capacity - bytes.len());
    }
    Ok(())
}

async fn next_chunk(body: &mut Body, pace: &mut Pace) -> Result<Option<Bytes>, ApiError> {
    loop {
        match timeout_at(pace.deadline(), body.frame()).await {
            Err(_) => return Err(ApiError::body_too_slow(pace.bytes())),
            Ok(None) => return Ok(None),
            Ok(Some(Err(error))) => return Err(broken(&error)),
            Ok(Some(Ok(frame))) => {
                if let Ok(data) = frame.into_data() {
                    pace.moved(data.len());
                    return Ok(Some(data));
                }
            }
        }
    }
}

/// Why a body broke off: the connection did, or its chunks are not what chunks are.
fn broken(error: &axum::Error) -> ApiError {
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<std::io::Error>()
            && matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::InvalidData)
        {
            return ApiError::chunks_malformed(error);
        }
        cause = error.source();
    }
    ApiError::body_incomplete()
}

async fn discard(mut body: Body) {
    let all = async {
        let (mut left, mut pace) = (MAX_DISCARD_BYTES, Pace::begin());
        while let Ok(Some(chunk)) = next_chunk(&mut body, &mut pace).await {
            match left.checked_sub(chunk.len()) {
                Some(rest) => left = rest,
                None => break,
            }
        }
    };
    // Late or not, the answer is the same.
    let _ = timeout(MAX_DISCARD_TIME, all).await;
}

/// What was done to a body, in the order in which it was done; a header may come twice and a value
/// be a list.
fn encodings(headers: &HeaderMap) -> Vec<&[u8]> {
    let values = headers.get_all(header::CONTENT_ENCODING).iter();
    values
        .flat_map(|value| value.as_bytes().split(|&byte| byte == b','))
        .map(<[u8]>::trim_ascii)
        .filter(|name| !name.is_empty() && !name.eq_ignore_ascii_case(b"identity"))
        .collect()
}

fn is_gzip(encodings: &[&[u8]]) -> bool {
    matches!(encodings, [name] if gzip::is_gzip(name))
}

fn check_media_type(headers: &HeaderMap) -> Result<(), ApiError> {
    let encodings = encodings(headers);
    if !encodings.is_empty() && !is_gzip(&encodings) {
        return Err(ApiError::media_type(
            "of compressed bodies only gzip is read; send content-encoding: gzip, or the json as it is",
        ));
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
