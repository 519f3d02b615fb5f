//! The handlers.

pub(crate) mod admin;
mod body;
pub(crate) mod models;
pub(crate) mod probes;
pub(crate) mod rerank;
pub(crate) mod score;

use axum::http::Uri;
use axum::response::Response;
use bytes::Bytes;

use crate::app::App;
use crate::error::ApiError;

/// What was answered to this body on this path before, if such answers are kept; else what `answer` gives.
async fn cached<'a, F>(
    app: &'a App,
    uri: &Uri,
    body: Bytes,
    answer: impl FnOnce(Bytes) -> F,
) -> Result<Response, ApiError>
where
    F: Future<Output = Result<Response, ApiError>> + 'a,
{
    // Which model answers must be known; while it loads, there is nothing to be had.
    let (Some(cache), Some(model)) = (&app.cache, app.ready_model()) else {
        return answer(body).await;
    };
    let result = answer(body.clone());
    cache.answer(&model.info.snapshot, uri.path(), &body, result).await
}
