//! Forms of vLLM's `/score`, and of the routes that take pairs for classes.
//!
//! One text on the left, one or a list on the right. As many on the left as on the right are taken
//! too, which no schema of fixed size can say; the text of the forms does.

use serde_json::{Value, json};

use super::shape::{counted, not_blank};
use super::{Form, RerankRules, SchemaBook, agree};
use crate::predict::PredictBody;
use crate::score::ScoreBody;

const ABOUT: &str = "One text on the left goes with every text on the right; as many on the left as on the right go in pairs.";

/// On `/score`: the names of its sides changed from version to version.
pub const SCORE_FORMS: [Form; 4] = [
    Form {
        name: "ScoreRequest",
        title: "vLLM",
        about: ABOUT,
        examples: &[(
            "",
            r#"{"queries": "Who wrote it?", "documents": ["Harper Lee did.", "It rained."]}"#,
        )],
        required: &["queries", "documents"],
        optional: &[
            "model",
            "use_activation",
            "instruction",
            "truncation_side",
            "truncate_prompt_tokens",
        ],
    },
    Form {
        name: "ScoreItemsRequest",
        title: "vLLM, items",
        about: ABOUT,
        examples: &[(
            "",
            r#"{"queries": "Who wrote it?", "items": ["Harper Lee did.", "It rained."]}"#,
        )],
        required: &["queries", "items"],
        optional: &["model", "use_activation"],
    },
    Form {
        name: "ScoreTextsRequest",
        title: "vLLM, numbered texts",
        about: ABOUT,
        examples: &[("", r#"{"text_1": "Who wrote it?", "text_2": "Harper Lee did."}"#)],
        required: &["text_1", "text_2"],
        optional: &["model", "use_activation"],
    },
    Form {
        name: "ScoreDataRequest",
        title: "vLLM, numbered data",
        about: ABOUT,
        examples: &[("", r#"{"data_1": "Who wrote it?", "data_2": ["Harper Lee did."]}"#)],
        required: &["data_1", "data_2"],
        optional: &["model", "use_activation"],
    },
];

/// On `/predict` and `/classify`.
pub const PREDICT_FORMS: [Form; 2] = [
    Form {
        name: "TeiPredictRequest",
        title: "Text Embeddings Inference",
        about: "One pair of query and text, or a list of them; answered with the class of each, of which there is one.",
        examples: &[(
            "",
            r#"{"inputs": [["Who wrote it?", "Harper Lee did."], ["Who wrote it?", "It rained."]], "raw_scores": false}"#,
        )],
        required: &["inputs"],
        optional: &["raw_scores", "truncate", "truncation_direction"],
    },
    Form {
        name: "VllmClassifyRequest",
        title: "vLLM",
        about: "One pair of query and text, or a list of them; answered with the class of each, of which there is one.",
        examples: &[(
            "",
            r#"{"input": [["Who wrote it?", "Harper Lee did."]], "model": "m", "use_activation": true}"#,
        )],
        required: &["input"],
        optional: &["model", "use_activation", "truncation_side", "truncate_prompt_tokens"],
    },
];

const SIDES: [&str; 7] = ["queries", "text_1", "data_1", "documents", "items", "text_2", "data_2"];

impl SchemaBook {
    /// A reference to the schema of a form of the routes for classes.
    pub fn predict_form(&mut self, form: &Form, rules: &RerankRules) -> Value {
        let body = self.body::<PredictBody>();
        let scores = || agree::of(agree::scores(rules.takes_mxbai), &body);
        let agree = [
            self.insert("ScoresOfClassesAgree", scores),
            self.insert("CuttingOfPairsAgrees", || agree::of(agree::cutting(), &body)),
        ];
        self.insert(form.name, || {
            let mut schema = form.schema(&body, |field, schema| match field {
                // Of a pair the query alone may not be blank.
                "inputs" | "input" => {
                    let mut query = json!({"type": "string"});
                    not_blank(&mut query);
                    let pair = json!({
                        "type": "array", "prefixItems": [query, {"type": "string"}], "items": false, "minItems": 2,
                    });
                    let mut pairs = json!({"type": "array", "items": pair});
                    counted(&mut pairs, rules.limits.max_documents);
                    *schema = json!({"description": schema["description"], "anyOf": [pair, pairs]});
                }
                "truncate_prompt_tokens" => {
                    if let Some(most) = rules.max_length {
                        schema["maximum"] = most.into();
                    }
                }
                _ => {}
            });
            let other = if form.required.contains(&"inputs") { "input" } else { "inputs" };
            schema["properties"][other] = json!({"type": "null"});
            schema["allOf"] = json!(agree);
            schema
        })
    }

    /// A reference to the schema of a form of the score routes.
    pub fn score_form(&mut self, form: &Form, rules: &RerankRules) -> Value {
        let body = self.body::<ScoreBody>();
        let agree = [
            self.insert("ScoresAgree", || agree::scores(rules.takes_mxbai)),
            self.insert("CuttingAgrees", agree::cutting),
        ];
        self.insert(form.name, || {
            let mut schema = form.schema(&body, |field, schema| match field {
                "queries" | "text_1" | "data_1" => {
                    *schema = json!({"description": schema["description"], "type": "string"});
                    not_blank(schema);
                }
                "documents" | "items" | "text_2" | "data_2" => {
                    let mut texts = json!({"type": "array", "items": {"type": "string"}});
                    counted(&mut texts, rules.limits.max_documents);
                    *schema = json!({
                        "description": schema["description"],
                        "anyOf": [{"type": "string"}, texts],
                    });
                }
                "truncate_prompt_tokens" => {
                    if let Some(most) = rules.max_length {
                        schema["maximum"] = most.into();
                    }
                }
                _ => {}
            });
            for side in SIDES.into_iter().filter(|side| !form.fields().any(|field| field == *side))
            {
                schema["properties"][side] = json!({"type": "null"});
            }
            schema["allOf"] = json!(agree);
            schema
        })
    }
}
