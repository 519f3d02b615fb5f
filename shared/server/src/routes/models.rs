//! The served model, in the words of several services.

use std::sync::Arc;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Query, State};
use axum::http::Uri;
use axum::{Extension, Json};
use defrost_api::{Invalid, MAX_CHUNKS_PER_DOC, MAX_RANK_FIELDS};
use defrost_model::RerankerKind;
use defrost_tasks::{Bounds, EmbedderInfo, ModelInfo};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::app::App;
use crate::error::ApiError;
use crate::models::info::Info;
use crate::models::model::Model;
use crate::models::slot::Slot;
use crate::models::state::Status;
use crate::routes::rerank::default_normalization;
use crate::routes::tokenize::most_tokens;
use crate::service::Service;

/// `OpenAI`'s list, with the keys that infinity's client and the Qwen3 embedding server's need beside. A model that is not
/// loaded is in it under the names it was given; what only its snapshot knows is null where that is not on this machine.
pub(crate) async fn models(
    State(app): State<Arc<App>>,
    Extension(service): Extension<&'static Service>,
) -> Result<Json<Value>, ApiError> {
    let mut data = Vec::new();
    let mut by_name = Map::new();
    let mut loaded = Vec::new();
    let mut of_default = (None, None);
    for (at, slot) in app.fleet.slots.iter().enumerate() {
        let told = Told::of(slot);
        if told.names.is_empty() {
            return Err(not_there(&app));
        }
        if at == 0 {
            let max_length = told.info().map(Info::max_length);
            of_default = (told.names.first().cloned(), max_length);
        }
        for name in &told.names {
            data.push(told.entry(&app, service, name));
            by_name.insert(name.clone(), told.facts(&app, name));
            if told.model.is_some() {
                loaded.push(name.clone());
            }
        }
    }
    let (default_model, max_text_length) = of_default;
    Ok(Json(json!({
        "object": "list",
        "data": data,
        "loaded_models": loaded,
        "default_model": default_model,
        "max_batch_size": (service.most_items)(&app.config),
        "max_text_length": max_text_length,
        "models": by_name,
    })))
}

/// `GET /v1/models/NAME`: one of them, under a name it was given or the model's own, which may hold slashes.
pub(crate) async fn model(
    State(app): State<Arc<App>>,
    Extension(service): Extension<&'static Service>,
    name: Result<Path<String>, PathRejection>,
) -> Result<Json<Value>, ApiError> {
    // What is no text is no name.
    let name = name.map_or_else(|_| String::new(), |Path(name)| name);
    let mut known = Vec::new();
    for slot in &app.fleet.slots {
        let told = Told::of(slot);
        if told.names.contains(&name) || slot.full_name() == Some(name.as_str()) {
            return Ok(Json(told.entry(&app, service, &name)));
        }
        known.extend(told.names);
    }
    if known.is_empty() {
        return Err(not_there(&app));
    }
    Err(ApiError::model_not_found(&name, &known))
}

/// `GET /props`, as llama.cpp's clients ask what they may send.
pub(crate) async fn props(State(app): State<Arc<App>>) -> Result<Json<Value>, ApiError> {
    let Some(model) = app.ready_model() else { return Err(not_there(&app)) };
    Ok(Json(json!({
        "default_generation_settings": {"n_ctx": model.info.max_length()},
        "total_slots": app.config.max_queue,
        "model_path": model.info.name(),
        "model_alias": model.name_for(None),
        "modalities": {"vision": false, "audio": false},
        "build_info": format!("{} {}", app.function.name, app.function.version),
    })))
}

/// What there is to tell of one model.
struct Told<'a> {
    slot: &'a Slot,
    model: Option<Arc<Model>>,
    /// None where only the snapshot knows and has not been read.
    names: Vec<String>,
}

impl<'a> Told<'a> {
    fn of(slot: &'a Slot) -> Self {
        let model = slot.ready();
        let names = model.as_ref().map_or_else(|| slot.names(), |model| &model.names).to_vec();
        Self { slot, model, names }
    }

    fn info(&self) -> Option<&Info> {
        self.model.as_ref().map(|model| &model.info)
    }

