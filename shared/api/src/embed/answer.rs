//! From vectors to the answer in the shape of the request.
//!
//! Vectors are borrowed and written straight into the output. A tree of JSON values of 2,048
//! vectors of 1,024 numbers would take 64 MB and print each `f32` with the digits of an `f64`;
//! written as they are they get the shortest digits that read back as the same number.

mod raw;
mod schema;
mod shapes;
mod vectors;

pub use raw::{RawAnswer, raw_answer};
pub use shapes::{
    BaaiEmbeddings, CohereEmbeddings, EmbedAnswer, LlamaEmbedding, MlxBatchEmbedding, MlxEmbedding,
    OpenAiEmbeddings, PooledList,
};
pub use vectors::{ByType, DenseList, HiddenList, Rows, Similarities, SparseList};

use super::{EmbedRequest, EmbedShape, Format, VectorKinds};
use shapes::{ApiVersion, BilledUnits, CohereMeta, CohereVectors, Entry, Pooled, Usage};
use vectors::{Dense, RowList, SparseMap};

/// What was computed for one input.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Embedded<'a> {
    /// Its vector, cut to the width asked for.
    pub dense: Option<&'a [f32]>,
    /// Its token ids with their weights.
    pub sparse: Option<&'a [(u32, f32)]>,
    /// Its late-interaction vectors.
    pub colbert: Option<Rows<'a>>,
    /// The hidden states of its tokens.
    pub hidden: Option<Rows<'a>>,
    /// Tokens as run.
    pub tokens: usize,
    /// Whether it was cut to fit.
    pub truncated: bool,
}

/// What an answer says beside the vectors.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct EmbedFacts<'a> {
    /// The answer's id.
    pub id: &'a str,
    /// Unix time in seconds.
    pub created: u64,
    /// The served model's name.
    pub model: &'a str,
    /// Time taken so far, for MLX's clients.
    pub processing_ms: f64,
}

/// Puts what was computed, in the order of the request's inputs, into the request's shape. `texts`
/// are the inputs in the same order; only Cohere's answers read them.
pub fn embed_answer<'a>(
    request: &'a EmbedRequest,
    embedded: &'a [Embedded<'a>],
    texts: &'a [&'a str],
    facts: &EmbedFacts<'a>,
) -> EmbedAnswer<'a> {
    let draft = Draft { request, embedded, facts };
    match request.shape {
        EmbedShape::OpenAi => EmbedAnswer::OpenAi(draft.openai()),
        EmbedShape::Tei => EmbedAnswer::Tei(draft.dense()),
        EmbedShape::TeiSparse => EmbedAnswer::TeiSparse(SparseList(embedded)),
        EmbedShape::TeiAll => EmbedAnswer::TeiAll(HiddenList(embedded)),
        EmbedShape::TeiSimilarity => EmbedAnswer::TeiSimilarity(Similarities(embedded)),
        EmbedShape::Llama => EmbedAnswer::Llama(draft.llama()),
        EmbedShape::Pooling => EmbedAnswer::Pooling(draft.pooling()),
        EmbedShape::Baai => EmbedAnswer::Baai(draft.baai()),
        EmbedShape::Mlx => EmbedAnswer::Mlx(draft.mlx()),
        EmbedShape::MlxBatch => EmbedAnswer::MlxBatch(draft.mlx_batch()),
        EmbedShape::CohereV1Floats => {
            let vectors = CohereVectors::Floats(draft.dense());
            EmbedAnswer::Cohere(draft.cohere("1", "embeddings_floats", vectors, texts))
        }
        EmbedShape::CohereV1ByType => {
            EmbedAnswer::Cohere(draft.cohere("1", "embeddings_by_type", draft.by_type(), texts))
        }
        EmbedShape::CohereV2 => {
            EmbedAnswer::Cohere(draft.cohere("2", "embeddings_by_type", draft.by_type(), texts))
        }
    }
}

