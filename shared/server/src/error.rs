//! Every error a client can get, as status, stable code and body.

mod failure;

use std::time::Duration;

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use defrost_api::{ErrorBody, ErrorStyle, Invalid};

pub(crate) use self::failure::{Failure, FailureRow};
use crate::boot_error::chain;
use crate::edge::pace::{GRACE, SLOWEST};
use crate::life::quiesce::HookError;

/// Seconds after which a refused client may try again: longer than a typical request takes (0.5 s)
/// and than a 0.5-billion-parameter model takes to boot (0.15 s), so a place is free by then.
const RETRY_AFTER_SECONDS: u16 = 1;

/// An error on its way to a client.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    status: StatusCode,
    code: &'static str,
    param: Option<String>,
    message: String,
    style: ErrorStyle,
    /// Seconds after which the client may try again, if that may help.
    retry: Option<u16>,
}

/// What a client was told, left with the answer for the log.
#[derive(Debug, Clone)]
pub(crate) struct ErrorReport {
    pub(crate) code: &'static str,
    pub(crate) param: Option<String>,
    pub(crate) message: String,
}

impl ApiError {
    fn new(failure: Failure, code: &'static str, message: impl Into<String>) -> Self {
        let style = ErrorStyle::OpenAi;
        Self {
            status: failure.status(),
            code,
            param: None,
            message: message.into(),
            style,
            retry: None,
        }
    }

    fn retriable(mut self) -> Self {
        self.retry = Some(RETRY_AFTER_SECONDS);
        self
    }

    /// The error as clients of one service read it, with the status that this service gives to
    /// broken rules.
    pub(crate) fn styled(mut self, style: ErrorStyle) -> Self {
        if self.status == StatusCode::BAD_REQUEST {
            let status = StatusCode::from_u16(style.invalid_status(self.code));
            self.status = status.unwrap_or(self.status);
        }
        self.style = style;
        self
    }

    /// The status that the answer has.
    #[cfg(feature = "chat")]
    pub(crate) fn status(&self) -> u16 {
        self.status.as_u16()
    }

