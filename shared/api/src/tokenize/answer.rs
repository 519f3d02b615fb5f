//! From tokens, or texts, to the answer in the shape of the request.

use schemars::JsonSchema;
use serde::ser::{Serialize, Serializer};

use super::{DetokenizeRequest, TokenShape, TokenizeRequest};

/// One token of a text, as TEI writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, JsonSchema)]
pub struct Token<'a> {
    /// Its id.
    pub id: u32,
    /// Its text.
    pub text: &'a str,
    /// Whether the model puts it around texts.
    pub special: bool,
    /// Where in the text it starts, in characters; none for special tokens.
    pub start: Option<usize>,
    /// Where in the text it stops.
    pub stop: Option<usize>,
}

/// The JSON of an answer to `/tokenize`.
#[derive(Debug, Clone, serde::Serialize, JsonSchema)]
#[serde(untagged)]
pub enum TokenizeAnswer<'a> {
    /// [`TokenShape::Tei`].
    Tei(&'a [Vec<Token<'a>>]),
    /// [`TokenShape::Vllm`].
    Vllm(VllmTokens<'a>),
    /// [`TokenShape::LlamaCpp`].
    LlamaCpp(LlamaTokens<'a>),
}

/// vLLM's answer to `/tokenize`.
#[derive(Debug, Clone, serde::Serialize, JsonSchema)]
pub struct VllmTokens<'a> {
    /// How many tokens there are.
    count: usize,
    /// How many tokens the model reads.
    max_model_len: usize,
    /// Their ids.
    #[schemars(with = "Vec<u32>")]
    tokens: Ids<'a>,
    /// Their texts, when the request asks for them.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Vec<String>")]
    token_strs: Option<Pieces<'a>>,
}

/// llama.cpp's answer to `/tokenize`.
#[derive(Debug, Clone, serde::Serialize, JsonSchema)]
pub struct LlamaTokens<'a> {
    /// Their ids, with their texts when the request asks for them.
    tokens: LlamaList<'a>,
}

#[derive(Debug, Clone, serde::Serialize, JsonSchema)]
#[serde(untagged)]
enum LlamaList<'a> {
    Ids(#[schemars(with = "Vec<u32>")] Ids<'a>),
    WithPieces(#[schemars(with = "Vec<IdWithPiece<'a>>")] IdsWithPieces<'a>),
}

#[derive(Debug, Clone, Copy)]
struct Ids<'a>(&'a [Token<'a>]);

impl Serialize for Ids<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(|token| token.id))
    }
}

#[derive(Debug, Clone, Copy)]
struct Pieces<'a>(&'a [Token<'a>]);

impl Serialize for Pieces<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(|token| token.text))
    }
}

#[derive(Debug, Clone, Copy)]
struct IdsWithPieces<'a>(&'a [Token<'a>]);

#[derive(serde::Serialize, JsonSchema)]
struct IdWithPiece<'a> {
    id: u32,
    piece: &'a str,
}

impl Serialize for IdsWithPieces<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer
            .collect_seq(self.0.iter().map(|token| IdWithPiece { id: token.id, piece: token.text }))
    }
}

/// Puts the tokens of each text into the request's shape. `max_model_len`: how many tokens the
/// model reads.
pub fn tokenize_answer<'a>(
    request: &TokenizeRequest,
    tokens: &'a [Vec<Token<'a>>],
    max_model_len: usize,
) -> TokenizeAnswer<'a> {
    let first = tokens.first().map_or(&[][..], Vec::as_slice);
    match request.shape {
        TokenShape::Tei => TokenizeAnswer::Tei(tokens),
        TokenShape::Vllm => TokenizeAnswer::Vllm(VllmTokens {
            count: first.len(),
            max_model_len,
            tokens: Ids(first),
            token_strs: request.token_strs.then_some(Pieces(first)),
        }),
        TokenShape::LlamaCpp => TokenizeAnswer::LlamaCpp(LlamaTokens {
            tokens: if request.token_strs {
                LlamaList::WithPieces(IdsWithPieces(first))
            } else {
                LlamaList::Ids(Ids(first))
            },
        }),
    }
}

/// The JSON of an answer to `/detokenize` or `/decode`.
#[derive(Debug, Clone, serde::Serialize, JsonSchema)]
#[serde(untagged)]
pub enum DetokenizeAnswer<'a> {
    /// [`TokenShape::Tei`].
    Tei(&'a [String]),
    /// The two others: vLLM's clients read `prompt`, llama.cpp's `content`.
    Text {
        /// The text.
        prompt: &'a str,
        /// The same text.
        content: &'a str,
    },
}

/// Puts the text of each list of ids into the request's shape.
pub fn detokenize_answer<'a>(
    request: &DetokenizeRequest,
    texts: &'a [String],
) -> DetokenizeAnswer<'a> {
    match request.shape {
        TokenShape::Tei => DetokenizeAnswer::Tei(texts),
        TokenShape::Vllm | TokenShape::LlamaCpp => {
            let text = texts.first().map_or("", String::as_str);
            DetokenizeAnswer::Text { prompt: text, content: text }
        }
    }
}