/// What the client is to know: parts of its request that were not honoured, inputs that were cut.
/// Shapes without a place for it (TEI's) leave it to a header.
pub fn embed_warnings(request: &EmbedRequest, embedded: &[Embedded<'_>]) -> Vec<String> {
    let mut warnings = request.warnings.clone();
    let truncated = embedded.iter().filter(|one| one.truncated).count();
    if truncated > 0 {
        let all = embedded.len();
        warnings.push(format!("{truncated} of {all} inputs were truncated to fit"));
    }
    let most = embedded.iter().map(|one| one.tokens).max().unwrap_or(0);
    warnings.extend(
        request.max_tokens.filter(|&asked| asked < most).map(|a| fewer_than_least(a, most)),
    );
    warnings
}

/// What to tell of a limit that leaves no room for a text: the special tokens and one of the text
/// are read all the same.
pub(crate) fn fewer_than_least(asked: usize, read: usize) -> String {
    let were = if asked == 1 { "token was" } else { "tokens were" };
    format!(
        "{asked} {were} asked for and {read} are read: special tokens, the prompt and one of the text at least"
    )
}

/// The first input with a number that is not finite; JSON has no notation for it, so the answer is
/// an error instead.
pub fn first_non_finite(embedded: &[Embedded<'_>]) -> Option<usize> {
    let finite = |values: &[f32]| values.iter().all(|value| value.is_finite());
    embedded.iter().position(|one| {
        let rows =
            [one.dense, one.colbert.map(|rows| rows.values), one.hidden.map(|rows| rows.values)];
        !rows.into_iter().flatten().all(finite)
            || one.sparse.is_some_and(|sparse| sparse.iter().any(|(_, weight)| !weight.is_finite()))
    })
}

struct Draft<'r, 'a> {
    request: &'a EmbedRequest,
    embedded: &'a [Embedded<'a>],
    facts: &'r EmbedFacts<'a>,
}

impl<'a> Draft<'_, 'a> {
    fn openai(&self) -> OpenAiEmbeddings<'a> {
        let format = self.format();
        let VectorKinds { dense, sparse, colbert, .. } = self.request.outputs;
        let entry = |(index, one): (usize, &Embedded<'a>)| Entry {
            object: "embedding",
            index,
            embedding: dense.then(|| Dense::new(one, format)),
            sparse_embedding: one.sparse.filter(|_| sparse).map(SparseMap),
            colbert_embedding: one.colbert.filter(|_| colbert).map(RowList),
        };
        let tokens = self.tokens();
        OpenAiEmbeddings {
            id: self.facts.id,
            object: "list",
            created: self.facts.created,
            model: self.facts.model,
            data: self.embedded.iter().enumerate().map(entry).collect(),
            usage: Usage { prompt_tokens: tokens, total_tokens: tokens },
            warnings: self.warnings(),
        }
    }

    fn llama(&self) -> Vec<LlamaEmbedding<'a>> {
        let format = self.format();
        let entry = |(index, one): (usize, &Embedded<'a>)| LlamaEmbedding {
            index,
            embedding: [Dense::new(one, format)],
        };
        self.embedded.iter().enumerate().map(entry).collect()
    }

    fn pooling(&self) -> PooledList<'a> {
        let format = self.format();
        let entry = |(index, one): (usize, &Embedded<'a>)| Pooled {
            index,
            object: "pooling",
            data: Dense::new(one, format),
        };
        let tokens = self.tokens();
        PooledList {
            id: self.facts.id,
            object: "list",
            created: self.facts.created,
            model: self.facts.model,
            data: self.embedded.iter().enumerate().map(entry).collect(),
            usage: Usage { prompt_tokens: tokens, total_tokens: tokens },
            warnings: self.warnings(),
        }
    }

    fn baai(&self) -> BaaiEmbeddings<'a> {
        BaaiEmbeddings {
            embeddings: self.dense(),
            dimensions: self.width(),
            texts_count: self.embedded.len(),
            model: self.facts.model,
            warnings: self.warnings(),
        }
    }

    fn mlx(&self) -> MlxEmbedding<'a> {
        let first = self.embedded.first().copied().unwrap_or_default();
        MlxEmbedding {
            embedding: Dense::new(&first, self.format()),
            model: self.facts.model,
            dim: self.width(),
            normalized: self.request.normalize == Some(true),
            processing_time_ms: self.facts.processing_ms,
            warnings: self.warnings(),
        }
    }

    fn mlx_batch(&self) -> MlxBatchEmbedding<'a> {
        MlxBatchEmbedding {
            embeddings: self.dense(),
            model: self.facts.model,
            dim: self.width(),
            count: self.embedded.len(),
            normalized: self.request.normalize == Some(true),
            processing_time_ms: self.facts.processing_ms,
            warnings: self.warnings(),
        }
    }

    fn cohere(
        &self,
        version: &'static str,
        response_type: &'static str,
        embeddings: CohereVectors<'a>,
        texts: &'a [&'a str],
    ) -> CohereEmbeddings<'a> {
        CohereEmbeddings {
            id: self.facts.id,
            embeddings,
            texts,
            model: self.facts.model,
            meta: CohereMeta {
                api_version: ApiVersion { version },
                billed_units: BilledUnits { input_tokens: self.tokens() },
                warnings: self.warnings(),
            },
            response_type,
        }
    }

    fn dense(&self) -> DenseList<'a> {
        DenseList { embedded: self.embedded, format: self.format() }
    }

    fn by_type(&self) -> CohereVectors<'a> {
        CohereVectors::ByType(ByType { embedded: self.embedded, formats: &self.request.formats })
    }

    fn format(&self) -> Format {
        self.request.formats.first().copied().unwrap_or(Format::FLOATS)
    }

    /// Numbers of a vector, before bits are packed.
    fn width(&self) -> usize {
        self.embedded.first().and_then(|one| one.dense).map_or(0, <[f32]>::len)
    }

    fn tokens(&self) -> usize {
        self.embedded.iter().map(|one| one.tokens).sum()
    }

    fn warnings(&self) -> Vec<String> {
        embed_warnings(self.request, self.embedded)
    }
}
