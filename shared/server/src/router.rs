//! The routes, and the layers around them.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderName, HeaderValue, Method, Uri};
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post};
use defrost_api::VERTEX_PATH;
use tower_http::cors::{AllowOrigin, CorsLayer};

use crate::app::App;
use crate::edge::deadline;
use crate::edge::observe::{authorize, observe};
use crate::edge::paths;
use crate::error::ApiError;
use crate::routes::{admin, invocations, models, probes, tei, tokenize, vertex};
use crate::service::{INVOCATIONS, Service, Services};
use crate::web;

/// Every route of a function; the same for HTTP, Lambda and tests.
pub fn router(app: Arc<App>) -> Router {
    let own = |router: Router<_>, service: &&Service| router.merge((service.routes)());
    let services = Services::of(&app);
    let mut router = services.active.iter().fold(Router::new(), own);
    for path in INVOCATIONS {
        router = router.route(path, invocations::of(&services.active));
    }
    router = router
        .route("/", web::root())
        .route("/health", get(probes::health))
        .route("/v1/health", get(probes::health))
        .route("/ready", get(probes::ready))
        .route("/live", get(probes::live))
        .route("/ping", get(probes::ready))
        .route("/v1/models", get(models::models))
        .route("/models", get(models::models))
        .route("/v1/models/{*model}", get(models::model))
        .route("/props", get(models::props))
        .route(VERTEX_PATH, post(vertex::vertex))
        .route("/tokenize", post(tokenize::tokenize))
        .route("/detokenize", post(tokenize::detokenize))
        .route("/decode", post(tokenize::detokenize))
        .route("/info", get(models::info))
        .route("/version", get(probes::version))
        .route("/metrics", get(probes::metrics));
    router = web::add(router);
    if app.config.snapshot_hooks {
        for path in admin::BEFORE_SNAPSHOT {
            router = router.route(path, post(admin::before_snapshot));
        }
        for path in admin::AFTER_RESTORE {
            router = router.route(path, post(admin::after_restore));
        }
    }
    let cors = cors(&app.config.cors_origins);
    let router = router
        .fallback(async move |State(app): State<Arc<App>>, uri: Uri| elsewhere(&app, uri.path()))
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

/// Who would answer on a path that leads nowhere.
fn elsewhere(app: &App, path: &str) -> ApiError {
    let Services { active, idle } = Services::of(app);
    if let Some(idle) = idle.iter().find(|service| service.has_path(path)) {
        return ApiError::of_no_model(path, idle.name());
    }
    // Where several services are offered, another function is no answer to what one of them does.
    let is_alone = active.len() + idle.len() == 1;
    let mut other = active.iter().filter(|_| is_alone);
    match other.find_map(|service| (service.elsewhere)(path)) {
        Some(function) => ApiError::of_another_function(path, function),
        None => ApiError::not_found(path),
    }
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
    // By the Fetch standard `*` is no name for `authorization`, and none at all in requests with
    // credentials.
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
