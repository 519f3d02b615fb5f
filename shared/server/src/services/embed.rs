//! Functions that embed texts.

pub(crate) mod translate;
pub(crate) mod vectorizer;

use std::sync::Arc;

use axum::Router;
use axum::routing::{MethodRouter, post};
use defrost_api::{
    EmbedRoute, EmbedRules, Invalid, PREDICT_PATHS, RERANK_PATHS, SCORE_PATHS, VERTEX_PATH,
    VectorKinds,
};
use defrost_tasks::EmbedderInfo;
use serde_json::{Value, json};

use crate::app::App;
use crate::error::ApiError;
use crate::models::model::Model;
use crate::openapi::Api;
use crate::routes::embed;
use crate::service::{
    INVOCATIONS, InstanceRequest, Keys, ResponseFuture, Service, no_conversation,
};
use crate::services::roles;
use vectorizer::Vectorizer;

/// Embeds texts.
pub static EMBED: Service = Service {
    role: &roles::EMBED,
    routes,
    invocations,
    claim,
    endpoints,
    elsewhere,
    api,
    most_items: |config| config.embed.limits.max_inputs,
    about_model,
    props: |_, _| Value::Null,
    conversation: no_conversation,
    prompt,
    instance,
};

fn routes() -> Router<Arc<App>> {
    let own = EmbedRoute::PATHS.iter().filter(|(path, _)| !INVOCATIONS.contains(path));
    own.fold(Router::new(), |router, &(path, route)| router.route(path, on(route)))
}

fn on(route: EmbedRoute) -> MethodRouter<Arc<App>> {
    post(move |app, id, params, request| embed::handle(app, id, route, params, request))
}

fn invocations() -> MethodRouter<Arc<App>> {
    on(EmbedRoute::Invocations)
}

fn claim(has: &Keys<'_>) -> u8 {
    if ["input", "inputs", "texts", "sentences", "source_sentence"].into_iter().any(has) {
        2
    } else {
        0
    }
}

fn endpoints() -> Value {
    json!({
        "embed": EmbedRoute::PATHS.map(|(path, _)| path),
        "vertex": VERTEX_PATH,
        "tokenize": "/tokenize",
        "detokenize": ["/detokenize", "/decode"],
    })
}

/// Texts are ranked by another function, with the same snapshot.
fn elsewhere(path: &str) -> Option<&'static str> {
    let paths = RERANK_PATHS.iter().chain(&SCORE_PATHS).chain(&PREDICT_PATHS);
    let ranks = paths.copied().any(|known| known == path)
        || ["/rerank/batch", "/rerank/query"].contains(&path);
    ranks.then_some(
        "this function embeds texts; they are ranked by the function rerank-cpu-int8, which serves the same snapshot and scores \
         by the cosine of its vectors",
    )
}

fn api(app: &App) -> Api {
    // Of several models each has its own; what holds for all of them is what is known before any is
    // loaded.
    let model = app.ready_model_of(&roles::EMBED).filter(|_| !app.fleet.has_several());
    let vectorizer = model.and_then(|model| model.loaded.own::<dyn Vectorizer>());
    let info = vectorizer.as_ref().map(|vectorizer| vectorizer.facts());
    Api::embed(EmbedRules {
        limits: app.config.embed.limits.clone(),
        outputs: info.map_or(VectorKinds::ALL, translate::available),
        late_chunking: info.is_none_or(EmbedderInfo::takes_late_chunking),
        vocab: info.map(|info| info.vocab),
        max_length: info.map(|info| info.max_length),
        prompts: info.map(|info| info.prompts.keys().cloned().collect()),
    })
}

fn about_model(app: &App, model: &Model) -> Value {
    let Some(vectorizer) = model.loaded.own::<dyn Vectorizer>() else { return Value::Null };
    let info = vectorizer.facts();
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

fn prompt(model: &Model, name: &str) -> Result<String, ApiError> {
    let vectorizer = embed::vectorizer(model)?;
    let prompts = &vectorizer.facts().prompts;
    prompts.get(name).cloned().ok_or_else(|| {
        let known: Vec<&str> = prompts.keys().map(String::as_str).collect();
        let message =
            format!("prompt_name: the model has no such prompt; it has: {}", known.join(", "));
        Invalid::new("prompt_name", message).into()
    })
}

fn instance(request: InstanceRequest<'_>) -> ResponseFuture<'_> {
    Box::pin(async move {
        let InstanceRequest { app, id, instance, begun } = request;
        embed::answer_to(app, id, EmbedRoute::Embed, None, instance.body.into(), begun).await
    })
}
