//! What the clients of each service send to the rerank routes.

use serde_json::{Value, json};

use super::shape::{bounded, counted, forbid_null, not_blank};
use super::{EmbedRules, Form, SchemaBook, agree};
use crate::body::RerankBody;
use crate::embed::EmbedLimits;
use crate::request::Limits;

/// What the schemas of rerank requests depend on.
#[derive(Debug, Clone)]
pub struct RerankRules {
    /// Bounds on one request.
    pub limits: Limits,
    /// Whether the model takes the normalisation `mxbai`.
    pub takes_mxbai: bool,
    /// Most tokens of a pair that the model reads; `None`: not known yet.
    pub max_length: Option<usize>,
    /// Token ids from this one on have no meaning; `None`: not known yet.
    pub vocab: Option<usize>,
    /// Most texts of a request for their tokens.
    pub max_inputs: usize,
}

impl RerankRules {
    /// What the schemas of requests for tokens depend on: such a model has no prompts.
    pub fn of_tokens(&self) -> EmbedRules {
        let limits = EmbedLimits { max_inputs: self.max_inputs, ..EmbedLimits::default() };
        EmbedRules { limits, vocab: self.vocab, prompts: Some(Vec::new()), ..EmbedRules::default() }
    }
}

impl Default for RerankRules {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            takes_mxbai: false,
            max_length: None,
            vocab: None,
            max_inputs: EmbedLimits::default().max_inputs,
        }
    }
}

/// On `/v1/rerank` and its aliases.
pub const RERANK_FORMS: [Form; 5] = [
    Form {
        name: "RerankRequest",
        title: "Cohere, Jina, vLLM, infinity, Voyage",
        about: "The canonical form. Documents may be objects with a `text`, or with the fields that \
                `rank_fields` names. A request with `top_k` or `truncation`, or with `model` and nothing that Voyage \
                has not, is answered with `data` beside `results`, as clients of Voyage read it.",
        examples: &[
            (
                "Cohere, Jina",
                r#"{"query": "Who wrote 'To Kill a Mockingbird'?", "documents": [
                    "'To Kill a Mockingbird' was written by Harper Lee. The novel came out in 1960 and won the Pulitzer Prize the year after.",
                    "'Moby-Dick' is a novel by Herman Melville about a captain who hunts a white whale.",
                    "Harper Lee was born in 1926 in Monroeville, Alabama, and studied law before she moved to New York."
                ], "top_n": 2, "return_documents": true}"#,
            ),
            (
                "Cohere v1, documents with fields",
                r#"{"query": "Who wrote it?", "documents": [
                    {"text": "It was written by Harper Lee.", "year": "1960"}, {"text": "It rained.", "year": "1961"}
                ], "rank_fields": ["text"]}"#,
            ),
            (
                "vLLM, raw scores",
                r#"{"query": "Who wrote it?", "documents": ["Harper Lee did.", "It rained."], "use_activation": false}"#,
            ),
            (
                "infinity, raw scores",
                r#"{"query": "Who wrote it?", "documents": ["Harper Lee did.", "It rained."], "raw_scores": true}"#,
            ),
            (
                "Voyage",
                r#"{"query": "Who wrote it?", "documents": ["Harper Lee did.", "It rained."], "model": "rerank-2", "top_k": null, "truncation": true}"#,
            ),
        ],
        required: &["query", "documents"],
        optional: &[
            "model",
            "top_n",
            "top_k",
            "return_documents",
            "rank_fields",
            "normalization",
            "raw_scores",
            "use_activation",
            "instruction",
            "truncation",
            "truncation_side",
            "truncate_prompt_tokens",
            "max_tokens_per_query",
            "max_tokens_per_doc",
            "max_chunks_per_doc",
        ],
    },
    Form {
        name: "TeiRerankRequest",
        title: "Text Embeddings Inference",
        about: "Answered with a list of every text, best first.",
        examples: &[(
            "",
            r#"{"query": "Who wrote it?", "texts": ["Harper Lee did.", "It rained."], "raw_scores": false, "return_text": true, "truncate": true}"#,
        )],
        required: &["query", "texts"],
        optional: &["raw_scores", "return_text", "truncate", "truncation_direction"],
    },
    Form {
        name: "BaaiRerankRequest",
        title: "BAAI, one pair",
        about: "One query, one passage, one score; in [0, 1] unless `normalize` is false.",
        examples: &[(
            "",
            r#"{"query": "Who wrote it?", "passage": "Harper Lee did.", "normalize": true}"#,
        )],
        required: &["query", "passage"],
        optional: &["normalize"],
    },
    Form {
        name: "MixedbreadRerankRequest",
        title: "mixedbread",
        about: "Texts come in `input`; they may be objects as in the canonical form.",
        examples: &[(
            "",
            r#"{"query": "Who wrote it?", "input": ["Harper Lee did.", "It rained."], "top_k": 1, "return_input": true}"#,
        )],
        required: &["query", "input"],
        optional: &["model", "top_k", "return_input"],
    },
    Form {
        name: "SglangRerankRequest",
        title: "SGLang",
        about: "Answered with a list, best first, as clients of SGLang read it; known by `instruct`.",
        examples: &[(
            "",
            r#"{"query": "Who wrote it?", "documents": ["Harper Lee did.", "It rained."], "instruct": "Find the passage that answers the question.", "top_n": 1}"#,
        )],
        required: &["query", "documents", "instruct"],
        optional: &["model", "top_n", "return_documents"],
    },
];

