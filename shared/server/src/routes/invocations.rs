//! `POST /` and `/invocations`, which every service has.
//!
//! Where a process has several services, the body says whose request it is: by the model that it
//! names, and else by its keys ([`Service::claim`]). A body that nobody claims is answered by the
//! first service, whose error says what was expected.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header;
use axum::response::Response;
use axum::routing::{MethodRouter, post};
use serde::de::{Deserializer as _, IgnoredAny, MapAccess, Visitor};
use tower::ServiceExt as _;

use super::body;
use crate::app::App;
use crate::error::ApiError;
use crate::service::{Service, Services};

/// What answers there, with these services.
pub(crate) fn of(services: &[&'static Service]) -> MethodRouter<Arc<App>> {
    match services {
        [only] => (only.invocations)(),
        _ => post(dispatch),
    }
}

async fn dispatch(State(app): State<Arc<App>>, request: Request) -> Result<Response, ApiError> {
    let (mut parts, body) = request.into_parts();
    let (bytes, held) = body::read(&app, &parts, body).await?;
    let service = whose(&app, &bytes)?;
    // What was packed for the way is unpacked.
    for name in [header::CONTENT_ENCODING, header::CONTENT_LENGTH, header::TRANSFER_ENCODING] {
        parts.headers.remove(name);
    }
    drop(held);
    let request = Request::from_parts(parts, Body::from(bytes));
    let answer = (service.invocations)().with_state(app).oneshot(request).await;
    Ok(answer.unwrap_or_else(|never| match never {}))
}

/// The service that a body is for.
pub(super) fn whose(app: &App, body: &[u8]) -> Result<&'static Service, ApiError> {
    let services = &Services::of(app).active;
    if let [only] = services[..] {
        return Ok(only);
    }
    if let Some(name) = super::named(body)
        && let Some(slot) = app.fleet.called(&name)
    {
        return Services::of_role(app, slot.role);
    }
    // A body that is no object has no keys, and the first service says so.
    let keys = keys(body).unwrap_or_default();
    let has = |key: &str| keys.contains(key);
    let claims = services.iter().map(|service| ((service.claim)(&has), *service));
    // The first of several that claim it as much.
    let best = claims.rev().max_by_key(|(claim, _)| *claim);
    match best.filter(|(claim, _)| *claim > 0) {
        Some((_, service)) => Ok(service),
        None => Services::of_role(app, app.fleet.default().role),
    }
}

/// The keys of an object.
fn keys(body: &[u8]) -> Option<BTreeSet<String>> {
    struct OfAnObject;

    impl<'a> Visitor<'a> for OfAnObject {
        type Value = BTreeSet<String>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut keys = BTreeSet::new();
            while let Some((key, IgnoredAny)) = map.next_entry::<String, _>()? {
                keys.insert(key);
            }
            Ok(keys)
        }
    }

    serde_json::Deserializer::from_slice(body).deserialize_map(OfAnObject).ok()
}
