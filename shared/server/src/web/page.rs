//! The page at `/`: one file with its own style and script, which is all that its policy lets run.

use std::sync::OnceLock;

use axum::http::header::{ACCEPT, VARY};
use axum::http::{HeaderMap, HeaderValue};
use axum::response::{IntoResponse as _, Response};

use super::accept;
use super::content::Content;
use crate::app::App;
use crate::error::ApiError;
use crate::routes::probes;
use crate::service::Services;

const PAGE: &str = include_str!("../../assets/page.html");

/// What the page's style and script hash to; a test says what to write here when they change.
const STYLE_SHA256: &str = "uhKsRN/xVE3lEcfbE69gphK5KHGV80CZx1UYDWVWzxk=";
const SCRIPT_SHA256: &str = "NjL3N56qcj2y+XeMyk0RiiZK5kPjON2mAqEm3hdrve8=";

/// The marks in the page where it is filled in which function it is for, and whether there are
/// viewers.
const KIND: &str = "data-kind=\"KIND\"";
const VIEWERS: &str = "data-docs=\"yes\"";

pub(super) fn root(
    page: &OnceLock<Content>,
    app: &App,
    headers: &HeaderMap,
) -> Result<Response, ApiError> {
    let mut response = if accept::wants_html(headers) {
        page.get_or_init(|| content(&kinds(app))).answer(headers)?
    } else {
        probes::root(app).into_response()
    };
    response.headers_mut().append(VARY, HeaderValue::from_name(ACCEPT));
    Ok(response)
}

/// What the process does, a word each, in the order of its models.
fn kinds(app: &App) -> String {
    let kinds: Vec<&str> = Services::of(app).active.iter().map(|service| service.name()).collect();
    kinds.join(" ")
}

fn content(kind: &str) -> Content {
    let viewers = if cfg!(feature = "docs") { "yes" } else { "no" };
    let page = PAGE.replacen(KIND, &format!("data-kind=\"{kind}\""), 1).replacen(
        VIEWERS,
        &format!("data-docs=\"{viewers}\""),
        1,
    );
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{STYLE_SHA256}'; script-src 'sha256-{SCRIPT_SHA256}'; \
         connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    );
    Content::new("text/html; charset=utf-8", page).with_policy(policy)
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use sha2::{Digest as _, Sha256};

    use super::*;

    /// What lies between the one `<tag>` and its end.
    fn inside(tag: &str) -> &'static str {
        let (_, rest) = PAGE.split_once(&format!("<{tag}>")).expect("the tag, without attributes");
        let (inside, rest) = rest.split_once(&format!("</{tag}>")).expect("the end of the tag");
        assert!(!rest.contains(&format!("<{tag}")), "one {tag} only");
        inside
    }

    #[test]
    fn the_policy_allows_what_is_in_the_page() {
        for (tag, allowed) in [("style", STYLE_SHA256), ("script", SCRIPT_SHA256)] {
            let hash = STANDARD.encode(Sha256::digest(inside(tag)));
            assert_eq!(hash, allowed, "write {hash} beside the page's {tag}");
        }
    }

    #[test]
    fn the_page_is_whole_and_small() {
        assert!(PAGE.len() < 60_000, "{} bytes", PAGE.len());
        assert_eq!((PAGE.matches(KIND).count(), PAGE.matches(VIEWERS).count()), (1, 1));
        assert!(!inside("style").contains("url(") && !inside("style").contains("@import"));
        for elsewhere in ["http://", "https://", "src="] {
            let found = PAGE.replace("http://www.w3.org/2000/svg", "").contains(elsewhere);
            assert!(!found, "{elsewhere} in the page");
        }
        for attribute in [" style=\"", " onclick=", " onload="] {
            assert!(!PAGE.contains(attribute), "{attribute} is not run under the policy");
        }
    }
}
