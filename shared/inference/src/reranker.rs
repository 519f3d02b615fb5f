//! Scores query-document pairs with a model restored from a snapshot.
//!
//! Requests are tokenised into sequences ([`Reranker::prepare`]), which run in micro-batches of at most
//! [`RerankerOptions::max_batch_tokens`] tokens ([`Reranker::run`], see [`crate::batches`]), one after the
//! other; a server mixes those of several requests ([`crate::Schedule`]), [`Reranker::score`] does all
//! by itself. A micro-batch has no padding and no sequence influences another, so how
//! sequences are grouped changes memory and speed, never a score.

#[cfg(feature = "ort")]
mod onnx;

use std::sync::Arc;
use std::time::{Duration, Instant};

use defrost_engine::{Kernel, Model, Threads};
use defrost_loader::Snapshot;

use crate::pack::{COMPILED_TOKENIZER, TOKENIZER};
use crate::prepared::Prepared;
use crate::prompt::{Prompt, Sequence};
use crate::runner::{BackendKind, Runner};
use crate::schedule::{Schedule, Turn};
use crate::snapshot_weights::SnapshotWeights;
use crate::spec::ModelSpec;
use crate::tokenizer::{TextTokenizer, Tokens};
use crate::{Error, Normalization, RerankerKind};

/// Settings that do not come from the snapshot.
#[derive(Debug, Clone)]
pub struct RerankerOptions {
    /// Most tokens of one pair, template included; `None`: the model's own default.
    pub max_length: Option<usize>,
    /// Token budget of one forward pass. Bounds memory, never changes scores.
    pub max_batch_tokens: usize,
    /// Worker threads; `None`: physical cores within the cgroup's quota.
    pub num_threads: Option<usize>,
    /// Kernel set; `None`: the best of this processor.
    pub kernel: Option<Kernel>,
    /// What must run it; `None`: what the snapshot is made for.
    pub backend: Option<BackendKind>,
    /// For snapshots of ONNX models.
    #[cfg(feature = "ort")]
    pub ort: crate::OrtOptions,
}

impl Default for RerankerOptions {
    fn default() -> Self {
        // 2048 tokens: weights are read once per 2048 tokens, which costs a few percent of the
        // arithmetic on them, and the widest buffers of a 0.5B model stay below 60 MB.
        Self {
            max_length: None,
            max_batch_tokens: 2048,
            num_threads: None,
            kernel: None,
            backend: None,
            #[cfg(feature = "ort")]
            ort: crate::OrtOptions::default(),
        }
    }
}

/// Where the time of [`Reranker::load`] went.
#[derive(Debug, Clone, Copy, Default)]
pub struct LoadTimings {
    /// Opening the tokenizer, or reading tokenizer.json, and preparing the prompt.
    pub tokenizer: Duration,
    /// Building the model over the mapped weights, and starting threads.
    pub engine: Duration,
}

/// What is known about the model once it is restored.
#[derive(Debug, Clone)]
pub struct ModelInfo {
    /// The name given at pack time, such as `mixedbread-ai/mxbai-rerank-base-v2`.
    pub name: String,
    /// `bert`, `xlm-roberta`, `qwen2` or `qwen3`.
    pub family: String,
    /// How texts become tokens: `pair`, `mxbai-rerank-v2`, `qwen3-reranker` or `embedding`.
    pub template: &'static str,
    /// How pairs are scored.
    pub kind: RerankerKind,
    /// `int8`, `bf16` or `f32`.
    pub precision: String,
    /// Width of the hidden states.
    pub hidden: usize,
    /// Transformer layers.
    pub layers: usize,
    /// Most tokens of one pair.
    pub max_length: usize,
    /// Whether `instruction` changes anything for this model.
    pub takes_instruction: bool,
    /// Largest logit the model's authors expect, for [`Normalization::Mxbai`].
    pub estimated_max: f32,
    /// What runs it.
    pub backend: BackendKind,
    /// Kernel set chosen for this CPU, such as `avx512-vnni`; `onnxruntime` if that chooses by itself.
    pub kernel: &'static str,
    /// Worker threads.
    pub threads: usize,
    /// The snapshot's root hash in hex.
    pub snapshot: String,
    /// Normalisation used unless a request says otherwise.
    pub default_normalization: Normalization,
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
}

