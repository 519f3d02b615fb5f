//! Scores query-document pairs with a model restored from a snapshot.
//!
//! Requests are tokenised into sequences ([`Reranker::prepare`]), which run in micro-batches of at most
//! [`RerankerOptions::max_batch_tokens`] tokens ([`Reranker::run`], see [`defrost_model::planning`]), one after the
//! other; a server mixes those of several requests ([`crate::Executor`]), [`Reranker::score`] does all
//! by itself. A micro-batch has no padding and no sequence influences another, so how
//! sequences are grouped changes memory and speed, never a score.

mod preparing;

use defrost_loader::Snapshot;
use defrost_model::spec::refuse_language_model;
use defrost_model::{Answers, Measure, Planned, RerankerKind, Runtime, Tokens, Wanted};

use crate::embedder::Special;
use crate::loaded::{LoadTimings, ModelOptions, Opened, Started, in_parallel};
use crate::prepared::{Prepared, Said};
use crate::prompt::{Prompt, Sequence};
use crate::running::Running;
use crate::text_tokens::{TextToken, Words};
use crate::tokenizer::Vocabulary;
use crate::{Error, ScoreScale};

pub use preparing::ScorePreparing;

/// Settings that do not come from the snapshot.
pub type RerankerOptions = ModelOptions;

/// What is known about the model once it is restored.
#[derive(Debug, Clone)]
pub struct ModelInfo {
    /// The name given at pack time, such as `mixedbread-ai/mxbai-rerank-base-v2`.
    pub name: String,
    /// The architecture: `bert`, `xlm-roberta`, `qwen2` or `qwen3`.
    pub family: String,
    /// The template by which texts become tokens: `pair`, `mxbai-rerank-v2`, `qwen3-reranker` or `embedding`.
    pub template: &'static str,
    /// The way in which pairs are scored.
    pub kind: RerankerKind,
    /// The precision of the weights: `int8`, `bf16` or `f32`.
    pub precision: String,
    /// Width of the hidden states.
    pub hidden: usize,
    /// The number of transformer layers.
    pub layers: usize,
    /// The most tokens of one pair (for mxbai-rerank-v2 without its template).
    pub max_length: usize,
    /// The most tokens of one pair, those of the template included.
    pub max_sequence: usize,
    /// Token ids from this one on have no meaning.
    pub vocab: usize,
    /// Whether `instruction` changes anything for this model.
    pub takes_instruction: bool,
    /// Largest logit the model's authors expect, for [`ScoreScale::Mxbai`].
    pub estimated_max: f32,
    /// The name of the runtime that runs the model.
    pub backend: &'static str,
    /// Kernel set chosen for this CPU, such as `avx512-vnni`; `onnxruntime` if that chooses by itself.
    pub kernel: &'static str,
    /// The number of worker threads.
    pub threads: usize,
    /// The snapshot's root hash in hex.
    pub snapshot: String,
    /// The length of the snapshot in bytes.
    pub bytes: u64,
    /// Normalisation used unless a request says otherwise.
    pub default_normalization: ScoreScale,
}

/// How over-long texts of one request are handled.
#[derive(Debug, Clone, Default)]
pub struct Truncation {
    /// Cut the query to this many tokens first.
    pub max_tokens_per_query: Option<usize>,
    /// Cut each document to this many tokens first.
    pub max_tokens_per_doc: Option<usize>,
    /// Refuse instead of truncating to the model's length.
    pub forbidden: bool,
    /// Score a document that does not fit in up to this many pieces and take the best score; `None` or 1: cut it.
    pub max_chunks_per_doc: Option<usize>,
    /// Read at most this many tokens of each sequence, template and special tokens included; `None`: what the model reads.
    /// A number that leaves no room for texts is taken as the least that does.
    pub max_tokens: Option<usize>,
    /// Cut texts at their start, so that their end is read.
    pub from_start: bool,
}

/// One query with the documents to score against it.
#[derive(Debug, Clone, Default)]
pub struct ScoreTask {
    /// The query text.
    pub query: String,
    /// The document texts.
    pub documents: Vec<String>,
    /// Task description for models that take one.
    pub instruction: Option<String>,
    /// The treatment of over-long texts.
    pub truncation: Truncation,
}

