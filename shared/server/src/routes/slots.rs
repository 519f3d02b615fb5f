//! `GET /slots`: what runs at the moment, as llama.cpp's clients and dashboards ask.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::Json;
use axum::extract::State;
use axum::http::Uri;
use serde_json::{Value, json};

use crate::app::App;
use crate::error::ApiError;
use crate::routes::chat::chat_model;
use crate::routes::models::not_there;
use crate::services::chat::slot_list::{Slot, SlotTask};
use crate::services::roles;

/// Most slots that are listed: `MAX_RUNNING` may be any number.
const MOST: usize = 1024;

/// The query that makes an error of an answer in which no slot is free.
const FAIL: &str = "fail_on_no_slot";

/// As many slots as completions may run at once: what runs in each, or what ran there last. Those that were never used
/// have no task.
pub(crate) async fn slots(State(app): State<Arc<App>>, uri: Uri) -> Result<Json<Value>, ApiError> {
    let Some(model) = app.ready_model_of(&roles::CHAT) else { return Err(not_there(&app)) };
    let chat = chat_model(&model)?;
    let (slots, context) = (chat.slots(), chat.limits().context);
    let most = model.config.chat.max_running;
    let running = slots.iter().filter(|slot| slot.is_processing).count();
    if running >= most && fails(uri.query().unwrap_or_default()) {
        return Err(ApiError::no_slot(running));
    }
    Ok(Json((0..most.min(MOST)).map(|id| described(id, context, slots.get(id))).collect()))
}

/// Whether the query has the key with any value, as in llama.cpp.
fn fails(query: &str) -> bool {
    let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs.any(|(name, value)| name == FAIL && !value.is_empty())
}

fn described(id: usize, context: usize, slot: Option<&Slot>) -> Value {
    let is_processing = slot.is_some_and(|slot| slot.is_processing);
    // Tokens are guessed from those that were there already, whatever the request.
    let mut told = json!({
        "id": id,
        "n_ctx": context,
        "speculative": true,
        "is_processing": is_processing,
    });
    if let (Some(Slot { task, .. }), Value::Object(told)) = (slot, &mut told) {
        let progress = &task.progress;
        let decoded = progress.decoded.load(Ordering::Relaxed);
        let cached = progress.cached.load(Ordering::Relaxed);
        let remain = task.max_tokens.map_or(-1, |most| signed(most.saturating_sub(decoded)));
        told.insert("id_task".to_owned(), task.id.into());
        told.insert("n_prompt_tokens".to_owned(), task.prompt.into());
        told.insert("n_prompt_tokens_cache".to_owned(), cached.into());
        told.insert("params".to_owned(), params(task));
        // A list of one, as it is there.
        let next = json!([{
            "has_next_token": is_processing,
            "has_new_line": progress.has_new_line.load(Ordering::Relaxed),
            "n_remain": remain,
            "n_decoded": decoded,
        }]);
        told.insert("next_token".to_owned(), next);
    }
    told
}

/// The parameters that change what a completion says, under llama.cpp's names.
fn params(task: &SlotTask) -> Value {
    let sampling = &task.sampling;
    let most = task.max_tokens.map_or(-1, signed);
    json!({
        "n_predict": most,
        "max_tokens": most,
        "seed": sampling.seed,
        "temperature": sampling.temperature,
        "top_k": sampling.top_k,
        "top_p": sampling.top_p,
        "min_p": sampling.min_p,
        "typical_p": sampling.typical_p,
        "repeat_last_n": sampling.repetition_window.map_or(-1, signed),
        "repeat_penalty": sampling.repetition_penalty,
        "presence_penalty": sampling.presence_penalty,
        "frequency_penalty": sampling.frequency_penalty,
        "ignore_eos": task.ignore_eos,
        "n_probs": task.logprobs.unwrap_or(0),
    })
}

/// A count where -1 means that there is none.
fn signed(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_value_of_the_key_asks_for_an_error() {
        for (query, expected) in [
            ("fail_on_no_slot=1", true),
            ("model=x&fail_on_no_slot=true", true),
            ("fail_on_no_slot=", false),
            ("fail_on_no_slot", false),
            ("fail_on_no_slots=1", false),
            ("", false),
        ] {
            assert_eq!(fails(query), expected, "{query}");
        }
    }
}
