//! `GET /slots`: what runs at the moment, as llama.cpp's clients ask.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};

use crate::app::App;
use crate::error::ApiError;
use crate::routes::chat::chat_model;
use crate::routes::models::not_there;
use crate::services::chat::CHAT;

/// Most slots that are listed: `MAX_RUNNING` may be any number.
const MOST: usize = 1024;

/// As many slots as completions may run at once, those that run first. Completions have no slot of their own here, so
/// nothing else is told of them.
pub(crate) async fn slots(State(app): State<Arc<App>>) -> Result<Json<Value>, ApiError> {
    let Some(model) = app.ready_model_of(&CHAT) else { return Err(not_there(&app)) };
    let chat = chat_model(&model)?;
    let (running, context) = (chat.load().running, chat.limits().context);
    let slot = |id: usize| json!({"id": id, "n_ctx": context, "is_processing": id < running, "speculative": true});
    Ok(Json((0..app.config.chat.max_running.min(MOST)).map(slot).collect()))
}
