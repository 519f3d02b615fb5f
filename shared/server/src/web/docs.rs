//! Swagger UI at `/docs` and ReDoc at `/redoc`, as their makers publish them (`assets/NOTICE.md`),
//! with the few lines that start them on our document.
//!
//! Both put styles into the page while they run, so their policy allows those; scripts come from
//! this server only. ReDoc's search runs in a worker that it makes from a blob.

use std::sync::{Arc, LazyLock};

use axum::Router;
use axum::http::HeaderMap;
use axum::routing::get;

use super::content::Content;
use crate::app::App;

/// Every path of the viewers.
pub(super) const PATHS: [&str; 7] = [
    "/docs",
    "/docs/swagger-ui.css",
    "/docs/swagger-ui-bundle.js",
    "/docs/start.js",
    "/redoc",
    "/redoc/redoc.standalone.js",
    "/redoc/start.js",
];

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";

const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; \
    img-src 'self' data:; font-src data:; connect-src 'self'; worker-src blob:; \
    base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The files, in the order of [`PATHS`].
static FILES: LazyLock<[Content; 7]> = LazyLock::new(|| {
    let page = |text: &str| Content::new(HTML, text.to_owned()).with_policy(POLICY);
    [
        page(include_str!("../../assets/docs.html")),
        Content::gzip(CSS, include_bytes!("../../assets/swagger-ui.css.gz")),
        Content::gzip(SCRIPT, include_bytes!("../../assets/swagger-ui-bundle.js.gz")),
        Content::new(SCRIPT, include_str!("../../assets/docs.js").to_owned()),
        page(include_str!("../../assets/redoc.html")),
        Content::gzip(SCRIPT, include_bytes!("../../assets/redoc.standalone.js.gz")),
        Content::new(SCRIPT, include_str!("../../assets/redoc.js").to_owned()),
    ]
});

pub(super) fn add(router: Router<Arc<App>>) -> Router<Arc<App>> {
    PATHS.into_iter().enumerate().fold(router, |router, (index, path)| {
        router.route(path, get(async move |headers: HeaderMap| FILES[index].answer(&headers)))
    })
}
