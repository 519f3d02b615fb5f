//! The routes that every function has: what runs, how it is, pages, hooks.

use defrost_api::SchemaBook;
use serde_json::{Map, Value, json};

use super::description::{Api, Description};
use super::fields::{count, nullable, object, seconds, text, text_or_null};
use super::parts::{Parts, operation_id};
use crate::edge::metrics;
use crate::error::Failure;
use crate::routes::admin::{AFTER_RESTORE, BEFORE_SNAPSHOT};

/// A route that takes no body.
struct Probe {
    path: &'static str,
    summary: &'static str,
    schema: Value,
    is_public: bool,
    failures: &'static [Failure],
}

/// The path of one model.
const MODEL: &str = "/v1/models/{model}";

const NOT_LOADED: &[Failure] = &[Failure::Unavailable];
const NOT_FOUND: &[Failure] = &[Failure::Invalid, Failure::ModelNotFound, Failure::Unavailable];

pub(super) fn describe(
    paths: &mut Map<String, Value>,
    parts: &mut Parts,
    book: &mut SchemaBook,
    description: &Description,
) {
    for probe in probes(book, &description.apis) {
        let mut answers =
            json!({"200": ok("Fine.", &json!({"application/json": {"schema": probe.schema}}))});
        parts.fail(&mut answers, probe.is_public, probe.failures);
        if is_health(probe.path) {
            answers["503"] = not_ready(book, probe.path);
        }
        insert_get(paths, &probe, &answers);
    }
    let metrics = Probe {
        path: "/metrics",
        summary: "Prometheus metrics",
        schema: Value::Null,
        is_public: true,
        failures: &[Failure::Internal],
    };
    let media_type = metrics::CONTENT_TYPE.split(';').next().unwrap_or_default();
    let content = json!({media_type: {"schema": {"type": "string"}}});
    let mut answers = json!({"200": ok("All metrics.", &content)});
    parts.fail(&mut answers, true, metrics.failures);
    insert_get(paths, &metrics, &answers);
    root(paths, parts, book);
    pages(paths);
    if description.snapshot_hooks {
        hooks(paths, parts, book);
    }
}

fn ok(about: &str, content: &Value) -> Value {
    json!({
        "description": about,
        "headers": {
            "x-request-id": {"$ref": "#/components/headers/RequestId"},
            "x-process-time": {"$ref": "#/components/headers/ProcessTime"},
        },
        "content": content,
    })
}

fn insert_get(paths: &mut Map<String, Value>, probe: &Probe, answers: &Value) {
    let mut operation = json!({
        "tags": ["service"],
        "summary": probe.summary,
        "operationId": operation_id(probe.path),
        "responses": answers,
    });
    if probe.is_public {
        operation["security"] = json!([]);
    }
    if probe.path == "/info" {
        operation["parameters"] = json!([{
            "name": "model", "in": "query", "schema": {"type": "string"},
            "description": "Which of several models; without it the default.",
        }]);
    }
    if probe.path == MODEL {
        operation["parameters"] = json!([{
            "name": "model", "in": "path", "required": true, "schema": {"type": "string"},
            "description": "A served name, or the model's own; it may hold slashes.",
        }]);
    }
    paths.insert(probe.path.to_owned(), json!({"get": operation}));
}

fn is_health(path: &str) -> bool {
    ["/health", "/v1/health", "/ready", "/ping"].contains(&path)
}

/// Probes say why they are not ready in their own body, not in the error body.
fn not_ready(book: &mut SchemaBook, path: &str) -> Value {
    let schema = match path {
        "/health" | "/v1/health" => book.insert("Health", health),
        _ => book.insert("Status", status),
    };
    json!({
        "description": "Loading, failed, quiesced or going away.",
        "headers": {
            "x-request-id": {"$ref": "#/components/headers/RequestId"},
            "retry-after": {"$ref": "#/components/headers/RetryAfter"},
        },
        "content": {"application/json": {"schema": schema}},
    })
}

fn probes(book: &mut SchemaBook, apis: &[Api]) -> Vec<Probe> {
    let mut probe = |path, summary, is_public, failures, name: &str, schema: &dyn Fn() -> Value| {
        let schema = book.insert(name, schema);
        Probe { path, summary, schema, is_public, failures }
    };
    let info = || info(apis);
    let props = || props(apis);
    vec![
        probe("/health", "How the process is, and how its boot went", true, &[], "Health", &health),
        probe("/v1/health", "As /health, under llama.cpp's name", true, &[], "Health", &health),
        probe("/ready", "Whether requests are answered at once", true, &[], "Status", &status),
        probe("/ping", "As /ready, under SageMaker's name", true, &[], "Status", &status),
        probe("/live", "Whether the process runs", true, &[], "Status", &status),
        probe("/v1/models", "The served model", false, NOT_LOADED, "Models", &models),
        probe(
            "/models",
            "As /v1/models, under infinity's name",
            false,
            NOT_LOADED,
            "Models",
            &models,
        ),
        probe(
            MODEL,
            "One of the served models",
            false,
            &[Failure::ModelNotFound, Failure::Unavailable],
            "Model",
            &model,
        ),
        probe("/props", "What llama.cpp's clients ask first", false, NOT_LOADED, "Props", &props),
        probe("/info", "The model, its limits and what runs it", false, NOT_FOUND, "Info", &info),
        probe("/version", "The binary's version", false, &[], "Version", &version),
    ]
}