/// On `/rerank/batch`.
pub const BATCH_FORMS: [Form; 1] = [Form {
    name: "BaaiBatchRequest",
    title: "BAAI, pairs",
    about: "Scores come back in the order of the pairs; in [0, 1] unless `normalize` is false.",
    examples: &[(
        "",
        r#"{"pairs": [
        {"query": "Who wrote it?", "passage": "Harper Lee did."}, {"query": "How was the weather?", "passage": "It rained."}
    ], "normalize": false}"#,
    )],
    required: &["pairs"],
    optional: &["model", "normalize"],
}];

/// On `/rerank/query`.
pub const QUERY_FORMS: [Form; 1] = [Form {
    name: "BaaiQueryRequest",
    title: "BAAI, passages of one query",
    about: "Passages come back best first; scores lie in [0, 1] unless `normalize` is false.",
    examples: &[(
        "",
        r#"{"query": "Who wrote it?", "passages": ["Harper Lee did.", "It rained."]}"#,
    )],
    required: &["query", "passages"],
    optional: &["model", "normalize"],
}];

/// The fields that hold the texts. A body with two of them contradicts itself.
const TEXT_KEYS: [&str; 6] = ["documents", "texts", "input", "passage", "passages", "pairs"];

impl SchemaBook {
    /// A reference to the schema of a form of the rerank routes.
    pub fn rerank_form(&mut self, form: &Form, rules: &RerankRules) -> Value {
        let body = self.body::<RerankBody>();
        let key = TEXT_KEYS.into_iter().find(|key| form.fields().any(|field| field == *key));
        let mut agree = vec![
            self.insert("ScoresAgree", || agree::scores(rules.takes_mxbai)),
            self.insert("TopAgrees", agree::top),
            self.insert("CuttingAgrees", agree::cutting),
        ];
        if let Some(key) = key.filter(|key| ["documents", "texts", "input"].contains(key)) {
            let fits = || agree::rank_fields(key, rules.limits.max_documents);
            agree.push(self.insert(&format!("Fitting_{key}"), fits));
        }
        self.insert(form.name, || {
            let mut schema = form.schema(&body, |field, schema| bound(form, field, schema, rules));
            for other in TEXT_KEYS.into_iter().filter(|other| Some(*other) != key) {
                schema["properties"][other] = json!({"type": "null"});
            }
            schema["allOf"] = agree.into();
            schema
        })
    }
}

fn bound(form: &Form, field: &str, schema: &mut Value, rules: &RerankRules) {
    let Limits { max_pairs, max_text_chars, .. } = rules.limits;
    let is_baai = form.name.starts_with("Baai");
    match field {
        "query" if !is_baai => not_blank(schema),
        "query" | "passage" => bounded(schema, max_text_chars),
        "passages" => {
            counted(schema, max_pairs);
            bounded(schema, max_text_chars);
        }
        "pairs" => {
            let mut pair = schema["items"].take();
            let mut text = |name: &str| {
                let mut text = pair["properties"][name].take();
                forbid_null(&mut text);
                bounded(&mut text, max_text_chars);
                text
            };
            let (query, passage) = (text("query"), text("passage"));
            schema["items"] = json!({"anyOf": [
                {
                    "type": "object",
                    "properties": {"query": query, "passage": passage},
                    "required": ["query", "passage"],
                },
                {
                    "type": "array",
                    "description": "Query and passage, as FlagEmbedding's clients write a pair.",
                    "prefixItems": [query, passage],
                    "items": false,
                    "minItems": 2,
                },
            ]});
            counted(schema, max_pairs);
        }
        "truncate_prompt_tokens" => {
            if let Some(most) = rules.max_length {
                schema["maximum"] = most.into();
            }
        }
        "documents" | "texts" | "input" => {
            *schema = json!({"description": schema["description"]});
        }
        _ => {}
    }
}
