//! Messages and items of a conversation, tools and the choice among them, as they arrive.

use std::fmt;

use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, Error, MapAccess, Unexpected, Visitor};

use super::content::{Parts, TextContent};
use super::values::{Bounded, Json, Object, Objects};
use crate::chat::message::Role;
use crate::json;
use crate::lenient::Flag;

/// Most messages of a conversation.
const MAX_MESSAGES: usize = 10_000;
/// Most tools; `OpenAI` allows 128.
const MAX_TOOLS: usize = 1024;

pub(crate) type Messages = Objects<MessageBody, MAX_MESSAGES>;
pub(crate) type Tools = Objects<ToolBody, MAX_TOOLS>;
pub(crate) type Functions = Objects<FunctionBody, MAX_TOOLS>;

impl<'de> Deserialize<'de> for Role {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        let roles = [Self::System, Self::Developer, Self::User, Self::Assistant, Self::Tool];
        let found = roles.into_iter().find(|role| role.as_str() == name);
        found.or_else(|| (name == "function").then_some(Self::Tool)).ok_or_else(|| {
            D::Error::invalid_value(
                Unexpected::Str(&name),
                &"one of system, developer, user, assistant, tool",
            )
        })
    }
}

/// One message, as `OpenAI`'s and Anthropic's clients write it.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
pub(crate) struct MessageBody {
    pub(crate) role: Role,
    #[serde(default)]
    pub(crate) content: Option<Parts>,
    #[serde(default)]
    pub(crate) name: Option<String>,
    #[serde(default)]
    pub(crate) tool_calls: Option<Objects<CallBody, MAX_TOOLS>>,
    #[serde(default)]
    pub(crate) tool_call_id: Option<String>,
    #[serde(default)]
    pub(crate) function_call: Option<Object<CalledFunction>>,
    #[serde(default)]
    pub(crate) refusal: Option<String>,
    #[serde(default)]
    pub(crate) reasoning_content: Option<String>,
    #[serde(default)]
    pub(crate) reasoning: Option<String>,
    /// Mistral, `DeepSeek`: the model continues this message.
    #[serde(default)]
    pub(crate) prefix: Option<Flag>,
}

#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
pub(crate) struct CallBody {
    #[serde(default)]
    pub(crate) id: Option<String>,
    pub(crate) function: Object<CalledFunction>,
}

#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
pub(crate) struct CalledFunction {
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) arguments: Option<Arguments>,
}

/// Most bytes of arguments that come as an object. Those that come as a text are no tree.
const MAX_ARGUMENTS_BYTES: usize = 1024 * 1024;

/// Arguments of a call: JSON as a text, or (Anthropic's and Ollama's clients) as an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Arguments(pub(crate) String);

impl<'de> Deserialize<'de> for Arguments {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ArgumentsVisitor;

        impl<'de> Visitor<'de> for ArgumentsVisitor {
            type Value = Arguments;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("arguments: json in a string, or an object")
            }

            fn visit_str<E: Error>(self, value: &str) -> Result<Arguments, E> {
                Ok(Arguments(value.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Arguments, A::Error> {
                let object = MapAccessDeserializer::new(map);
                let object = Bounded::<MAX_ARGUMENTS_BYTES>::deserialize(object)?;
                Ok(Arguments(object.value.to_string()))
            }
        }

        deserializer.deserialize_any(ArgumentsVisitor)
    }
}

/// One item of the input of responses.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default)]
pub(crate) struct ItemBody {
    pub(crate) r#type: Option<String>,
    pub(crate) role: Option<Role>,
    pub(crate) content: Option<Parts>,
    pub(crate) call_id: Option<String>,
    pub(crate) name: Option<String>,
    pub(crate) arguments: Option<Arguments>,
    pub(crate) output: Option<TextContent>,
    pub(crate) summary: Option<TextContent>,
}

/// The input of responses: a text, or a list of items.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Input {
    Text(String),
    Items(Vec<ItemBody>),
}

impl<'de> Deserialize<'de> for Input {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InputVisitor;

        impl<'de> Visitor<'de> for InputVisitor {
            type Value = Input;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text or a list of items")
            }

            fn visit_str<E: Error>(self, value: &str) -> Result<Input, E> {
                Ok(Input::Text(value.to_owned()))
            }

            fn visit_seq<A: serde::de::SeqAccess<'de>>(self, seq: A) -> Result<Input, A::Error> {
                let list = serde::de::value::SeqAccessDeserializer::new(seq);
                let Objects(items) = Objects::<ItemBody, MAX_MESSAGES>::deserialize(list)?;
                Ok(Input::Items(items))
            }
        }

        deserializer.deserialize_any(InputVisitor)
    }
}

/// A tool, as three APIs write it: around a `function`, flat, or with an `input_schema`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default)]
pub(crate) struct ToolBody {
    pub(crate) r#type: Option<String>,
    #[serde(deserialize_with = "json::object")]
    pub(crate) function: Option<FunctionBody>,
    pub(crate) name: Option<String>,
    pub(crate) description: Option<String>,
    pub(crate) parameters: Option<Json>,
    pub(crate) input_schema: Option<Json>,
    pub(crate) strict: Option<Flag>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default)]
pub(crate) struct FunctionBody {
    pub(crate) name: Option<String>,
    pub(crate) description: Option<String>,
    pub(crate) parameters: Option<Json>,
    pub(crate) strict: Option<Flag>,
}

/// `"auto"`, or an object that says which.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum ChoiceBody {
    Word(String),
    Object(Box<ChoiceObject>),
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default)]
pub(crate) struct ChoiceObject {
    pub(crate) r#type: Option<String>,
    pub(crate) name: Option<String>,
    pub(crate) mode: Option<String>,
    pub(crate) tools: Option<Tools>,
    #[serde(deserialize_with = "json::object")]
    pub(crate) function: Option<FunctionBody>,
    #[serde(deserialize_with = "json::object")]
    pub(crate) allowed_tools: Option<AllowedTools>,
    pub(crate) disable_parallel_tool_use: Option<Flag>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default)]
pub(crate) struct AllowedTools {
    pub(crate) mode: Option<String>,
    pub(crate) tools: Option<Tools>,
}

impl<'de> Deserialize<'de> for ChoiceBody {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ChoiceVisitor;

        impl<'de> Visitor<'de> for ChoiceVisitor {
            type Value = ChoiceBody;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("none, auto, required, or an object that names a tool")
            }

            fn visit_str<E: Error>(self, value: &str) -> Result<ChoiceBody, E> {
                Ok(ChoiceBody::Word(value.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<ChoiceBody, A::Error> {
                let object = ChoiceObject::deserialize(MapAccessDeserializer::new(map))?;
                Ok(ChoiceBody::Object(Box::new(object)))
            }
        }

        deserializer.deserialize_any(ChoiceVisitor)
    }
}