    /// The stable word for what went wrong.
    #[cfg(feature = "chat")]
    pub(crate) fn code(&self) -> &'static str {
        self.code
    }

    /// The error as one of this field.
    fn about(self, param: &str) -> Self {
        Self { param: Some(param.to_owned()), ..self }
    }

    /// The error as one of a part of a request.
    pub(crate) fn within(mut self, part: &str) -> Self {
        self.message = format!("{part}: {}", self.message);
        self.param =
            Some(self.param.map_or_else(|| part.to_owned(), |param| format!("{part}.{param}")));
        self
    }

    pub(crate) fn loading(message: String) -> Self {
        Self::new(Failure::Unavailable, "loading", message).retriable()
    }

    pub(crate) fn unavailable() -> Self {
        Self::new(
            Failure::Unavailable,
            "model_unavailable",
            "the model could not be restored; the server's log says why",
        )
    }

    /// The model could not be loaded several times in a row, and rests for this time.
    pub(crate) fn resting(left: Duration) -> Self {
        // A minute at most.
        let seconds = u16::try_from(left.as_millis().div_ceil(1000)).unwrap_or(u16::MAX);
        let message = format!(
            "the model could not be restored several times in a row and is tried again in {seconds} s; the server's log says why"
        );
        Self {
            retry: Some(seconds),
            ..Self::new(Failure::Unavailable, "model_unavailable", message)
        }
    }

    pub(crate) fn shutting_down() -> Self {
        Self::new(
            Failure::Unavailable,
            "shutting_down",
            "the server is shutting down; send the request again",
        )
        .retriable()
    }

    pub(crate) fn queue_full(limit: usize) -> Self {
        Self::new(
            Failure::QueueFull,
            "queue_full",
            format!("{limit} requests are queued already (MAX_QUEUE); retry later"),
        )
        .retriable()
    }

    /// A body has so many values that it would take many times its bytes.
    pub(crate) fn too_many_values(found: usize, most: usize) -> Self {
        Self::new(
            Failure::TooLarge,
            "payload_too_large",
            format!(
                "the values of the body would take {found} bytes in memory, at most {most} are allowed (16 MAX_BODY_BYTES, and a share \
                 of MAX_BYTES_IN_FLIGHT); send fewer values in a request"
            ),
        )
    }

    /// A request asks for more tokens than an answer may tell of.
    pub(crate) fn too_many_tokens(most: usize) -> Self {
        Self::new(
            Failure::TooLarge,
            "payload_too_large",
            format!(
                "the texts have more than {most} tokens, which is the most of one answer (a share of MAX_BYTES_IN_FLIGHT); send \
                 fewer or shorter texts"
            ),
        )
    }

    /// Too many of the bytes are held that small or large requests and answers may hold.
    pub(crate) fn too_many_bytes(held: usize, most: usize, small: bool) -> Self {
        let which = if small { "small" } else { "large" };
        Self::new(
            Failure::Unavailable,
            "too_many_bytes",
            format!(
                "{which} requests and answers hold {held} bytes already, of {most} that they may (MAX_BYTES_IN_FLIGHT); \
                 retry later"
            ),
        )
        .retriable()
    }

    /// The request and its answer would hold more bytes than any may, whatever others do.
    pub(crate) fn never_fits(bytes: usize, most: usize) -> Self {
        Self::new(
            Failure::TooLarge,
            "payload_too_large",
            format!(
                "the request and its answer take {bytes} bytes, at most {most} are allowed (a share of MAX_BYTES_IN_FLIGHT); send \
                 fewer or shorter texts in a request"
            ),
        )
    }

    pub(crate) fn unauthorized(message: &str) -> Self {
        Self::new(Failure::Unauthorized, "invalid_api_key", message)
    }

    pub(crate) fn forbidden(message: &str) -> Self {
        Self::new(Failure::Forbidden, "forbidden", message)
    }

    pub(crate) fn not_found(path: &str) -> Self {
        let shown: String = path.chars().take(100).collect();
        Self::new(
            Failure::ModelNotFound,
            "not_found",
            format!("no such route: {shown}; GET / lists the routes"),
        )
    }

    /// The route belongs to another function; `elsewhere` says which.
    pub(crate) fn of_another_function(path: &str, elsewhere: &str) -> Self {
        Self::new(
            Failure::ModelNotFound,
            "not_found",
            format!("{path} is not answered here: {elsewhere}"),
        )
    }

    /// The path is one of a service that has no model here.
    pub(crate) fn of_no_model(path: &str, kind: &str) -> Self {
        Self::new(
            Failure::ModelNotFound,
            "not_found",
            format!(
                "{path} is not answered here: no model of this process is one to {kind}; start it with one"
            ),
        )
    }

    pub(crate) fn method_not_allowed(method: &str) -> Self {
        Self::new(
            Failure::MethodNotAllowed,
            "method_not_allowed",
            format!("this route does not take {method}; the allow header lists what it takes"),
        )
    }

    pub(crate) fn model_not_found(asked: &str, served: &[String]) -> Self {
        let shown: String = asked.chars().take(100).collect();
        let mut error = Self::new(
            Failure::ModelNotFound,
            "model_not_found",
            format!("model {shown:?} is not served here; served: {}", served.join(", ")),
        );
        error.param = Some("model".into());
        error
    }

    /// The model is one of another service than that of the path.
    pub(crate) fn model_elsewhere(asked: &str, path: &str, here: &[String]) -> Self {
        let shown: String = asked.chars().take(100).collect();
        Self::new(
            Failure::ModelNotFound,
            "model_not_found",
            format!(
                "model {shown:?} does not answer on this path but on {path} and its like; here: {}",
                here.join(", ")
            ),
        )
        .about("model")
    }

    pub(crate) fn body_too_large(limit: usize, found: Option<u64>) -> Self {
        let found = found.map_or_else(|| "more".to_owned(), |bytes| format!("{bytes} bytes"));
        Self::new(
            Failure::TooLarge,
            "payload_too_large",
            format!(
                "the body may have at most {limit} bytes (MAX_BODY_BYTES), found {found}; send fewer documents"
            ),
        )
    }

    pub(crate) fn media_type(message: &str) -> Self {
        Self::new(Failure::MediaType, "unsupported_media_type", message)
    }

    pub(crate) fn chunks_malformed(cause: &std::io::Error) -> Self {
        Self::new(
            Failure::Invalid,
            "invalid_request",
            format!(
                "the body's chunks are malformed ({cause}); send each as its length in hexadecimal, a line end, its bytes and \
                 a line end"
            ),
        )
    }

    /// A WebSocket's event came where requests are answered.
    pub(crate) fn websocket() -> Self {
        Self::new(
            Failure::Invalid,
            "unsupported_event",
            "WebSocket APIs are not answered; send requests through a function URL, an HTTP or REST API or a load balancer",
        )
    }

    pub(crate) fn not_gzip(error: &std::io::Error) -> Self {
        Self::new(
            Failure::Invalid,
            "invalid_request",
            format!("the body is not the gzip that content-encoding announces: {error}"),
        )
    }

    pub(crate) fn body_incomplete() -> Self {
        Self::new(Failure::Invalid, "invalid_request", "the body ended before it was complete")
    }

    pub(crate) fn body_too_slow(found: usize) -> Self {
        Self::new(
            Failure::Timeout,
            "timeout",
            format!(
                "of the body {found} bytes came, expected {SLOWEST} a second after the first {} s; send it again, faster",
                GRACE.as_secs()
            ),
        )
    }

    pub(crate) fn deadline(limit: Duration) -> Self {
        Self::new(
            Failure::Late,
            "deadline_exceeded",
            format!(
                "no answer within {} s, the time that the request or REQUEST_TIMEOUT gives; send fewer documents or \
                 give it more time",
                limit.as_secs_f64()
            ),
        )
    }

    /// The time of a request is over in the middle of its stream.
    #[cfg(feature = "chat")]
    pub(crate) fn cut_off(limit: Duration) -> Self {
        let message = format!(
            "the answer was not complete within {} s, the time that the request or REQUEST_TIMEOUT gives; ask for fewer \
             tokens or give it more time",
            limit.as_secs_f64()
        );
        Self::new(Failure::Late, "deadline_exceeded", message)
    }

    /// Every slot runs a completion, which whoever asks calls a failure.
    #[cfg(feature = "chat")]
    pub(crate) fn no_slot(slots: usize) -> Self {
        let message = format!(
            "no slot available: all {slots} (MAX_RUNNING) run a completion; retry later, or leave fail_on_no_slot out"
        );
        Self::new(Failure::Unavailable, "no_slot", message).retriable()
    }

    /// A stream's client leaves too much of it unread.
    #[cfg(feature = "chat")]
    pub(crate) fn read_too_slowly() -> Self {
        Self::new(
            Failure::Timeout,
            "timeout",
            "the stream was given up: its client takes much less than is made; read faster, or ask for fewer tokens",
        )
    }

    /// There is no memory for the pass now; what was asked for is given up, and others are answered.
    pub(crate) fn out_of_memory(cause: &str) -> Self {
        tracing::warn!("{cause}");
        Self::new(
            Failure::Unavailable,
            "out_of_memory",
            format!("{cause}; retry later, send fewer or shorter texts, or set a smaller MAX_BATCH_TOKENS"),
        )
        .retriable()
    }

    pub(crate) fn non_finite(index: usize) -> Self {
        Self::new(
            Failure::Internal,
            "non_finite_score",
            format!("the model's score for document {index} is not a finite number"),
        )
    }

    /// A fault of ours: the log gets `cause`, the client only learns that it happened.
    pub(crate) fn internal(cause: &str) -> Self {
        tracing::error!("{cause}");
        Self::new(
            Failure::Internal,
            "internal_error",
            "the server failed on this request; its log has the reason under this x-request-id",
        )
    }
}

