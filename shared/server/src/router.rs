//! The routes, and the layers around them.

use std::sync::Arc;

use axum::Router;
use axum::http::{HeaderName, HeaderValue, Method, Uri};
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post};
use defrost_api::EmbedRoute;
use tower_http::cors::{AllowOrigin, CorsLayer};

use crate::app::App;
use crate::edge::deadline;
use crate::edge::observe::{authorize, observe};
use crate::edge::paths;
use crate::error::ApiError;
use crate::function::Role;
use crate::routes::{admin, embed, models, predict, probes, rerank, score, tei, tokenize, vertex};
use crate::web;

/// Every route of a function; the same for HTTP, Lambda and tests.
pub fn router(app: Arc<App>) -> Router {
    let face = web::face(app.function.role);
    let mut router = match app.function.role {
        Role::Rerank => rerank_routes(),
        Role::Embed => embed_routes(),
    };
    router = router
        .route("/", web::root(face))
        .route("/health", get(probes::health))
        .route("/v1/health", get(probes::health))
        .route("/ready", get(probes::ready))
        .route("/live", get(probes::live))
        .route("/ping", get(probes::ready))
        .route("/v1/models", get(models::models))
        .route("/models", get(models::models))
        .route("/v1/models/{*model}", get(models::model))
        .route("/props", get(models::props))
        .route(vertex::PATH, post(vertex::vertex))
        .route("/tokenize", post(tokenize::tokenize))
        .route("/detokenize", post(tokenize::detokenize))
        .route("/decode", post(tokenize::detokenize))
        .route("/info", get(models::info))
        .route("/version", get(probes::version))
        .route("/metrics", get(probes::metrics));
    router = web::add(router, face);
    if app.config.snapshot_hooks {
        for path in admin::BEFORE_SNAPSHOT {
            router = router.route(path, post(admin::before_snapshot));
        }
        for path in admin::AFTER_RESTORE {
            router = router.route(path, post(admin::after_restore));
        }
    }
    let cors = cors(&app.config.cors_origins);
    let role = app.function.role;
    let router = router
        .fallback(async move |uri: Uri| match elsewhere(role, uri.path()) {
            Some(function) => ApiError::of_another_function(uri.path(), function),
            None => ApiError::not_found(uri.path()),
        })
        .method_not_allowed_fallback(async |method: Method| {
            ApiError::method_not_allowed(method.as_str())
        })
        .layer(from_fn_with_state(Arc::clone(&app), deadline::keep))
        .layer(from_fn_with_state(Arc::clone(&app), authorize))
        .layer(tower::util::option_layer(cors))
        .layer(from_fn_with_state(Arc::clone(&app), observe))
        .with_state(app);
    paths::tolerant(router)
}

/// Which function answers on a path that this one does not have: one snapshot of an embedder serves both.
fn elsewhere(role: Role, path: &str) -> Option<&'static str> {
    let embeds = EmbedRoute::PATHS.iter().any(|(known, _)| *known == path)
        || (path.starts_with("/openai/") && path.ends_with("/embeddings"));
    let paths = rerank::PATHS.iter().chain(&score::PATHS).chain(&predict::PATHS);
    let ranks = paths.copied().any(|known| known == path)
        || ["/rerank/batch", "/rerank/query"].contains(&path);
    match role {
        Role::Rerank if embeds => Some(
            "this function scores pairs; texts are embedded by the function embed, which serves the same snapshot if its \
             model is an embedder",
        ),
        Role::Embed if ranks => Some(
            "this function embeds texts; they are ranked by the function rerank-cpu-int8, which serves the same snapshot and \
             scores by the cosine of its vectors",
        ),
        _ => None,
    }
}

fn rerank_routes() -> Router<Arc<App>> {
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

fn embed_routes() -> Router<Arc<App>> {
    EmbedRoute::PATHS.iter().fold(Router::new(), |router, &(path, route)| {
        let handler =
            move |app, id, params, request| embed::handle(app, id, route, params, request);
        router.route(path, post(handler))
    })
}

fn cors(origins: &[String]) -> Option<CorsLayer> {
    if origins.is_empty() {
        return None;
    }
    let allowed = if origins.iter().any(|origin| origin == "*") {
        AllowOrigin::any()
    } else {
        AllowOrigin::list(origins.iter().filter_map(|origin| HeaderValue::from_str(origin).ok()))
    };
    let exposed = [
        "x-request-id",
        "x-process-time",
        "server-timing",
        "x-truncated-documents",
        "x-truncated-inputs",
        "x-warnings",
        "x-cache",
        "retry-after",
    ];
    // By the Fetch standard `*` is no name for `authorization`, and none at all in requests with credentials.
    let allowed_headers = [
        "accept",
        "api-key",
        "authorization",
        "content-encoding",
        "content-type",
        "openai-organization",
        "openai-project",
        "x-api-key",
        "x-envoy-expected-rq-timeout-ms",
        "x-request-id",
        "x-request-timeout",
        "*",
    ];
    Some(
        CorsLayer::new()
            .allow_origin(allowed)
            .allow_methods([Method::GET, Method::POST])
            .allow_headers(allowed_headers.map(HeaderName::from_static))
            .expose_headers(
                exposed
                    .map(HeaderName::from_static)
                    .into_iter()
                    .chain(tei::HEADERS)
                    .collect::<Vec<_>>(),
            ),
    )
}