/// One query with the documents to score against it.
#[derive(Debug, Clone, Default)]
pub struct ScoreRequest {
    /// The query text.
    pub query: String,
    /// The document texts.
    pub documents: Vec<String>,
    /// Task description for models that take one.
    pub instruction: Option<String>,
    /// Over-long texts.
    pub truncation: Truncation,
}

/// The score of one document.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Score {
    /// Logit, or cosine for embedding similarity.
    pub raw: f32,
    /// Tokens run for this document, template included; for embedding models those of the query
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
    model: Runner,
    threads: Arc<Threads>,
    max_batch_tokens: usize,
}

impl Reranker {
    /// Builds the model over the snapshot's mapped weights.
    pub fn load(snapshot: &Snapshot, options: &RerankerOptions) -> Result<Self, Error> {
        #[cfg(feature = "ort")]
        if BackendKind::of(snapshot, options.backend)? == BackendKind::Ort {
            return Self::load_onnx(snapshot, options);
        }
        #[cfg(not(feature = "ort"))]
        BackendKind::of(snapshot, options.backend)?;
        let start = Instant::now();
        let spec = ModelSpec::from_snapshot(snapshot)?;
        let tokenizer = tokenizer(snapshot)?;
        let max_length = options.max_length.unwrap_or(spec.max_length);
        let prompt = Prompt::new(tokenizer, &spec.template, max_length, spec.config.max_positions)?;
        let tokenizer_ready = Instant::now();
        let threads = Arc::new(Threads::new(options.num_threads)?);
        let kernel = options.kernel.unwrap_or_else(Kernel::detect);
        let weights = SnapshotWeights(snapshot.clone());
        let model = Model::load(spec.config.clone(), &weights, kernel, Arc::clone(&threads))?;
        let model =
            Runner::Engine { model: Box::new(model), stored_prefix: spec.stored_prefix.clone() };
        let timings =
            LoadTimings { tokenizer: tokenizer_ready - start, engine: tokenizer_ready.elapsed() };
        let info = ModelInfo {
            kind: spec.kind(),
            template: spec.template.name(),
            name: spec.name,
            family: spec.config.family.name().to_owned(),
            precision: snapshot.meta("precision").unwrap_or("unknown").to_owned(),
            hidden: spec.config.hidden,
            layers: spec.config.layers,
            max_length: prompt.max_length(),
            takes_instruction: prompt.takes_instruction(),
            estimated_max: spec.estimated_max,
            backend: BackendKind::Engine,
            kernel: kernel.name(),
            threads: threads.count(),
            snapshot: snapshot.root().to_string(),
            default_normalization: Normalization::default(),
        };
        let max_batch_tokens = options.max_batch_tokens.max(1);
        let snapshot = snapshot.clone();
        Ok(Self { info, snapshot, timings, prompt, model, threads, max_batch_tokens })
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
        self.model.limit_tokens_per_s(&self.threads)
    }

    /// Another token budget of forward passes, for measurements. With `together`, sequences are run together even where
    /// that makes their answers depend on each other, which a model quantised dynamically is served without.
    pub fn set_batching(&mut self, max_batch_tokens: usize, together: bool) {
        self.max_batch_tokens = max_batch_tokens.max(1);
        self.model.set_together(together);
    }

    /// What the operator should know about how the model is run; mostly nothing.
    pub fn notes(&self) -> &[String] {
        self.model.notes()
    }

    /// Makes the model independent of the snapshot's file: afterwards a copy of this process's
    /// memory is all it takes to score, wherever the platform brings it back to life. Waits until
    /// every byte of the snapshot is verified. Nothing may be scored meanwhile.
    pub fn prepare_for_snapshot(&self) -> Result<(), Error> {
        self.model.detach()?;
        Ok(self.snapshot.detach()?)
    }

