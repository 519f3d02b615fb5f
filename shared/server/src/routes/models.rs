//! The served model, in the words of several services.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Query, State};
use axum::http::Uri;
use defrost_api::{Invalid, MAX_CHUNKS_PER_DOC, MAX_RANK_FIELDS};
use defrost_tasks::Bounds;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::app::App;
use crate::error::ApiError;
use crate::models::info::Info;
use crate::models::model::Model;
use crate::models::slot::Slot;
use crate::models::state::Status;
use crate::routes::tokenize::most_tokens;
use crate::service::Services;

/// `OpenAI`'s list, with the keys that infinity's client and the Qwen3 embedding server's need
/// beside. A model that is not loaded is in it under the names it was given; what only its snapshot
/// knows is null where that is not on this machine.
pub(crate) async fn models(State(app): State<Arc<App>>) -> Result<Json<Value>, ApiError> {
    let mut data = Vec::new();
    let mut by_name = Map::new();
    let mut loaded = Vec::new();
    let mut of_default = (None, None);
    for (at, slot) in app.fleet.slots.iter().enumerate() {
        let listing = Listing::of(slot);
        if listing.names.is_empty() {
            return Err(not_there(&app));
        }
        if at == 0 {
            let max_length = listing.info().map(|info| info.max_length);
            of_default = (listing.names.first().cloned(), max_length);
        }
        for name in &listing.names {
            data.push(listing.entry(&app, name));
            by_name.insert(name.clone(), listing.facts(&app, name));
            if listing.model.is_some() {
                loaded.push(name.clone());
            }
        }
    }
    let default = Services::of_role(&app, app.fleet.default().role)?;
    let (default_model, max_text_length) = of_default;
    Ok(Json(json!({
        "object": "list",
        "data": data,
        "loaded_models": loaded,
        "default_model": default_model,
        "max_batch_size": (default.most_items)(&app.config),
        "max_text_length": max_text_length,
        "models": by_name,
    })))
}

/// `GET /v1/models/NAME`: one of them, under a name it was given or the model's own, which may hold
/// slashes.
pub(crate) async fn model(
    State(app): State<Arc<App>>,
    name: Result<Path<String>, PathRejection>,
) -> Result<Json<Value>, ApiError> {
    // What is no text is no name.
    let name = name.map_or_else(|_| String::new(), |Path(name)| name);
    let mut known = Vec::new();
    for slot in &app.fleet.slots {
        let listing = Listing::of(slot);
        if listing.names.contains(&name) || slot.full_name() == Some(name.as_str()) {
            return Ok(Json(listing.entry(&app, &name)));
        }
        known.extend(listing.names);
    }
    if known.is_empty() {
        return Err(not_there(&app));
    }
    Err(ApiError::model_not_found(&name, &known))
}

/// `GET /props`, as llama.cpp's clients ask what they may send.
pub(crate) async fn props(State(app): State<Arc<App>>) -> Result<Json<Value>, ApiError> {
    let Some(model) = app.ready_model() else { return Err(not_there(&app)) };
    let mut props = json!({
        "default_generation_settings": {"n_ctx": model.info.max_length},
        "total_slots": app.config.max_queue,
        "model_path": model.info.name,
        "model_alias": model.name_for(None),
        "modalities": {"vision": false, "audio": false},
        "build_info": format!("{} {}", app.function.name, app.function.version),
    });
    let service = Services::of_role(&app, model.role)?;
    let own = (service.props)(&app, &model);
    if let (Value::Object(props), Value::Object(own)) = (&mut props, own) {
        props.extend(own);
    }
    Ok(Json(props))
}

/// One model, as lists tell of it.
struct Listing<'a> {
    slot: &'a Slot,
    model: Option<Arc<Model>>,
    /// The names it is served under; none where only the snapshot knows them and has not been read.
    names: Vec<String>,
}

impl<'a> Listing<'a> {
    fn of(slot: &'a Slot) -> Self {
        let model = slot.ready();
        let names = model.as_ref().map_or_else(|| slot.names(), |model| &model.names).to_vec();
        Self { slot, model, names }
    }

    fn info(&self) -> Option<&Info> {
        self.model.as_ref().map(|model| &model.info)
    }

