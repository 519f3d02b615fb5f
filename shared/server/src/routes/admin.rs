//! The hooks around a memory snapshot as routes, for platforms that are told by hand: Modal (call
//! them in `@modal.enter(snap=True)` and `@modal.enter(snap=False)`), or a checkpoint of a
//! container.
//!
//! They exist with `SNAPSHOT_HOOKS=true` only, because a client that reaches them can stop the
//! service. With `API_KEYS` set they need a key like other routes. Without, they take requests made
//! on this machine for this machine: the peer is loopback, `Host` names loopback, and no header
//! says that the request was passed on or comes from a web page ([`MARKS`]). The peer alone would
//! not do: a platform's own proxy may sit in the same container and bring the whole internet to it
//! over loopback. A proxy that leaves no trace of itself needs `API_KEYS`.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use axum::Json;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName, header};
use serde_json::{Value, json};
use tokio::task::JoinError;

use crate::app::App;
use crate::error::ApiError;
use crate::life::quiesce::HookError;

/// `sleep` and `wake_up` are vLLM's names, `quiesce` is what it is.
pub(crate) const BEFORE_SNAPSHOT: [&str; 3] =
    ["/admin/before_snapshot", "/admin/quiesce", "/sleep"];
pub(crate) const AFTER_RESTORE: [&str; 2] = ["/admin/after_restore", "/wake_up"];

type Reply = Result<Json<Value>, ApiError>;

pub(crate) async fn before_snapshot(State(app): State<Arc<App>>, request: Request) -> Reply {
    check_caller(&app, &request)?;
    let begun = Instant::now();
    let hooks = Arc::clone(&app);
    // A task of its own: a client that goes away leaves nothing half done.
    let done = tokio::spawn(async move { hooks.before_snapshot().await }).await;
    answer(&app, begun, done)
}

pub(crate) async fn after_restore(State(app): State<Arc<App>>, request: Request) -> Reply {
    check_caller(&app, &request)?;
    let begun = Instant::now();
    let hooks = Arc::clone(&app);
    let done = tokio::spawn(async move { hooks.after_restore().await }).await;
    answer(&app, begun, done)
}

fn answer(app: &App, begun: Instant, done: Result<Result<(), HookError>, JoinError>) -> Reply {
    done.map_err(|error| ApiError::internal(&error.to_string()))??;
    let took_ms = begun.elapsed().as_secs_f64() * 1e3;
    Ok(Json(json!({"state": app.state_word(), "took_ms": took_ms})))
}

/// See the module page.
fn check_caller(app: &App, request: &Request) -> Result<(), ApiError> {
    let Some(ConnectInfo(peer)) = request.extensions().get::<ConnectInfo<SocketAddr>>() else {
        return Err(ApiError::forbidden(
            "this route is for plain http; on lambda the hooks run by themselves (SnapStart)",
        ));
    };
    // By HTTP the target's own host, where it has one, is the one that is meant.
    let target = request.uri().authority().map(Authority::as_str);
    let is_local = is_local(peer.ip(), request.headers()) && target.is_none_or(names_loopback);
    if !app.config.api_keys.is_empty() || is_local {
        return Ok(());
    }
    Err(ApiError::forbidden(
        "without API_KEYS this route is for requests from this machine, made directly and to a \
         loopback host",
    ))
}

