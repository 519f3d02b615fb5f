//! What is to be embedded, in the many forms in which it is sent.
//!
//! `"a"`, `["a", "b"]`, `[1, 2]`, `[[1, 2], [3]]` (`OpenAI`, TEI), `[{"text": "a"}]` (Jina) and
//! `[{"content": [{"type": "text", "text": "a"}]}]` (Cohere) all fit one field, and so does
//! llama.cpp's one input of texts and token ids in turn, `["a", 1, 2, "b"]`. The first element of a
//! list decides whether the list is one input's tokens or several inputs, and every further element
//! is read knowing that, so that an error names the element that breaks the rule.

use std::fmt;

use serde::de::value::MapAccessDeserializer;
use serde::de::{
    Deserialize, DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess,
    Unexpected, Visitor,
};

/// One thing to embed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EmbedInput {
    /// A text.
    Text(String),
    /// Token ids, as the client's own tokenizer made them.
    Tokens(Vec<u32>),
    /// Texts and token ids in turn (llama.cpp).
    Mixed(Vec<Piece>),
}

/// A part of a mixed input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// A text.
    Text(String),
    /// A token id.
    Token(u32),
}

impl EmbedInput {
    /// The text; `None` for tokens.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Tokens(_) | Self::Mixed(_) => None,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        match self {
            Self::Text(text) => text.is_empty(),
            Self::Tokens(tokens) => tokens.is_empty(),
            // There is a token in it.
            Self::Mixed(_) => false,
        }
    }
}

/// One input or a list of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inputs {
    /// The inputs in order.
    pub items: Vec<EmbedInput>,
    /// Whether the one input came without a list around it.
    pub single: bool,
}

impl<'de> Deserialize<'de> for Inputs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(InputsVisitor)
    }
}

struct InputsVisitor;

