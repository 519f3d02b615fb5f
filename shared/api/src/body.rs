//! The request body as it arrives: every field of every shape, all optional.

use serde::{Deserialize, Deserializer};

use crate::error::{ErrorStyle, Invalid};
use crate::lenient::{Count, Documents, Flag, FlagOrName, Text};
use crate::request::Route;

/// Longest error message taken from the JSON reader, in bytes. Its messages quote the value at
/// fault, which may be as long as the body.
const MAX_MESSAGE_BYTES: usize = 300;

/// Every field that a rerank client may send. Unknown fields are ignored, null means absent.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct RerankBody {
    /// Name of the model, any name unless the server is strict.
    pub model: Option<String>,
    /// The query text.
    pub query: Option<Text>,
    /// Canonical (Cohere, Jina, vLLM, Voyage) documents.
    pub documents: Option<Documents>,
    /// TEI's documents.
    pub texts: Option<Documents>,
    /// Mixedbread's documents.
    pub input: Option<Documents>,
    /// BAAI: the one text to score.
    pub passage: Option<Text>,
    /// BAAI `/rerank/query`: texts to score.
    pub passages: Option<Vec<Text>>,
    /// BAAI `/rerank/batch`: pairs to score.
    pub pairs: Option<Vec<Pair>>,
    /// Most results to return.
    pub top_n: Option<Count>,
    /// Voyage's and mixedbread's name of `top_n`; the outer `Option` tells a null from absence.
    #[serde(deserialize_with = "present")]
    pub top_k: Option<Option<Count>>,
    /// Return each document's text.
    pub return_documents: Option<Flag>,
    /// TEI's name of `return_documents`.
    pub return_text: Option<Flag>,
    /// Mixedbread's name of `return_documents`.
    pub return_input: Option<Flag>,
    /// Fields of document objects to rank by.
    pub rank_fields: Option<Vec<String>>,
    /// TEI, infinity: logits instead of `[0, 1]`.
    pub raw_scores: Option<Flag>,
    /// vLLM: false asks for logits.
    pub use_activation: Option<Flag>,
    /// BAAI: false asks for logits; also a name of [`crate::Normalization`].
    pub normalize: Option<FlagOrName>,
    /// A name of [`crate::Normalization`].
    pub normalization: Option<String>,
    /// Task description for models that take one.
    pub instruction: Option<String>,
    /// Voyage: false refuses over-long texts. The outer `Option` tells a null from absence.
    #[serde(deserialize_with = "present")]
    pub truncation: Option<Option<Flag>>,
    /// TEI and Cohere: `false` or `"NONE"` refuses over-long texts.
    pub truncate: Option<FlagOrName>,
    /// Cut the query to this many tokens.
    pub max_tokens_per_query: Option<Count>,
    /// Cut each document to this many tokens.
    pub max_tokens_per_doc: Option<Count>,
    /// Cohere v1: score a long document in this many pieces.
    pub max_chunks_per_doc: Option<Count>,
}

/// One query with its passage; as an object, or as a list of two as in `FlagEmbedding`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Pair {
    /// The query text.
    pub query: Option<Text>,
    /// The text to score.
    pub passage: Option<Text>,
}

/// Keeps the difference between `"key": null` and no key.
#[allow(clippy::option_option, reason = "absent, null and a value are three different things here")]
fn present<'de, D, T>(deserializer: D) -> Result<Option<Option<T>>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    Option::deserialize(deserializer).map(Some)
}

impl RerankBody {
    /// Reads a JSON body.
    pub fn parse(bytes: &[u8]) -> Result<Self, Invalid> {
        Self::parse_on(Route::Rerank, bytes)
    }

    /// Reads a JSON body; an error takes the style that clients of this route and shape expect.
    pub fn parse_on(route: Route, bytes: &[u8]) -> Result<Self, Invalid> {
        read(bytes).map_err(|invalid| invalid.styled(style_hint(route, bytes)))
    }
}

fn read(bytes: &[u8]) -> Result<RerankBody, Invalid> {
    let text = std::str::from_utf8(bytes).map_err(|error| {
        Invalid::body(format!(
            "the body is not valid utf-8: byte {} begins no character; send json encoded as utf-8",
            error.valid_up_to()
        ))
    })?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    match text.trim_ascii_start().bytes().next() {
        Some(b'{') => {}
        None => return Err(Invalid::body("the body is empty; send a json object")),
        // A derived struct would also read an array, field by field.
        Some(_) => {
            return Err(Invalid::body(
                "the body is not a json object; send an object such as {\"query\":…,\"documents\":[…]}",
            ));
        }
    }
    let mut json = serde_json::Deserializer::from_str(text);
    let body = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let path = error.path().to_string();
        let inner = error.inner();
        if inner.is_data() {
            let message = shorten(without_position(&inner.to_string()));
            match path.as_str() {
                "." | "?" => Invalid::body(message),
                _ => Invalid::new(path.clone(), format!("{path}: {message}")),
            }
        } else {
            not_json(inner)
        }
    })?;
    json.end().map_err(|error| not_json(&error))?;
    Ok(body)
}

fn not_json(error: &serde_json::Error) -> Invalid {
    Invalid::body(shorten(&format!("the body is not valid json: {error}")))
}

fn without_position(message: &str) -> &str {
    message.rfind(" at line ").map_or(message, |end| &message[..end])
}

fn shorten(message: &str) -> String {
    if message.len() <= MAX_MESSAGE_BYTES {
        return message.to_owned();
    }
    let half = MAX_MESSAGE_BYTES / 2;
    let head = message.floor_char_boundary(half);
    let tail = message.ceil_char_boundary(message.len() - half);
    format!("{}…{}", &message[..head], &message[tail..])
}

/// Which keys a body has, whatever their values: tells the shape of one that cannot be read.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Keys {
    texts: Option<serde::de::IgnoredAny>,
    passage: Option<serde::de::IgnoredAny>,
}

fn style_hint(route: Route, bytes: &[u8]) -> ErrorStyle {
    if route != Route::Rerank {
        return ErrorStyle::FastApi;
    }
    match serde_json::from_slice(bytes) {
        Ok(Keys { texts: Some(_), .. }) => ErrorStyle::Tei,
        Ok(Keys { passage: Some(_), .. }) => ErrorStyle::FastApi,
        _ => ErrorStyle::OpenAi,
    }
}