/// How the name of a header gives away that it was added on the way, or by a browser for a page.
#[derive(Debug, Clone, Copy)]
enum Mark {
    Is(&'static str),
    Begins(&'static str),
    Holds(&'static str),
}

impl Mark {
    fn is_on(self, name: &str) -> bool {
        match self {
            Self::Is(mark) => name == mark,
            Self::Begins(mark) => name.starts_with(mark),
            Self::Holds(mark) => name.contains(mark),
        }
    }
}

/// The marks of proxies, content networks, gateways, platforms and browsers. Too many rather than
/// too few: a person who calls these routes by hand sends none of them.
const MARKS: [Mark; 55] = [
    // Whatever the vendor, a header that tells an address or a host of before.
    Mark::Holds("forwarded"),
    Mark::Holds("client-ip"),
    Mark::Holds("clientip"),
    Mark::Holds("client-port"),
    Mark::Holds("connecting-ip"),
    Mark::Holds("connection-ip"),
    Mark::Holds("real-ip"),
    Mark::Holds("remote-ip"),
    Mark::Holds("remote-addr"),
    Mark::Holds("user-ip"),
    Mark::Holds("socketip"),
    Mark::Holds("external-address"),
    Mark::Holds("original-"),
    Mark::Holds("originating"),
    Mark::Holds("proxy"),
    Mark::Holds("proxied"),
    // Standards.
    Mark::Is("via"),
    Mark::Is("cdn-loop"),
    Mark::Is("max-forwards"),
    Mark::Is("early-data"),
    // Browsers, for a page.
    Mark::Is("origin"),
    Mark::Is("referer"),
    Mark::Begins("sec-fetch-"),
    Mark::Begins("access-control-request-"),
    // Vendors.
    Mark::Begins("akamai-"),
    Mark::Begins("cf-"),
    Mark::Begins("cloudfront-"),
    Mark::Begins("fastly-"),
    Mark::Begins("fly-"),
    Mark::Begins("incap-"),
    Mark::Begins("ngrok-"),
    Mark::Begins("rndr-"),
    Mark::Begins("tailscale-"),
    Mark::Begins("x-akamai-"),
    Mark::Begins("x-amz"),
    Mark::Begins("x-appengine-"),
    Mark::Begins("x-arr-"),
    Mark::Begins("x-azure-"),
    Mark::Begins("x-cloud-trace-"),
    Mark::Begins("x-envoy-"),
    Mark::Begins("x-kong-"),
    Mark::Begins("x-nf-"),
    Mark::Begins("x-railway-"),
    Mark::Begins("x-request-start"),
    Mark::Begins("x-vercel-"),
    Mark::Is("x-varnish"),
    Mark::Begins("x-accel-"),
    Mark::Begins("x-litespeed-"),
    // Further words of proxies, for what a client asked of them, and of what watches them.
    Mark::Holds("-via"),
    Mark::Holds("https"),
    Mark::Holds("scheme"),
    Mark::Holds("rewrite"),
    Mark::Is("x-host"),
    Mark::Begins("surrogate-"),
    Mark::Begins("x-b3-"),
];

fn is_local(peer: IpAddr, headers: &HeaderMap) -> bool {
    let mut hosts = headers.get_all(header::HOST).iter();
    // Two contradict each other, whichever is looked at.
    let host = hosts.next().filter(|_| hosts.next().is_none()).and_then(|host| host.to_str().ok());
    let passed_on = headers
        .keys()
        .map(HeaderName::as_str)
        .any(|name| MARKS.iter().any(|mark| mark.is_on(name)));
    peer.to_canonical().is_loopback() && host.is_some_and(names_loopback) && !passed_on
}

/// Whether a `Host` is `localhost` or a loopback address, with or without a port.
fn names_loopback(host: &str) -> bool {
    let Ok(host) = host.parse::<Authority>() else {
        return false;
    };
    let name = host.host().trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn local(peer: &str, headers: &[(&'static str, &'static str)]) -> bool {
        let headers = headers
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect();
        is_local(peer.parse().expect("an address"), &headers)
    }

    #[test]
    fn only_direct_requests_to_loopback_are_local() {
        for host in ["localhost", "LocalHost:8000", "127.0.0.1:8000", "[::1]:8000", "127.1.2.3"] {
            assert!(local("127.0.0.1", &[("host", host)]), "{host}");
        }
        for host in ["example.com", "localhost.example.com", "10.0.0.1", "", "a b", "127.0.0.1.x"] {
            assert!(!local("127.0.0.1", &[("host", host)]), "{host}");
        }
        assert!(local("::1", &[("host", "localhost")]));
        assert!(local("::ffff:127.0.0.1", &[("host", "localhost")]));
        assert!(!local("10.0.0.1", &[("host", "localhost")]));
        assert!(!local("::ffff:10.0.0.1", &[("host", "localhost")]));
        assert!(!local("127.0.0.1", &[]));
        let mut twice = HeaderMap::new();
        twice.append("host", HeaderValue::from_static("localhost"));
        twice.append("host", HeaderValue::from_static("example.com"));
        assert!(!is_local("127.0.0.1".parse().expect("an address"), &twice));
    }

    /// A row each: the mark as it is sent.
    #[test]
    fn every_mark_of_a_proxy_counts() {
        let sent = [
            "x-forwarded-for x-forwarded-proto x-forwarded forwarded x-original-forwarded-for",
            "client-ip x-client-ip true-client-ip x-cluster-client-ip fly-client-ip fastly-client-ip wl-proxy-client-ip",
            "x-azure-clientip",
            "x-client-port",
            "cf-connecting-ip do-connecting-ip cf-connecting-ipv6",
            "x-nf-client-connection-ip",
            "x-real-ip",
            "x-remote-ip",
            "x-remote-addr",
            "x-appengine-user-ip",
            "x-azure-socketip",
            "x-envoy-external-address",
            "x-original-url x-original-host",
            "x-originating-ip",
            "proxy-connection x-nginx-proxy x-bluecoat-proxy",
            "x-proxied-by",
            "via",
            "cdn-loop",
            "max-forwards",
            "early-data",
            "origin",
            "referer",
            "sec-fetch-site sec-fetch-mode",
            "access-control-request-private-network",
            "akamai-origin-hop",
            "cf-ray cf-visitor cf-ipcountry cf-worker",
            "cloudfront-viewer-address",
            "fastly-ff fastly-ssl",
            "fly-region fly-request-id",
            "incap-tls-version",
            "ngrok-auth-user-email",
            "rndr-id",
            "tailscale-user-login",
            "x-akamai-edgescape",
            "x-amzn-trace-id x-amz-cf-id",
            "x-appengine-country",
            "x-arr-log-id x-arr-ssl",
            "x-azure-fdid x-azure-ref",
            "x-cloud-trace-context",
            "x-envoy-expected-rq-timeout-ms x-envoy-attempt-count",
            "x-kong-request-id",
            "x-nf-request-id",
            "x-railway-edge",
            "x-request-start",
            "x-vercel-id",
            "x-varnish",
            "x-accel-internal",
            "x-litespeed-cache",
            "x-bluecoat-via",
            "front-end-https",
            "x-scheme x-url-scheme",
            "x-rewrite-url",
            "x-host",
            "surrogate-capability",
            "x-b3-traceid",
        ];
        assert_eq!(sent.len(), MARKS.len());
        for (mark, names) in MARKS.into_iter().zip(sent) {
            for name in names.split(' ') {
                assert!(mark.is_on(name), "{mark:?}: {name}");
                assert!(!local("127.0.0.1", &[("host", "localhost"), (name, "1.2.3.4")]), "{name}");
            }
        }
        let usual = [
            "accept",
            "accept-encoding",
            "api-key",
            "authorization",
            "cache-control",
            "connection",
            "content-length",
            "content-type",
            "expect",
            "traceparent",
            "user-agent",
            "x-api-key",
            "x-request-id",
            "x-request-timeout",
        ];
        for name in usual {
            assert!(local("127.0.0.1", &[("host", "localhost"), (name, "x")]), "{name}");
        }
    }
}
