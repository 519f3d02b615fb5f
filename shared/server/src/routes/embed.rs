//! The embedding routes: read, check, embed, answer.

mod answer;

use std::sync::Arc;
use std::time::Instant;

use axum::Extension;
use axum::extract::rejection::RawPathParamsRejection;
use axum::extract::{RawPathParams, Request, State};
use axum::response::Response;
use bytes::Bytes;
use defrost_api::{EmbedBody, EmbedInput, EmbedRequest, EmbedRoute, Piece};
use defrost_tasks::Error;

use self::answer::AnswerWriter;
use super::{body, tokenize};
use crate::app::App;
use crate::edge::request_id::RequestId;
use crate::error::ApiError;
use crate::models::admission::{Admitted, Finished};
use crate::models::model::Model;
use crate::services::embed::translate::to_request;
use crate::services::embed::vectorizer::{EmbedQuestion, Vectorizer};
use crate::services::roles;

type Reply = Result<Response, ApiError>;

/// Answers on one of [`EmbedRoute::PATHS`].
pub(crate) async fn handle(
    State(app): State<Arc<App>>,
    Extension(id): Extension<RequestId>,
    route: EmbedRoute,
    params: Result<RawPathParams, RawPathParamsRejection>,
    request: Request,
) -> Reply {
    let begun = Instant::now();
    let (parts, body) = request.into_parts();
    let (bytes, _held) = body::read(&app, &parts, body).await?;
    // The model that an address of Azure's names.
    if let Err(RawPathParamsRejection::InvalidUtf8InPathParam(_)) = params {
        return Err(ApiError::not_found(parts.uri.path()));
    }
    let params = params.ok();
    let deployment = params.iter().flatten().find(|(name, _)| *name == "deployment");
    let deployment = deployment.map(|(_, model)| model);
    let answer = |bytes| answer_to(&app, &id, route, deployment, bytes, begun);
    super::cached(&app, &roles::EMBED, &parts.uri, bytes, answer).await
}

pub(crate) async fn answer_to(
    app: &App,
    id: &RequestId,
    route: EmbedRoute,
    deployment: Option<&str>,
    bytes: Bytes,
    begun: Instant,
) -> Reply {
    let limits = app.config.embed.limits.clone();
    let parse = move |bytes: &[u8]| EmbedBody::parse_on(route, bytes)?.into_request(route, &limits);
    let mut request = super::parsed(app, bytes, parse).await?;
    request.model = request.model.or_else(|| deployment.map(str::to_owned));
    let style = request.shape.error_style();
    embed(app, id, request, begun).await.map_err(|error| error.styled(style))
}

async fn embed(app: &App, id: &RequestId, mut request: EmbedRequest, begun: Instant) -> Reply {
    let model = app.model(&roles::EMBED, request.model.as_deref()).await?;
    let vectorizer = vectorizer(&model)?;
    join_pieces(app, &model, &mut request).await?;
    let asked = Arc::new(to_request(&model.config.embed, vectorizer.facts(), &mut request)?);
    let question =
        EmbedQuestion { vectorizer: Arc::clone(&vectorizer), request: Arc::clone(&asked) };
    let Finished { result, times, held } = app.run(&model, question).await?;
    let embeddings = result.map_err(|error| match *error {
        Error::InputTooLong { limit, found, index, .. } => {
            ApiError::from(request.too_long(index, limit, found))
        }
        ref other => other.into(),
    })?;
    let writer = AnswerWriter {
        vectorizer,
        model: model.shared(),
        id: format!("embed-{}", id.0),
        created: app.phases.unix().as_secs(),
        request,
        asked,
        embeddings,
        begun,
        times,
        held,
    };
    answer::answer(app, writer).await
}

/// The model as one that embeds.
pub(crate) fn vectorizer(model: &Model) -> Result<Arc<dyn Vectorizer>, ApiError> {
    let vectorizer = model.loaded.own::<dyn Vectorizer>();
    vectorizer.ok_or_else(|| ApiError::internal("the function embeds and its model does not"))
}

/// Makes token ids of inputs that are texts and token ids in turn.
async fn join_pieces(
    app: &App,
    model: &Admitted,
    request: &mut EmbedRequest,
) -> Result<(), ApiError> {
    let most = tokenize::most_tokens(app);
    for input in &mut request.inputs {
        let EmbedInput::Mixed(pieces) = input else { continue };
        let pieces = std::mem::take(pieces);
        let lengths = pieces.iter().map(|piece| match piece {
            Piece::Token(_) => 0,
            Piece::Text(text) => text.len(),
        });
        let _reading = tokenize::held_to_read(app, lengths)?;
        let joined = tokenize::apart(app, model, move |pipeline| {
            let mut ids = Vec::new();
            for piece in pieces {
                match piece {
                    Piece::Token(id) => ids.push(id),
                    Piece::Text(text) => {
                        tokenize::check_count(pipeline, &text, most)?;
                        let tokens = pipeline.tokenize(&text, false)?;
                        ids.extend(tokens.iter().map(|token| token.id));
                    }
                }
            }
            Ok(ids)
        });
        *input = EmbedInput::Tokens(joined.await?);
    }
    Ok(())
}