/// Describes `GET /`, beside `POST /` where that is in the paths already.
fn root(paths: &mut Map<String, Value>, parts: &Parts, book: &mut SchemaBook) {
    let schema = book.insert("Service", service);
    let content = json!({"application/json": {"schema": schema}, "text/html": {"schema": {"type": "string"}}});
    let mut answers =
        json!({"200": ok("The service as JSON; a page to try it out for browsers.", &content)});
    parts.fail(&mut answers, false, &[]);
    let item = paths.entry("/").or_insert_with(|| json!({}));
    item["get"] = json!({
        "tags": ["service"],
        "summary": "What this is, and its routes",
        "operationId": "root",
        "responses": answers,
    });
}

fn pages(paths: &mut Map<String, Value>) {
    let mut pages =
        vec![("/openapi.json", "This document", "application/json", json!({"type": "object"}))];
    if cfg!(feature = "docs") {
        pages.push((
            "/docs",
            "This document in Swagger UI",
            "text/html",
            json!({"type": "string"}),
        ));
        pages.push(("/redoc", "This document in ReDoc", "text/html", json!({"type": "string"})));
    }
    for (path, summary, media_type, schema) in pages {
        let content = json!({media_type: {"schema": schema}});
        paths.insert(
            path.to_owned(),
            json!({"get": {
                "tags": ["pages"],
                "summary": summary,
                "operationId": operation_id(path).replace('.', "_"),
                "security": [],
                "responses": {"200": ok("The page.", &content)},
            }}),
        );
    }
}

fn hooks(paths: &mut Map<String, Value>, parts: &Parts, book: &mut SchemaBook) {
    let schema = book.insert("Hook", || {
        object(
            "What came of it.",
            &[
                ("state", json!({"type": "string", "description": "`quiesced` or `ok`."})),
                ("took_ms", json!({"type": "number", "minimum": 0})),
            ],
            &[],
        )
    });
    let before = BEFORE_SNAPSHOT
        .map(|path| (path, "Finish what runs, close connections, let later requests wait"));
    let after = AFTER_RESTORE.map(|path| (path, "Answer again, in each copy"));
    for (path, summary) in before.into_iter().chain(after) {
        let content = json!({"application/json": {"schema": schema}});
        let mut answers = json!({"200": ok("Done, or so already.", &content)});
        let failures = [Failure::Forbidden, Failure::Internal, Failure::Unavailable];
        parts.fail(&mut answers, false, &failures);
        paths.insert(
            path.to_owned(),
            json!({"post": {
                "tags": ["snapshots"],
                "summary": summary,
                "operationId": operation_id(path),
                "responses": answers,
            }}),
        );
    }
}

fn status() -> Value {
    let word = json!({"enum": ["ok", "loading", "failed", "draining", "quiesced"]});
    object("One word.", &[("status", word)], &[("detail", text("Why it is not ready."))])
}

fn health() -> Value {
    let words = ["ok", "loading", "failed", "draining", "quiesced"];
    let boot = object(
        "How the boot went.",
        &[
            (
                "phases",
                json!({
                    "type": "object",
                    "description": "Seconds of each phase, by name.",
                    "additionalProperties": {"type": "number", "minimum": 0},
                }),
            ),
            ("ready_seconds", nullable(seconds("From exec, or from a restore, to ready."))),
            (
                "first_score_seconds",
                nullable(seconds("From exec, or from a restore, to the first score.")),
            ),
        ],
        &[],
    );
    object(
        "How the process is.",
        &[
            ("status", json!({"enum": words})),
            ("model_loaded", json!({"type": "boolean"})),
            (
                "model_status",
                text(
                    "`ready`, `unloaded` until a request asks for it, or the same word as `status`.",
                ),
            ),
            ("model_name", text_or_null("The served name.")),
            ("device", text("What computes.")),
            ("version", text("The binary's version.")),
            ("embedding_dim", nullable(count("Width of the model."))),
            ("dimensions", nullable(count("The same number."))),
            ("memory_usage_mb", nullable(seconds("Resident memory."))),
            ("uptime_seconds", seconds("Since exec, or since a restore.")),
            ("timestamp", seconds("Unix time.")),
            ("unix", seconds("The same number.")),
            ("boot", boot),
        ],
        &[("detail", text("Why it is not ready."))],
    )
}

fn version() -> Value {
    object("The binary.", &[("version", text("Its version."))], &[])
}