impl From<Invalid> for ApiError {
    fn from(invalid: Invalid) -> Self {
        let status = StatusCode::from_u16(invalid.status()).unwrap_or(StatusCode::BAD_REQUEST);
        let error = Self::new(Failure::Invalid, invalid.code, invalid.message);
        let error = Self { status, ..error }.styled(invalid.style);
        Self { param: invalid.param, ..error }
    }
}

impl From<HookError> for ApiError {
    fn from(error: HookError) -> Self {
        match error {
            HookError::ShuttingDown => Self::shutting_down(),
            HookError::NotLoaded(_) => Self::unavailable(),
            HookError::Late(_) => Self::loading(error.to_string()),
            HookError::Model(_) => Self::internal(&error.to_string()),
        }
    }
}

impl From<&defrost_tasks::Error> for ApiError {
    fn from(error: &defrost_tasks::Error) -> Self {
        use defrost_tasks::Error;
        match error {
            Error::InvalidInput { param, message } => {
                let error = Self::new(Failure::Invalid, "invalid_request", message);
                Self { param: Some((*param).into()), ..error }
            }
            Error::TooMuch { param, message } => {
                let error = Self::new(Failure::TooLarge, "payload_too_large", message);
                Self { param: Some((*param).into()), ..error }
            }
            Error::TooLong { param, .. } => {
                let error =
                    Self::new(Failure::Invalid, "context_length_exceeded", error.to_string());
                Self { param: Some((*param).into()), ..error }
            }
            Error::InputTooLong { .. } => {
                let error =
                    Self::new(Failure::Invalid, "context_length_exceeded", error.to_string());
                Self { param: Some("input".into()), ..error }
            }
            // In the words that clients look for, whose case differs.
            Error::ContextExceeded { .. } => Self::new(
                Failure::Invalid,
                "context_length_exceeded",
                format!("input is too large. {}", capital(&error.to_string())),
            )
            .about("messages"),
            // Of a request's own grammar: the client can change it.
            Error::Runtime(defrost_model::Error::Constraint(_)) => {
                Self::new(Failure::Invalid, "invalid_grammar", error.to_string())
            }
            Error::NoToken { .. } => Self::new(Failure::Internal, "no_token", error.to_string()),
            Error::NonFinite { index, .. } => Self::non_finite(*index),
            out if out.is_out_of_memory() => Self::out_of_memory(&chain(out)),
            other => Self::internal(&chain(other)),
        }
    }
}

/// The text with its first letter large.
fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| {
        first.to_uppercase().collect::<String>() + letters.as_str()
    })
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status = self.status.as_u16();
        let body =
            ErrorBody::new(self.style, status, self.code, self.param.as_deref(), &self.message);
        let mut response = (self.status, Json(body)).into_response();
        let headers = response.headers_mut();
        if let Some(seconds) = self.retry {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        let Self { code, param, message, .. } = self;
        response.extensions_mut().insert(ErrorReport { code, param, message });
        response
    }
}
