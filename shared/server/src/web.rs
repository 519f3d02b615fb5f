//! What people see with a browser: a page at `/`, the OpenAPI document, Swagger UI and ReDoc.
//!
//! Everything lies in the binary and nothing is loaded from elsewhere; each page's
//! `content-security-policy` forbids it. Nothing here runs before it is asked for: the document is
//! written at the first request for it, and kept once the model is known. Pages need no key, for
//! a key is entered in one of them; what they show of this server they ask it for, with the key.
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
use defrost_api::{EmbedRules, Outputs, RerankRules};
use defrost_inference::{EmbedderInfo, Normalization};

use crate::app::App;
use crate::error::ApiError;
use crate::function::Role;
use crate::models::info::Info;
use crate::openapi::{Api, Description, openapi};
use crate::routes;
use content::Content;

const DOCUMENT: &str = "/openapi.json";

/// How a kind of function shows itself.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Face {
    /// Which of its two forms the page at `/` takes: `rerank` or `embed`.
    pub(crate) page: &'static str,
    /// Its routes, for the document; asked again until the model is loaded.
    pub(crate) api: fn(&App) -> Api,
}

/// The face of functions with this role.
pub(crate) fn face(role: Role) -> Face {
    match role {
        Role::Rerank => Face { page: "rerank", api: rerank },
        Role::Embed => Face { page: "embed", api: embed },
    }
}

fn rerank(app: &App) -> Api {
    // Of several models each reads its own number of tokens.
    let model = app.ready_model().filter(|_| !app.fleet.has_several());
    let max_sequence = |info: &Info| match info {
        Info::Reranker(info) => info.max_sequence,
        Info::Embedder(info) => info.max_length,
    };
    Api::rerank(RerankRules {
        limits: routes::rerank::limits(app),
        max_length: model.as_ref().map(|model| max_sequence(&model.info)),
        vocab: model.as_ref().map(|model| model.info.vocab()),
        max_inputs: app.config.embed.limits.max_inputs,
        takes_mxbai: app.ready_model().is_some_and(|model| match &model.info {
            Info::Reranker(info) => Normalization::takes_mxbai(info.template),
            Info::Embedder(_) => false,
        }),
    })
}

fn embed(app: &App) -> Api {
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

/// `GET /`: the page for browsers, the service as JSON for all others.
pub(crate) fn root(face: Face) -> MethodRouter<Arc<App>> {
    let page = Arc::new(OnceLock::new());
    get(async move |State(app): State<Arc<App>>, headers: HeaderMap| {
        page::root(face.page, &page, &app, &headers)
    })
}

/// Adds the document and its viewers.
pub(crate) fn add(router: Router<Arc<App>>, face: Face) -> Router<Arc<App>> {
    let kept = Arc::new(OnceLock::new());
    let answer = get(async move |State(app): State<Arc<App>>, headers: HeaderMap| {
        document(face, &kept, &app, &headers)
    });
    let router = router.route(DOCUMENT, answer);
    #[cfg(feature = "docs")]
    let router = docs::add(router);
    router
}

fn document(
    face: Face,
    kept: &OnceLock<Content>,
    app: &App,
    headers: &HeaderMap,
) -> Result<Response, ApiError> {
    if let Some(document) = kept.get() {
        return document.answer(headers);
    }
    // Asked before the document is written: a model that arrives meanwhile is for the next one.
    let is_final = app.ready_model().is_some();
    let description = Description {
        function: app.function,
        api: (face.api)(app),
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
