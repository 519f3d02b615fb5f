//! The routes, and the layers around them.

use std::sync::Arc;

use axum::Router;
use axum::http::{HeaderName, HeaderValue, Method, Uri};
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post};
use defrost_api::EmbedRoute;
use tower_http::cors::{AllowOrigin, CorsLayer};

use crate::app::App;
use crate::boot::Role;
use crate::deadline;
use crate::error::ApiError;
use crate::observe::{authorize, observe};
use crate::routes::{admin, embed, models, probes, rerank, score, tokenize};
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
        .route("/ready", get(probes::ready))
        .route("/live", get(probes::live))
        .route("/ping", get(probes::ready))
        .route("/v1/models", get(models::models))
        .route("/models", get(models::models))
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
    router
        .fallback(async |uri: Uri| ApiError::not_found(uri.path()))
        .method_not_allowed_fallback(async |method: Method| {
            ApiError::method_not_allowed(method.as_str())
        })
        .layer(from_fn_with_state(Arc::clone(&app), deadline::keep))
        .layer(from_fn_with_state(Arc::clone(&app), authorize))
        .layer(tower::util::option_layer(cors))
        .layer(from_fn_with_state(Arc::clone(&app), observe))
        .with_state(app)
}

fn rerank_routes() -> Router<Arc<App>> {
    let router = Router::new()
        .route("/", post(rerank::rerank))
        .route("/rerank/batch", post(rerank::batch))
        .route("/rerank/query", post(rerank::query));
    let paths = rerank::PATHS.iter();
    let router = paths.fold(router, |router, path| router.route(path, post(rerank::rerank)));
    score::PATHS.iter().fold(router, |router, path| router.route(path, post(score::score)))
}

fn embed_routes() -> Router<Arc<App>> {
    let router = Router::new()
        .route("/tokenize", post(tokenize::tokenize))
        .route("/detokenize", post(tokenize::detokenize))
        .route("/decode", post(tokenize::detokenize));
    EmbedRoute::PATHS.iter().fold(router, |router, &(path, route)| {
        let handler = move |app, id, request| embed::handle(app, id, route, request);
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
            .expose_headers(exposed.map(HeaderName::from_static)),
    )
}
