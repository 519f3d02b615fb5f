//! The pieces that operations share: error answers, headers, keys, bodies with their examples.

use defrost_api::{ErrorBody, ErrorStyle, Form, SchemaBook};
use serde_json::{Map, Value, json};

/// An error that an operation may answer with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failure {
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

impl Failure {
    const ALL: [Self; 13] = [
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

    /// Component name, status, code, an example's message, and what it means.
    fn facts(self) -> (&'static str, u16, &'static str, &'static str, &'static str) {
        match self {
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
                "The model is not loaded yet, or the server is going away; with `retry-after` \
                 unless the model cannot be loaded at all.",
            ),
            Self::Late => (
                "Late",
                504,
                "deadline_exceeded",
                "no answer within 2 s, the time that the request or REQUEST_TIMEOUT gives; send fewer documents or give it \
                 more time",
                "The time is over that the header `x-request-timeout` (in seconds), Envoy's, or `REQUEST_TIMEOUT` gives.",
            ),
        }
    }

    /// Which forms of the error body this status comes in. The third form differs from the first
    /// for 422 only.
    fn styles(self) -> &'static [ErrorStyle] {
        match self {
            Self::Unprocessable => &[ErrorStyle::FastApi, ErrorStyle::Tei],
            Self::Unauthorized
            | Self::Forbidden
            | Self::MethodNotAllowed
            | Self::Timeout
            | Self::MediaType => &[ErrorStyle::OpenAi],
            _ => &[ErrorStyle::OpenAi, ErrorStyle::Tei],
        }
    }

    fn response(self, book: &mut SchemaBook) -> Value {
        let (_, status, code, message, about) = self.facts();
        let style = self.styles().first().copied().unwrap_or_default();
        let schemas: Vec<Value> = self.styles().iter().map(|&style| book.error(style)).collect();
        let mut headers = json!({"x-request-id": header("RequestId")});
        match self {
            Self::Unauthorized => headers["www-authenticate"] = header("Authenticate"),
            Self::MethodNotAllowed => headers["allow"] = header("Allow"),
            Self::QueueFull => headers["retry-after"] = header("RetryAfter"),
            Self::Unavailable => headers["retry-after"] = header("RetryAfterMaybe"),
            _ => {}
        }
        json!({
            "description": about,
            "headers": headers,
            "content": {"application/json": {
                "schema": any_of(schemas),
                "example": ErrorBody::new(style, status, code, None, message),
            }},
        })
    }
}

/// What a route's answers tell of over-long texts: those that run the model also say how long it took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cut {
    /// The model does not run.
    Never,
    Documents,
    Inputs,
}

/// What a route needs and may answer beside its own.
#[derive(Debug)]
pub(super) struct Parts {
    needs_key: bool,
    strict_model: bool,
    bodies: Map<String, Value>,
}

impl Parts {
    pub(super) fn new(needs_key: bool, strict_model: bool) -> Self {
        Self { needs_key, strict_model, bodies: Map::new() }
    }

    /// Keeps a body for operations to refer to, with an example of each form.
    pub(super) fn body(&mut self, name: &str, forms: &[Form], schemas: Vec<Value>) -> Value {
        let bodies = forms.iter().flat_map(|form| {
            form.examples.iter().map(|&(whose, body)| {
                (form.name, if whose.is_empty() { form.title } else { whose }, body)
            })
        });
        // Viewers show the first example first, and maps are sorted by name.
        let examples: Map<String, Value> = bodies
            .enumerate()
            .filter_map(|(place, (name, whose, body))| {
                let value: Value = serde_json::from_str(body).ok()?;
                Some((format!("{place}_{name}"), json!({"summary": whose, "value": value})))
            })
            .collect();
        self.bodies.insert(
            name.to_owned(),
            json!({
                "required": true,
                "content": {"application/json": {"schema": any_of(schemas), "examples": examples}},
            }),
        );
        json!({"$ref": format!("#/components/requestBodies/{name}")})
    }

