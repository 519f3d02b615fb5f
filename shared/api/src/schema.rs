//! The wire types as JSON Schema (2020-12), for a document of the API.
//!
//! Bodies and answers are derived from the types, so a new field is in the schema without a second
//! list. A body, though, holds the fields of many services at once, and not every mixture of them
//! is a request: `top_n` and `top_k` may disagree, `documents` and `texts` exclude each other. A
//! [`Form`] is what the clients of one service send. Its schema takes the fields of that service
//! out of the body's schema and adds the bounds that the server checks, so that what fits a form's
//! schema is answered, and a body that fits no form's is refused.
//!
//! ```
//! use defrost_api::{Answer, RERANK_FORMS, SchemaBook, RerankRules};
//!
//! let mut book = SchemaBook::new();
//! let form = book.rerank_form(&RERANK_FORMS[0], &RerankRules::default());
//! assert_eq!(form["$ref"], "#/components/schemas/RerankRequest");
//! let answer = book.answer::<Answer<'_>>();
//! assert!(book.finish().contains_key("Answer"));
//! ```

mod agree;
mod chat;
mod embed;
mod rerank;
mod score;
mod shape;
mod tokens;

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value, json};

pub use chat::{CHAT_TOKENIZE_FORMS, ChatRules};
pub use embed::EmbedRules;
pub use rerank::{BATCH_FORMS, QUERY_FORMS, RERANK_FORMS, RerankRules};
pub use score::{PREDICT_FORMS, SCORE_FORMS};
pub use tokens::{DETOKENIZE_FORMS, TOKENIZE_FORMS};

use crate::error::ErrorStyle;

/// Schemas of types that read or write themselves, inlined: a document of the API shows at each field what the field takes.
macro_rules! inlined {
    ($($type:ty => $schema:tt)*) => {$(
        impl schemars::JsonSchema for $type {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($type).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!($schema)
            }
        }
    )*};
}

pub(crate) use inlined;

const COMPONENTS: &str = "#/components/schemas/";

/// What the clients of one service send.
#[derive(Debug)]
pub struct Form {
    /// The name of its schema.
    pub name: &'static str,
    /// Whose form it is.
    pub title: &'static str,
    /// What is particular to it.
    pub about: &'static str,
    /// Bodies of this form, as JSON, each with whose it is; empty: whose the form is.
    pub examples: &'static [(&'static str, &'static str)],
    required: &'static [&'static str],
    optional: &'static [&'static str],
}

impl Form {
    /// The fields of this form.
    pub fn fields(&self) -> impl Iterator<Item = &'static str> {
        self.required.iter().chain(self.optional).copied()
    }

    /// The schema of this form, from that of the whole body. `bound` adds to a field's schema what
    /// the server checks. Of fields that the rules of [`agree`] govern only the description is kept.
    fn schema(&self, body: &Value, mut bound: impl FnMut(&str, &mut Value)) -> Value {
        let mut properties = Map::new();
        for field in self.fields() {
            let mut schema = body["properties"][field].clone();
            if self.required.contains(&field) {
                shape::forbid_null(&mut schema);
            }
            if agree::GOVERNED.contains(&field) {
                schema = json!({"description": schema["description"]});
            }
            bound(field, &mut schema);
            properties.insert(field.to_owned(), schema);
        }
        json!({
            "title": self.title,
            "description": self.about,
            "type": "object",
            "properties": properties,
            "required": self.required,
        })
    }
}

/// Collects the schemas that a document refers to.
#[derive(Debug)]
pub struct SchemaBook {
    requests: SchemaGenerator,
    answers: SchemaGenerator,
    own: Map<String, Value>,
}

impl Default for SchemaBook {
    fn default() -> Self {
        Self::new()
    }
}

impl SchemaBook {
    /// An empty book.
    pub fn new() -> Self {
        let settings = || {
            SchemaSettings::draft2020_12().with(|settings| {
                settings.definitions_path = COMPONENTS.trim_start_matches('#').into();
            })
        };
        let inline = |settings: &mut SchemaSettings| settings.inline_subschemas = true;
        Self {
            requests: settings().for_deserialize().with(inline).into_generator(),
            answers: settings().for_serialize().into_generator(),
            own: Map::new(),
        }
    }

    /// A reference to the schema of an answer.
    pub fn answer<T: JsonSchema>(&mut self) -> Value {
        self.answers.subschema_for::<T>().to_value()
    }

    /// A reference to the schema of an error body.
    pub fn error(&mut self, style: ErrorStyle) -> Value {
        self.insert(style.schema_name(), || style.schema())
    }

    /// A reference to a schema under this name, which `schema` makes the first time.
    pub fn insert(&mut self, name: &str, schema: impl FnOnce() -> Value) -> Value {
        if !self.own.contains_key(name) {
            self.own.insert(name.to_owned(), schema());
        }
        json!({"$ref": format!("{COMPONENTS}{name}")})
    }

    /// Every schema that was referred to, by name.
    pub fn finish(mut self) -> Map<String, Value> {
        let mut schemas = self.answers.take_definitions(true);
        for schema in schemas.values_mut() {
            shape::leave_out_null(schema);
        }
        schemas.append(&mut self.own);
        for schema in schemas.values_mut() {
            shape::plain_text(schema);
        }
        schemas
    }

    fn body<T: JsonSchema>(&mut self) -> Value {
        T::json_schema(&mut self.requests).to_value()
    }
}
