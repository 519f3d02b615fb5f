//! What is wrong with a request, and the error body that says so.
//!
//! One body serves every client: `OpenAI`'s SDK reads `error.message`, Cohere's `message`, Jina's,
//! Voyage's and `FastAPI`'s `detail`. Three shapes differ: TEI's clients read `error` as a string,
//! BAAI's (`FastAPI`) read `detail` as a list, and Anthropic's have words of their own for kinds.

mod schema;

use serde::Serialize;
use serde_json::{Value, json};

const INVALID_REQUEST: &str = "invalid_request";
/// TEI has an `error_type` of its own for it.
const EMPTY_INPUT: &str = "empty_input";
const CONTEXT_LENGTH_EXCEEDED: &str = "context_length_exceeded";

/// A request that cannot be served as it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Invalid {
    /// The field to change, as a path such as `documents[3]`; `None`: the body as a whole.
    pub param: Option<String>,
    /// In words: what was expected, what was found, what to do.
    pub message: String,
    /// The stable code that the error body carries.
    pub code: &'static str,
    /// How this client expects errors.
    pub style: ErrorStyle,
    /// Whether the body could not even be read: it is no JSON, or a field holds something of
    /// another type.
    unreadable: bool,
}

impl Invalid {
    /// About the field `param`.
    pub fn new(param: impl Into<String>, message: impl Into<String>) -> Self {
        Self { param: Some(param.into()), ..Self::body(message) }
    }

    pub(crate) fn body(message: impl Into<String>) -> Self {
        Self {
            param: None,
            message: message.into(),
            code: INVALID_REQUEST,
            style: ErrorStyle::OpenAi,
            unreadable: false,
        }
    }

    /// The field `param` holds nothing to work on.
    pub(crate) fn empty(param: impl Into<String>, message: impl Into<String>) -> Self {
        Self { code: EMPTY_INPUT, ..Self::new(param, message) }
    }

    /// The text in the field `param` has `found` tokens where the model reads `limit`.
    ///
    /// The message holds every phrase by which clients tell this error from others: llama.cpp's
    /// "input is too large", `OpenAI`'s and vLLM's "maximum context length is" (`LiteLLM` looks for
    /// it) and "Please reduce the length of the input prompt".
    pub fn too_long(param: impl Into<String>, limit: usize, found: usize) -> Self {
        let param = param.into();
        let message = format!(
            "{param}: input is too large. This model's maximum context length is {limit} tokens, \
             found {found}. Please reduce the length of the input prompt, or send truncate: true"
        );
        Self { code: CONTEXT_LENGTH_EXCEEDED, ..Self::new(param, message) }
    }

    pub(crate) fn unreadable(mut self) -> Self {
        self.unreadable = true;
        self
    }

    pub(crate) fn styled(mut self, style: ErrorStyle) -> Self {
        self.style = style;
        self
    }

    /// The HTTP status: 422 where `FastAPI`'s clients expect it; of TEI's three the one for this;
    /// 400 elsewhere.
    pub fn status(&self) -> u16 {
        match self.style {
            ErrorStyle::Tei if self.unreadable => 422,
            style => style.invalid_status(self.code),
        }
    }

    /// The JSON that says so.
    pub fn error_body(&self) -> ErrorBody {
        ErrorBody::new(self.style, self.status(), self.code, self.param.as_deref(), &self.message)
    }
}

/// Which of the four forms of the error body a client reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ErrorStyle {
    /// `error` is an object, `message` and `detail` are strings.
    #[default]
    OpenAi,
    /// `error` is a string.
    Tei,
    /// As [`ErrorStyle::OpenAi`], but `detail` of an invalid request is `FastAPI`'s list.
    FastApi,
    /// As [`ErrorStyle::OpenAi`], with a `type` beside `error` and Anthropic's names of kinds.
    Anthropic,
}

impl ErrorStyle {
    /// The status of a request that breaks a rule of its shape, with the code that says which kind
    /// of rule. TEI answers 413 to all of them but inputs that are empty, and its clients tell by
    /// it what to send again in smaller parts.
    pub fn invalid_status(self, code: &str) -> u16 {
        match self {
            Self::FastApi => 422,
            Self::Tei if code != EMPTY_INPUT => 413,
            Self::OpenAi | Self::Tei | Self::Anthropic => 400,
        }
    }
}

