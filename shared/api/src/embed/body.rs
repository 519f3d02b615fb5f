//! The embedding body as it arrives: every field of every shape, all optional.

use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::EmbedRoute;
use crate::error::{ErrorStyle, Invalid};
use crate::fields;
use crate::json;
use crate::lenient::{Count, EmbedInput, Flag, FlagOrName, Inputs, Names, Text};

/// Every field that an embedding client may send. Unknown fields are ignored, null means absent.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default)]
pub struct EmbedBody {
    /// Name of the model, any name unless the server is strict.
    pub model: Option<String>,
    /// `OpenAI`'s inputs.
    pub input: Option<Inputs>,
    /// TEI's and Cohere's inputs.
    pub inputs: Option<Inputs>,
    /// BAAI's, MLX's and Cohere's texts.
    pub texts: Option<Vec<Text>>,
    /// MLX: the one text.
    pub text: Option<Text>,
    /// llama.cpp's inputs.
    pub content: Option<Inputs>,
    /// vLLM: a conversation to embed. Refused.
    #[schemars(with = "Option<serde_json::Value>")]
    pub messages: Option<IgnoredAny>,
    /// Cohere: images to embed. Refused unless empty.
    #[schemars(with = "Option<Vec<serde_json::Value>>", length(max = 0))]
    pub images: Option<Vec<IgnoredAny>>,

    /// `"float"`, `"base64"`, or vectors as they are in a body of bytes: `"bytes"` with a header that describes them,
    /// `"bytes_only"` without.
    #[schemars(extend("enum" = ["float", "base64", "bytes", "bytes_only", null]))]
    pub encoding_format: Option<String>,
    /// Width of the vectors; 0: the model's own.
    pub dimensions: Option<Count>,
    /// Cohere's and Voyage's name of `dimensions`.
    pub output_dimension: Option<Count>,
    /// TEI, BAAI, MLX: scale vectors to length 1.
    pub normalize: Option<Flag>,
    /// Jina's name of `normalize`.
    pub normalized: Option<Flag>,
    /// vLLM's name of `normalize`.
    pub use_activation: Option<Flag>,
    /// llama.cpp: by what vectors are scaled; -1 nothing, 0 their largest number, 2 their length, others a power.
    #[schemars(extend("minimum" = -1, "maximum" = u32::MAX))]
    pub embd_normalize: Option<Count>,

    /// Cohere, Voyage, NVIDIA: what the inputs are, a query or documents.
    pub input_type: Option<String>,
    /// Jina: what the vectors are for.
    pub task: Option<String>,
    /// TEI, `sentence-transformers`: one of the model's own prompts.
    pub prompt_name: Option<String>,
    /// `sentence-transformers`: the text to put before each input.
    pub prompt: Option<String>,
    /// Task description for models that take one.
    pub instruction: Option<String>,

    /// Jina's name of `output_dtype`, or `dense`, `sparse`, `colbert`.
    pub embedding_type: Option<Names>,
    /// Cohere: number types to return, several at once.
    pub embedding_types: Option<Names>,
    /// Voyage: number type.
    #[schemars(extend("enum" = ["float", "int8", "uint8", "binary", "ubinary", "base64", null]))]
    pub output_dtype: Option<String>,
    /// vLLM's name of `output_dtype`.
    #[schemars(extend("enum" = ["float", "int8", "uint8", "binary", "ubinary", "base64", null]))]
    pub embed_dtype: Option<String>,
    /// vLLM: byte order of base64.
    #[schemars(extend("enum" = ["little", "native", null]))]
    pub endianness: Option<String>,
    /// Return dense vectors.
    pub return_dense: Option<Flag>,
    /// Return lexical weights.
    pub return_sparse: Option<Flag>,
    /// Return a vector for each token.
    pub return_colbert: Option<Flag>,
    /// `FlagEmbedding`'s name of `return_colbert`.
    pub return_colbert_vecs: Option<Flag>,
    /// Jina's name of `return_colbert`.
    pub return_multivector: Option<Flag>,

    /// TEI, Cohere, Jina: `false` or `"NONE"` refuses over-long inputs.
    pub truncate: Option<FlagOrName>,
    /// Voyage: false refuses over-long inputs.
    pub truncation: Option<Flag>,
    /// TEI: `"Left"` or `"Right"`.
    pub truncation_direction: Option<String>,
    /// vLLM's name of `truncation_direction`.
    pub truncation_side: Option<String>,
    /// vLLM: cut to this many tokens; -1: to what the model reads.
    #[schemars(extend("minimum" = -1))]
    pub truncate_prompt_tokens: Option<Count>,
    /// Cohere: read at most this many tokens of each input.
    pub max_tokens: Option<Count>,