    /// As `OpenAI` and infinity list a model.
    fn entry(&self, app: &App, service: &Service, name: &str) -> Value {
        let info = self.info();
        let mut entry = json!({
            "id": name,
            "object": "model",
            "created": self.model.as_ref().map(|model| model.created),
            // infinity_client refuses every other owner.
            "owned_by": "infinity",
            "root": info.map(Info::name).or_else(|| self.slot.full_name()),
            "parent": null,
            "permission": [],
            "backend": info.map_or(app.function.backend(), |info| info.backend()),
            "capabilities": [service.capability],
            "max_model_len": info.map(Info::max_length),
            "stats": {"queue_fraction": 0.0, "queue_absolute": 0, "results_pending": 0, "batch_size": app.config.max_batch_tokens},
        });
        if let (Value::Object(entry), Value::Object(facts)) = (&mut entry, self.facts(app, name)) {
            entry.extend(facts);
        }
        entry
    }

    /// As the Qwen3 embedding server maps names to models.
    fn facts(&self, app: &App, name: &str) -> Value {
        let info = self.info();
        let others: Vec<&String> = self.names.iter().filter(|other| *other != name).collect();
        json!({
            "path": info.map(Info::name).or_else(|| self.slot.full_name()),
            "loaded": self.model.is_some(),
            "status": match self.slot.life.status() {
                Status::Unloaded => "unloaded",
                Status::Loading => "loading",
                Status::Ready(_) => "ready",
                Status::Failed(_) => "failed",
            },
            "embedding_dim": info.map(Info::hidden).or_else(|| self.slot.hidden()),
            "load_time": self.model.as_ref().map(|model| model.ready_after.as_secs_f64()),
            "aliases": others,
            "description": match info {
                Some(info) => format!(
                    "{}: {} in {}, {} layers, {} tokens", app.function.about, info.family(), info.precision(),
                    info.layers(), info.max_length()
                ),
                None => app.function.about.to_owned(),
            },
        })
    }
}

/// Why there is no model to tell of.
fn not_there(app: &App) -> ApiError {
    match app.state_word() {
        "failed" => ApiError::unavailable(),
        _ => ApiError::loading("the model is loading; retry later".into()),
    }
}

/// `GET /info?model=NAME`.
#[derive(Debug, Deserialize)]
pub(crate) struct Which {
    model: Option<String>,
}

/// About the default model, or the one that is asked for. One that is to be loaded when it is asked for is loaded.
pub(crate) async fn info(
    State(app): State<Arc<App>>,
    Extension(service): Extension<&'static Service>,
    uri: Uri,
) -> Result<Json<Value>, ApiError> {
    let Query(Which { model }) = Query::try_from_uri(&uri).map_err(|_| {
        Invalid::new("model", "model: expected ?model=NAME, once, found something else")
    })?;
    let name = model.as_deref();
    let model = match app.fleet.find(name).and_then(|slot| slot.ready()) {
        Some(model) => model,
        None if ["loading", "failed"].contains(&app.state_word()) => return Err(not_there(&app)),
        None => app.model(name).await?.shared(),
    };
    let info = &model.info;
    let mut body = json!({
        "service": app.function.name,
        "version": app.function.version,
        "backend": info.backend(),
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
        "max_client_batch_size": (service.most_items)(&app.config),
        "max_body_bytes": app.config.max_body_bytes,
        "max_bytes_in_flight": app.config.bytes_in_flight(),
        "max_concurrent_requests": app.config.max_queue,
        "fast_boot": app.config.fast_boot,
        "limits": limits(&app),
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

/// What a request may grow into, whatever its bytes.
fn limits(app: &App) -> Value {
    let Bounds { text_bytes, sequences, tokens, numbers } = app.tokenising.bounds();
    json!({
        "tokenized_bytes": text_bytes,
        "sequences": sequences,
        "tokens": tokens,
        "answer_numbers": numbers,
        "answer_tokens": most_tokens(app),
        "rank_fields": MAX_RANK_FIELDS,
        "chunks_per_doc": MAX_CHUNKS_PER_DOC,
    })
}

fn of_reranker(app: &App, info: &ModelInfo) -> Value {
    let normalization = default_normalization(app, info);
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

fn kind(kind: RerankerKind) -> &'static str {
    match kind {
        RerankerKind::CrossEncoder => "cross-encoder",
        RerankerKind::YesNoLogit => "yes-no-logit",
        RerankerKind::EmbeddingSimilarity => "embedding-similarity",
    }
}
