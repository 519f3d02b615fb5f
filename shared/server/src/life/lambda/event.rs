//! What an event of Lambda is: a request, by one of five ways, or something else.
//!
//! | way | told by | its path |
//! |---|---|---|
//! | function URL, HTTP API | `requestContext.http` | `rawPath`, with the stage before it under the gateway's own domain |
//! | REST API, HTTP API with events of format 1.0 | `httpMethod` | `path`; with the stage before it in format 1.0 |
//! | load balancer | `requestContext.elb` | `path` |
//!
//! The path for the router is the one within the API. A stage called `prod` is a part of the
//! address, as the domain is, and so is the part of a custom domain that an API is mapped to; the
//! latter is told from the route or resource that matched (`/{proxy+}`), where there is one. What
//! `lambda_http` would make of stages is the opposite: it puts them before each path. It also
//! unwraps what it makes of hosts and queries, which clients choose, so they are made harmless
//! first.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt::Write as _;

use axum::http::{HeaderMap, header};
use lambda_http::aws_lambda_events::alb::AlbTargetGroupRequest;
use lambda_http::aws_lambda_events::apigw::{ApiGatewayProxyRequest, ApiGatewayV2httpRequest};
use lambda_http::request::LambdaRequest;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// Most keys of an unknown event that its refusal names.
const KEYS_SHOWN: usize = 8;

/// See the module page.
#[derive(Debug)]
pub(super) enum Event {
    Request {
        request: Box<LambdaRequest>,
        /// Whether its sender may understand a streamed answer.
        may_stream: bool,
    },
    WebSocket,
    /// The event is none that is known: what was expected and found, in words.
    Unknown(String),
}

impl<'de> Deserialize<'de> for Event {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Value::deserialize(deserializer).map(Self::of)
    }
}

impl Event {
    fn of(event: Value) -> Self {
        let context = &event["requestContext"];
        let is = |value: &Value| !value.is_null();
        let read = if is(&context["connectionId"]) {
            return Self::WebSocket;
        } else if is(&context["elb"]) {
            balancer(event)
        } else if is(&context["http"]) {
            http_api(event)
        } else if is(&event["httpMethod"]) && is(context) {
            rest_api(event)
        } else {
            return Self::Unknown(unknown(&event));
        };
        read.unwrap_or_else(|error| {
            Self::Unknown(format!("{EXPECTED}, found one that cannot be read: {error}"))
        })
    }
}

const EXPECTED: &str =
    "expected an event of a function URL, an HTTP API, a REST API or a load balancer";

fn unknown(event: &Value) -> String {
    let Value::Object(object) = event else {
        let kind = match event {
            Value::Array(_) => "an array",
            Value::String(_) => "a string",
            _ => "neither object nor array",
        };
        return format!("{EXPECTED}, found {kind}");
    };
    let mut keys: Vec<&String> = object.keys().collect();
    keys.sort_unstable();
    if keys.is_empty() {
        return format!("{EXPECTED}, found an empty object");
    }
    let shown: Vec<String> = keys.iter().take(KEYS_SHOWN).map(|key| format!("{key:?}")).collect();
    let dots = if keys.len() > KEYS_SHOWN { ", …" } else { "" };
    format!("{EXPECTED}, found an object with {}{dots}", shown.join(", "))
}

fn balancer(event: Value) -> Result<Event, serde_json::Error> {
    let mut event: AlbTargetGroupRequest = serde_json::from_value(without_nulls(event))?;
    one_set(&mut event.headers, &event.multi_value_headers);
    event.path = Some(rooted(event.path.unwrap_or_default()));
    Ok(Event::Request { request: Box::new(LambdaRequest::Alb(event)), may_stream: false })
}

fn http_api(event: Value) -> Result<Event, serde_json::Error> {
    let mut event: ApiGatewayV2httpRequest = serde_json::from_value(event)?;
    let context = &mut event.request_context;
    let (stage, domain) = (context.stage.take(), context.domain_name.take());
    let path = rooted(event.raw_path.unwrap_or_default());
    let path = without_stage(&path, stage.as_deref(), domain.as_deref());
    // `ANY /{proxy+}`
    let route = event.route_key.as_deref().and_then(|key| key.split_once(' '));
    let path = within(path, route.map(|(_, route)| route), &event.path_parameters);
    event.raw_path = Some(path.into_owned());
    event.raw_query_string = event.raw_query_string.map(|query| as_query(&query));
    event.headers.remove(header::HOST);
    let request = Box::new(LambdaRequest::ApiGatewayV2(event));
    Ok(Event::Request { request, may_stream: domain.is_some() })
}

fn rest_api(event: Value) -> Result<Event, serde_json::Error> {
    let is_http_api = event["version"] == "1.0";
    let mut event: ApiGatewayProxyRequest = serde_json::from_value(event)?;
    one_set(&mut event.headers, &event.multi_value_headers);
    let context = &mut event.request_context;
    let (stage, domain) = (context.stage.take(), context.domain_name.take());
    let path = rooted(event.path.unwrap_or_default());
    let stage = stage.as_deref().filter(|_| is_http_api);
    let path = without_stage(&path, stage, domain.as_deref());
    let path = within(path, event.resource.as_deref(), &event.path_parameters);
    event.path = Some(path.into_owned());
    let request = Box::new(LambdaRequest::ApiGatewayV1(event));
    Ok(Event::Request { request, may_stream: domain.is_some() })
}

