//! Which service's request it is: by the path first, then by the keys of the body.

use super::EmbedBody;
use crate::checks;
use crate::error::{ErrorStyle, Invalid};

/// The embedding routes that read a body differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EmbedRoute {
    /// `/v1/embeddings` and `/embeddings`: `OpenAI`'s form; Azure's paths of it name the model.
    Embeddings,
    /// `/invocations` and `/`: any form; `SageMaker` containers have the one path, and
    /// `huggingface_hub` sends to the other.
    Invocations,
    /// `/embed`: TEI, BAAI or MLX.
    Embed,
    /// `/embed_batch`: MLX.
    EmbedBatch,
    /// `/embed_sparse`: TEI.
    EmbedSparse,
    /// `/embed_all`: TEI, a vector for each token.
    EmbedAll,
    /// `/similarity`: TEI.
    Similarity,
    /// `/embedding`: llama.cpp.
    Llama,
    /// `/pooling`: vLLM.
    Pooling,
    /// `/v1/embed`: Cohere.
    CohereV1,
    /// `/v2/embed`: Cohere.
    CohereV2,
}

impl EmbedRoute {
    /// Every path with its route.
    pub const PATHS: [(&'static str, Self); 15] = [
        ("/v1/embeddings", Self::Embeddings),
        ("/embeddings", Self::Embeddings),
        ("/openai/v1/embeddings", Self::Embeddings),
        ("/openai/deployments/{deployment}/embeddings", Self::Embeddings),
        ("/invocations", Self::Invocations),
        ("/", Self::Invocations),
        ("/embed", Self::Embed),
        ("/embed_batch", Self::EmbedBatch),
        ("/embed_sparse", Self::EmbedSparse),
        ("/embed_all", Self::EmbedAll),
        ("/similarity", Self::Similarity),
        ("/embedding", Self::Llama),
        ("/pooling", Self::Pooling),
        ("/v1/embed", Self::CohereV1),
        ("/v2/embed", Self::CohereV2),
    ];

    /// How clients of this route expect errors while nothing is known of the body. On `/embed` that
    /// is 422, which TEI, BAAI and MLX all answer to a body without their key.
    pub(crate) fn error_style(self) -> ErrorStyle {
        match self {
            Self::Embeddings
            | Self::Invocations
            | Self::CohereV1
            | Self::CohereV2
            | Self::Llama
            | Self::Pooling => ErrorStyle::OpenAi,
            Self::Embed | Self::EmbedBatch => ErrorStyle::FastApi,
            Self::EmbedSparse | Self::EmbedAll | Self::Similarity => ErrorStyle::Tei,
        }
    }
}

/// Whose request it is, and so in what shape the answer goes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EmbedShape {
    /// `OpenAI`, vLLM, Jina, Voyage, infinity, llama.cpp.
    OpenAi,
    /// An array of vectors.
    Tei,
    /// An array of lists of `{index, value}`.
    TeiSparse,
    /// An array of arrays of token vectors.
    TeiAll,
    /// An array of cosines.
    TeiSimilarity,
    /// llama.cpp's own: an array of `{index, embedding}`, each embedding an array of vectors.
    Llama,
    /// vLLM's `/pooling`.
    Pooling,
    /// The BAAI service.
    Baai,
    /// The MLX service's `/embed`.
    Mlx,
    /// The MLX service's `/embed_batch`.
    MlxBatch,
    /// Cohere's `/v1/embed` without `embedding_types`: a plain list.
    CohereV1Floats,
    /// Cohere's `/v1/embed` with `embedding_types`.
    CohereV1ByType,
    /// Cohere's `/v2/embed`.
    CohereV2,
}

impl EmbedShape {
    /// How clients of this shape expect errors.
    pub fn error_style(self) -> ErrorStyle {
        match self {
            Self::OpenAi
            | Self::Llama
            | Self::Pooling
            | Self::CohereV1Floats
            | Self::CohereV1ByType
            | Self::CohereV2 => ErrorStyle::OpenAi,
            Self::Tei | Self::TeiSparse | Self::TeiAll | Self::TeiSimilarity => ErrorStyle::Tei,
            Self::Baai | Self::Mlx | Self::MlxBatch => ErrorStyle::FastApi,
        }
    }

