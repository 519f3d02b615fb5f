//! The chat routes: read, check, make prompts, generate, answer at once or as it is made.

mod reply;
mod stream;

use std::sync::Arc;

use axum::extract::rejection::RawPathParamsRejection;
use axum::extract::{RawPathParams, Request, State};
use axum::response::{IntoResponse as _, Response};
use axum::{Extension, Json};
use defrost_api::{
    AppliedTemplate, ChatCall, ChatLimits, ChatRequest, ChatRoute, CompletionRequest, Conversation,
    CountedTokens, OutputFormat, ReplyFacts, ReplyWriter,
};

use self::reply::{Prompt, Reply};
use super::body;
use crate::app::App;
use crate::edge::request_id::RequestId;
use crate::error::ApiError;
use crate::models::admission::Admitted;
use crate::models::events::{End, Event};
use crate::models::model::Model;
use crate::services::chat::chat_model::ChatModel;
use crate::services::chat::job::{ReplyPart, Unread};
use crate::services::chat::question::{Asked, ReplyQuestion};
use crate::services::chat::speaker::Speaker;
use crate::services::chat::translate;
use crate::services::roles;

type Answer = Result<Response, ApiError>;

/// Answers on one of [`ChatRoute::PATHS`].
pub(crate) async fn handle(
    State(app): State<Arc<App>>,
    Extension(id): Extension<RequestId>,
    route: ChatRoute,
    params: Result<RawPathParams, RawPathParamsRejection>,
    request: Request,
) -> Answer {
    let answer = Box::pin(respond(&app, &id, route, params, request)).await;
    answer.map_err(|error| error.styled(route.error_style()))
}

async fn respond(
    app: &Arc<App>,
    id: &RequestId,
    route: ChatRoute,
    params: Result<RawPathParams, RawPathParamsRejection>,
    request: Request,
) -> Answer {
    let (parts, body) = request.into_parts();
    let (bytes, _held) = body::read(app, &parts, body).await?;
    if let Err(RawPathParamsRejection::InvalidUtf8InPathParam(_)) = params {
        return Err(ApiError::not_found(parts.uri.path()));
    }
    // The model that an address of Azure's names.
    let params = params.ok();
    let deployment = params.iter().flatten().find(|(name, _)| *name == "deployment");
    let deployment = deployment.map(|(_, model)| model.to_owned());
    let parse = move |bytes: &[u8]| route.parse(bytes, &ChatLimits::default());
    let mut call = super::parsed(app, bytes.clone(), parse).await?;
    let model = translate::model_of(&mut call);
    *model = model.take().or(deployment);
    if app.cache.is_some() && is_repeatable(app, &call) {
        super::cached(app, &roles::CHAT, &parts.uri, bytes, |_| answer_to(app, id, call)).await
    } else {
        answer_to(app, id, call).await
    }
}

async fn answer_to(app: &Arc<App>, id: &RequestId, call: ChatCall) -> Answer {
    match call {
        ChatCall::Chat(request) => chat(app, id, request).await,
        ChatCall::Completion(request) => completion(app, id, request).await,
        ChatCall::CountTokens { model, conversation } => {
            let (text, model) = prompt(app, model.as_deref(), conversation).await?;
            let count = super::tokenize::apart(app, &model, move |pipeline| {
                pipeline.count_tokens(&text, usize::MAX)
            });
            Ok(Json(CountedTokens { input_tokens: count.await? }).into_response())
        }
        ChatCall::ApplyTemplate { model, conversation } => {
            let (text, _) = prompt(app, model.as_deref(), conversation).await?;
            Ok(Json(AppliedTemplate { prompt: &text }).into_response())
        }
    }
}

/// Whether equal requests have equal answers, so that one may be kept: the likeliest tokens are taken, or the random
/// numbers are given. A stream is not kept.
fn is_repeatable(app: &App, call: &ChatCall) -> bool {
    let (model, generation) = match call {
        ChatCall::Chat(request) => (&request.model, &request.generation),
        ChatCall::Completion(request) => (&request.model, &request.generation),
        ChatCall::CountTokens { .. } | ChatCall::ApplyTemplate { .. } => return true,
    };
    // Unless the model is loaded, nothing of it is kept, nor known.
    let loaded =
        app.fleet.find(Some(&roles::CHAT), model.as_deref()).here().and_then(|slot| slot.ready());
    let chat = loaded.and_then(|model| Some((model.loaded.own::<ChatModel>()?, model)));
    generation.stream.is_none()
        && (generation.sampling.seed.is_some()
            || chat.is_some_and(|(chat, model)| {
                translate::sampling(generation, &model.config.chat, chat.spec(), 0).is_greedy()
            }))
}

