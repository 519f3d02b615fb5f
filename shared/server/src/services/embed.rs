//! Functions that embed texts.

use std::sync::Arc;

use axum::Router;
use axum::routing::post;
use defrost_api::{EmbedRoute, EmbedRules, Outputs, VERTEX_PATH};
use defrost_tasks::EmbedderInfo;
use serde_json::{Value, json};

use crate::app::App;
use crate::models::info::Info;
use crate::openapi::Api;
use crate::routes::{embed, predict, rerank, score};
use crate::service::{Answering, Asked, Service};

/// Embeds texts.
pub static EMBED: Service = Service {
    capability: "embed",
    routes,
    endpoints,
    elsewhere,
    api,
    most_items: |config| config.embed.limits.max_inputs,
    instance,
};

fn routes() -> Router<Arc<App>> {
    EmbedRoute::PATHS.iter().fold(Router::new(), |router, &(path, route)| {
        let handler =
            move |app, id, params, request| embed::handle(app, id, route, params, request);
        router.route(path, post(handler))
    })
}

fn endpoints() -> Value {
    json!({
        "embed": EmbedRoute::PATHS.map(|(path, _)| path),
        "vertex": VERTEX_PATH,
        "tokenize": "/tokenize",
        "detokenize": ["/detokenize", "/decode"],
    })
}

/// One snapshot of an embedder serves both.
fn elsewhere(path: &str) -> Option<&'static str> {
    let paths = rerank::PATHS.iter().chain(&score::PATHS).chain(&predict::PATHS);
    let ranks = paths.copied().any(|known| known == path)
        || ["/rerank/batch", "/rerank/query"].contains(&path);
    ranks.then_some(
        "this function embeds texts; they are ranked by the function rerank-cpu-int8, which serves the same snapshot and scores \
         by the cosine of its vectors",
    )
}

fn api(app: &App) -> Api {
    // Of several models each has its own; what holds for all of them is what is known before any is loaded.
    let model = app.ready_model().filter(|_| !app.fleet.has_several());
    let info = model.as_ref().and_then(|model| match &model.info {
        Info::Embedder(info) => Some(info),
        Info::Reranker(_) => None,
    });
    let has = |has: fn(&EmbedderInfo) -> bool| info.is_none_or(has);
    Api::embed(EmbedRules {
        limits: app.config.embed.limits.clone(),
        outputs: Outputs {
            dense: true,
            sparse: has(|info| info.has_sparse),
            colbert: has(|info| info.has_colbert),
            hidden: has(|info| info.has_tokens),
        },
        late_chunking: has(EmbedderInfo::takes_late_chunking),
        vocab: info.map(|info| info.vocab),
        max_length: info.map(|info| info.max_length),
        prompts: info.map(|info| info.prompts.keys().cloned().collect()),
    })
}

fn instance(asked: Asked<'_>) -> Answering<'_> {
    Box::pin(async move {
        let Asked { app, id, instance, begun } = asked;
        embed::answer_to(app, id, EmbedRoute::Embed, None, instance.body.into(), begun).await
    })
}