    /// The answers of a route that works on a body: `schemas` of the good ones, then every error.
    pub(super) fn work_answers(&self, about: &str, cut: Cut, schemas: Vec<Value>) -> Value {
        use Failure::{
            Internal, Invalid, Late, MediaType, ModelNotFound, QueueFull, Timeout, TooLarge,
            Unavailable, Unprocessable,
        };
        let mut headers = json!({
            "x-request-id": header("RequestId"),
            "x-process-time": header("ProcessTime"),
        });
        match cut {
            Cut::Never => {}
            Cut::Documents => headers["x-truncated-documents"] = header("Truncated"),
            Cut::Inputs => headers["x-truncated-inputs"] = header("Truncated"),
        }
        if cut != Cut::Never {
            headers["x-warnings"] = header("Warnings");
            headers["server-timing"] = header("ServerTiming");
            for (name, _) in TEI {
                headers[name] = header(&component(name));
            }
        }
        let mut answers = json!({"200": {
            "description": about,
            "headers": headers,
            "content": {"application/json": {"schema": any_of(schemas)}},
        }});
        let mut failures = vec![
            Invalid,
            Timeout,
            TooLarge,
            MediaType,
            Unprocessable,
            QueueFull,
            Internal,
            Unavailable,
            Late,
        ];
        if self.strict_model {
            failures.push(ModelNotFound);
        }
        self.fail(&mut answers, false, &failures);
        answers
    }

    /// Adds these errors, and the one for keys unless the route is public.
    pub(super) fn fail(&self, answers: &mut Value, is_public: bool, failures: &[Failure]) {
        let key = (self.needs_key && !is_public).then_some(Failure::Unauthorized);
        for failure in failures.iter().copied().chain(key) {
            let (name, status, ..) = failure.facts();
            answers[status.to_string()] = json!({"$ref": format!("#/components/responses/{name}")});
        }
    }

    /// The components that operations refer to, but for the schemas.
    pub(super) fn components(self, book: &mut SchemaBook) -> Map<String, Value> {
        let responses: Map<String, Value> = Failure::ALL
            .into_iter()
            .map(|failure| (failure.facts().0.to_owned(), failure.response(book)))
            .collect();
        let mut components = Map::new();
        components.insert("responses".to_owned(), responses.into());
        components.insert("requestBodies".to_owned(), self.bodies.into());
        components.insert("headers".to_owned(), headers());
        if self.needs_key {
            components.insert(
                "securitySchemes".to_owned(),
                json!({
                    "bearer": {"type": "http", "scheme": "bearer", "description": "One of `API_KEYS`; also taken without the word `Bearer`."},
                    "key": {"type": "apiKey", "in": "header", "name": "x-api-key", "description": "One of `API_KEYS`."},
                }),
            );
        }
        components
    }
}

/// The tag of routes that another service's clients know.
pub(super) const OTHER_NAMES: &str = "other names";

/// Either scheme will do.
pub(super) fn security() -> Value {
    json!([{"bearer": []}, {"key": []}])
}

/// One schema, or any of several.
pub(super) fn any_of(mut schemas: Vec<Value>) -> Value {
    match schemas.len() {
        1 => schemas.remove(0),
        _ => json!({"anyOf": schemas}),
    }
}

/// In the words of Text Embeddings Inference, on the answers of the model.
const TEI: [(&str, &str); 8] = [
    ("x-compute-type", "`cpu`."),
    ("x-compute-time", "Milliseconds from reading the body to the answer."),
    ("x-compute-characters", "Characters of the texts."),
    ("x-compute-tokens", "Tokens as run."),
    ("x-total-time", "As `x-compute-time`."),
    ("x-tokenization-time", "Milliseconds of turning texts into tokens."),
    ("x-queue-time", "Milliseconds in the queue."),
    ("x-inference-time", "Milliseconds in the model."),
];

/// `x-total-time` as `XTotalTime`.
fn component(name: &str) -> String {
    let words = name.split('-').map(|word| {
        let (first, rest) = word.split_at(1);
        first.to_uppercase() + rest
    });
    words.collect()
}

fn header(name: &str) -> Value {
    json!({"$ref": format!("#/components/headers/{name}")})
}

fn headers() -> Value {
    let text = |about: &str, required: bool| json!({"description": about, "required": required, "schema": {"type": "string"}});
    let count = |about: &str, required: bool| json!({"description": about, "required": required, "schema": {"type": "integer", "minimum": 1}});
    let mut headers = json!({
        "RequestId": text("The request's own `x-request-id`, or a new one.", true),
        "ProcessTime": text("Seconds from request to answer.", true),
        "ServerTiming": text("Time in the queue and in the model; with the first answer, the phases of boot.", true),
        "Truncated": count("How many texts were cut to fit; absent when none was.", false),
        "RetryAfter": count("Seconds after which to try again.", true),
        "Warnings": text("What of the request was not honoured, for shapes that have no place for it.", false),
        "RetryAfterMaybe": count("Seconds after which to try again; absent when that will not help.", false),
        "Authenticate": text("`Bearer`.", true),
        "Allow": text("The methods that the path takes.", true),
    });
    for (name, about) in TEI {
        headers[component(name)] = text(about, true);
    }
    headers
}
