//! Vertex AI's form of TEI's requests: `{"instances": [...]}`, answered with `{"predictions": [...]}`.
//!
//! An instance is what TEI's own routes take: `query` with `texts`, or `inputs` to predict or to embed. Each is answered as
//! if it had come by itself, one after the other, and the first that cannot be is the answer to all, with its place.

use std::sync::Arc;
use std::time::Instant;

use axum::Extension;
use axum::extract::{Request, State};
use axum::http::header;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use defrost_api::{ErrorStyle, Invalid, read_instances};
use http_body_util::BodyExt as _;

use super::body;
use super::tei::{self, Took};
use crate::app::App;
use crate::edge::cost::Cost;
use crate::edge::request_id::RequestId;
use crate::error::ApiError;
use crate::service::{Asked, Service};

const JSON: &str = "application/json";

pub(crate) async fn vertex(
    State(app): State<Arc<App>>,
    Extension(id): Extension<RequestId>,
    Extension(service): Extension<&'static Service>,
    request: Request,
) -> Result<Response, ApiError> {
    // Whatever fails, and in whichever instance: the answer to the whole is TEI's.
    predictions(&app, &id, service, request).await.map_err(|error| error.styled(ErrorStyle::Tei))
}

async fn predictions(
    app: &Arc<App>,
    id: &RequestId,
    service: &Service,
    request: Request,
) -> Result<Response, ApiError> {
    let begun = Instant::now();
    let (parts, body) = request.into_parts();
    let (bytes, _held) = body::read(app, &parts, body).await?;
    let instances = read_instances(&bytes, (service.most_items)(&app.config))?;
    // Answers are JSON already: as they are, they need no tree of values.
    let mut held = app.budget.hold();
    let mut written = b"{\"predictions\":[".to_vec();
    let (mut cost, mut characters): (Option<Cost>, u64) = (None, 0);
    for (index, instance) in instances.into_iter().enumerate() {
        let answer = (service.instance)(Asked { app, id, instance, begun }).await;
        let answer = answer.map_err(|error| error.within(&format!("instances[{index}]")))?;
        cost = sum(cost, answer.extensions().get().copied());
        characters += tei::characters(answer.headers());
        if index > 0 {
            written.push(b',');
        }
        let answer = json_of(answer).await?;
        held.resize(written.len() + answer.len())?;
        written.extend_from_slice(&answer);
    }
    written.extend_from_slice(b"]}");
    let mut answer = ([(header::CONTENT_TYPE, JSON)], held.answer(written)?).into_response();
    if let Some(cost) = cost {
        let Cost { tokens, times, .. } = cost;
        tei::tell(answer.headers_mut(), &Took { begun, characters, tokens, times });
        super::timing(app, answer.headers_mut(), &cost.times);
        answer.extensions_mut().insert(cost);
    }
    Ok(answer)
}

fn sum(sum: Option<Cost>, one: Option<Cost>) -> Option<Cost> {
    let (Some(mut all), Some(one)) = (sum, one) else { return sum.or(one) };
    all.items += one.items;
    all.tokens += one.tokens;
    all.times.queue += one.times.queue;
    all.times.tokenize += one.times.tokenize;
    all.times.inference += one.times.inference;
    Some(all)
}

/// The answer's JSON as it was written.
async fn json_of(answer: Response) -> Result<Bytes, ApiError> {
    if answer.headers().get(header::CONTENT_TYPE).is_none_or(|kind| kind != JSON) {
        let message =
            "instances: their vectors come as json; send encoding_format: float or base64";
        return Err(ApiError::from(Invalid::new("instances", message)).styled(ErrorStyle::Tei));
    }
    let body = answer.into_body().collect().await;
    let body = body.map_err(|error| ApiError::internal(&format!("an instance: {error}")))?;
    Ok(body.to_bytes())
}
