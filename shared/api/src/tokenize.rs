//! Texts to tokens and back, for clients that count or cut before they embed.
//!
//! Three services call it `/tokenize`: TEI sends `inputs` and reads a list of tokens for each, vLLM
//! sends `prompt` (or the `messages` of a conversation) and reads ids with the model's length,
//! llama.cpp sends `content` and reads ids. Back again, vLLM and llama.cpp send `tokens` to
//! `/detokenize` and TEI sends `ids` to `/decode`. The keys tell them apart on either path.

pub(crate) mod answer;

use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::chat::{Conversation, Json, Messages, PromptFields, Tools};
use crate::checks;
use crate::embed::EmbedLimits;
use crate::error::{ErrorStyle, Invalid};
use crate::json;
use crate::lenient::{EmbedInput, Flag, Inputs, Text, TokenId};

/// Whose request it is, and so in what shape the answer goes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TokenShape {
    /// A list for each input.
    Tei,
    /// Ids, their number and the model's length; a text.
    Vllm,
    /// Ids; a text.
    LlamaCpp,
}

impl TokenShape {
    /// How clients of this shape expect errors.
    pub fn error_style(self) -> ErrorStyle {
        match self {
            Self::Tei => ErrorStyle::Tei,
            Self::Vllm | Self::LlamaCpp => ErrorStyle::OpenAi,
        }
    }
}

/// Every field of a request to `/tokenize`. Unknown fields are ignored, null means absent.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default)]
pub struct TokenizeBody {
    /// Name of the model, any name unless the server is strict.
    pub model: Option<String>,
    /// TEI's texts.
    pub inputs: Option<Inputs>,
    /// vLLM's text.
    pub prompt: Option<Text>,
    /// vLLM's conversation.
    pub(crate) messages: Option<Messages>,
    /// llama.cpp's text.
    pub content: Option<Text>,
    /// TEI, vLLM: with the tokens that the model puts around a text.
    pub add_special_tokens: Option<Flag>,
    /// llama.cpp's name of `add_special_tokens`.
    pub add_special: Option<Flag>,
    /// vLLM: with the tokens that make the model answer.
    pub add_generation_prompt: Option<Flag>,
    /// vLLM: without those that end the last message, which the model continues.
    pub continue_final_message: Option<Flag>,
    /// vLLM: functions that the model may call.
    pub(crate) tools: Option<Tools>,
    /// vLLM: further variables of the model's chat template.
    pub(crate) chat_template_kwargs: Option<Json>,
    /// TEI: with one of the model's own prompts before the text.
    pub prompt_name: Option<String>,
    /// vLLM: return the tokens' texts too.
    pub return_token_strs: Option<Flag>,
    /// llama.cpp's name of `return_token_strs`.
    pub with_pieces: Option<Flag>,
}

/// What is to be turned into tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ToTokenize {
    /// Texts; exactly one unless the shape is TEI's.
    Texts(Vec<String>),
    /// A conversation, for models that have a template for it.
    Messages(Box<Conversation>),
}

/// What a request to `/tokenize` asks for, whatever its shape.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenizeRequest {
    /// Whose request it is.
    pub shape: TokenShape,
    /// The model it names.
    pub model: Option<String>,
    /// What to turn into tokens.
    pub input: ToTokenize,
    /// Whether the tokens come too that the model puts around a text.
    pub add_special_tokens: bool,
    /// The name of the model's own prompt that goes before each text.
    pub prompt_name: Option<String>,
    /// Return the tokens' texts where the shape leaves them out otherwise.
    pub token_strs: bool,
}

impl TokenizeBody {
    /// Reads a JSON body; an error takes the style that clients of this shape expect.
    pub fn parse(bytes: &[u8]) -> Result<Self, Invalid> {
        json::read(bytes, r#"{"prompt":…}"#).map_err(|invalid| invalid.styled(style_hint(bytes)))
    }

    /// Decides the shape and checks the body against its rules.
    pub fn into_request(self, limits: &EmbedLimits) -> Result<TokenizeRequest, Invalid> {
        let shape = match (&self.inputs, &self.content) {
            (Some(_), _) => TokenShape::Tei,
            (None, Some(_)) => TokenShape::LlamaCpp,
            (None, None) => TokenShape::Vllm,
        };
        self.build(shape, limits).map_err(|invalid| invalid.styled(shape.error_style()))
    }

    fn build(self, shape: TokenShape, limits: &EmbedLimits) -> Result<TokenizeRequest, Invalid> {
        let given = [
            ("inputs", self.inputs.is_some()),
            ("prompt", self.prompt.is_some()),
            ("messages", self.messages.is_some()),
            ("content", self.content.is_some()),
        ];
        let mut given = given.into_iter().filter(|&(_, given)| given).map(|(key, _)| key);
        if let (Some(first), Some(second)) = (given.next(), given.next()) {
            return Err(checks::contradiction(first, second));
        }
        let flag = |flag: Option<Flag>| flag.map(|Flag(flag)| flag);
        let special = checks::agreed([
            ("add_special_tokens", flag(self.add_special_tokens)),
            ("add_special", flag(self.add_special)),
        ])?;
        // A template writes its special tokens itself, and llama.cpp adds none unless asked to.
        let default = shape != TokenShape::LlamaCpp && self.messages.is_none();
        let token_strs = checks::agreed([
            ("return_token_strs", flag(self.return_token_strs)),
            ("with_pieces", flag(self.with_pieces)),
        ])?;
        let input = match (self.inputs, self.prompt.or(self.content), self.messages) {
            (Some(inputs), ..) => ToTokenize::Texts(texts(inputs, limits)?),
            (None, Some(Text(text)), _) => ToTokenize::Texts(vec![text]),
            (None, None, Some(messages)) => {
                let prompt = PromptFields {
                    messages,
                    tools: self.tools,
                    chat_template_kwargs: self.chat_template_kwargs,
                    add_generation_prompt: self.add_generation_prompt,
                    continue_final_message: self.continue_final_message,
                };
                ToTokenize::Messages(Box::new(prompt.into_conversation()?))
            }
            (None, None, None) => {
                return Err(Invalid::body(
                    "the body has none of inputs, prompt, messages and content; send a text in one of them",
                ));
            }
        };
        Ok(TokenizeRequest {
            shape,
            model: self.model,
            input,
            add_special_tokens: special.unwrap_or(default),
            prompt_name: self.prompt_name.filter(|name| !name.is_empty()),
            token_strs: token_strs.unwrap_or(false),
        })
    }
}

/// Every field of a request to `/detokenize` or `/decode`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default)]
pub struct DetokenizeBody {
    /// Name of the model, any name unless the server is strict.
    pub model: Option<String>,
    /// vLLM's and llama.cpp's ids.
    pub tokens: Option<Vec<TokenId>>,
    /// TEI's ids, one list or several.
    pub ids: Option<Inputs>,
    /// Leave out the tokens that the model puts around a text.
    pub skip_special_tokens: Option<Flag>,
}

/// What a request to `/detokenize` or `/decode` asks for, whatever its shape.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DetokenizeRequest {
    /// [`TokenShape::Tei`], or [`TokenShape::Vllm`] for the two others.
    pub shape: TokenShape,
    /// The model it names.
    pub model: Option<String>,
    /// Lists of ids; exactly one unless the shape is TEI's.
    pub ids: Vec<Vec<u32>>,
    /// Leave out the tokens that the model puts around a text.
    pub skip_special_tokens: bool,
}

