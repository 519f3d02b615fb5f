//! The embedding routes: read, check, embed, answer.

mod answer;

use std::sync::Arc;
use std::time::Instant;

use axum::Extension;
use axum::extract::rejection::RawPathParamsRejection;
use axum::extract::{RawPathParams, Request, State};
use axum::response::Response;
use bytes::Bytes;
use defrost_api::{Cut, EmbedBody, EmbedInput, EmbedRequest, EmbedRoute, Piece, Prompt};
use defrost_tasks::{
    EmbedRequest as Asked, EmbedTruncation, EmbedderInfo, Error, Input, Outputs as Kinds, Overflow,
    PromptChoice,
};

use self::answer::Answering;
use super::{body, tokenize};
use crate::app::App;
use crate::edge::request_id::RequestId;
use crate::error::ApiError;
use crate::models::admission::{Admitted, Finished};
use crate::models::backend::{Inputs, Outputs};
use crate::models::batching::Outcome;
use crate::models::info::Info;

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
    super::cached(&app, &parts.uri, bytes, answer).await
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
    let model = app.model(request.model.as_deref()).await?;
    let Info::Embedder(info) = &model.info else {
        return Err(ApiError::internal("the function embeds and its model does not"));
    };
    join_pieces(app, &model, &mut request).await?;
    let asked = Arc::new(to_asked(app, info, &mut request)?);
    let finished = app.run(&model, Inputs::Embed(Arc::clone(&asked))).await?;
    let Finished { outcome: Outcome { result, times }, held } = finished;
    let outputs = result.map_err(|error| match *error {
        Error::InputTooLong { limit, found, index, .. } => {
            ApiError::from(request.too_long(index, limit, found))
        }
        ref other => other.into(),
    })?;
    let Outputs::Embeddings(embeddings) = outputs else {
        return Err(ApiError::internal("the backend returned scores for embeddings"));
    };
    let answering = Answering {
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
    answer::answer(app, answering).await
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
        let joined = tokenize::apart(app, model, move |backend| {
            let mut ids = Vec::new();
            for piece in pieces {
                match piece {
                    Piece::Token(id) => ids.push(id),
                    Piece::Text(text) => {
                        tokenize::check_count(backend, &text, most)?;
                        let tokens = backend.tokenize(&text, false)?;
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

/// The request in the words of the model, which takes the inputs out of it.
fn to_asked(app: &App, info: &EmbedderInfo, request: &mut EmbedRequest) -> Result<Asked, ApiError> {
    request.check_outputs(defrost_api::Outputs {
        dense: true,
        sparse: info.has_sparse,
        colbert: info.has_colbert,
        hidden: info.has_tokens,
    })?;
    if matches!(request.prompt, Prompt::Instruction(_)) && !info.takes_instruction {
        let warning =
            "instruction is ignored: this model takes none; the inputs are taken for queries";
        request.warnings.push(warning.to_owned());
        request.prompt = Prompt::Query;
    }
    let allowed = app.config.embed.allow_non_mrl;
    let (full, matryoshka) = (info.hidden, &info.matryoshka);
    request.fit_dimensions(full, |width| allowed || matryoshka.allows(width, full));
    request.fit_scale(info.normalizes);
    let limit = request.token_limit(info.max_length)?;
    let overflow = match request.truncation {
        Cut::ServerDefault if app.config.embed.auto_truncate => Overflow::CutEnd,
        Cut::ServerDefault | Cut::Refuse => Overflow::Refuse,
        Cut::End => Overflow::CutEnd,
        Cut::Start => Overflow::CutStart,
    };
    // A model's prompt by the request's own word is nearer than what that word means.
    let own = request.role_word.as_ref().and_then(|word| {
        let plain = |name: &str| name.to_ascii_lowercase().replace(['.', '-'], "_");
        info.prompts.keys().find(|name| plain(name) == plain(word)).cloned()
    });
    let inputs = std::mem::take(&mut request.inputs).into_iter().map(|input| match input {
        EmbedInput::Text(text) => Input::Text(text),
        EmbedInput::Tokens(tokens) => Input::Tokens(tokens),
        // Joined before.
        EmbedInput::Mixed(_) => Input::Tokens(Vec::new()),
    });
    let defrost_api::Outputs { dense, sparse, colbert, hidden } = request.outputs;
    Ok(Asked {
        inputs: inputs.collect(),
        prompt: match &request.prompt {
            Prompt::Default => PromptChoice::Default,
            Prompt::Purpose(name) if info.prompts.contains_key(name) => {
                PromptChoice::Named(name.clone())
            }
            Prompt::Purpose(_) => PromptChoice::None,
            Prompt::Query | Prompt::Document if own.is_some() => {
                PromptChoice::Named(own.unwrap_or_default())
            }
            Prompt::Query => PromptChoice::Query,
            Prompt::Document => PromptChoice::Document,
            Prompt::Named(name) => PromptChoice::Named(name.clone()),
            Prompt::Instruction(task) => PromptChoice::Instruction(task.clone()),
            Prompt::Prefix(text) if text.is_empty() => PromptChoice::None,
            Prompt::Prefix(text) => PromptChoice::Prefix(text.clone()),
        },
        outputs: Kinds { dense, sparse, colbert, tokens: hidden },
        dimensions: request.dimensions,
        normalize: request.normalize,
        truncation: EmbedTruncation { overflow, limit: Some(limit) },
        late_chunking: request.late_chunking,
    })
}
