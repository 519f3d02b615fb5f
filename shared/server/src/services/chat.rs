//! Functions that continue conversations and texts.

pub(crate) mod chat_model;
pub(crate) mod completer;
pub(crate) mod incoming;
pub(crate) mod job;
pub(crate) mod load;
pub(crate) mod question;
pub(crate) mod slot_list;
pub(crate) mod speaker;
pub(crate) mod translate;
pub(crate) mod turns;

use std::sync::Arc;

use axum::Router;
use axum::routing::{MethodRouter, get, post};
use defrost_api::{
    ChatLimits, ChatRoute, ChatRules, Conversation, EmbedRoute, Generation, Invalid, OutputFormat,
    PREDICT_PATHS, RERANK_PATHS, SCORE_PATHS,
};
use serde_json::{Value, json};

use crate::app::App;
use crate::error::ApiError;
use crate::models::model::Model;
use crate::openapi::Api;
use crate::routes::{chat, slots};
use crate::service::{INVOCATIONS, InstanceRequest, Keys, ResponseFuture, Service};
use crate::services::roles;

/// Continues conversations and texts.
pub static CHAT: Service = Service {
    role: &roles::CHAT,
    routes,
    invocations,
    claim,
    endpoints,
    elsewhere,
    api,
    most_items: |_| ChatLimits::default().max_prompts,
    about_model,
    prompt,
    conversation,
    props,
    instance,
};

fn routes() -> Router<Arc<App>> {
    let router = Router::new().route("/slots", get(slots::slots));
    let own = ChatRoute::PATHS.iter().filter(|(path, _)| !INVOCATIONS.contains(path));
    own.fold(router, |router, &(path, route)| router.route(path, on(route)))
}

fn on(route: ChatRoute) -> MethodRouter<Arc<App>> {
    post(move |app, id, params, request| chat::handle(app, id, route, params, request))
}

fn invocations() -> MethodRouter<Arc<App>> {
    on(ChatRoute::Invocations)
}

/// Inputs may be those of a response, and are to be embedded as a rule.
fn claim(has: &Keys<'_>) -> u8 {
    if ["messages", "prompt"].into_iter().any(has) { 3 } else { u8::from(has("input")) }
}

fn endpoints() -> Value {
    let of = |wanted: ChatRoute| -> Vec<&str> {
        let paths = ChatRoute::PATHS.iter().filter(|(_, route)| *route == wanted);
        paths.map(|(path, _)| *path).collect()
    };
    json!({
        "chat": of(ChatRoute::Chat),
        "completions": of(ChatRoute::Completions),
        "responses": of(ChatRoute::Responses),
        "messages": of(ChatRoute::Messages),
        "completion": of(ChatRoute::LlamaCompletion),
        "apply_template": of(ChatRoute::ApplyTemplate),
        "props": "/props",
        "slots": "/slots",
        "tokenize": "/tokenize",
        "detokenize": ["/detokenize", "/decode"],
    })
}

/// Texts are embedded and ranked by other functions, with other models.
fn elsewhere(path: &str) -> Option<&'static str> {
    let embeds = EmbedRoute::PATHS.iter().any(|(known, _)| *known == path)
        || (path.starts_with("/openai/") && path.ends_with("/embeddings"));
    let paths = RERANK_PATHS.iter().chain(&SCORE_PATHS).chain(&PREDICT_PATHS);
    let ranks = paths.copied().any(|known| known == path)
        || ["/rerank/batch", "/rerank/query"].contains(&path);
    if embeds {
        Some(
            "this function generates texts; they are embedded by the function embed, with an embedder's snapshot",
        )
    } else {
        ranks.then_some(
            "this function generates texts; they are ranked by the function rerank-cpu-int8, with a reranker's snapshot",
        )
    }
}

fn api(app: &App) -> Api {
    let model = app.ready_model_of(&roles::CHAT).filter(|_| !app.fleet.has_several());
    Api::chat(ChatRules {
        limits: ChatLimits::default(),
        vocab: model.as_ref().map(|model| model.info.vocab),
    })
}

fn about_model(_: &App, model: &Model) -> Value {
    let Ok(chat) = chat::chat_model(model) else { return Value::Null };
    let spec = chat.spec();
    let limits = chat.limits();
    json!({
        "model_type": {"language_model": {"family": model.info.family}},
        "quantization": spec.quantization,
        "context_length": limits.context,
        "kv_tokens": chat.room().total,
        "has_template": spec.template.is_some(),
        "tool_calls": chat.calls(),
        "structured_output": ["json_object", "json_schema", "regex", "choice", "gbnf", "lark"],
        "max_running": model.config.chat.max_running,
        "max_tokens": model.config.chat.max_tokens,
    })
}

fn conversation(app: &App, model: &Model, conversation: &Conversation) -> Result<String, ApiError> {
    let chat = chat::chat_model(model)?;
    let prompt = chat.prompt(conversation, &OutputFormat::Text, app.phases.unix());
    Ok(prompt.map_err(|error| ApiError::from(&error))?.text)
}

fn props(_: &App, model: &Model) -> Value {
    let Ok(chat) = chat::chat_model(model) else { return Value::Null };
    let (spec, limits, settings) = (chat.spec(), chat.limits(), &model.config.chat);
    let usual = translate::sampling(&Generation::default(), settings, spec, 0);
    let special = |name: &str| spec.special_tokens.get(name).cloned().unwrap_or_default();
    json!({
        "default_generation_settings": {
            "n_ctx": limits.context,
            "params": {
                "n_predict": settings.max_tokens.and_then(|most| i64::try_from(most).ok()).unwrap_or(-1),
                "temperature": usual.temperature,
                "top_k": usual.top_k,
                "top_p": usual.top_p,
                "min_p": usual.min_p,
                "repeat_penalty": usual.repetition_penalty,
                "presence_penalty": usual.presence_penalty,
                "frequency_penalty": usual.frequency_penalty,
            },
        },
        "total_slots": settings.max_running,
        "chat_template": spec.template,
        "bos_token": special("bos_token"),
        "eos_token": special("eos_token"),
    })
}

fn prompt(_: &Model, _: &str) -> Result<String, ApiError> {
    let message = "prompt_name: this model has no prompts by name; leave it out";
    Err(Invalid::new("prompt_name", message).into())
}

fn instance(_: InstanceRequest<'_>) -> ResponseFuture<'_> {
    let message = "instances: this function has no requests of TEI's form; send conversations to /v1/chat/completions";
    Box::pin(std::future::ready(Err(Invalid::new("instances", message).into())))
}
