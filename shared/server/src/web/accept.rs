//! What a client takes: `accept` and `accept-encoding`.

use axum::http::HeaderMap;
use axum::http::header::{ACCEPT, ACCEPT_ENCODING, HeaderName};

/// Whether HTML is what the client wants: it names it, and likes it no less than JSON. Clients that
/// take anything (`*/*`) are programs.
pub(super) fn wants_html(headers: &HeaderMap) -> bool {
    let html = weight(headers, &ACCEPT, "text/html").unwrap_or(0);
    html > 0 && weight(headers, &ACCEPT, "application/json").is_none_or(|json| html >= json)
}

/// Whether JSON is what the client wants where text is usual: it names it, and likes it no less.
pub(crate) fn wants_json(headers: &HeaderMap) -> bool {
    let json = weight(headers, &ACCEPT, "application/json").unwrap_or(0);
    let text = ["text/plain", "application/openmetrics-text"];
    json > 0
        && text.iter().all(|text| weight(headers, &ACCEPT, text).is_none_or(|text| json >= text))
}

/// Whether plain text is what the client wants where `OpenMetrics` is usual: it names it, and likes
/// it better.
pub(crate) fn wants_plain(headers: &HeaderMap) -> bool {
    let plain = weight(headers, &ACCEPT, "text/plain").unwrap_or(0);
    plain > weight(headers, &ACCEPT, "application/openmetrics-text").unwrap_or(0)
}

/// Whether the client takes gzip.
pub(super) fn takes_gzip(headers: &HeaderMap) -> bool {
    let named = |name| weight(headers, &ACCEPT_ENCODING, name);
    named("gzip")
        .or_else(|| named("x-gzip"))
        .or_else(|| named("*"))
        .is_some_and(|weight| weight > 0)
}

/// How much the client likes `name`, in thousandths; `None`: it does not name it.
fn weight(headers: &HeaderMap, header: &HeaderName, name: &str) -> Option<u16> {
    headers
        .get_all(header)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .find_map(|range| {
            let mut parts = range.split(';').map(str::trim);
            parts.next().filter(|found| found.eq_ignore_ascii_case(name))?;
            let quality = parts.find_map(|part| {
                let (key, value) = part.split_once('=')?;
                key.trim().eq_ignore_ascii_case("q").then_some(value.trim())
            });
            Some(quality.map_or(1000, thousandths))
        })
}

/// `0.85` as 850. What is no quality counts as none at all.
fn thousandths(quality: &str) -> u16 {
    let quality: f32 = quality.parse().unwrap_or(0.0);
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 1000")]
    let thousandths = (quality.clamp(0.0, 1.0) * 1000.0).round() as u16;
    thousandths
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn with(name: HeaderName, value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::from_static(value))])
    }

    #[test]
    fn browsers_want_html_and_programs_do_not() {
        for (accept, html) in [
            ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", true),
            ("text/html", true),
            ("application/json;q=0.5, TEXT/HTML ; q=0.5", true),
            ("text/html, application/json", true),
            ("application/json, text/html;q=0.9", false),
            ("text/html;q=0", false),
            ("text/html;q=x", false),
            ("application/json", false),
            ("*/*", false),
            ("text/*", false),
            ("text/htmlx", false),
            ("", false),
        ] {
            assert_eq!(wants_html(&with(ACCEPT, accept)), html, "{accept}");
        }
        assert!(!wants_html(&HeaderMap::new()));
    }

    #[test]
    fn gzip_is_taken_when_it_is_named() {
        for (accept, gzip) in [
            ("gzip, deflate, br", true),
            ("br;q=1.0, gzip;q=0.8", true),
            ("*", true),
            ("gzip;q=0, *", false),
            ("identity", false),
            ("deflate", false),
            ("", false),
        ] {
            assert_eq!(takes_gzip(&with(ACCEPT_ENCODING, accept)), gzip, "{accept}");
        }
        assert!(!takes_gzip(&HeaderMap::new()));
    }
}