fn service() -> Value {
    object(
        "The service.",
        &[
            ("service", text("The binary's name.")),
            ("description", text("What it does.")),
            ("model", text_or_null("The served name.")),
            ("version", text("The binary's version.")),
            ("backend", text("What runs the model.")),
            ("status", json!({"enum": ["ok", "loading", "failed", "draining", "quiesced"]})),
            (
                "endpoints",
                json!({
                    "type": "object",
                    "description": "Paths by what they are for.",
                    "additionalProperties": {"anyOf": [
                        {"type": "string"},
                        {"type": "array", "items": {"type": "string"}},
                    ]},
                }),
            ),
        ],
        &[],
    )
}

fn props(apis: &[Api]) -> Value {
    let mut required = vec![
        (
            "default_generation_settings",
            object("Of every request.", &[("n_ctx", count("Most tokens read at once."))], &[]),
        ),
        ("total_slots", count("Most requests that wait.")),
        ("model_path", text("The model's own name.")),
        ("model_alias", text("The served name.")),
        ("modalities", json!({"type": "object", "additionalProperties": {"type": "boolean"}})),
        ("build_info", text("The binary and its version.")),
    ];
    let optional = extend(&mut required, apis, |api| (api.props)());
    object("What may be sent.", &required, &optional)
}

fn model() -> Value {
    object(
        "One served name.",
        &[
            ("id", text("The name.")),
            ("object", json!({"const": "model"})),
            (
                "created",
                nullable(count("Unix time at which the model was loaded; null: it is not.")),
            ),
            ("owned_by", text("What infinity's client expects.")),
            ("root", text_or_null("The model's own name, if it is known before it is loaded.")),
            ("max_model_len", nullable(count("Most tokens that it reads at once."))),
            ("capabilities", json!({"type": "array", "items": {"type": "string"}})),
            ("status", json!({"enum": ["unloaded", "loading", "ready", "failed"]})),
            ("loaded", json!({"type": "boolean"})),
            (
                "embedding_dim",
                nullable(count("Width of the model, if it is known before it is loaded.")),
            ),
            ("load_time", nullable(seconds("From exec, or from the request for it, to ready."))),
            ("aliases", json!({"type": "array", "items": {"type": "string"}})),
            ("description", text("What it is.")),
        ],
        &[],
    )
}

fn models() -> Value {
    let entry = model();
    object(
        "Every model under each of its names.",
        &[
            ("object", json!({"const": "list"})),
            ("data", json!({"type": "array", "items": entry})),
            ("loaded_models", json!({"type": "array", "items": {"type": "string"}})),
            ("default_model", text("The name in answers.")),
            ("max_batch_size", count("Most texts of one request.")),
            ("max_text_length", nullable(count("Most tokens of one text."))),
            ("models", json!({"type": "object", "additionalProperties": {"type": "object"}})),
        ],
        &[],
    )
}

fn info(apis: &[Api]) -> Value {
    let mut required = vec![
        ("service", text("The binary's name.")),
        ("version", text("The binary's version.")),
        ("backend", text("What runs the model.")),
        ("model_id", text("The model's own name.")),
        ("served_model_names", json!({"type": "array", "items": {"type": "string"}})),
        ("model_type", json!({"type": "object", "description": "What kind of model it is."})),
        ("model_dtype", text("The numbers of its weights.")),
        ("hidden_size", count("Width of the model.")),
        ("layers", count("How many layers it has.")),
        ("snapshot", text("The snapshot's hash.")),
        ("kernel", text("The kernels chosen for this processor.")),
        ("threads", count("Threads that compute.")),
        ("max_input_length", count("Most tokens that the model reads at once.")),
        ("max_batch_tokens", count("Most tokens of one forward pass.")),
        ("max_client_batch_size", count("Most texts of one request.")),
        ("max_body_bytes", count("Most bytes of a request's body.")),
        ("max_bytes_in_flight", count("Most bytes that requests and answers hold together.")),
        ("max_concurrent_requests", count("Most requests that wait.")),
        ("fast_boot", json!({"type": "boolean"})),
        (
            "limits",
            json!({
                "type": "object",
                "description": "Most that one request may grow into: bytes that are tokenised, a prompt or query counted \
                    with each text it goes before; sequences and tokens that are run; numbers and tokens of an answer; \
                    fields and pieces of documents.",
                "additionalProperties": {"type": "integer", "minimum": 1},
            }),
        ),
    ];
    let optional = extend(&mut required, apis, |api| (api.info)());
    object("The model, its limits and what runs it.", &required, &optional)
}

type Fields = Vec<(&'static str, Value)>;

/// Adds the fields that each of several services has; those that only some have are given back.
fn extend(required: &mut Fields, apis: &[Api], of: impl Fn(&Api) -> Fields) -> Fields {
    let lists: Vec<Fields> = apis.iter().map(of).collect();
    let mut optional = Fields::new();
    for (name, schema) in lists.iter().flatten() {
        let has = |fields: &Fields| fields.iter().any(|(known, _)| known == name);
        if has(required) || has(&optional) {
            continue;
        }
        let fields = if lists.iter().all(has) { &mut *required } else { &mut optional };
        fields.push((name, schema.clone()));
    }
    optional
}
