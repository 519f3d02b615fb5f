//! Paths as they are meant: `//v1//rerank/` is `/v1/rerank`.
//!
//! Base addresses are joined to paths by hand in many clients, with a slash too many; a 404 would
//! not help their users. So empty segments are left out before a request is matched with a route.
//! Paths without any, which are nearly all, are not touched.

use axum::Router;
use axum::extract::Request;
use axum::http::Uri;
use axum::http::uri::PathAndQuery;
use tower::ServiceExt as _;

/// The same routes, for paths with empty segments too.
pub(crate) fn tolerant(router: Router) -> Router {
    Router::new().fallback_service(router.map_request(|mut request: Request| {
        if let Some(uri) = cleaned(request.uri()) {
            *request.uri_mut() = uri;
        }
        request
    }))
}

/// The address without empty segments; `None`: it has none.
fn cleaned(uri: &Uri) -> Option<Uri> {
    let path = uri.path();
    if !path.contains("//") && (path.len() <= 1 || !path.ends_with('/')) {
        return None;
    }
    let mut clean = String::with_capacity(path.len() + uri.query().map_or(0, str::len) + 1);
    for segment in path.split('/').filter(|segment| !segment.is_empty()) {
        clean.push('/');
        clean.push_str(segment);
    }
    if clean.is_empty() {
        clean.push('/');
    }
    if let Some(query) = uri.query() {
        clean.push('?');
        clean.push_str(query);
    }
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(PathAndQuery::try_from(clean).ok()?);
    Uri::from_parts(parts).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_segments_are_left_out() {
        for (found, meant) in [
            ("/v1/rerank", None),
            ("/", None),
            ("/?a=//", None),
            ("/v1/rerank/", Some("/v1/rerank")),
            ("//v1//rerank", Some("/v1/rerank")),
            ("//", Some("/")),
            ("/v1/models/org/name/", Some("/v1/models/org/name")),
            ("/info/?model=a//b", Some("/info?model=a//b")),
            ("http://host//a/?q", Some("http://host/a?q")),
        ] {
            let cleaned = cleaned(&found.parse().expect("a uri"));
            assert_eq!(cleaned.map(|uri| uri.to_string()).as_deref(), meant, "{found}");
        }
    }
}
