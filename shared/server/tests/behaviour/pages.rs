//! Pages for browsers: which clients get them, under which policy, how they are kept and compressed.

use axum::Router;
use axum::body::Body;
use axum::http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use tower::ServiceExt as _;

use super::toy::{ready, start_with};

const BROWSER: &str = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";

async fn ask(
    router: &Router,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
) -> Response<Body> {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    router
        .clone()
        .oneshot(request.body(Body::empty()).expect("a request"))
        .await
        .expect("an answer")
}

async fn get(router: &Router, path: &str, headers: &[(&str, &str)]) -> Response<Body> {
    ask(router, Method::GET, path, headers).await
}

fn header<'a>(response: &'a Response<Body>, name: &str) -> &'a str {
    response.headers().get(name).map_or("", |value| value.to_str().expect("ascii"))
}

async fn bytes(response: Response<Body>) -> Vec<u8> {
    response.into_body().collect().await.expect("a body").to_bytes().to_vec()
}

#[tokio::test]
async fn browsers_get_a_page_and_programs_the_service() {
    let router = ready(&[]).await;
    let page = get(&router, "/", &[("accept", BROWSER)]).await;
    assert_eq!(page.status(), 200);
    assert_eq!(header(&page, "content-type"), "text/html; charset=utf-8");
    assert_eq!(header(&page, "vary").to_ascii_lowercase().matches("accept").count(), 1);
    let policy = header(&page, "content-security-policy").to_owned();
    for rule in
        ["default-src 'none'", "script-src 'sha256-", "style-src 'sha256-", "connect-src 'self'"]
    {
        assert!(policy.contains(rule), "{rule} in {policy}");
    }
    assert!(!policy.contains("unsafe"), "{policy}");
    assert!(String::from_utf8(bytes(page).await).expect("utf-8").contains("data-kind=\"rerank\""));
    for accept in
        [&[][..], &[("accept", "*/*")], &[("accept", "application/json, text/html;q=0.5")]]
    {
        let service = get(&router, "/", accept).await;
        assert_eq!(header(&service, "content-type"), "application/json", "{accept:?}");
        assert!(header(&service, "vary").contains("accept"), "{accept:?}");
    }
    // The page of a function that still loads shows the boot; it must not wait for it.
    let loading = start_with(&[], || {
        std::thread::park();
        Ok(super::toy::Toy::new())
    });
    let router = defrost_server::router(loading);
    assert_eq!(get(&router, "/", &[("accept", BROWSER)]).await.status(), 200);
    assert_eq!(get(&router, "/openapi.json", &[]).await.status(), 200);
}

#[tokio::test]
async fn a_tag_saves_the_second_download() {
    let router = ready(&[]).await;
    for (path, accept) in [("/", BROWSER), ("/openapi.json", "*/*")] {
        let first = get(&router, path, &[("accept", accept)]).await;
        let tag = header(&first, "etag").to_owned();
        assert!(tag.starts_with('"') && tag.len() > 10, "{path}: {tag}");
        assert_eq!(header(&first, "cache-control"), "no-cache");
        assert!(!bytes(first).await.is_empty());
        for known in [tag.clone(), format!("\"other\", W/{tag}"), "*".to_owned()] {
            let again = get(&router, path, &[("accept", accept), ("if-none-match", &known)]).await;
            assert_eq!(again.status(), StatusCode::NOT_MODIFIED, "{path} {known}");
            assert_eq!(header(&again, "etag"), tag);
            assert!(bytes(again).await.is_empty());
        }
        let other = get(&router, path, &[("accept", accept), ("if-none-match", "\"other\"")]).await;
        assert_eq!(other.status(), 200, "{path}");
    }
}

#[tokio::test]
async fn head_is_get_without_the_body() {
    let router = ready(&[]).await;
    for (path, accept) in [("/", BROWSER), ("/", "*/*"), ("/openapi.json", "*/*")] {
        let got = get(&router, path, &[("accept", accept)]).await;
        let head = ask(&router, Method::HEAD, path, &[("accept", accept)]).await;
        for name in ["content-type", "etag", "content-security-policy", "vary"] {
            assert_eq!(header(&head, name), header(&got, name), "{name} of {path}");
        }
        let length = bytes(got).await.len();
        assert_eq!(header(&head, "content-length"), length.to_string(), "{path}");
        assert!(bytes(head).await.is_empty());
    }
}

#[tokio::test]
async fn pages_need_no_key_and_hold_no_secret() {
    let router = ready(&[("API_KEYS", "hush-hush")]).await;
    for (path, accept) in [("/", BROWSER), ("/openapi.json", "*/*")] {
        let page = get(&router, path, &[("accept", accept)]).await;
        assert_eq!(page.status(), 200, "{path}");
        assert!(!String::from_utf8(bytes(page).await).expect("utf-8").contains("hush"), "{path}");
    }
    assert_eq!(
        get(&router, "/", &[]).await.status(),
        401,
        "the service as JSON needs a key as before"
    );
    let post = ask(&router, Method::POST, "/", &[("accept", BROWSER)]).await;
    assert_eq!(post.status(), 401, "a page is read, not sent to");
}

#[cfg(feature = "docs")]
#[tokio::test]
async fn viewers_are_served_compressed_or_plain() {
    use std::io::Read as _;

    let router = ready(&[("API_KEYS", "k")]).await;
    for path in ["/docs/swagger-ui.css", "/docs/swagger-ui-bundle.js", "/redoc/redoc.standalone.js"]
    {
        let packed = get(&router, path, &[("accept-encoding", "gzip, br")]).await;
        assert_eq!(header(&packed, "content-encoding"), "gzip", "{path}");
        assert_eq!(header(&packed, "vary"), "accept-encoding");
        let packed_tag = header(&packed, "etag").to_owned();
        let plain = get(&router, path, &[("accept-encoding", "br")]).await;
        assert_eq!(
            (header(&plain, "content-encoding"), plain.status().as_u16()),
            ("", 200),
            "{path}"
        );
        assert_ne!(header(&plain, "etag"), packed_tag, "two representations, two tags");
        let (packed, plain) = (bytes(packed).await, bytes(plain).await);
        let mut opened = Vec::new();
        flate2::read::GzDecoder::new(&packed[..]).read_to_end(&mut opened).expect("gzip");
        assert!(opened == plain && packed.len() * 2 < plain.len(), "{path}");
    }
    for path in ["/docs", "/redoc"] {
        let page = get(&router, path, &[]).await;
        assert_eq!(header(&page, "content-type"), "text/html; charset=utf-8");
        let policy = header(&page, "content-security-policy").to_owned();
        assert!(
            policy.contains("script-src 'self';") && policy.contains("default-src 'none'"),
            "{policy}"
        );
        let html = String::from_utf8(bytes(page).await).expect("utf-8");
        assert!(!html.contains("://"), "{path} loads from elsewhere");
        for script in html.split("src=\"").skip(1).filter_map(|rest| rest.split('"').next()) {
            assert_eq!(get(&router, &format!("/{script}"), &[]).await.status(), 200, "{script}");
        }
    }
}

#[cfg(not(feature = "docs"))]
#[tokio::test]
async fn lean_builds_have_no_viewers() {
    let router = ready(&[]).await;
    for path in ["/docs", "/redoc", "/docs/swagger-ui-bundle.js"] {
        assert_eq!(get(&router, path, &[]).await.status(), 404, "{path}");
    }
    assert_eq!(get(&router, "/openapi.json", &[]).await.status(), 200);
}
