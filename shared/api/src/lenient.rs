//! Values that clients send in more than one form.
//!
//! Each type here has its own visitor instead of an untagged enum: an untagged enum buffers the
//! value and loses the path to the element at fault, and the path is what `param` in an error
//! names.

mod inputs;
mod schema;

use std::fmt;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Unexpected, Visitor};
use serde_json::{Map, Value};

pub use inputs::{Content, EmbedInput, Inputs, Piece, TokenId};
pub(crate) use schema::MIXED;

/// A boolean, also as the strings `"true"` and `"false"` (`RAGFlow` sends those).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flag(pub bool);

impl<'de> Deserialize<'de> for Flag {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match deserializer.deserialize_any(FlagOrNameVisitor("true or false"))? {
            FlagOrName::Flag(flag) => Ok(Self(flag)),
            FlagOrName::Name(name) => {
                Err(D::Error::invalid_value(Unexpected::Str(&name), &"true or false"))
            }
        }
    }
}

/// A boolean, or a name that refines it (`truncate: "END"`, `normalize: "mxbai"`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FlagOrName {
    /// `true`, `false` and the strings that mean them.
    Flag(bool),
    /// Any other string, in lower case.
    Name(String),
}

impl<'de> Deserialize<'de> for FlagOrName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(FlagOrNameVisitor("true, false or a name"))
    }
}

struct FlagOrNameVisitor(&'static str);

impl Visitor<'_> for FlagOrNameVisitor {
    type Value = FlagOrName;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<FlagOrName, E> {
        Ok(FlagOrName::Flag(value))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<FlagOrName, E> {
        Ok(match value.to_ascii_lowercase() {
            name if name == "true" => FlagOrName::Flag(true),
            name if name == "false" => FlagOrName::Flag(false),
            name => FlagOrName::Name(name),
        })
    }
}

/// A whole number, also written as `5.0`. The sign is kept so that a negative one can be named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Count(pub i64);

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(CountVisitor)
    }
}

struct CountVisitor;

impl Visitor<'_> for CountVisitor {
    type Value = Count;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a whole number")
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Count, E> {
        Ok(Count(value))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Count, E> {
        Ok(Count(i64::try_from(value).unwrap_or(i64::MAX)))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Count, E> {
        if value.fract() == 0.0 {
            #[allow(clippy::cast_possible_truncation, reason = "whole; the cast saturates")]
            let whole = value as i64;
            Ok(Count(whole))
        } else {
            Err(E::invalid_value(Unexpected::Float(value), &self))
        }
    }
}

/// A text: a string, or an object with a `text` (Jina's multimodal form).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text(pub String);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match deserializer.deserialize_any(DocumentVisitor("a string or an object with a text"))? {
            Document::Text(text) => Ok(Self(text)),
            Document::Fields(mut fields) => match fields.remove("text") {
                Some(Value::String(text)) => Ok(Self(text)),
                _ => Err(D::Error::custom("expected an object with a string `text`")),
            },
        }
    }
}

/// A document: a string, or an object whose fields `rank_fields` (or `text`) selects.
#[derive(Debug, Clone, PartialEq)]
pub enum Document {
    /// The text itself.
    Text(String),
    /// Named fields.
    Fields(Map<String, Value>),
}

impl<'de> Deserialize<'de> for Document {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer
            .deserialize_any(DocumentVisitor("a document: a string or an object with a text"))
    }
}

struct DocumentVisitor(&'static str);

impl<'de> Visitor<'de> for DocumentVisitor {
    type Value = Document;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Document, E> {
        Ok(Document::Text(value.to_owned()))
    }

    fn visit_string<E: Error>(self, value: String) -> Result<Document, E> {
        Ok(Document::Text(value))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Document, A::Error> {
        Map::deserialize(MapAccessDeserializer::new(map)).map(Document::Fields)
    }
}

/// Most documents that are objects, whatever the settings allow: `{"a":0}` is 7 bytes of a body and
/// 650 in memory.
const MAX_OBJECTS: usize = 100_000;

/// A list of documents, or one document as a bare string (vLLM takes that too).
#[derive(Debug, Clone, PartialEq)]
pub struct Documents(pub Vec<Document>);

impl<'de> Deserialize<'de> for Documents {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(DocumentsVisitor)
    }
}

struct DocumentsVisitor;

impl<'de> Visitor<'de> for DocumentsVisitor {
    type Value = Documents;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of documents")
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Documents, E> {
        Ok(Documents(vec![Document::Text(value.to_owned())]))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Documents, A::Error> {
        let (mut documents, mut objects) = (Vec::new(), 0);
        while let Some(document) = seq.next_element()? {
            objects += usize::from(matches!(document, Document::Fields(_)));
            if objects > MAX_OBJECTS {
                return Err(Error::custom(format!(
                    "at most {MAX_OBJECTS} documents may be objects, found more; send several requests"
                )));
            }
            documents.push(document);
        }
        Ok(Documents(documents))
    }
}

/// A name or a list of names, in lower case.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names {
    /// The names in order.
    pub names: Vec<String>,
    /// Whether they came as a list.
    pub listed: bool,
}

impl<'de> Deserialize<'de> for Names {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NamesVisitor)
    }
}

struct NamesVisitor;

impl<'de> Visitor<'de> for NamesVisitor {
    type Value = Names;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name or a list of names")
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Names, E> {
        Ok(Names { names: vec![value.to_ascii_lowercase()], listed: false })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Names, A::Error> {
        let mut names: Vec<String> = Vec::new();
        while let Some(name) = seq.next_element::<String>()? {
            names.push(name.to_ascii_lowercase());
        }
        Ok(Names { names, listed: true })
    }
}
