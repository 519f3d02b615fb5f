//! The time a client gives its request: past it the job is given up and the answer is 504, or
//! breaks off where it has begun.
//!
//! The time is one for the whole of a request. An answer whose headers are ready in time has for
//! its body what is left of it: the [`Deadline`] goes with the answer into the request's ticket
//! ([`crate::edge::ticket`]). A body that can tell its client what happened takes the deadline itself
//! ([`OwnDeadline`]).
//!
//! `x-request-timeout` in seconds, or Envoy's `x-envoy-expected-rq-timeout-ms`, which its proxies
//! (Istio, Knative's gateways, Container Apps) add by themselves; `REQUEST_TIMEOUT` bounds both.
//! Dropping a request takes its job out of the queue, and what is left of a running one is not run.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::HeaderMap;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use defrost_api::Invalid;

use tokio::time::{Instant, timeout_at};

use crate::app::App;
use crate::error::ApiError;

/// Our own header, in seconds.
const SECONDS: &str = "x-request-timeout";
/// Envoy's header, in milliseconds.
const ENVOY_MS: &str = "x-envoy-expected-rq-timeout-ms";

/// When a request must be answered to its last byte.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadline {
    pub(crate) at: Instant,
    /// The time that it was given.
    pub(crate) limit: Duration,
}

/// The deadline of a body that ends itself when its time is over. It goes with the answer that has the
/// body, and is filled in before the body is asked for anything.
#[derive(Debug, Clone, Default)]
pub(crate) struct OwnDeadline(Arc<OnceLock<Deadline>>);

#[cfg_attr(not(feature = "chat"), allow(dead_code, reason = "only streams ask"))]
impl OwnDeadline {
    /// The deadline, if the request has one.
    pub(crate) fn get(&self) -> Option<Deadline> {
        self.0.get().copied()
    }
}

/// Answers in time.
pub(crate) async fn keep(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let given = match given(request.headers()) {
        Ok(given) => given,
        Err(invalid) => return ApiError::from(invalid).into_response(),
    };
    let bound = Some(app.config.request_timeout).filter(|bound| !bound.is_zero());
    let Some(limit) = given.into_iter().chain(bound).min() else {
        return next.run(request).await;
    };
    within(limit, next.run(request)).await
}

/// The answer, with the deadline of its body, if its headers are ready in time.
pub(crate) async fn within(limit: Duration, answer: impl Future<Output = Response>) -> Response {
    let deadline = Deadline { at: Instant::now() + limit, limit };
    match timeout_at(deadline.at, answer).await {
        Ok(mut answer) => {
            if let Some(OwnDeadline(own)) = answer.extensions_mut().remove() {
                // It is filled in once: an answer goes through here once.
                let _ = own.set(deadline);
                return answer;
            }
            answer.extensions_mut().insert(deadline);
            answer
        }
        Err(_) => ApiError::deadline(limit).into_response(),
    }
}

fn given(headers: &HeaderMap) -> Result<Option<Duration>, Invalid> {
    for (name, unit) in [(SECONDS, 1.0), (ENVOY_MS, 1e-3)] {
        let Some(value) = headers.get(name) else { continue };
        let number = value.to_str().ok().and_then(|text| text.trim().parse::<f64>().ok());
        let duration = number.and_then(|number| Duration::try_from_secs_f64(number * unit).ok());
        // Zero is Envoy's word for no limit; beyond a day a timer may overflow.
        return match duration {
            Some(Duration::ZERO) => Ok(None),
            Some(duration) => Ok(Some(duration.min(Duration::from_hours(24)))),
            None => Err(Invalid::new(
                name,
                format!(
                    "{name}: expected a number from 0 on, found {value:?}; leave it out for no limit"
                ),
            )),
        };
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn read(name: &'static str, value: &'static str) -> Result<Option<Duration>, Invalid> {
        let mut headers = HeaderMap::new();
        headers.insert(name, HeaderValue::from_static(value));
        given(&headers)
    }

    #[test]
    fn both_headers_are_read() {
        let ms = |ms| Ok(Some(Duration::from_millis(ms)));
        assert_eq!(read(SECONDS, "1.5"), ms(1500));
        assert_eq!(read(ENVOY_MS, "250"), ms(250));
        assert_eq!(read(ENVOY_MS, "0"), Ok(None));
        assert_eq!(read("x-other", "250"), Ok(None));
        for bad in ["", "-1", "soon", "NaN", "inf"] {
            assert!(read(SECONDS, bad).is_err(), "{bad}");
        }
    }
}