impl DetokenizeBody {
    /// Reads a JSON body; an error takes the style that clients of this shape expect.
    pub fn parse(bytes: &[u8]) -> Result<Self, Invalid> {
        json::read(bytes, r#"{"tokens":[…]}"#).map_err(|invalid| invalid.styled(style_hint(bytes)))
    }

    /// Decides the shape and checks the body against its rules.
    pub fn into_request(self, limits: &EmbedLimits) -> Result<DetokenizeRequest, Invalid> {
        let shape = if self.ids.is_some() { TokenShape::Tei } else { TokenShape::Vllm };
        self.build(shape, limits).map_err(|invalid| invalid.styled(shape.error_style()))
    }

    fn build(self, shape: TokenShape, limits: &EmbedLimits) -> Result<DetokenizeRequest, Invalid> {
        let ids = match (self.ids, self.tokens) {
            (Some(_), Some(_)) => return Err(checks::contradiction("ids", "tokens")),
            (Some(ids), None) => lists(ids, limits)?,
            (None, Some(tokens)) => vec![tokens.into_iter().map(|TokenId(id)| id).collect()],
            (None, None) => {
                return Err(Invalid::new("tokens", "tokens is missing; send a list of token ids"));
            }
        };
        let skip = self.skip_special_tokens.map(|Flag(skip)| skip);
        Ok(DetokenizeRequest {
            shape,
            model: self.model,
            ids,
            skip_special_tokens: skip.unwrap_or(shape == TokenShape::Tei),
        })
    }
}

fn texts(inputs: Inputs, limits: &EmbedLimits) -> Result<Vec<String>, Invalid> {
    let single = inputs.single;
    let text = |(index, input)| match input {
        EmbedInput::Text(text) => Ok(text),
        EmbedInput::Tokens(_) | EmbedInput::Mixed(_) => {
            Err(wrong("inputs", single, index, "a text, found token ids"))
        }
    };
    some("inputs", inputs.items, limits)?.into_iter().enumerate().map(text).collect()
}

fn lists(ids: Inputs, limits: &EmbedLimits) -> Result<Vec<Vec<u32>>, Invalid> {
    let single = ids.single;
    let list = |(index, input)| match input {
        EmbedInput::Tokens(tokens) => Ok(tokens),
        EmbedInput::Text(_) | EmbedInput::Mixed(_) => {
            Err(wrong("ids", single, index, "token ids, found a text"))
        }
    };
    some("ids", ids.items, limits)?.into_iter().enumerate().map(list).collect()
}

fn wrong(key: &str, single: bool, index: usize, expected: &str) -> Invalid {
    let param = if single { key.to_owned() } else { format!("{key}[{index}]") };
    Invalid::new(param.clone(), format!("{param}: expected {expected}"))
}

fn some<T>(key: &str, list: Vec<T>, limits: &EmbedLimits) -> Result<Vec<T>, Invalid> {
    if list.is_empty() {
        return Err(Invalid::empty(key, format!("{key} cannot be empty")));
    }
    checks::counted(key, Some(list), limits.max_inputs, "MAX_INPUTS")
}

/// Which keys a body has, whatever their values: tells the shape of one that cannot be read.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Keys {
    inputs: Option<IgnoredAny>,
    ids: Option<IgnoredAny>,
}

fn style_hint(bytes: &[u8]) -> ErrorStyle {
    match serde_json::from_slice(bytes) {
        Ok(Keys { inputs: Some(_), .. } | Keys { ids: Some(_), .. }) => ErrorStyle::Tei,
        _ => ErrorStyle::OpenAi,
    }
}