    /// Scores every document of every request, in input order. `cancelled` is asked between
    /// micro-batches. A pair's score depends on the pair alone, never on the rest of the batch.
    pub fn score(
        &self,
        requests: &[ScoreRequest],
        cancelled: &(dyn Fn() -> bool + Sync),
    ) -> Result<Vec<Vec<Score>>, Error> {
        let prepared = self.prepare(requests)?;
        let answers = self.run_all(&prepared, cancelled)?;
        prepared.finish(&answers)
    }

    /// Tokenises the requests, on all threads.
    pub fn prepare(&self, requests: &[ScoreRequest]) -> Result<Prepared<Vec<Vec<Score>>>, Error> {
        let mut sequences = Vec::new();
        let mut read = Vec::new();
        for request in requests {
            let Encoded { query, documents } = self.encoded(request)?;
            read.push(Read::of(query.as_ref(), &documents));
            let all = query.into_iter().chain(documents);
            sequences.extend(all.map(|sequence| sequence.tokens));
        }
        let finish = move |answers: &[&[f32]]| {
            let mut answers = answers.iter().copied();
            let requests = read.into_iter().enumerate();
            requests.map(|(at, read)| read.scores(at, &mut answers)).collect()
        };
        Ok(Prepared::new(sequences, self.model.grouping(), finish))
    }

    /// The answers to one micro-batch of sequences that [`Reranker::prepare`] gave, of any requests: one logit, or the
    /// pooled hidden state, each.
    pub fn run(&self, sequences: &[&Tokens]) -> Result<Vec<Vec<f32>>, Error> {
        self.model.run(sequences, self.max_batch_tokens)
    }

    fn run_all<T>(
        &self,
        prepared: &Prepared<T>,
        cancelled: &(dyn Fn() -> bool + Sync),
    ) -> Result<Vec<Vec<f32>>, Error> {
        let mut schedule = Schedule::new(self.max_batch_tokens);
        schedule.push(0, 0, prepared.costs());
        let mut answers = Vec::new();
        while let Some(Turn { sequences, .. }) = schedule.next_batch().pop() {
            if cancelled() {
                return Err(Error::Cancelled);
            }
            let batch: Vec<&Tokens> = prepared.sequences()[sequences].iter().collect();
            answers.extend(self.run(&batch)?);
        }
        Ok(answers)
    }

    /// The token ids a request becomes: for embedding models the query first, then each document;
    /// otherwise one pair per document.
    pub fn encode(&self, request: &ScoreRequest) -> Result<Vec<Tokens>, Error> {
        let Encoded { query, documents } = self.encoded(request)?;
        let sequences = query.into_iter().chain(documents);
        Ok(sequences.map(|sequence| sequence.tokens).collect())
    }

    /// The model's answers to token ids as they are: one logit, or the pooled hidden state, each; none for an empty
    /// sequence.
    pub fn run_tokens(&self, sequences: &[Tokens]) -> Result<Vec<Vec<f32>>, Error> {
        self.answers(sequences.to_vec(), &|| false)
    }

    fn answers(
        &self,
        sequences: Vec<Tokens>,
        cancelled: &(dyn Fn() -> bool + Sync),
    ) -> Result<Vec<Vec<f32>>, Error> {
        let all = |answers: &[&[f32]]| Ok(answers.iter().map(|answer| answer.to_vec()).collect());
        let prepared = Prepared::new(sequences, self.model.grouping(), all);
        let answers = self.run_all(&prepared, cancelled)?;
        prepared.finish(&answers)
    }

