//! The embedding routes: read, check, embed, answer.

use std::sync::Arc;
use std::time::Instant;

use axum::Extension;
use axum::extract::rejection::RawPathParamsRejection;
use axum::extract::{RawPathParams, Request, State};
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use defrost_api::{
    Cut, EmbedBody, EmbedFacts, EmbedInput, EmbedRequest, EmbedRoute, Embedded, Piece, Prompt,
    RawAnswer, Rows, embed_answer, embed_warnings, raw_answer,
};
use defrost_inference::{
    EmbedRequest as Asked, EmbedTruncation, EmbedderInfo, Embedding, Error, Input,
    Outputs as Kinds, Overflow, PromptChoice,
};

use super::tei::{self, Took};
use super::{X_TRUNCATED_INPUTS, body, tokenize};
use crate::admission::{Admitted, Finished};
use crate::app::App;
use crate::backend::{Inputs, Outputs};
use crate::batching::Outcome;
use crate::budget::Held;
use crate::error::ApiError;
use crate::info::Info;
use crate::observe::Cost;
use crate::request_id::RequestId;

type Reply = Result<Response, ApiError>;

const OCTETS: &str = "application/octet-stream";

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

pub(super) async fn answer_to(
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
    let Outputs::Embeddings(mut embeddings) = outputs else {
        return Err(ApiError::internal("the backend returned scores for embeddings"));
    };
    if let Some(norm) = request.norm {
        for one in &mut embeddings {
            norm.apply(&mut one.dense);
        }
    }
    let embedded: Vec<Embedded<'_>> =
        embeddings.iter().map(|one| embedded(one, asked.outputs, info)).collect();
    let texts: Vec<&str> = asked.inputs.iter().map(text).collect();
    let facts = EmbedFacts {
        id: &format!("embed-{}", id.0),
        created: app.phases.unix().as_secs(),
        model: model.name_for(request.model.as_deref()),
        processing_ms: begun.elapsed().as_secs_f64() * 1e3,
    };
    let raw = raw_answer(&request, &embedded, &facts);
    let raw = raw.map_err(|error| ApiError::internal(&format!("writing the answer: {error}")))?;
    let mut response = match raw {
        Some(raw) => bytes(held, raw)?,
        None => super::json(held, &embed_answer(&request, &embedded, &texts, &facts))?,
    };
    let (items, tokens) = (embedded.len(), embedded.iter().map(|one| one.tokens).sum());
    response.extensions_mut().insert(Cost { items, tokens, times });
    super::timing(app, response.headers_mut(), &times);
    let characters = texts.iter().map(|text| text.chars().count()).sum();
    tei::tell(response.headers_mut(), &Took { begun, characters, tokens, times });
    let truncated = embedded.iter().filter(|one| one.truncated).count();
    if truncated > 0 {
        response.headers_mut().insert(X_TRUNCATED_INPUTS, HeaderValue::from(truncated));
    }
    super::warn(&mut response, &embed_warnings(&request, &embedded));
    Ok(response)
}

/// Makes token ids of inputs that are texts and token ids in turn.
async fn join_pieces(
    app: &App,
    model: &Admitted<'_>,
    request: &mut EmbedRequest,
) -> Result<(), ApiError> {
    let most = tokenize::most_tokens(app);
    for input in &mut request.inputs {
        let EmbedInput::Mixed(pieces) = input else { continue };
        let pieces = std::mem::take(pieces);
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
        request.warnings.push("instruction is ignored: this model takes none".to_owned());
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

/// vLLM's clients look for what describes the bytes in a header of this name.
const METADATA: HeaderName = HeaderName::from_static("metadata");

fn bytes(held: Held, RawAnswer { body, metadata }: RawAnswer) -> Result<Response, ApiError> {
    let mut response = ([(header::CONTENT_TYPE, OCTETS)], held.answer(body)?).into_response();
    // A model's name may hold what no header can carry; the vectors are worth more than their description.
    if let Some(value) = metadata.and_then(|text| HeaderValue::try_from(text).ok()) {
        response.headers_mut().insert(METADATA, value);
    }
    Ok(response)
}

fn embedded<'a>(one: &'a Embedding, wanted: Kinds, info: &EmbedderInfo) -> Embedded<'a> {
    Embedded {
        dense: wanted.dense.then_some(&one.dense[..]),
        sparse: wanted.sparse.then_some(&one.sparse[..]),
        colbert: wanted
            .colbert
            .then_some(Rows { values: &one.colbert, width: one.colbert_width.max(1) }),
        hidden: wanted.tokens.then_some(Rows { values: &one.tokens, width: info.hidden }),
        tokens: one.token_count,
        truncated: one.truncated,
    }
}

/// Cohere's answers repeat the texts; ids have none.
fn text(input: &Input) -> &str {
    match input {
        Input::Text(text) => text,
        Input::Tokens(_) => "",
    }
}