/// The JSON of an error.
#[derive(Debug, Clone, Serialize)]
pub struct ErrorBody(Value);

impl ErrorBody {
    /// Builds the body of an error with this status. `code` is stable, `message` may change.
    pub fn new(
        style: ErrorStyle,
        status: u16,
        code: &str,
        param: Option<&str>,
        message: &str,
    ) -> Self {
        let (kind, tei_kind) = match status {
            401 => ("authentication_error", "Unauthorized"),
            403 => ("permission_error", "Unauthorized"),
            404 => ("not_found_error", "Validation"),
            408 | 504 => ("timeout_error", "Backend"),
            429 => ("rate_limit_error", "Overloaded"),
            503 => ("service_unavailable_error", "Unhealthy"),
            500.. => ("server_error", "Backend"),
            _ if code == EMPTY_INPUT => ("invalid_request_error", "Empty"),
            _ => ("invalid_request_error", "Validation"),
        };
        if style == ErrorStyle::Tei {
            return Self(json!({"error": message, "error_type": tei_kind}));
        }
        let detail = if style == ErrorStyle::FastApi && status == 422 {
            json!([{"loc": location(param), "msg": message, "type": "value_error"}])
        } else {
            Value::from(message)
        };
        let kind = if style == ErrorStyle::Anthropic { anthropic_kind(status) } else { kind };
        let mut body = json!({
            "error": {"message": message, "type": kind, "param": param, "code": code},
            "message": message,
            "detail": detail,
            "error_type": tei_kind,
        });
        if style == ErrorStyle::Anthropic {
            body["type"] = "error".into();
        }
        Self(body)
    }
}

/// Anthropic's word for a status.
fn anthropic_kind(status: u16) -> &'static str {
    match status {
        401 => "authentication_error",
        403 => "permission_error",
        404 => "not_found_error",
        408 | 504 => "timeout_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        503 | 529 => "overloaded_error",
        500.. => "api_error",
        _ => "invalid_request_error",
    }
}

/// `pairs[3].query` as `FastAPI` writes it: `["body", "pairs", 3, "query"]`.
fn location(param: Option<&str>) -> Vec<Value> {
    let mut location = vec![Value::from("body")];
    let parts = param.unwrap_or_default().split(['.', '[', ']']).filter(|part| !part.is_empty());
    location
        .extend(parts.map(|part| part.parse::<u64>().map_or_else(|_| part.into(), Value::from)));
    location
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_client_finds_its_message() {
        let ErrorBody(body) = ErrorBody::new(ErrorStyle::OpenAi, 400, "c", Some("query"), "m");
        assert_eq!(
            body,
            json!({
                "error": {"message": "m", "type": "invalid_request_error", "param": "query", "code": "c"},
                "message": "m", "detail": "m", "error_type": "Validation",
            })
        );
        let ErrorBody(body) = ErrorBody::new(ErrorStyle::Tei, 429, "c", None, "m");
        assert_eq!(body, json!({"error": "m", "error_type": "Overloaded"}));
    }

    #[test]
    fn tei_tells_empty_from_invalid() {
        let mut invalid = Invalid::empty("inputs", "m");
        assert_eq!(invalid.error_body().0["error"]["code"], "empty_input");
        invalid.style = ErrorStyle::Tei;
        assert_eq!(invalid.error_body().0, json!({"error": "m", "error_type": "Empty"}));
    }

    #[test]
    fn too_long_holds_every_phrase() {
        let invalid = Invalid::too_long("input[3]", 512, 700);
        for phrase in [
            "input is too large",
            "This model's maximum context length is 512 tokens",
            "Please reduce the length of the input prompt",
        ] {
            assert!(invalid.message.contains(phrase), "{phrase}");
        }
        assert_eq!(
            invalid.error_body().0["error"],
            json!({
                "message": invalid.message, "type": "invalid_request_error",
                "param": "input[3]", "code": "context_length_exceeded",
            })
        );
    }

    #[test]
    fn fastapi_gets_a_location() {
        let ErrorBody(body) =
            ErrorBody::new(ErrorStyle::FastApi, 422, "c", Some("pairs[3].query"), "m");
        assert_eq!(body["detail"][0]["loc"], json!(["body", "pairs", 3, "query"]));
        let ErrorBody(body) = ErrorBody::new(ErrorStyle::FastApi, 503, "c", None, "m");
        assert_eq!(body["detail"], "m");
    }
}