/// The prompt that a conversation makes.
async fn prompt(
    app: &App,
    model: Option<&str>,
    conversation: Conversation,
) -> Result<(String, Admitted), ApiError> {
    let model = app.model(&roles::CHAT, model).await?;
    let chat = chat_model(&model)?;
    let now = app.phases.unix();
    let _reading =
        super::tokenize::held_to_read(app, [translate::bytes(&conversation)].into_iter())?;
    let made = super::tokenize::apart(app, &model, move |_| {
        Ok(chat.prompt(&conversation, &OutputFormat::Text, now)?.text)
    });
    Ok((made.await?, model))
}

async fn chat(app: &Arc<App>, id: &RequestId, mut request: ChatRequest) -> Answer {
    let model = app.model(&roles::CHAT, request.model.as_deref()).await?;
    let chat = chat_model(&model)?;
    let generation = Arc::new(request.generation.clone());
    let (logprobs, n) = (generation.logprobs.is_some(), generation.n);
    let asked = Asked::Conversation {
        conversation: request.conversation.clone(),
        reasoning: request.reasoning,
        now: app.phases.unix(),
    };
    let prompt = begin(app, &model, &chat, asked, &generation).await?;
    let speaker = |choice| Speaker::new(Some(prompt.prepared.parser(choice)), logprobs);
    let speakers = (0..n).map(speaker).collect();
    let writer = ReplyWriter::chat(&request, facts(app, id, &model, request.model.as_deref()));
    let warnings = std::mem::take(&mut request.warnings);
    let reply = Reply::new(id, (model, chat), writer, speakers, vec![prompt]);
    answer(app, reply, &warnings).await
}

async fn completion(app: &Arc<App>, id: &RequestId, mut request: CompletionRequest) -> Answer {
    let model = app.model(&roles::CHAT, request.model.as_deref()).await?;
    let chat = chat_model(&model)?;
    let generation = Arc::new(request.generation.clone());
    let mut prompts = Vec::with_capacity(request.prompts.len());
    for prompt in &request.prompts {
        let asked = Asked::Text { prompt: prompt.clone(), api: request.api, echo: request.echo };
        prompts.push(begin(app, &model, &chat, asked, &generation).await?);
    }
    let logprobs = generation.logprobs.is_some();
    let choices = prompts.len() * generation.n;
    let speakers = (0..choices).map(|_| Speaker::new(None, logprobs)).collect();
    let texts = prompts.iter_mut().map(|prompt| std::mem::take(&mut prompt.prepared.text));
    let texts = texts.collect();
    let facts = facts(app, id, &model, request.model.as_deref());
    let writer = ReplyWriter::completion(&request, facts, texts);
    let warnings = std::mem::take(&mut request.warnings);
    let reply = Reply::new(id, (model, chat), writer, speakers, prompts);
    answer(app, reply, &warnings).await
}

/// Makes a prompt and queues what continues it.
async fn begin(
    app: &App,
    model: &Admitted,
    chat: &Arc<ChatModel>,
    asked: Asked,
    generation: &Arc<defrost_api::Generation>,
) -> Result<Prompt, ApiError> {
    let unread = Arc::new(Unread::default());
    let question = ReplyQuestion {
        model: Arc::clone(chat),
        asked,
        generation: Arc::clone(generation),
        settings: model.config.chat.clone(),
        unread: Arc::clone(&unread),
    };
    let mut begun = app.begin(model, question).await?;
    // What came of making it is there already.
    match begun.events.next().await {
        Some(Event::Part(part)) => {
            unread.taken(&part);
            let ReplyPart::Prepared(prepared) = part else {
                return Err(ApiError::internal("a prompt was not the first part of an answer"));
            };
            Ok(Prompt { prepared, begun, unread })
        }
        Some(Event::End(End { result: Err(error), .. })) => Err((&*error).into()),
        Some(Event::End(_)) => Err(ApiError::internal("a prompt ended before it was made")),
        None => Err(ApiError::unavailable()),
    }
}

fn facts(app: &App, id: &RequestId, model: &Model, asked: Option<&str>) -> ReplyFacts {
    // Numbers depend on the snapshot and on this build alone.
    let snapshot: String = model.info.snapshot.chars().take(12).collect();
    ReplyFacts {
        id: id.0.clone(),
        created: app.phases.unix().as_secs(),
        model: model.name_for(asked).to_owned(),
        fingerprint: format!("fp_{snapshot}_{}", app.function.version),
    }
}

/// The answer, or its beginning.
async fn answer(app: &Arc<App>, reply: Reply, warnings: &[String]) -> Answer {
    let mut response =
        if reply.is_stream() { stream::answer(app, reply) } else { reply.whole(app).await? };
    super::warn(&mut response, warnings);
    Ok(response)
}

/// The model as one that generates.
pub(crate) fn chat_model(model: &Model) -> Result<Arc<ChatModel>, ApiError> {
    let chat = model.loaded.own::<ChatModel>();
    chat.ok_or_else(|| ApiError::internal("the function chats and its model does not"))
}
