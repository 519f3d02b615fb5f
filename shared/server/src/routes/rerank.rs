//! The rerank routes: read, check, score, answer.

use std::sync::Arc;
use std::time::Instant;

use axum::Extension;
use axum::extract::{Request, State};
use axum::http::HeaderValue;
use axum::response::Response;
use bytes::Bytes;
use defrost_api::{
    Limits, RerankBody, RerankFacts, RerankRequest, Route, Shape, answer, rerank_warnings,
};
use defrost_tasks::{Error, ScoreScale};

use super::tei::{self, Took};
use super::{X_TRUNCATED_DOCUMENTS, body};
use crate::app::App;
use crate::config::ReturnData;
use crate::edge::cost::Cost;
use crate::edge::request_id::RequestId;
use crate::error::ApiError;
use crate::models::admission::Finished;
use crate::models::model::Model;
use crate::services::rerank::scorer::{ScoreQuestion, Scorer};
use crate::services::rerank::translate::{in_request_order, normalization, to_requests};
use crate::services::roles;

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
    super::cached(app, &roles::RERANK, &parts.uri, bytes, |bytes| answer_to(app, id, route, bytes))
        .await
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
    let model = app.model(&roles::RERANK, request.model.as_deref()).await?;
    let scorer = scorer(&model)?;
    let info = scorer.facts();
    let normalization = normalization(&app.config, info, &request)?;
    if request.instruction.is_some() && !info.takes_instruction {
        request.warnings.push("instruction is ignored: this model takes none".to_owned());
    }
    let count = request.document_count();
    let (positions, texts) = to_requests(&mut request);
    let question = ScoreQuestion { scorer: Arc::clone(&scorer), requests: Arc::clone(&texts) };
    let Finished { result, times, held } = app.run(&model, question).await?;
    let scores = result.map_err(|error| match *error {
        // The model counts within a query's documents, the client within its request.
        Error::NonFinite { request, index } => {
            let place = positions.get(request).and_then(|group| group.get(index));
            ApiError::non_finite(place.copied().unwrap_or(index))
        }
        ref other => other.into(),
    })?;
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
    let facts = RerankFacts {
        id: &format!("{kind}-{}", id.0),
        created: app.phases.unix().as_secs(),
        model: model.name_for(request.model.as_deref()),
        score_type: normalization.score_type(info.kind),
        normalized: normalization != ScoreScale::Raw,
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

fn scorer(model: &Model) -> Result<Arc<dyn Scorer>, ApiError> {
    let scorer = model.loaded.own::<dyn Scorer>();
    scorer.ok_or_else(|| ApiError::internal("the function reranks and its model does not"))
}
