//! Pairs as classes: TEI's `/predict` and vLLM's `/classify`.

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Request, State};
use bytes::Bytes;
use defrost_api::PredictBody;

use super::rerank::Reply;
use super::{body, cached, rerank};
use crate::app::App;
use crate::edge::request_id::RequestId;
use crate::services::roles;

pub(crate) async fn predict(
    State(app): State<Arc<App>>,
    Extension(id): Extension<RequestId>,
    request: Request,
) -> Reply {
    let (parts, body) = request.into_parts();
    let (bytes, _held) = body::read(&app, &parts, body).await?;
    cached(&app, &roles::RERANK, &parts.uri, bytes, |bytes| answer_to(&app, &id, bytes)).await
}

pub(crate) async fn answer_to(app: &App, id: &RequestId, bytes: Bytes) -> Reply {
    let limits = rerank::limits(app);
    let parse = move |bytes: &[u8]| PredictBody::parse(bytes)?.into_request(&limits);
    rerank::respond(app, id, super::parsed(app, bytes, parse).await?).await
}
