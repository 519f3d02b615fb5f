//! What people see with a browser: a page at `/`, the OpenAPI document, Swagger UI and ReDoc.
//!
//! Everything lies in the binary and nothing is loaded from elsewhere; each page's
//! `content-security-policy` forbids it. Nothing here runs before it is asked for: the document is
//! written at the first request for it, and kept once the model is known. Pages need no key, for a
//! key is entered in one of them; what they show of this server they ask it for, with the key.
//!
//! The two viewers are 0.8 MB of the binary, compressed; they are the feature `docs`.

pub(crate) mod accept;
mod content;
#[cfg(feature = "docs")]
mod docs;
mod page;

use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method};
use axum::response::Response;
use axum::routing::{MethodRouter, get};

use crate::app::App;
use crate::error::ApiError;
use crate::openapi::{Description, openapi};
use crate::service::Services;
use content::Content;

const DOCUMENT: &str = "/openapi.json";

/// `GET /`: the page for browsers, the service as JSON for all others.
pub(crate) fn root() -> MethodRouter<Arc<App>> {
    let page = Arc::new(OnceLock::new());
    get(async move |State(app): State<Arc<App>>, headers: HeaderMap| {
        page::root(&page, &app, &headers)
    })
}

/// Adds the document and its viewers.
pub(crate) fn add(router: Router<Arc<App>>) -> Router<Arc<App>> {
    let kept = Arc::new(OnceLock::new());
    let answer = get(async move |State(app): State<Arc<App>>, headers: HeaderMap| {
        document(&kept, &app, &headers)
    });
    let router = router.route(DOCUMENT, answer);
    #[cfg(feature = "docs")]
    let router = docs::add(router);
    router
}

fn document(
    kept: &OnceLock<Content>,
    app: &App,
    headers: &HeaderMap,
) -> Result<Response, ApiError> {
    if let Some(document) = kept.get() {
        return document.answer(headers);
    }
    let services = &Services::of(app).active;
    // Asked before the document is written: a model that arrives meanwhile is for the next one.
    let is_final = services.iter().all(|service| app.ready_model_of(service.role).is_some());
    let description = Description {
        function: app.function,
        apis: services.iter().map(|service| (service.api)(app)).collect(),
        needs_key: !app.config.api_keys.is_empty(),
        strict_model: app.config.strict_model || app.fleet.has_several(),
        snapshot_hooks: app.config.snapshot_hooks,
    };
    let document = Content::new("application/json", openapi(&description).to_string());
    if is_final { kept.get_or_init(|| document).answer(headers) } else { document.answer(headers) }
}

/// Whether a request is for a page, which needs no key.
pub(crate) fn is_public(request: &Request) -> bool {
    let path = request.uri().path();
    let reads = [Method::GET, Method::HEAD].contains(request.method());
    let is_page = match path {
        "/" => accept::wants_html(request.headers()),
        DOCUMENT => true,
        #[cfg(feature = "docs")]
        path => docs::PATHS.contains(&path),
        #[cfg(not(feature = "docs"))]
        _ => false,
    };
    reads && is_page
}