    /// Jina: the inputs are chunks of one text, and each is embedded in the context of all.
    pub late_chunking: Option<Flag>,
    /// infinity: `"text"`; other modalities are refused.
    #[schemars(extend("enum" = ["text", null]))]
    pub modality: Option<String>,

    /// What to tell of fields that nothing reads.
    #[serde(skip)]
    #[schemars(skip)]
    pub(super) unread: Vec<String>,
}

/// TEI's `/similarity` as it arrives.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default)]
pub(crate) struct SimilarityBody {
    model: Option<String>,
    #[serde(deserialize_with = "json::object")]
    inputs: Option<SimilarityInputs>,
    #[serde(deserialize_with = "json::object")]
    parameters: Option<SimilarityParameters>,
}

/// One sentence and those to compare it with.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default)]
struct SimilarityInputs {
    source_sentence: Option<Text>,
    sentences: Option<Vec<Text>>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default)]
struct SimilarityParameters {
    #[schemars(extend("enum" = [true, false, "true", "false", "START", "END", "NONE", "start", "end", "none", null]))]
    truncate: Option<FlagOrName>,
    #[schemars(extend("enum" = ["Left", "Right", "left", "right", "START", "END", "start", "end", null]))]
    truncation_direction: Option<String>,
    prompt_name: Option<String>,
}

impl EmbedBody {
    /// Reads a JSON body in `OpenAI`'s form.
    pub fn parse(bytes: &[u8]) -> Result<Self, Invalid> {
        Self::parse_on(EmbedRoute::Embeddings, bytes)
    }

    /// Reads a JSON body; an error takes the style that clients of this route and shape expect.
    pub fn parse_on(route: EmbedRoute, bytes: &[u8]) -> Result<Self, Invalid> {
        let read = match route {
            EmbedRoute::Similarity => {
                json::read(bytes, r#"{"inputs":{"source_sentence":…,"sentences":[…]}}"#)
                    .and_then(SimilarityBody::flatten)
            }
            EmbedRoute::Embeddings | EmbedRoute::Invocations | EmbedRoute::Pooling => {
                json::read(bytes, r#"{"input":[…]}"#)
            }
            EmbedRoute::Llama => json::read(bytes, r#"{"content":[…]}"#),
            EmbedRoute::EmbedBatch | EmbedRoute::CohereV1 | EmbedRoute::CohereV2 => {
                json::read(bytes, r#"{"texts":[…]}"#)
            }
            EmbedRoute::Embed | EmbedRoute::EmbedSparse | EmbedRoute::EmbedAll => {
                json::read(bytes, r#"{"inputs":[…]}"#)
            }
        };
        let mut body: Self = read.map_err(|invalid| invalid.styled(style_hint(route, bytes)))?;
        let names = fields::Names::of(bytes);
        body.unread = match route {
            EmbedRoute::Similarity => names.unread::<SimilarityBody>(),
            _ => names.unread::<Self>(),
        };
        Ok(body)
    }
}

impl SimilarityBody {
    /// The same request in the flat form: the source first, then the sentences.
    fn flatten(self) -> Result<EmbedBody, Invalid> {
        let inputs = self.inputs.unwrap_or_default();
        let missing = |param: &str| Invalid::new(param, format!("{param} is missing")).unreadable();
        let source = inputs.source_sentence.ok_or_else(|| missing("inputs.source_sentence"))?;
        let sentences = inputs.sentences.ok_or_else(|| missing("inputs.sentences"))?;
        let items = std::iter::once(source)
            .chain(sentences)
            .map(|Text(text)| EmbedInput::Text(text))
            .collect();
        let parameters = self.parameters.unwrap_or_default();
        Ok(EmbedBody {
            model: self.model,
            inputs: Some(Inputs { items, single: false }),
            truncate: parameters.truncate,
            truncation_direction: parameters.truncation_direction,
            prompt_name: parameters.prompt_name,
            ..EmbedBody::default()
        })
    }
}

/// Which keys a body has, whatever their values: tells the shape of one that cannot be read.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Keys {
    inputs: Option<IgnoredAny>,
    texts: Option<IgnoredAny>,
    text: Option<IgnoredAny>,
}

fn style_hint(route: EmbedRoute, bytes: &[u8]) -> ErrorStyle {
    if !matches!(route, EmbedRoute::Embed | EmbedRoute::Invocations) {
        return route.error_style();
    }
    match serde_json::from_slice(bytes) {
        Ok(Keys { inputs: Some(_), .. }) => ErrorStyle::Tei,
        Ok(Keys { texts: Some(_), .. } | Keys { text: Some(_), .. }) => ErrorStyle::FastApi,
        _ => route.error_style(),
    }
}
