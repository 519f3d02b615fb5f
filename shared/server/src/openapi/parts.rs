//! The pieces that operations share: error answers, headers, keys, bodies with their examples.

use defrost_api::{ErrorBody, ErrorStyle, Form, SchemaBook};
use serde_json::{Map, Value, json};

pub(super) use super::either::any_of;
use super::either::body;
use crate::error::{Failure, FailureRow};

impl Failure {
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
        let FailureRow { status, code, example, about, .. } = self.row();
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
                "example": ErrorBody::new(style, status, code, None, example),
            }},
        })
    }
}

/// What a route's answers tell of over-long texts: those that run the model also say how long it
/// took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TruncationHeader {
    /// Nothing, because the model does not run.
    Never,
    /// Nothing, because none is ever cut; and nothing in the words of Text Embeddings Inference.
    #[cfg(feature = "chat")]
    Nothing,
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
    pub(super) fn body<'a>(
        &mut self,
        name: &str,
        forms: impl IntoIterator<Item = &'a Form>,
        schemas: Vec<Value>,
    ) -> Value {
        let bodies = forms.into_iter().flat_map(|form| {
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
        let mut written = json!({
            "required": true,
            "content": {"application/json": {"schema": any_of(schemas), "examples": examples}},
        });
        if let Some(known) = self.bodies.get(name)
            && *known != written
        {
            // Two services name what they read alike.
            written = body([known, &written]);
        }
        self.bodies.insert(name.to_owned(), written);
        json!({"$ref": format!("#/components/requestBodies/{name}")})
    }

    /// The body that is referred to, or the body itself.
    pub(super) fn resolved<'a>(&'a self, body: &'a Value) -> &'a Value {
        let name = body["$ref"].as_str().and_then(|reference| reference.rsplit('/').next());
        name.and_then(|name| self.bodies.get(name)).unwrap_or(body)
    }

    /// The answers of a route that works on a body: `schemas` of the good ones, then every error.
    pub(super) fn work_answers(
        &self,
        about: &str,
        cut: TruncationHeader,
        schemas: Vec<Value>,
    ) -> Value {
        use Failure::{
            Internal, Invalid, Late, MediaType, ModelNotFound, QueueFull, Timeout, TooLarge,
            Unavailable, Unprocessable,
        };
        let mut headers = json!({
            "x-request-id": header("RequestId"),
            "x-process-time": header("ProcessTime"),
        });
        match cut {
            TruncationHeader::Never => {}
            #[cfg(feature = "chat")]
            TruncationHeader::Nothing => {}
            TruncationHeader::Documents => headers["x-truncated-documents"] = header("Truncated"),
            TruncationHeader::Inputs => headers["x-truncated-inputs"] = header("Truncated"),
        }
        if cut != TruncationHeader::Never {
            headers["x-warnings"] = header("Warnings");
            headers["server-timing"] = header("ServerTiming");
        }
        if matches!(cut, TruncationHeader::Documents | TruncationHeader::Inputs) {
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
            let FailureRow { component: name, status, .. } = failure.row();
            answers[status.to_string()] = json!({"$ref": format!("#/components/responses/{name}")});
        }
    }

    /// The components that operations refer to, but for the schemas.
    pub(super) fn components(self, book: &mut SchemaBook) -> Map<String, Value> {
        let responses: Map<String, Value> = Failure::ALL
            .into_iter()
            .map(|failure| (failure.row().component.to_owned(), failure.response(book)))
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

/// The two ways to send a key, of which either will do.
pub(super) fn security() -> Value {
    json!([{"bearer": []}, {"key": []}])
}

/// The headers of Text Embeddings Inference, on the answers of the model, with what each tells.
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

/// `/v1/rerank` as `v1_rerank`.
pub(super) fn operation_id(path: &str) -> String {
    match path.trim_matches('/') {
        "" => "root_post".to_owned(),
        path => path.replace('/', "_"),
    }
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
