//! What the models of each service are; beside the services, so that their handlers need not name those.

use crate::models::role::Role;
#[cfg(feature = "chat")]
use crate::{config::Config, models::role::Numbers};

pub(crate) static RERANK: Role = Role { name: "rerank", path: "/v1/rerank", room: |_, _| 0 };

pub(crate) static EMBED: Role = Role { name: "embed", path: "/v1/embeddings", room: |_, _| 0 };

#[cfg(feature = "chat")]
pub(crate) static CHAT: Role = Role { name: "chat", path: "/v1/chat/completions", room };

/// Keys and values of each layer and token, in f16, as many as the engine makes room for. Of models in f32 it is twice as much,
/// which is known once they are loaded.
#[cfg(feature = "chat")]
fn room(config: &Config, number: &Numbers<'_>) -> u64 {
    let of = |name: &str| number(name).unwrap_or(0);
    let token = 2 * 2 * of("model.layers") * of("model.kv_heads") * of("model.head_dim");
    let asked = |tokens: Option<usize>| tokens.and_then(|tokens| u64::try_from(tokens).ok());
    let settings = &config.chat;
    let context = asked(settings.context_length.or(config.max_length));
    let usual = token.saturating_mul(context.unwrap_or_else(|| of("model.max_positions")));
    match asked(settings.kv_tokens) {
        Some(tokens) => token.saturating_mul(tokens),
        None => usual.min(defrost_model::USUAL_ROOM_BYTES as u64),
    }
}