/// The score of one document.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Score {
    /// Logit, or cosine for embedding similarity.
    pub raw: f32,
    /// Tokens run for this document, template included, in all its pieces; for embedding models those of the query
    /// are counted with the first document.
    pub tokens: usize,
    /// Whether the document was cut to fit.
    pub truncated: bool,
    /// Whether the query was cut to fit.
    pub query_truncated: bool,
}

/// A model that is ready to score.
#[derive(Debug)]
pub struct Reranker {
    info: ModelInfo,
    snapshot: Snapshot,
    timings: LoadTimings,
    prompt: Prompt,
    vocabulary: Vocabulary,
    model: Running,
}

impl Reranker {
    /// Builds the model over the snapshot's mapped weights, in one of the `linked` runtimes.
    pub fn load(
        linked: &[&'static dyn Runtime],
        snapshot: &Snapshot,
        options: &RerankerOptions,
    ) -> Result<Self, Error> {
        refuse_language_model(snapshot)?;
        let Opened { common, tokenizer, backend, rest } = Opened::open(linked, snapshot, options)?;
        let vocab = common.vocab.unwrap_or_else(|| tokenizer.largest_id() as usize + 1);
        let max_length = options.max_length.unwrap_or(common.max_length);
        let prompt = Prompt::new(tokenizer, &common.template, max_length, common.max_positions)?;
        let Started { model, timings } = rest.start(options)?;
        let info = ModelInfo {
            kind: common.head.reranker_kind(),
            template: common.template.name(),
            name: common.name,
            family: common.family,
            precision: common.precision,
            hidden: common.hidden,
            layers: common.layers,
            max_length: prompt.max_length(),
            max_sequence: prompt.max_sequence(),
            vocab,
            takes_instruction: prompt.takes_instruction(),
            estimated_max: common.estimated_max,
            backend,
            kernel: model.runner().kernel(),
            threads: model.runner().threads(),
            snapshot: snapshot.root().to_string(),
            bytes: snapshot.file_len(),
            default_normalization: ScoreScale::default(),
        };
        let snapshot = snapshot.clone();
        let vocabulary = Vocabulary::new(snapshot.clone());
        Ok(Self { info, snapshot, timings, prompt, vocabulary, model })
    }

    /// Facts about the model.
    pub fn info(&self) -> &ModelInfo {
        &self.info
    }

    /// Where the time of loading went.
    pub fn timings(&self) -> LoadTimings {
        self.timings
    }

    /// Tokens a second if the processor did nothing but the multiply-adds of the linear layers: what no int8 model of the
    /// engine can exceed. Measured for a few milliseconds; `None` for other models and without `VPDPBUSD`.
    pub fn limit_tokens_per_s(&self) -> Option<f64> {
        if self.info.precision != "int8" {
            return None;
        }
        self.model.runner().limit_tokens_per_s()
    }

    /// Another token budget of forward passes, for measurements. With `together`, sequences are run together even where
    /// that makes their answers depend on each other, which a model quantised dynamically is served without.
    pub fn set_batching(&mut self, max_batch_tokens: usize, together: bool) {
        self.model.set_batching(max_batch_tokens, together);
    }

    /// How full a micro-batch of its sequences is.
    pub fn measure(&self) -> Measure {
        self.model.measure()
    }

    /// What loading was made of beside [`LoadTimings`], some of which may still be going on: names, and how long they took.
    pub fn phases(&self) -> Vec<(&'static str, std::time::Duration)> {
        self.model.runner().phases()
    }

    /// What the operator should know about how the model is run; mostly nothing.
    pub fn notes(&self) -> &[String] {
        self.model.runner().notes()
    }

    /// Makes the model independent of the snapshot's file: afterwards a copy of this process's
    /// memory is all it takes to score, wherever the platform brings it back to life. Waits until
    /// every byte of the snapshot is verified. Nothing may be scored meanwhile.
    pub fn prepare_for_snapshot(&self) -> Result<(), Error> {
        self.model.runner().before_snapshot()?;
        Ok(self.snapshot.detach()?)
    }

    /// Scores every document of every request, in input order. `cancelled` is asked between
    /// micro-batches. A pair's score depends on the pair alone, never on the rest of the batch.
    pub fn score(
        &self,
        requests: &[ScoreTask],
        cancelled: &(dyn Fn() -> bool + Sync),
    ) -> Result<Vec<Vec<Score>>, Error> {
        let prepared = self.prepare(requests)?;
        let answers = self.model.run_all(&prepared, cancelled)?;
        prepared.finish(&answers)
    }

    /// Tokenises the requests, on all threads.
    pub fn prepare(&self, requests: &[ScoreTask]) -> Result<Prepared<Vec<Vec<Score>>>, Error> {
        let prepared = self.prepare_unchecked(requests);
        // Tokens come from the mapped file too; one that was edited is the reason for whatever is wrong with them.
        self.snapshot.intact()?;
        prepared
    }

    fn prepare_unchecked(
        &self,
        requests: &[ScoreTask],
    ) -> Result<Prepared<Vec<Vec<Score>>>, Error> {
        let (mut sequences, mut read) = (Vec::new(), Vec::new());
        for request in requests {
            let Encoded { query, documents } = self.encoded(request)?;
            read.push(Read::of(query.as_ref(), &documents));
            let all = query.into_iter().chain(documents.into_iter().flatten());
            sequences.extend(all.map(|sequence| sequence.tokens));
        }
        Ok(finish(self, sequences, read))
    }

    /// The answers to one micro-batch of sequences that [`Reranker::prepare`] gave, of any requests: one logit, or the
    /// pooled hidden state, each, and what is `wanted` of every token.
    pub fn run(&self, sequences: &[Planned<'_>], wanted: Wanted) -> Result<Vec<Answers>, Error> {
        self.model.run(sequences, wanted)
    }

    /// The token ids a request becomes: for embedding models the query first, then each document;
    /// otherwise one pair per document.
    pub fn encode(&self, request: &ScoreTask) -> Result<Vec<Tokens>, Error> {
        let Encoded { query, documents } = self.encoded(request)?;
        let sequences = query.into_iter().chain(documents.into_iter().flatten());
        Ok(sequences.map(|sequence| sequence.tokens).collect())
    }

    /// The model's answers to token ids as they are: one logit, or the pooled hidden state, each; none for an empty
    /// sequence.
    pub fn run_tokens(&self, sequences: &[Tokens]) -> Result<Vec<Vec<f32>>, Error> {
        let wanted = Wanted::default();
        let all = |said: &[Said<'_>]| Ok(said.iter().map(|said| pooled(*said).to_vec()).collect());
        let sequences = sequences.to_vec();
        let prepared = Prepared::new(sequences, self.model.runner().grouping(wanted), wanted, all);
        let answers = self.model.run_all(&prepared, &|| false)?;
        prepared.finish(&answers)
    }

    /// The tokens of a text by itself, `add_special` ones around it included, without the words of a template and however
    /// many they are.
    ///
    /// The first call of this or of [`Reranker::detokenize`] reads the vocabulary, which takes up to a second.
    pub fn tokenize(&self, text: &str, add_special: bool) -> Result<Vec<TextToken>, Error> {
        self.words(&Special::of(self.prompt.tokenizer())?).tokenize(text, add_special)
    }

    /// How many tokens a text has without special ones; some number above `most` if it has more.
    pub fn count_tokens(&self, text: &str, most: usize) -> Result<usize, Error> {
        self.words(&Special::default()).count(text, most)
    }

    /// The text that token ids stand for, special tokens left out if `skip_special`.
    ///
    /// Fails with [`Error::InvalidInput`] if an id is not in the vocabulary.
    pub fn detokenize(&self, ids: &[u32], skip_special: bool) -> Result<String, Error> {
        self.words(&Special::default()).detokenize(ids, skip_special)
    }

    fn words<'a>(&'a self, special: &'a Special) -> Words<'a> {
        let (tokenizer, vocabulary) = (self.prompt.tokenizer(), &self.vocabulary);
        Words { tokenizer, special, vocabulary, vocab: self.info.vocab, snapshot: &self.snapshot }
    }

    fn encoded(&self, request: &ScoreTask) -> Result<Encoded, Error> {
        let instruction = request.instruction.as_deref();
        let query = self.prompt.query(&request.query, instruction, &request.truncation)?;
        let documents = in_parallel(self.model.runner(), &request.documents, |document| {
            self.prompt.documents(&query, document, &request.truncation, &mut |_| Ok(()))
        })?;
        Ok(Encoded { query: Prompt::query_sequence(&query), documents })
    }
}

/// Sequences, and what becomes of the answers to them.
fn finish(model: &Reranker, sequences: Vec<Tokens>, read: Vec<Read>) -> Prepared<Vec<Vec<Score>>> {
    let finish = move |said: &[Said<'_>]| {
        let mut answers = said.iter().map(|said| pooled(*said));
        let requests = read.into_iter().enumerate();
        requests.map(|(at, read)| read.scores(at, &mut answers)).collect()
    };
    let wanted = Wanted::default();
    Prepared::new(sequences, model.model.runner().grouping(wanted), wanted, finish)
}

/// A tokenised request.
struct Encoded {
    /// The query's own sequence, for embedding models.
    query: Option<Sequence>,
    /// The pieces of each document, mostly one.
    documents: Vec<Vec<Sequence>>,
}

/// What was read of a request, beside the tokens.
#[derive(Debug)]
struct Read {
    /// Whether the query has a sequence of its own.
    query: bool,
    /// Scores as yet without the model's answer, and of how many pieces.
    documents: Vec<(Score, usize)>,
}

impl Read {
    fn of(query: Option<&Sequence>, documents: &[Vec<Sequence>]) -> Self {
        let unscored = |(index, pieces): (usize, &Vec<Sequence>)| {
            let own = query.filter(|_| index == 0);
            let sequences = pieces.iter().chain(own);
            let score = Score {
                raw: f32::NAN,
                tokens: sequences.map(|sequence| sequence.tokens.ids.len()).sum(),
                truncated: pieces.iter().any(|piece| piece.truncated),
                query_truncated: pieces.iter().any(|piece| piece.query_truncated),
            };
            (score, pieces.len())
        };
        let documents = documents.iter().enumerate().map(unscored).collect();
        Self { query: query.is_some(), documents }
    }

    /// Takes the request's answers off `answers`; it is the `request`th of its call.
    fn scores<'a>(
        self,
        request: usize,
        answers: &mut impl Iterator<Item = &'a [f32]>,
    ) -> Result<Vec<Score>, Error> {
        let query = if self.query { answers.next() } else { None };
        let documents = self.documents.into_iter().enumerate();
        documents
            .map(|(index, (score, pieces))| {
                let mut scores = answers.by_ref().take(pieces).map(|answer| match query {
                    Some(query) => cosine(query, answer),
                    None => answer.first().copied().unwrap_or(f32::NAN),
                });
                // Not `max`, which would leave out what is not a number.
                let first = scores.next().unwrap_or(f32::NAN);
                let best = |best: f32, score: f32| {
                    if best.is_nan() || score <= best { best } else { score }
                };
                let raw = scores.fold(first, best);
                if raw.is_finite() {
                    Ok(Score { raw, ..score })
                } else {
                    Err(Error::NonFinite { request, index })
                }
            })
            .collect()
    }
}

/// The pooled answer; nothing for an empty sequence.
fn pooled(said: Said<'_>) -> &[f32] {
    said.map_or(&[], |(_, answer)| &answer.pooled)
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
}

#[allow(clippy::cast_possible_truncation, reason = "rounding to f32 is meant")]
fn cosine(a: &[f32], b: &[f32]) -> f32 {
    // The floor is sentence-transformers': a zero vector has cosine 0 with everything.
    let norms = dot(a, a).sqrt().max(1e-12) * dot(b, b).sqrt().max(1e-12);
    (dot(a, b) / norms) as f32
}
