//! Bytes that do not change while the process runs, as answers: tagged, so that a browser asks for
//! them once, and compressed where the client takes it.
//!
//! What is stored compressed is sent as it is; only for clients without gzip is it opened, at each
//! request, because there are hardly any and a copy would stay in memory for ever. The tag is made
//! from the bytes, so it is the same in every process of one build and another one after an update;
//! the plain and the compressed bytes have different ones.

use std::borrow::Cow;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::Read as _;

use axum::body::Body;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, IF_NONE_MATCH,
    REFERRER_POLICY, VARY, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderValue, Response as HttpResponse, StatusCode};
use axum::response::Response;
use bytes::Bytes;

use super::accept;
use crate::error::ApiError;

/// One page, script or document.
#[derive(Debug)]
pub(super) struct Content {
    media_type: &'static str,
    bytes: Bytes,
    is_gzip: bool,
    tag: u64,
    policy: Option<Cow<'static, str>>,
}

impl Content {
    /// Content from a text as it is.
    pub(super) fn new(media_type: &'static str, text: String) -> Self {
        Self::of(media_type, text.into(), false)
    }

    /// Content from a file that is stored with gzip.
    #[cfg(feature = "docs")]
    pub(super) fn gzip(media_type: &'static str, bytes: &'static [u8]) -> Self {
        Self::of(media_type, Bytes::from_static(bytes), true)
    }

    fn of(media_type: &'static str, bytes: Bytes, is_gzip: bool) -> Self {
        let mut hasher = DefaultHasher::new();
        bytes.hash(&mut hasher);
        Self { media_type, bytes, is_gzip, tag: hasher.finish(), policy: None }
    }

    /// The same content with this `content-security-policy`.
    pub(super) fn with_policy(self, policy: impl Into<Cow<'static, str>>) -> Self {
        Self { policy: Some(policy.into()), ..self }
    }

    /// The answer to a client that sent these headers.
    pub(super) fn answer(&self, headers: &HeaderMap) -> Result<Response, ApiError> {
        let as_gzip = self.is_gzip && accept::takes_gzip(headers);
        let tag = format!("\"{:016x}{}\"", self.tag, if as_gzip { "-gzip" } else { "" });
        let is_known = headers
            .get_all(IF_NONE_MATCH)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .any(|known| known.trim() == "*" || known.trim().trim_start_matches("W/") == tag);
        let body = match (is_known, self.is_gzip && !as_gzip) {
            (true, _) => Body::empty(),
            (false, false) => Body::from(self.bytes.clone()),
            (false, true) => Body::from(self.open()?),
        };
        let mut response = HttpResponse::new(body);
        if is_known {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
        }
        let out = response.headers_mut();
        if let Ok(tag) = HeaderValue::from_str(&tag) {
            out.insert(ETAG, tag);
        }
        // Kept, but asked for again: the tag is what tells one version from the next.
        out.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        out.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        out.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
        if self.is_gzip {
            out.append(VARY, HeaderValue::from_static("accept-encoding"));
        }
        if !is_known {
            out.insert(CONTENT_TYPE, HeaderValue::from_static(self.media_type));
            if as_gzip {
                out.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            }
        }
        if let Some(policy) =
            self.policy.as_deref().and_then(|policy| HeaderValue::from_str(policy).ok())
        {
            out.insert(CONTENT_SECURITY_POLICY, policy);
        }
        Ok(response)
    }

    fn open(&self) -> Result<Vec<u8>, ApiError> {
        let mut plain = Vec::new();
        flate2::read::GzDecoder::new(&self.bytes[..])
            .read_to_end(&mut plain)
            .map_err(|error| ApiError::internal(&format!("opening a page: {error}")))?;
        Ok(plain)
    }
}
