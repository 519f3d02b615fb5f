//! The served model, in the words of several services.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use defrost_inference::{EmbedderInfo, ModelInfo, RerankerKind};
use serde_json::{Map, Value, json};

use crate::app::{App, Model};
use crate::boot::Role;
use crate::error::ApiError;
use crate::info::Info;

fn loaded(app: &App) -> Result<Arc<Model>, ApiError> {
    app.ready_model().ok_or_else(|| match app.state_word() {
        "failed" => ApiError::unavailable(),
        _ => ApiError::loading("the model is loading; retry later".into()),
    })
}

/// `OpenAI`'s list, with the keys that infinity's client and the Qwen3 embedding server's need beside.
pub(crate) async fn models(State(app): State<Arc<App>>) -> Result<Json<Value>, ApiError> {
    let model = loaded(&app)?;
    let info = &model.info;
    let capability = match info {
        Info::Reranker(_) => "rerank",
        Info::Embedder(_) => "embed",
    };
    let data: Vec<Value> = model
        .names
        .iter()
        .map(|name| {
            json!({
                "id": name,
                "object": "model",
                "created": model.created,
                // infinity_client refuses every other owner.
                "owned_by": "infinity",
                "root": info.name(),
                "parent": null,
                "permission": [],
                "backend": info.backend().name(),
                "capabilities": [capability],
                "max_model_len": info.max_length(),
                "stats": {"queue_fraction": 0.0, "queue_absolute": 0, "results_pending": 0, "batch_size": app.config.max_batch_tokens},
            })
        })
        .collect();
    let by_name: Map<String, Value> = model
        .names
        .iter()
        .map(|name| {
            (
                name.clone(),
                json!({"path": info.name(), "loaded": true, "embedding_dim": info.hidden()}),
            )
        })
        .collect();
    Ok(Json(json!({
        "object": "list",
        "data": data,
        "loaded_models": model.names,
        "default_model": model.name_for(None),
        "max_batch_size": most_items(&app),
        "max_text_length": info.max_length(),
        "models": by_name,
    })))
}

pub(crate) async fn info(State(app): State<Arc<App>>) -> Result<Json<Value>, ApiError> {
    let model = loaded(&app)?;
    let info = &model.info;
    let mut body = json!({
        "service": app.function.name,
        "version": app.function.version,
        "backend": info.backend().name(),
        "model_id": info.name(),
        "served_model_names": model.names,
        "model_dtype": info.precision(),
        "hidden_size": info.hidden(),
        "layers": info.layers(),
        "snapshot": info.snapshot(),
        "kernel": info.kernel(),
        "threads": info.threads(),
        "takes_instruction": info.takes_instruction(),
        "max_input_length": info.max_length(),
        "max_batch_tokens": app.config.max_batch_tokens,
        "max_client_batch_size": most_items(&app),
        "max_body_bytes": app.config.max_body_bytes,
        "max_concurrent_requests": app.config.max_queue,
        "fast_boot": app.config.fast_boot,
    });
    let own = match info {
        Info::Reranker(info) => of_reranker(&app, info),
        Info::Embedder(info) => of_embedder(&app, info),
    };
    if let (Value::Object(body), Value::Object(own)) = (&mut body, own) {
        body.extend(own);
    }
    Ok(Json(body))
}

fn of_reranker(app: &App, info: &ModelInfo) -> Value {
    let normalization = app.config.normalization.unwrap_or(info.default_normalization);
    json!({
        "model_type": {"reranker": {"kind": kind(info.kind), "family": info.family}},
        "score_type": normalization.score_type(info.kind),
        "max_documents": app.config.max_documents,
    })
}

fn of_embedder(app: &App, info: &EmbedderInfo) -> Value {
    json!({
        "model_type": {"embedding": {"pooling": info.pooling, "family": info.family}},
        "pooling": info.pooling,
        "dimensions": info.hidden,
        "matryoshka": info.matryoshka.to_string(),
        "normalizes": info.normalizes,
        "prompts": info.prompts,
        "default_prompt_name": info.default_prompt,
        "outputs": {
            "dense": true, "sparse": info.has_sparse, "colbert": info.has_colbert, "tokens": info.has_tokens,
        },
        "auto_truncate": app.config.embed.auto_truncate,
        "max_inputs": app.config.embed.limits.max_inputs,
    })
}

/// Most documents or inputs of one request.
fn most_items(app: &App) -> usize {
    match app.function.role {
        Role::Rerank => app.config.max_documents,
        Role::Embed => app.config.embed.limits.max_inputs,
    }
}

fn kind(kind: RerankerKind) -> &'static str {
    match kind {
        RerankerKind::CrossEncoder => "cross-encoder",
        RerankerKind::YesNoLogit => "yes-no-logit",
        RerankerKind::EmbeddingSimilarity => "embedding-similarity",
    }
}
