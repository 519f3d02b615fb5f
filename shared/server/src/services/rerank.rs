//! Functions that score documents against queries.

use std::sync::Arc;

use axum::Router;
use axum::routing::post;
use defrost_api::{EmbedRoute, RerankRules, Route, VERTEX_PATH};
use defrost_tasks::Normalization;
use serde_json::{Value, json};

use crate::app::App;
use crate::models::info::Info;
use crate::openapi::Api;
use crate::routes::{predict, rerank, score};
use crate::service::{Answering, Asked, Service};

/// Scores documents against queries.
pub static RERANK: Service = Service {
    capability: "rerank",
    routes,
    endpoints,
    elsewhere,
    api,
    most_items: |config| config.max_documents,
    instance,
};

fn routes() -> Router<Arc<App>> {
    let router = Router::new()
        .route("/", post(rerank::rerank))
        .route("/rerank/batch", post(rerank::batch))
        .route("/rerank/query", post(rerank::query));
    let paths = rerank::PATHS.iter();
    let router = paths.fold(router, |router, path| router.route(path, post(rerank::rerank)));
    let paths = score::PATHS.iter();
    let router = paths.fold(router, |router, path| router.route(path, post(score::score)));
    predict::PATHS.iter().fold(router, |router, path| router.route(path, post(predict::predict)))
}

fn endpoints() -> Value {
    json!({
        "rerank": rerank::PATHS,
        "rerank_batch": "/rerank/batch",
        "rerank_query": "/rerank/query",
        "score": score::PATHS,
        "predict": predict::PATHS,
        "vertex": VERTEX_PATH,
        "tokenize": "/tokenize",
        "detokenize": ["/detokenize", "/decode"],
    })
}

/// One snapshot of an embedder serves both.
fn elsewhere(path: &str) -> Option<&'static str> {
    let embeds = EmbedRoute::PATHS.iter().any(|(known, _)| *known == path)
        || (path.starts_with("/openai/") && path.ends_with("/embeddings"));
    embeds.then_some(
        "this function scores pairs; texts are embedded by the function embed, which serves the same snapshot if its model is \
         an embedder",
    )
}

fn api(app: &App) -> Api {
    // Of several models each reads its own number of tokens.
    let model = app.ready_model().filter(|_| !app.fleet.has_several());
    let max_sequence = |info: &Info| match info {
        Info::Reranker(info) => info.max_sequence,
        Info::Embedder(info) => info.max_length,
    };
    Api::rerank(RerankRules {
        limits: rerank::limits(app),
        max_length: model.as_ref().map(|model| max_sequence(&model.info)),
        vocab: model.as_ref().map(|model| model.info.vocab()),
        max_inputs: app.config.embed.limits.max_inputs,
        takes_mxbai: app.ready_model().is_some_and(|model| match &model.info {
            Info::Reranker(info) => Normalization::takes_mxbai(info.template),
            Info::Embedder(_) => false,
        }),
    })
}

fn instance(asked: Asked<'_>) -> Answering<'_> {
    Box::pin(async move {
        let Asked { app, id, instance, .. } = asked;
        let (has_inputs, body) = (instance.has_inputs, instance.body.into());
        if has_inputs {
            predict::answer_to(app, id, body).await
        } else {
            rerank::answer_to(app, id, Route::Rerank, body).await
        }
    })
}
