//! The content of a message, as four services write it: a text, or a list of parts.
//!
//! The model reads text. A part of another kind is refused where it stands, by its name: an answer
//! that is silent about the picture it has not seen would be worse.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, Error, SeqAccess, Visitor};

use super::messages::Arguments;
use super::values::Object;

/// A text, or a list of parts.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Parts {
    Text(String),
    List(Vec<Part>),
}

/// One part of a message.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Part {
    Text(String),
    /// Anthropic: what the assistant thought. What is encrypted of it is empty here.
    Thinking(String),
    /// Anthropic: a call that the assistant made.
    ToolUse {
        id: String,
        name: String,
        input: String,
    },
    /// Anthropic: what became of a call.
    ToolResult {
        id: String,
        content: Option<String>,
    },
}

/// Every field of a part.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(default)]
struct PartBody {
    r#type: Option<String>,
    text: Option<String>,
    refusal: Option<String>,
    thinking: Option<String>,
    id: Option<String>,
    name: Option<String>,
    input: Option<Arguments>,
    tool_use_id: Option<String>,
    content: Option<TextContent>,
}

/// What a part of this type says, as text: `OpenAI`'s names of it in all of its APIs.
fn text_of(kind: &str, part: &mut PartBody) -> Option<Result<String, String>> {
    let missing = |field: &str| format!("expected a part of type {kind} with a string `{field}`");
    match kind {
        "text" | "input_text" | "output_text" | "summary_text" | "reasoning_text" => {
            Some(part.text.take().ok_or_else(|| missing("text")))
        }
        "refusal" => Some(part.refusal.take().ok_or_else(|| missing("refusal"))),
        _ => None,
    }
}

fn not_read(kind: &str) -> String {
    let shown: String = kind.chars().take(40).collect();
    format!(
        "parts of type {shown:?} are not read here: the model reads text; send parts of type text"
    )
}

impl<'de> Deserialize<'de> for Part {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Object(mut part) = Object::<PartBody>::deserialize(deserializer)?;
        let kind = part.r#type.take().unwrap_or_else(|| "text".to_owned());
        if let Some(text) = text_of(&kind, &mut part) {
            return text.map(Self::Text).map_err(D::Error::custom);
        }
        let missing = |field: &str| {
            D::Error::custom(format!("expected a part of type {kind} with a string `{field}`"))
        };
        match kind.as_str() {
            "thinking" => part.thinking.map(Self::Thinking).ok_or_else(|| missing("thinking")),
            "redacted_thinking" => Ok(Self::Thinking(String::new())),
            "tool_use" => Ok(Self::ToolUse {
                id: part.id.ok_or_else(|| missing("id"))?,
                name: part.name.ok_or_else(|| missing("name"))?,
                input: part.input.map_or_else(|| "{}".to_owned(), |Arguments(json)| json),
            }),
            "tool_result" => Ok(Self::ToolResult {
                id: part.tool_use_id.ok_or_else(|| missing("tool_use_id"))?,
                content: part.content.map(|TextContent(text)| text),
            }),
            other => Err(D::Error::custom(not_read(other))),
        }
    }
}

/// A text, or a list of parts of text, which are put on lines of their own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TextContent(pub(crate) String);

struct TextPart(String);

impl<'de> Deserialize<'de> for TextPart {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Default, serde::Deserialize)]
        #[serde(default)]
        struct Plain {
            r#type: Option<String>,
            text: Option<String>,
            refusal: Option<String>,
        }
        let Object(Plain { r#type, text, refusal }) = Object::deserialize(deserializer)?;
        let mut part = PartBody { text, refusal, ..PartBody::default() };
        let kind = r#type.unwrap_or_else(|| "text".to_owned());
        let text = text_of(&kind, &mut part).unwrap_or_else(|| Err(not_read(&kind)));
        text.map(Self).map_err(D::Error::custom)
    }
}

/// Reads a string, or a list of `T`.
struct StringOrList<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for StringOrList<T> {
    type Value = Result<String, Vec<T>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text or a list of parts of type text")
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Self::Value, E> {
        Ok(Ok(value.to_owned()))
    }

    fn visit_string<E: Error>(self, value: String) -> Result<Self::Value, E> {
        Ok(Ok(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut parts = Vec::new();
        while let Some(part) = seq.next_element()? {
            parts.push(part);
        }
        Ok(Err(parts))
    }
}

impl<'de> Deserialize<'de> for Parts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let read = deserializer.deserialize_any(StringOrList(PhantomData))?;
        Ok(read.map_or_else(Self::List, Self::Text))
    }
}

impl<'de> Deserialize<'de> for TextContent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let read: Result<String, Vec<TextPart>> =
            deserializer.deserialize_any(StringOrList(PhantomData))?;
        Ok(Self(
            read.unwrap_or_else(|parts| lines(parts.iter().map(|TextPart(text)| text.as_str()))),
        ))
    }
}

/// Texts on lines of their own.
pub(crate) fn lines<'a>(texts: impl IntoIterator<Item = &'a str>) -> String {
    let mut all = String::new();
    for (at, text) in texts.into_iter().enumerate() {
        if at > 0 {
            all.push('\n');
        }
        all.push_str(text);
    }
    all
}
