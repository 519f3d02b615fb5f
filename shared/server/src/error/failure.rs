//! Every kind of error that a client can get: one table for the answers and for the document that
//! describes them.

use axum::http::StatusCode;

/// A kind of error, by its status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    Invalid,
    Unauthorized,
    Forbidden,
    ModelNotFound,
    MethodNotAllowed,
    Timeout,
    TooLarge,
    MediaType,
    Unprocessable,
    QueueFull,
    Internal,
    Unavailable,
    Late,
}

/// What there is to say of a kind of error, to clients and in the `OpenAPI` document.
pub(crate) struct FailureRow {
    /// Its name among the document's components.
    pub(crate) component: &'static str,
    pub(crate) status: u16,
    /// The code that such an error usually has.
    pub(crate) code: &'static str,
    /// A message that it may have.
    pub(crate) example: &'static str,
    /// When such an error happens, in words for the document.
    pub(crate) about: &'static str,
}

impl Failure {
    pub(crate) const ALL: [Self; 13] = [
        Self::Invalid,
        Self::Unauthorized,
        Self::Forbidden,
        Self::ModelNotFound,
        Self::MethodNotAllowed,
        Self::Timeout,
        Self::TooLarge,
        Self::MediaType,
        Self::Unprocessable,
        Self::QueueFull,
        Self::Internal,
        Self::Unavailable,
        Self::Late,
    ];

    pub(crate) fn row(self) -> FailureRow {
        let (component, status, code, example, about) = match self {
            Self::Invalid => (
                "Invalid",
                400,
                "invalid_request",
                "query is missing; send the text to rank by",
                "The body is not JSON or breaks a rule; `param` names the field. The code \
                 `context_length_exceeded` is a text longer than the model reads, where cutting is \
                 not allowed.",
            ),
            Self::Unauthorized => (
                "Unauthorized",
                401,
                "invalid_api_key",
                "the api key is not known here; check it",
                "The key is missing or not known.",
            ),
            Self::Forbidden => (
                "Forbidden",
                403,
                "forbidden",
                "without API_KEYS this route is for requests from this machine, made directly and \
                 to a loopback host",
                "The route is not for this caller.",
            ),
            Self::ModelNotFound => (
                "ModelNotFound",
                404,
                "model_not_found",
                "model \"x\" is not served here; served: y",
                "The request names another model than the served ones.",
            ),
            Self::MethodNotAllowed => (
                "MethodNotAllowed",
                405,
                "method_not_allowed",
                "this route does not take PUT; the allow header lists what it takes",
                "The path does not take this method.",
            ),
            Self::Timeout => (
                "Timeout",
                408,
                "timeout",
                "of the body 100 bytes came, expected 65536 a second after the first 30 s; send it again, faster",
                "The body stopped coming, or comes too slowly.",
            ),
            Self::TooLarge => (
                "TooLarge",
                413,
                "payload_too_large",
                "the body may have at most 10485760 bytes (MAX_BODY_BYTES), found more; send fewer \
                 documents",
                "The body is larger than `MAX_BODY_BYTES`; for clients of TEI, any rule that is broken.",
            ),
            Self::MediaType => (
                "MediaType",
                415,
                "unsupported_media_type",
                "expected content-type: application/json, found another one",
                "The body is not declared as JSON, or is compressed.",
            ),
            Self::Unprocessable => (
                "Unprocessable",
                422,
                "invalid_request",
                "passage is missing",
                "As 400, for clients of FastAPI services; for clients of TEI a body that is not JSON, or whose fields hold \
                 something of another type.",
            ),
            Self::QueueFull => (
                "QueueFull",
                429,
                "queue_full",
                "128 requests are queued already (MAX_QUEUE); retry later",
                "Too many requests wait; try again after `retry-after` seconds.",
            ),
            Self::Internal => (
                "Internal",
                500,
                "internal_error",
                "the server failed on this request; its log has the reason under this x-request-id",
                "A fault of the server.",
            ),
            Self::Unavailable => (
                "Unavailable",
                503,
                "loading",
                "the model is loading; retry later",
                "The model is not loaded yet, the server is going away, a GPU is `out_of_memory`, or there is `no_slot`; \
                 with `retry-after` unless the model cannot be loaded at all.",
            ),
            Self::Late => (
                "Late",
                504,
                "deadline_exceeded",
                "no answer within 2 s, the time that the request or REQUEST_TIMEOUT gives; send fewer documents",
                "The time is over that the header `x-request-timeout` (in seconds), Envoy's, or `REQUEST_TIMEOUT` gives.",
            ),
        };
        FailureRow { component, status, code, example, about }
    }

    /// The status that such an error has, as a number of HTTP.
    pub(crate) fn status(self) -> StatusCode {
        StatusCode::from_u16(self.row().status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }
}