/// A load balancer sends one kind of headers and queries; what it leaves out some senders write as
/// null.
fn without_nulls(mut event: Value) -> Value {
    if let Value::Object(event) = &mut event {
        event.retain(|_, value| !value.is_null());
    }
    event
}

/// The lists have all that the single ones have, and every value of it; the host, which no route
/// needs, is taken out of what an address is made of.
fn one_set(single: &mut HeaderMap, lists: &HeaderMap) {
    if lists.is_empty() {
        single.remove(header::HOST);
    } else {
        single.clear();
    }
}

fn rooted(path: String) -> String {
    if path.starts_with('/') { path } else { format!("/{path}") }
}

/// Under the gateway's own domain the first part of a path is the stage; under others it is not
/// there.
fn without_stage<'a>(path: &'a str, stage: Option<&str>, domain: Option<&str>) -> &'a str {
    let own = domain.is_none_or(|domain| domain.contains(".execute-api."));
    let stage = stage.filter(|stage| own && *stage != "$default");
    let rest = stage.and_then(|stage| path.strip_prefix('/')?.strip_prefix(stage));
    match rest {
        Some("") => "/",
        Some(rest) if rest.starts_with('/') => rest,
        _ => path,
    }
}

/// The end of the path that the route or resource matched, if it tells.
fn within<'a>(
    path: &'a str,
    template: Option<&str>,
    parameters: &HashMap<String, String>,
) -> Cow<'a, str> {
    let filled = template.and_then(|template| {
        let mut filled = String::new();
        for part in template.strip_prefix('/')?.split('/') {
            let name = part.strip_prefix('{').and_then(|part| part.strip_suffix('}'));
            let value = match name {
                Some(name) => parameters.get(name.trim_end_matches('+'))?,
                None => part,
            };
            // Writing to a String does not fail.
            let _ = write!(filled, "/{}", value.trim_start_matches('/'));
        }
        Some(filled)
    });
    match filled {
        Some(filled) if path.ends_with(&filled) => Cow::Owned(filled),
        _ => Cow::Borrowed(path),
    }
}

/// The query with everything escaped that the query of a URI may not hold.
fn as_query(query: &str) -> String {
    let mut escaped = String::with_capacity(query.len());
    for byte in query.bytes() {
        match byte {
            b'!' | b'$'..=b';' | b'=' | b'?'..=b'Z' | b'_' | b'a'..=b'z' | b'~' => {
                escaped.push(char::from(byte));
            }
            _ => {
                let _ = write!(escaped, "%{byte:02X}");
            }
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_are_taken_off_where_they_are() {
        let own = Some("x.execute-api.eu.amazonaws.com");
        for (path, stage, domain, expected) in [
            ("/prod/v1/rerank", Some("prod"), own, "/v1/rerank"),
            ("/prod/v1/rerank", Some("prod"), None, "/v1/rerank"),
            ("/prod", Some("prod"), own, "/"),
            ("/prod/", Some("prod"), own, "/"),
            ("/production/x", Some("prod"), own, "/production/x"),
            ("/v1/rerank", Some("v1"), Some("api.example.com"), "/v1/rerank"),
            ("/v1/v1/rerank", Some("v1"), own, "/v1/rerank"),
            ("/v1/rerank", Some("$default"), own, "/v1/rerank"),
            ("/v1/rerank", None, own, "/v1/rerank"),
        ] {
            assert_eq!(without_stage(path, stage, domain), expected, "{path} {stage:?} {domain:?}");
        }
    }

    #[test]
    fn what_a_route_matched_is_the_path() {
        let parameters = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        for (path, template, pairs, expected) in [
            ("/ml/v1/rerank", Some("/{proxy+}"), &[("proxy", "v1/rerank")][..], "/v1/rerank"),
            ("/ml/v1/rerank", Some("/v1/{proxy+}"), &[("proxy", "rerank")], "/v1/rerank"),
            ("/ml/v1/rerank", Some("/v1/rerank"), &[], "/v1/rerank"),
            ("/ml/", Some("/"), &[], "/"),
            (
                "/v1/models/a%2Fb",
                Some("/{proxy+}"),
                &[("proxy", "v1/models/a/b")],
                "/v1/models/a%2Fb",
            ),
            ("/v1/rerank", Some("/{proxy+}"), &[], "/v1/rerank"),
            ("/v1/rerank", Some("$default"), &[], "/v1/rerank"),
            ("/v1/rerank", None, &[], "/v1/rerank"),
        ] {
            assert_eq!(within(path, template, &parameters(pairs)), expected, "{path} {template:?}");
        }
    }

    #[test]
    fn any_query_becomes_one_of_a_uri() {
        for query in ["a=1&b=%20+c", "", "\"<>\\^`{|}#[]' é\0\u{7f}"] {
            let uri = format!("/x?{}", as_query(query));
            assert!(uri.parse::<axum::http::Uri>().is_ok(), "{uri}");
        }
        assert_eq!(as_query("a=1&b=%20+c/?:@-._~!$'()*,;"), "a=1&b=%20+c/?:@-._~!$'()*,;");
    }
}