    /// The pooled hidden states of texts that are embedded alone (no score of any kind involved),
    /// L2-normalised. Only for embedding models.
    pub fn embed(
        &self,
        texts: &[String],
        as_queries: bool,
        cancelled: &(dyn Fn() -> bool + Sync),
    ) -> Result<Vec<Vec<f32>>, Error> {
        if self.info.kind != RerankerKind::EmbeddingSimilarity {
            return Err(Error::Model(format!("{} is not an embedding model", self.info.name)));
        }
        let truncation = Truncation::default();
        let sequences = self.in_parallel(texts, |text| {
            if as_queries {
                let query = self.prompt.query(text, None, &truncation)?;
                return Prompt::query_sequence(&query)
                    .ok_or_else(|| Error::Model("not an embedding template".into()));
            }
            let query = self.prompt.query("", None, &truncation)?;
            self.prompt.document(&query, text, &truncation)
        })?;
        let sequences = sequences.into_iter().map(|sequence| sequence.tokens).collect();
        let answers = self.answers(sequences, cancelled)?;
        Ok(answers
            .iter()
            .map(|answer| {
                let norm = dot(answer, answer).sqrt().max(1e-12);
                #[allow(clippy::cast_possible_truncation, reason = "rounding to f32 is meant")]
                answer.iter().map(|&value| (f64::from(value) / norm) as f32).collect()
            })
            .collect())
    }

    fn encoded(&self, request: &ScoreRequest) -> Result<Encoded, Error> {
        let instruction = request.instruction.as_deref();
        let query = self.prompt.query(&request.query, instruction, &request.truncation)?;
        let documents = self.in_parallel(&request.documents, |document| {
            self.prompt.document(&query, document, &request.truncation)
        })?;
        Ok(Encoded { query: Prompt::query_sequence(&query), documents })
    }

    /// Tokenises texts on the engine's threads, which are idle until the last one is done.
    fn in_parallel(
        &self,
        texts: &[String],
        encode: impl Fn(&str) -> Result<Sequence, Error> + Sync + Send,
    ) -> Result<Vec<Sequence>, Error> {
        let mut slots: Vec<Option<Result<Sequence, Error>>> = texts.iter().map(|_| None).collect();
        self.threads.for_each_chunk(&mut slots, 1, |index, slot| {
            slot[0] = Some(encode(&texts[index]));
        });
        slots.into_iter().flatten().collect()
    }
}

/// The tokenizer of a snapshot: compiled, unless the snapshot has none that this version reads.
fn tokenizer(snapshot: &Snapshot) -> Result<TextTokenizer, Error> {
    if snapshot.has(COMPILED_TOKENIZER) {
        let image = snapshot.tensor(COMPILED_TOKENIZER)?.bytes;
        if let Ok(tokenizer) = TextTokenizer::from_image(image) {
            return Ok(tokenizer);
        }
    }
    TextTokenizer::from_json(&snapshot.tensor(TOKENIZER)?.bytes)
}

/// A tokenised request.
struct Encoded {
    /// The query's own sequence, for embedding models.
    query: Option<Sequence>,
    documents: Vec<Sequence>,
}

/// What was read of a request, beside the tokens.
struct Read {
    /// Whether the query has a sequence of its own.
    query: bool,
    /// Scores as yet without the model's answer.
    documents: Vec<Score>,
}

impl Read {
    fn of(query: Option<&Sequence>, documents: &[Sequence]) -> Self {
        let unscored = |(index, document): (usize, &Sequence)| {
            let own = query.filter(|_| index == 0);
            Score {
                raw: f32::NAN,
                tokens: document.tokens.ids.len() + own.map_or(0, |query| query.tokens.ids.len()),
                truncated: document.truncated,
                query_truncated: document.query_truncated,
            }
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
            .map(|(index, score)| {
                let answer = answers.next().unwrap_or_default();
                let raw = match query {
                    Some(query) => cosine(query, answer),
                    None => answer.first().copied().unwrap_or(f32::NAN),
                };
                if raw.is_finite() {
                    Ok(Score { raw, ..score })
                } else {
                    Err(Error::NonFinite { request, index })
                }
            })
            .collect()
    }
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
