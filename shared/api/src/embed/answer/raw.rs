//! Vectors as bytes and nothing else (`encoding_format: "bytes"`), as vLLM's clients ask for them.
//!
//! The body is the vectors in the order of the inputs, each as
//! [`Dtype::to_bytes`](crate::Dtype::to_bytes) writes it. A header holds what an answer in JSON
//! would say beside them, and where each vector begins and ends.

use serde::Serialize;

use super::shapes::Usage;
use super::{EmbedFacts, Embedded};
use crate::embed::{Dtype, EmbedRequest, Encoding};

/// An answer that is not JSON.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawAnswer {
    /// The vectors.
    pub body: Vec<u8>,
    /// JSON for the header `metadata`, if it was asked for.
    pub metadata: Option<String>,
}

#[derive(Serialize)]
struct Metadata<'a> {
    id: &'a str,
    created: u64,
    model: &'a str,
    data: Vec<Place>,
    usage: Usage,
}

/// Where one vector lies in the body.
#[derive(Serialize)]
struct Place {
    index: usize,
    embed_dtype: &'static str,
    endianness: &'static str,
    start: usize,
    end: usize,
    shape: [usize; 1],
}

/// The answer to a request for bytes; `None`: the request is for JSON.
///
/// # Errors
/// The description cannot be written, which does not happen.
pub fn raw_answer(
    request: &EmbedRequest,
    embedded: &[Embedded<'_>],
    facts: &EmbedFacts<'_>,
) -> Result<Option<RawAnswer>, serde_json::Error> {
    let Some(format) = request.formats.first() else { return Ok(None) };
    let Encoding::Bytes { described } = format.encoding else { return Ok(None) };
    let mut body = Vec::new();
    let mut data = Vec::new();
    for (index, one) in embedded.iter().enumerate() {
        let bytes = format.dtype.to_bytes(one.dense.unwrap_or_default());
        let start = body.len();
        body.extend_from_slice(&bytes);
        let width = match format.dtype {
            Dtype::Float => bytes.len() / size_of::<f32>(),
            _ => bytes.len(),
        };
        data.push(Place {
            index,
            embed_dtype: match format.dtype {
                Dtype::Float => "float32",
                other => other.name(),
            },
            endianness: "little",
            start,
            end: body.len(),
            shape: [width],
        });
    }
    let tokens = embedded.iter().map(|one| one.tokens).sum();
    let metadata = Metadata {
        id: facts.id,
        created: facts.created,
        model: facts.model,
        data,
        usage: Usage { prompt_tokens: tokens, total_tokens: tokens },
    };
    let metadata = described.then(|| serde_json::to_string(&metadata)).transpose()?;
    Ok(Some(RawAnswer { body, metadata }))
}