    /// Cohere's three shapes.
    pub fn is_cohere(self) -> bool {
        matches!(self, Self::CohereV1Floats | Self::CohereV1ByType | Self::CohereV2)
    }

    /// The key that holds the inputs; Cohere's `inputs` is the other one of its two.
    pub(super) fn key(self) -> &'static str {
        match self {
            Self::OpenAi | Self::Pooling => "input",
            Self::Llama => "content",
            Self::Tei | Self::TeiSparse | Self::TeiAll | Self::TeiSimilarity => "inputs",
            Self::Mlx => "text",
            Self::Baai
            | Self::MlxBatch
            | Self::CohereV1Floats
            | Self::CohereV1ByType
            | Self::CohereV2 => "texts",
        }
    }
}

impl EmbedBody {
    /// `None`: nothing in the body says whose it is.
    pub(super) fn shape(&self, route: EmbedRoute) -> Option<EmbedShape> {
        Some(match route {
            EmbedRoute::EmbedBatch => EmbedShape::MlxBatch,
            EmbedRoute::EmbedSparse => EmbedShape::TeiSparse,
            EmbedRoute::EmbedAll => EmbedShape::TeiAll,
            EmbedRoute::Similarity => EmbedShape::TeiSimilarity,
            EmbedRoute::Llama => EmbedShape::Llama,
            EmbedRoute::Pooling => EmbedShape::Pooling,
            EmbedRoute::Embeddings if self.content.is_some() => EmbedShape::Llama,
            EmbedRoute::CohereV1
                if self.embedding_types.as_ref().is_some_and(|types| !types.names.is_empty()) =>
            {
                EmbedShape::CohereV1ByType
            }
            EmbedRoute::CohereV1 => EmbedShape::CohereV1Floats,
            EmbedRoute::CohereV2 => EmbedShape::CohereV2,
            EmbedRoute::Embed | EmbedRoute::Invocations if self.inputs.is_some() => EmbedShape::Tei,
            EmbedRoute::Embed | EmbedRoute::Invocations if self.texts.is_some() => EmbedShape::Baai,
            EmbedRoute::Embed | EmbedRoute::Invocations if self.text.is_some() => EmbedShape::Mlx,
            EmbedRoute::Embed if self.input.is_none() => return None,
            EmbedRoute::Embeddings | EmbedRoute::Embed | EmbedRoute::Invocations => {
                EmbedShape::OpenAi
            }
        })
    }

    /// The key to take the inputs from. A body with two of them contradicts itself and is refused:
    /// guessing would embed the wrong texts.
    pub(super) fn input_key(
        &self,
        route: EmbedRoute,
        shape: EmbedShape,
    ) -> Result<&'static str, Invalid> {
        let given = [
            ("input", self.input.is_some()),
            ("inputs", self.inputs.is_some()),
            ("texts", self.texts.is_some()),
            ("text", self.text.is_some()),
            ("content", self.content.is_some()),
            ("messages", self.messages.is_some()),
            ("images", self.images.as_ref().is_some_and(|images| !images.is_empty())),
        ];
        let mut given = given.into_iter().filter(|&(_, given)| given).map(|(key, _)| key);
        let Some(first) = given.next() else { return Ok(shape.key()) };
        if let Some(second) = given.next() {
            return Err(checks::contradiction(first, second));
        }
        let expected = shape.key();
        let other = match shape {
            EmbedShape::Llama => "input",
            shape if shape.is_cohere() => "inputs",
            _ => expected,
        };
        if first == expected || first == other {
            return Ok(first);
        }
        let message = match (first, route) {
            ("images", _) => "images: only texts are embedded here".to_owned(),
            ("text", EmbedRoute::EmbedBatch) => {
                "text is read on /embed; send it there, or send texts".to_owned()
            }
            _ => format!("this route expects {expected}, found {first}"),
        };
        Err(Invalid::new(first, message))
    }
}
