//! Functions that score documents against queries.

pub(crate) mod scorer;
pub(crate) mod translate;

use std::sync::Arc;

use axum::Router;
use axum::routing::{MethodRouter, post};
use defrost_api::{
    EmbedRoute, Invalid, PREDICT_PATHS, RERANK_PATHS, RerankRules, Route, SCORE_PATHS, VERTEX_PATH,
};
use defrost_model::RerankerKind;
use defrost_tasks::ScoreScale;
use serde_json::{Value, json};

use crate::app::App;
use crate::error::ApiError;
use crate::models::model::Model;
use crate::openapi::Api;
use crate::routes::{predict, rerank, score};
use crate::service::{
    INVOCATIONS, InstanceRequest, Keys, ResponseFuture, Service, no_conversation,
};
use crate::services::roles;
use scorer::Scorer;
use translate::default_normalization;

/// Scores documents against queries.
pub static RERANK: Service = Service {
    role: &roles::RERANK,
    routes,
    invocations,
    claim,
    endpoints,
    elsewhere,
    api,
    most_items: |config| config.max_documents,
    about_model,
    props: |_, _| Value::Null,
    conversation: no_conversation,
    prompt,
    instance,
};

fn routes() -> Router<Arc<App>> {
    let router = Router::new()
        .route("/rerank/batch", post(rerank::batch))
        .route("/rerank/query", post(rerank::query));
    let paths = RERANK_PATHS.iter().filter(|path| !INVOCATIONS.contains(path));
    let router = paths.fold(router, |router, path| router.route(path, post(rerank::rerank)));
    let paths = SCORE_PATHS.iter();
    let router = paths.fold(router, |router, path| router.route(path, post(score::score)));
    PREDICT_PATHS.iter().fold(router, |router, path| router.route(path, post(predict::predict)))
}

fn invocations() -> MethodRouter<Arc<App>> {
    post(rerank::rerank)
}

/// A query alone tells a ranking from all else; inputs may be those of a classification, and are to be embedded as a rule.
fn claim(has: &Keys<'_>) -> u8 {
    if ["query", "queries", "text_1", "passage", "pairs"].into_iter().any(has) {
        3
    } else {
        u8::from(has("inputs"))
    }
}

fn endpoints() -> Value {
    json!({
        "rerank": RERANK_PATHS,
        "rerank_batch": "/rerank/batch",
        "rerank_query": "/rerank/query",
        "score": SCORE_PATHS,
        "predict": PREDICT_PATHS,
        "vertex": VERTEX_PATH,
        "tokenize": "/tokenize",
        "detokenize": ["/detokenize", "/decode"],
    })
}

/// Texts are embedded by another function, with the same snapshot where its model is an embedder.
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
    let model = app.ready_model_of(&roles::RERANK).filter(|_| !app.fleet.has_several());
    let scorer_of = |model: &Model| model.loaded.own::<dyn Scorer>();
    let scorer = model.as_ref().and_then(|model| scorer_of(model));
    Api::rerank(RerankRules {
        limits: rerank::limits(app),
        max_length: scorer.map(|scorer| scorer.facts().max_sequence),
        vocab: model.as_ref().map(|model| model.info.vocab),
        max_inputs: app.config.embed.limits.max_inputs,
        takes_mxbai: app
            .ready_model_of(&roles::RERANK)
            .and_then(|model| scorer_of(&model))
            .is_some_and(|scorer| ScoreScale::takes_mxbai(scorer.facts().template)),
    })
}

fn about_model(app: &App, model: &Model) -> Value {
    let Some(scorer) = model.loaded.own::<dyn Scorer>() else { return Value::Null };
    let info = scorer.facts();
    let kind = match info.kind {
        RerankerKind::CrossEncoder => "cross-encoder",
        RerankerKind::YesNoLogit => "yes-no-logit",
        RerankerKind::EmbeddingSimilarity => "embedding-similarity",
    };
    json!({
        "model_type": {"reranker": {"kind": kind, "family": info.family}},
        "score_type": default_normalization(&app.config, info).score_type(info.kind),
        "max_documents": app.config.max_documents,
    })
}

fn prompt(_: &Model, _: &str) -> Result<String, ApiError> {
    let message = "prompt_name: this model reads pairs and has no prompts; leave it out";
    Err(Invalid::new("prompt_name", message).into())
}

fn instance(request: InstanceRequest<'_>) -> ResponseFuture<'_> {
    Box::pin(async move {
        let InstanceRequest { app, id, instance, .. } = request;
        let (has_inputs, body) = (instance.has_inputs, instance.body.into());
        if has_inputs {
            predict::answer_to(app, id, body).await
        } else {
            rerank::answer_to(app, id, Route::Rerank, body).await
        }
    })
}
