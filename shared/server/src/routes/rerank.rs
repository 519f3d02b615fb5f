//! The rerank routes: read, check, score, answer.

use std::mem::take;
use std::sync::Arc;
use std::time::Instant;

use axum::Extension;
use axum::extract::{Request, State};
use axum::http::HeaderValue;
use axum::response::Response;
use bytes::Bytes;
use defrost_api::{
    Facts, Invalid, Limits, RerankBody, RerankRequest, Route, Scored, Shape, Work, answer,
    rerank_warnings,
};
use defrost_tasks::{Error, ModelInfo, Normalization, Score, ScoreRequest, Truncation};

use super::tei::{self, Took};
use super::{X_TRUNCATED_DOCUMENTS, body};
use crate::app::App;
use crate::config::ReturnData;
use crate::edge::cost::Cost;
use crate::edge::request_id::RequestId;
use crate::error::ApiError;
use crate::models::admission::Finished;
use crate::models::backend::{Inputs, Outputs};
use crate::models::batching::Outcome;
use crate::models::info::Info;

/// One handler under every name that clients use.
pub(crate) const PATHS: [&str; 6] =
    ["/v1/rerank", "/rerank", "/v2/rerank", "/reranking", "/v1/reranking", "/invocations"];

pub(super) type Reply = Result<Response, ApiError>;

pub(crate) async fn rerank(
    State(app): State<Arc<App>>,
    Extension(id): Extension<RequestId>,
    request: Request,
) -> Reply {
    handle(&app, &id, Route::Rerank, request).await
}

pub(crate) async fn batch(
    State(app): State<Arc<App>>,
    Extension(id): Extension<RequestId>,
    request: Request,
) -> Reply {
    handle(&app, &id, Route::Batch, request).await
}

pub(crate) async fn query(
    State(app): State<Arc<App>>,
    Extension(id): Extension<RequestId>,
    request: Request,
) -> Reply {
    handle(&app, &id, Route::Query, request).await
}

async fn handle(app: &App, id: &RequestId, route: Route, request: Request) -> Reply {
    let (parts, body) = request.into_parts();
    let (bytes, _held) = body::read(app, &parts, body).await?;
    super::cached(app, &parts.uri, bytes, |bytes| answer_to(app, id, route, bytes)).await
}

pub(crate) async fn answer_to(app: &App, id: &RequestId, route: Route, bytes: Bytes) -> Reply {
    let limits = limits(app);
    let parse =
        move |bytes: &[u8]| RerankBody::parse_on(route, bytes)?.into_request(route, &limits);
    respond(app, id, super::parsed(app, bytes, parse).await?).await
}

pub(crate) fn limits(app: &App) -> Limits {
    let usual = Limits::default();
    Limits {
        max_documents: app.config.max_documents,
        max_pairs: app.config.max_pairs,
        max_text_chars: app.config.max_text_chars.unwrap_or(usual.max_text_chars),
    }
}

/// Scores a request that was read and checked; errors go back in the style of its shape.
pub(super) async fn respond(app: &App, id: &RequestId, request: RerankRequest) -> Reply {
    let style = request.shape.error_style();
    score(app, id, request).await.map_err(|error| error.styled(style))
}

async fn score(app: &App, id: &RequestId, mut request: RerankRequest) -> Reply {
    let begun = Instant::now();
    let model = app.model(request.model.as_deref()).await?;
    let Info::Reranker(info) = &model.info else {
        return Err(ApiError::internal("the function reranks and its model does not"));
    };
    let normalization = normalization(app, info, &request)?;
    if request.instruction.is_some() && !info.takes_instruction {
        request.warnings.push("instruction is ignored: this model takes none".to_owned());
    }
    let count = request.document_count();
    let (positions, texts) = to_texts(&mut request);
    let finished = app.run(&model, Inputs::Score(Arc::clone(&texts))).await?;
    let Finished { outcome: Outcome { result, times }, held } = finished;
    let outputs = result.map_err(|error| match *error {
        // The backend counts within a query's documents, the client within its request.
        Error::NonFinite { request, index } => {
            let place = positions.get(request).and_then(|group| group.get(index));
            ApiError::non_finite(place.copied().unwrap_or(index))
        }
        ref other => other.into(),
    })?;
    let Outputs::Scores(scores) = outputs else {
        return Err(ApiError::internal("the backend returned something else than scores"));
    };
    let scored = in_request_order(&scores, &positions, count, normalization, info)?;
    let mut documents = vec![""; count];
    for (text, position) in
        texts.iter().flat_map(|one| &one.documents).zip(positions.iter().flatten())
    {
        if let Some(slot) = documents.get_mut(*position) {
            *slot = text;
        }
    }
    let kind = if request.shape == Shape::Score { "score" } else { "rerank" };
    let facts = Facts {
        id: &format!("{kind}-{}", id.0),
        created: app.phases.unix().as_secs(),
        model: model.name_for(request.model.as_deref()),
        score_type: normalization.score_type(info.kind),
        normalized: normalization != Normalization::Raw,
        default_top_n: app.config.default_top_n,
        legacy: app.config.legacy_results,
        always_data: app.config.return_data == ReturnData::Always,
        lengths: (
            texts.first().map_or(0, |one| one.query.chars().count()),
            documents.first().map_or(0, |text| text.chars().count()),
        ),
    };
    let mut response = super::json(held, &answer(&request, &scored, &documents, &facts))?;
    let tokens = scored.iter().map(|one| one.tokens).sum();
    response.extensions_mut().insert(Cost { items: count, tokens, times });
    super::timing(app, response.headers_mut(), &times);
    let queries = texts.iter().map(|one| one.query.as_str());
    let characters = queries.chain(documents.iter().map(|text| &**text));
    let characters = characters.map(|text| text.chars().count() as u64).sum();
    tei::tell(response.headers_mut(), &Took { begun, characters, tokens, times });
    let truncated = scored.iter().filter(|one| one.truncated).count();
    if truncated > 0 {
        response.headers_mut().insert(X_TRUNCATED_DOCUMENTS, HeaderValue::from(truncated));
    }
    super::warn(&mut response, &rerank_warnings(&request, &scored));
    Ok(response)
}

