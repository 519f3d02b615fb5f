//! Vertex AI's form of TEI's requests: `{"instances": [...]}`, answered with `{"predictions":
//! [...]}`.
//!
//! An instance is what TEI's own routes take: `query` with `texts`, or `inputs` to predict or to
//! embed. Each is answered as if it had come by itself, one after the other, and the first that
//! cannot be is the answer to all, with its place.

use std::sync::Arc;
use std::time::Instant;

use axum::Extension;
use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use defrost_api::{ErrorStyle, Instances, Invalid, read_instances};
use http_body_util::BodyExt as _;

use super::tei::{self, COMPUTE_CHARACTERS, Took};
use super::{X_TRUNCATED_DOCUMENTS, X_TRUNCATED_INPUTS, X_WARNINGS};
use super::{body, invocations};
use crate::app::App;
use crate::edge::budget::Held;
use crate::edge::cost::Cost;
use crate::edge::request_id::RequestId;
use crate::error::ApiError;
use crate::service::{InstanceRequest, Services};

const JSON: &str = "application/json";

pub(crate) async fn vertex(
    State(app): State<Arc<App>>,
    Extension(id): Extension<RequestId>,
    request: Request,
) -> Result<Response, ApiError> {
    // Whatever fails, and in whichever instance: the answer to the whole is TEI's.
    predictions(&app, &id, request).await.map_err(|error| error.styled(ErrorStyle::Tei))
}

async fn predictions(
    app: &Arc<App>,
    id: &RequestId,
    request: Request,
) -> Result<Response, ApiError> {
    let begun = Instant::now();
    let (parts, body) = request.into_parts();
    let (bytes, _held) = body::read(app, &parts, body).await?;
    let most =
        Services::of(app).active.iter().map(|service| (service.most_items)(&app.config)).max();
    let Instances { instances, warnings } = read_instances(&bytes, most.unwrap_or_default())?;
    // Instances before it hold half at most, so that the answer to one has room.
    let most = app.budget.most() / 2;
    let mut held = app.budget.hold();
    let mut all = Predictions { warnings, ..Predictions::default() };
    for (index, instance) in instances.into_iter().enumerate() {
        let service = invocations::whose(app, instance.body.as_bytes())?;
        let answer = (service.instance)(InstanceRequest { app, id, instance, begun }).await;
        let answer = answer.map_err(|error| error.within(&format!("instances[{index}]")))?;
        all.add(index, answer).await?;
        if all.written.len() > most {
            return Err(ApiError::never_fits(all.written.len(), most)
                .within(&format!("instances[{index}]")));
        }
        held.resize(all.written.len())?;
    }
    all.answer(app, held, begun)
}

/// What there is to tell of all instances so far.
#[derive(Default)]
struct Predictions {
    /// Their answers, a comma between two. They are JSON already: as they are, they need no tree of
    /// values.
    written: Vec<u8>,
    cost: Option<Cost>,
    characters: u64,
    /// Texts that were cut, as the two headers count them.
    truncated: [u64; 2],
    warnings: Vec<String>,
}

/// The headers that count cut texts.
const TRUNCATED: [HeaderName; 2] = [X_TRUNCATED_DOCUMENTS, X_TRUNCATED_INPUTS];

/// Most warnings that are told; a header must not grow with the number of instances.
const MOST_WARNINGS: usize = 16;

impl Predictions {
    async fn add(&mut self, index: usize, answer: Response) -> Result<(), ApiError> {
        let headers = answer.headers();
        self.characters += tei::count_in(headers, &COMPUTE_CHARACTERS);
        for (sum, name) in self.truncated.iter_mut().zip(&TRUNCATED) {
            *sum += tei::count_in(headers, name);
        }
        if let Some(warning) = headers.get(X_WARNINGS).and_then(|value| value.to_str().ok()) {
            self.warnings.push(format!("instances[{index}]: {warning}"));
        }
        self.cost = sum(self.cost, answer.extensions().get().copied());
        let answer = json_of(answer).await?;
        if !self.written.is_empty() {
            self.written.push(b',');
        }
        self.written.extend_from_slice(&answer);
        Ok(())
    }

    fn answer(mut self, app: &App, held: Held, begun: Instant) -> Result<Response, ApiError> {
        let written = [b"{\"predictions\":[", &*self.written, b"]}"].concat();
        let mut answer = ([(header::CONTENT_TYPE, JSON)], held.answer(written)?).into_response();
        let headers = answer.headers_mut();
        for (count, name) in self.truncated.into_iter().zip(TRUNCATED) {
            if count > 0 {
                headers.insert(name, HeaderValue::from(count));
            }
        }
        if let Some(Cost { tokens, times, .. }) = self.cost {
            let characters = self.characters;
            tei::tell(headers, &Took { begun, characters, tokens, times });
            super::timing(app, headers, &times);
        }
        let more = self.warnings.len().saturating_sub(MOST_WARNINGS);
        self.warnings.truncate(MOST_WARNINGS);
        if more > 0 {
            self.warnings.push(format!("{more} more instances have warnings"));
        }
        super::warn(&mut answer, &self.warnings);
        if let Some(cost) = self.cost {
            answer.extensions_mut().insert(cost);
        }
        Ok(answer)
    }
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