    /// The model as `OpenAI` and infinity list it.
    fn entry(&self, app: &App, name: &str) -> Value {
        let info = self.info();
        let mut entry = json!({
            "id": name,
            "object": "model",
            "created": self.model.as_ref().map(|model| model.created),
            // infinity_client refuses every other owner.
            "owned_by": self.slot.owner.as_deref().unwrap_or("infinity"),
            "root": info.map(|info| &*info.name).or_else(|| self.slot.full_name()),
            "parent": null,
            "permission": [],
            "backend": info.map_or_else(|| app.function.backend(), |info| info.backend),
            "capabilities": [self.slot.role.name],
            "max_model_len": info.map(|info| info.max_length),
            "stats": {"queue_fraction": 0.0, "queue_absolute": 0, "results_pending": 0, "batch_size": app.config.max_batch_tokens},
        });
        if let (Value::Object(entry), Value::Object(facts)) = (&mut entry, self.facts(app, name)) {
            entry.extend(facts);
        }
        entry
    }

    /// The model as the Qwen3 embedding server maps a name to it.
    fn facts(&self, app: &App, name: &str) -> Value {
        let info = self.info();
        let others: Vec<&String> = self.names.iter().filter(|other| *other != name).collect();
        json!({
            "path": info.map(|info| &*info.name).or_else(|| self.slot.full_name()),
            "loaded": self.model.is_some(),
            "status": match self.slot.life.status() {
                Status::Unloaded => "unloaded",
                Status::Loading => "loading",
                Status::Ready(_) => "ready",
                Status::Failed(_) => "failed",
            },
            "embedding_dim": info.map(|info| info.hidden).or_else(|| self.slot.hidden()),
            "load_time": self.model.as_ref().map(|model| model.ready_after.as_secs_f64()),
            "aliases": others,
            "description": match info {
                Some(info) => format!(
                    "{}: {} in {}, {} layers, {} tokens", app.function.about, info.family, info.precision,
                    info.layers, info.max_length
                ),
                None => app.function.about.to_owned(),
            },
        })
    }
}

/// The error where there is no model to tell of yet.
pub(super) fn not_there(app: &App) -> ApiError {
    match app.state_word() {
        "failed" => ApiError::unavailable(),
        _ => ApiError::loading("the model is loading; retry later".into()),
    }
}

/// The query of `GET /info?model=NAME`.
#[derive(Debug, Deserialize)]
pub(crate) struct Which {
    model: Option<String>,
}

/// `GET /info`: the default model, or the one that is asked for, which is loaded if it is not.
pub(crate) async fn info(State(app): State<Arc<App>>, uri: Uri) -> Result<Json<Value>, ApiError> {
    let Query(Which { model }) = Query::try_from_uri(&uri).map_err(|_| {
        Invalid::new("model", "model: expected ?model=NAME, once, found something else")
    })?;
    let name = model.as_deref();
    let model = match app.fleet.find(None, name).here().and_then(|slot| slot.ready()) {
        Some(model) => model,
        None if ["loading", "failed"].contains(&app.state_word()) => return Err(not_there(&app)),
        None => app.any_model(name).await?.shared(),
    };
    let service = Services::of_role(&app, model.role)?;
    let info = &model.info;
    let mut body = json!({
        "service": app.function.name,
        "version": app.function.version,
        "backend": info.backend,
        "model_id": info.name,
        "served_model_names": model.names,
        "model_dtype": info.precision,
        "hidden_size": info.hidden,
        "layers": info.layers,
        "snapshot": info.snapshot,
        "kernel": info.kernel,
        "threads": info.threads,
        "takes_instruction": info.takes_instruction,
        "max_input_length": info.max_length,
        "max_batch_tokens": app.config.max_batch_tokens,
        "max_client_batch_size": (service.most_items)(&model.config),
        "max_body_bytes": app.config.max_body_bytes,
        "max_bytes_in_flight": app.config.bytes_in_flight(),
        "max_concurrent_requests": app.config.max_queue,
        "fast_boot": app.config.fast_boot,
        "limits": limits(&app),
    });
    let own = (service.about_model)(&app, &model);
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