/// Takes the texts out of the request, with each one's place in it.
fn to_texts(request: &mut RerankRequest) -> (Vec<Vec<usize>>, Arc<Vec<ScoreRequest>>) {
    let truncation = Truncation {
        max_tokens_per_query: request.truncation.max_tokens_per_query,
        max_tokens_per_doc: request.truncation.max_tokens_per_doc,
        forbidden: request.truncation.forbidden,
        max_chunks_per_doc: request.truncation.max_chunks_per_doc,
        max_tokens: request.truncation.max_tokens,
        from_start: request.truncation.from_start,
    };
    let (positions, texts): (Vec<_>, Vec<_>) = take(&mut request.work)
        .into_iter()
        .map(|Work { query, documents, positions }| {
            let truncation = truncation.clone();
            (
                positions,
                ScoreRequest {
                    query,
                    documents,
                    instruction: request.instruction.clone(),
                    truncation,
                },
            )
        })
        .unzip();
    (positions, Arc::new(texts))
}

/// What scores are where the request does not say.
pub(super) fn default_normalization(app: &App, info: &ModelInfo) -> Normalization {
    let own =
        if app.config.legacy_results { Normalization::Raw } else { info.default_normalization };
    app.config.normalization.unwrap_or(own)
}

fn normalization(
    app: &App,
    info: &ModelInfo,
    request: &RerankRequest,
) -> Result<Normalization, ApiError> {
    use defrost_api::Normalization as Asked;
    let default = default_normalization(app, info);
    Ok(match request.normalization {
        Some(Asked::Normalized) if default == Normalization::Raw => Normalization::Sigmoid,
        None | Some(Asked::Normalized) => default,
        Some(Asked::Sigmoid) => Normalization::Sigmoid,
        Some(Asked::Raw) => Normalization::Raw,
        Some(Asked::Mxbai) if Normalization::takes_mxbai(info.template) => Normalization::Mxbai,
        Some(Asked::Mxbai) => {
            let message = format!(
                "normalization: mxbai is made for mxbai-rerank-v2 models only, {} is none; use \
                 sigmoid or raw",
                info.name
            );
            return Err(Invalid::new("normalization", message).into());
        }
    })
}

fn in_request_order(
    scores: &[Vec<Score>],
    positions: &[Vec<usize>],
    count: usize,
    normalization: Normalization,
    info: &ModelInfo,
) -> Result<Vec<Scored>, ApiError> {
    let lengths_match = scores.len() == positions.len()
        && scores.iter().zip(positions).all(|(s, p)| s.len() == p.len());
    if !lengths_match {
        return Err(ApiError::internal("the backend returned another number of scores than texts"));
    }
    let mut scored = vec![Scored::default(); count];
    for (score, &position) in scores.iter().flatten().zip(positions.iter().flatten()) {
        let value = normalization.apply(info.kind, score.raw, info.estimated_max);
        if !value.is_finite() {
            return Err(ApiError::non_finite(position));
        }
        if let Some(slot) = scored.get_mut(position) {
            *slot = Scored {
                score: value,
                tokens: score.tokens,
                truncated: score.truncated,
                query_truncated: score.query_truncated,
            };
        }
    }
    Ok(scored)
}