impl<'de> Visitor<'de> for InputsVisitor {
    type Value = Inputs;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text, a list of texts, a list of token ids or a list of such lists")
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Inputs, E> {
        Ok(Inputs { items: vec![EmbedInput::Text(value.to_owned())], single: true })
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Inputs, A::Error> {
        Ok(Inputs { items: vec![EmbedInput::Text(object_text(map)?)], single: true })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Inputs, A::Error> {
        let mut list = match seq.next_element_seed(Expect::Anything)? {
            None => return Ok(Inputs::default()),
            Some(first) => List::of(first),
        };
        while let Some(element) = seq.next_element_seed(list.expects())? {
            list = list.with(element);
        }
        Ok(match list {
            List::Tokens(tokens) => {
                Inputs { items: vec![EmbedInput::Tokens(tokens)], single: true }
            }
            List::Pieces(pieces) => Inputs { items: vec![EmbedInput::Mixed(pieces)], single: true },
            List::Inputs { items, .. } => Inputs { items, single: false },
        })
    }
}

/// What a list is, as far as its elements so far say.
enum List {
    /// The list is one input's token ids.
    Tokens(Vec<u32>),
    /// The list is one input of texts and token ids in turn.
    Pieces(Vec<Piece>),
    /// Several inputs; as long as they are texts, a token makes them pieces of one.
    Inputs { items: Vec<EmbedInput>, are_texts: bool },
}

impl List {
    fn of(first: Element) -> Self {
        match first {
            Element::Token(token) => Self::Tokens(vec![token]),
            Element::Input(input) => {
                let are_texts = input.as_text().is_some();
                Self::Inputs { items: vec![input], are_texts }
            }
        }
    }

    fn expects(&self) -> Expect {
        match self {
            Self::Tokens(_) | Self::Pieces(_) => Expect::Piece,
            Self::Inputs { are_texts: true, .. } => Expect::Anything,
            Self::Inputs { are_texts: false, .. } => Expect::Input,
        }
    }

    /// The list with one element more, if that is one of those it expects.
    fn with(self, element: Element) -> Self {
        let texts = |items: Vec<EmbedInput>| {
            let text = |input| match input {
                EmbedInput::Text(text) => Some(Piece::Text(text)),
                EmbedInput::Tokens(_) | EmbedInput::Mixed(_) => None,
            };
            items.into_iter().filter_map(text)
        };
        match (self, element) {
            (Self::Tokens(mut tokens), Element::Token(token)) => {
                tokens.push(token);
                Self::Tokens(tokens)
            }
            (Self::Tokens(tokens), Element::Input(input)) => {
                let tokens = tokens.into_iter().map(Piece::Token);
                Self::Pieces(tokens.chain(texts(vec![input])).collect())
            }
            (Self::Pieces(mut pieces), Element::Token(token)) => {
                pieces.push(Piece::Token(token));
                Self::Pieces(pieces)
            }
            (Self::Pieces(mut pieces), Element::Input(input)) => {
                pieces.extend(texts(vec![input]));
                Self::Pieces(pieces)
            }
            (Self::Inputs { items, .. }, Element::Token(token)) => {
                Self::Pieces(texts(items).chain([Piece::Token(token)]).collect())
            }
            (Self::Inputs { mut items, are_texts }, Element::Input(input)) => {
                let are_texts = are_texts && input.as_text().is_some();
                items.push(input);
                Self::Inputs { items, are_texts }
            }
        }
    }
}

/// What the elements before this one allow it to be.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Expect {
    Anything,
    /// A token or a text.
    Piece,
    Input,
}

enum Element {
    Token(u32),
    Input(EmbedInput),
}

impl<'de> DeserializeSeed<'de> for Expect {
    type Value = Element;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Element, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Expect {
    type Value = Element;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Anything => "a text, a token id or a list of token ids",
            Self::Piece => "a token id like those before it, or a text between them",
            Self::Input => "a text or a list of token ids like those before it",
        })
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Element, E> {
        match u32::try_from(value) {
            Ok(token) if self != Self::Input => Ok(Element::Token(token)),
            _ => Err(E::invalid_value(Unexpected::Unsigned(value), &self)),
        }
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Element, E> {
        match whole(value) {
            Some(token) if self != Self::Input => Ok(Element::Token(token)),
            _ => Err(E::invalid_type(Unexpected::Float(value), &self)),
        }
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Element, E> {
        Ok(Element::Input(EmbedInput::Text(value.to_owned())))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Element, A::Error> {
        if self == Self::Piece {
            return Err(A::Error::invalid_type(Unexpected::Map, &self));
        }
        Ok(Element::Input(EmbedInput::Text(object_text(map)?)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Element, A::Error> {
        if self == Self::Piece {
            return Err(A::Error::invalid_type(Unexpected::Seq, &self));
        }
        let mut tokens = Vec::new();
        while let Some(TokenId(token)) = seq.next_element()? {
            tokens.push(token);
        }
        Ok(Element::Input(EmbedInput::Tokens(tokens)))
    }
}

/// A token id. Whole numbers are whole however they are written: `7.0` is 7.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TokenId(pub u32);

impl<'de> Deserialize<'de> for TokenId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TokenIdVisitor)
    }
}

struct TokenIdVisitor;

impl Visitor<'_> for TokenIdVisitor {
    type Value = TokenId;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a token id")
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<TokenId, E> {
        let token = u32::try_from(value);
        token.map(TokenId).map_err(|_| E::invalid_value(Unexpected::Unsigned(value), &self))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<TokenId, E> {
        let token = whole(value).map(TokenId);
        token.ok_or_else(|| E::invalid_type(Unexpected::Float(value), &self))
    }
}

fn whole(value: f64) -> Option<u32> {
    let fits = value.fract() == 0.0 && (0.0..=f64::from(u32::MAX)).contains(&value);
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked")]
    fits.then_some(value as u32)
}

/// An input as an object: Jina's `text`, Cohere's `content` or llama.cpp's `prompt_string`.
#[derive(Default, serde::Deserialize)]
#[serde(default)]
struct InputObject {
    text: Option<String>,
    content: Option<Content>,
    prompt_string: Option<String>,
    multimodal_data: Option<Vec<IgnoredAny>>,
}

fn object_text<'de, A: MapAccess<'de>>(map: A) -> Result<String, A::Error> {
    let object = InputObject::deserialize(MapAccessDeserializer::new(map))?;
    if object.multimodal_data.is_some_and(|data| !data.is_empty()) {
        return Err(A::Error::custom("multimodal_data: only texts are read here"));
    }
    let content = || object.content.map(|Content(text)| text);
    object.text.or_else(content).or(object.prompt_string).ok_or_else(|| {
        A::Error::custom("expected an object with a string `text`, or with `content` of type text")
    })
}

/// The content of a message: a text, or a list of parts that are texts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content(pub String);

impl<'de> Deserialize<'de> for Content {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ContentVisitor)
    }
}

struct ContentVisitor;

impl<'de> Visitor<'de> for ContentVisitor {
    type Value = Content;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text or a list of parts of type text")
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Content, E> {
        Ok(Content(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Content, A::Error> {
        let mut texts: Vec<String> = Vec::new();
        while let Some(PartText(text)) = seq.next_element()? {
            texts.push(text);
        }
        // Nothing but empty parts is nothing, not the line ends between them.
        let is_empty = texts.iter().all(String::is_empty);
        Ok(Content(if is_empty { String::new() } else { texts.join("\n") }))
    }
}

/// One part of a content. Reading it fails, at its own path, where it is an image.
struct PartText(String);

impl<'de> Deserialize<'de> for PartText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Default, serde::Deserialize)]
        #[serde(default)]
        struct Part {
            text: Option<String>,
        }
        let Part { text } = Part::deserialize(deserializer)?;
        text.map(Self).ok_or_else(|| D::Error::custom("expected a part of type text with a `text`"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<Inputs, String> {
        let mut json = serde_json::Deserializer::from_str(json);
        serde_path_to_error::deserialize(&mut json).map_err(|error| error.path().to_string())
    }

    #[test]
    fn every_form() {
        let text = |text: &str| EmbedInput::Text(text.to_owned());
        let tokens = |tokens: &[u32]| EmbedInput::Tokens(tokens.to_vec());
        for (json, items, single) in [
            (r#""a""#, vec![text("a")], true),
            (r#"["a","b"]"#, vec![text("a"), text("b")], false),
            ("[1,2]", vec![tokens(&[1, 2])], true),
            ("[[1,2],[3]]", vec![tokens(&[1, 2]), tokens(&[3])], false),
            (r#"["a",[3]]"#, vec![text("a"), tokens(&[3])], false),
            ("[]", vec![], false),
            ("[[]]", vec![tokens(&[])], false),
            (r#"{"text":"a"}"#, vec![text("a")], true),
            (r#"[{"text":"a"},"b"]"#, vec![text("a"), text("b")], false),
            (
                r#"[{"content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]}]"#,
                vec![text("a\nb")],
                false,
            ),
            (r#"[{"content":"a"}]"#, vec![text("a")], false),
            (r#"[{"prompt_string":"a"}]"#, vec![text("a")], false),
            (
                r#"[1,"a",2]"#,
                vec![EmbedInput::Mixed(vec![
                    Piece::Token(1),
                    Piece::Text("a".to_owned()),
                    Piece::Token(2),
                ])],
                true,
            ),
            (
                r#"["a","b",1,"c"]"#,
                vec![EmbedInput::Mixed(vec![
                    Piece::Text("a".to_owned()),
                    Piece::Text("b".to_owned()),
                    Piece::Token(1),
                    Piece::Text("c".to_owned()),
                ])],
                true,
            ),
        ] {
            assert_eq!(read(json), Ok(Inputs { items, single }), "{json}");
        }
    }

    #[test]
    fn errors_name_the_element() {
        for (json, path) in [
            ("3", "."),
            (r#"[1,"a",[2]]"#, "[2]"),
            (r#"["a",[1],2]"#, "[2]"),
            (r#"[{"prompt_string":"a","multimodal_data":["x"]}]"#, "[0]"),
            ("[1,[2]]", "[1]"),
            ("[1,-2]", "[1]"),
            ("[4294967296]", "[0]"),
            ("[[1],[2,null]]", "[1][1]"),
            (r#"["a",null]"#, "[1]"),
            (r#"[{"image":"a"}]"#, "[0]"),
            (r#"[{"content":[{"type":"image_url"}]}]"#, "[0].content[0]"),
        ] {
            assert_eq!(read(json), Err(path.to_owned()), "{json}");
        }
    }
}
