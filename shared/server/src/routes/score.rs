//! vLLM's score route: pairs of texts, answered in input order.

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Request, State};
use bytes::Bytes;
use defrost_api::ScoreBody;

use super::rerank::Reply;
use super::{body, cached, rerank};
use crate::app::App;
use crate::edge::request_id::RequestId;
use crate::services::roles;

pub(crate) async fn score(
    State(app): State<Arc<App>>,
    Extension(id): Extension<RequestId>,
    request: Request,
) -> Reply {
    let (parts, body) = request.into_parts();
    let (bytes, _held) = body::read(&app, &parts, body).await?;
    cached(&app, &roles::RERANK, &parts.uri, bytes, |bytes| answer_to(&app, &id, bytes)).await
}

async fn answer_to(app: &App, id: &RequestId, bytes: Bytes) -> Reply {
    let limits = rerank::limits(app);
    let parse = move |bytes: &[u8]| ScoreBody::parse(bytes)?.into_request(&limits);
    rerank::respond(app, id, super::parsed(app, bytes, parse).await?).await
}
