//! Turns texts into vectors with a model restored from a snapshot.
//!
//! The inputs of a request are encoded (see [`sequence`], [`Embedder::prepare`]), the sequences run in micro-batches of at
//! most [`ModelOptions::max_batch_tokens`] tokens ([`Embedder::run`]), and their answers become the vectors that were asked
//! for (see [`answer`]); a server mixes the sequences of several requests, [`Embedder::embed`] does all by itself. An
//! input's vectors are the same to the last bit whatever is embedded beside it, and whatever else is wanted of it.

mod answer;
mod chunks;
mod preparing;
mod prompts;
mod request;
mod sequence;
mod tokens;

use std::collections::BTreeMap;

use answer::Rules;
use defrost_loader::Snapshot;
use defrost_model::spec::refuse_language_model;
use defrost_model::{
    Answers, EmbeddingSpec, Head, Matryoshka, Measure, Planned, Runtime, Template, Tokens, Wanted,
};
use sequence::{Common, Encoder, Sequence};

use crate::Error;
use crate::loaded::{LoadTimings, ModelOptions, Opened, Started, in_parallel};
use crate::prepared::{Prepared, Said};
use crate::running::Running;
use crate::tokenizer::{TextTokenizer, Vocabulary};

pub use preparing::EmbedPreparing;
pub use request::{EmbedTask, EmbedTruncation, Embedding, Input, Outputs, Overflow, PromptChoice};
pub(crate) use sequence::Special;

/// Settings that do not come from the snapshot.
#[derive(Debug, Clone, Default)]
pub struct EmbedderOptions {
    /// The settings that every model has.
    pub model: ModelOptions,
    /// Cut vectors to any number of dimensions, even of models that are not trained for it.
    pub any_dimensions: bool,
}

/// What is known about the model once it is restored.
#[allow(clippy::struct_excessive_bools, reason = "independent facts")]
#[derive(Debug, Clone)]
pub struct EmbedderInfo {
    /// The name given at pack time, such as `BAAI/bge-m3`.
    pub name: String,
    /// The architecture: `bert`, `xlm-roberta`, `qwen2`, `qwen3`, or any `model_type` of an ONNX model.
    pub family: String,
    /// The pooling of dense vectors, in the words of sentence-transformers: `mean`, `cls` (the first token),
    /// `lasttoken`, `max`, `mean_sqrt_len_tokens` or `weightedmean`.
    pub pooling: &'static str,
    /// Length of dense vectors, and of the hidden states where these can be had.
    pub hidden: usize,
    /// The number of transformer layers.
    pub layers: usize,
    /// The lengths to which dense vectors may be cut.
    pub matryoshka: Matryoshka,
    /// Whether dense vectors have length 1 unless a request says otherwise.
    pub normalizes: bool,
    /// The model's prompts by name.
    pub prompts: BTreeMap<String, String>,
    /// The name of the prompt for inputs of no particular kind, if the model names one.
    pub default_prompt: Option<String>,
    /// Whether the model takes [`PromptChoice::Instruction`].
    pub takes_instruction: bool,
    /// The most tokens of one input, special tokens and prompt included.
    pub max_length: usize,
    /// Token ids from this one on have no meaning.
    pub vocab: usize,
    /// Whether the model gives sparse vectors.
    pub has_sparse: bool,
    /// Whether the model gives `ColBERT` vectors.
    pub has_colbert: bool,
    /// Whether the hidden states of all tokens can be had.
    pub has_tokens: bool,
    /// The precision of the weights: `int8`, `bf16` or `f32`.
    pub precision: String,
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
}

/// A model that is ready to embed.
#[derive(Debug)]
pub struct Embedder {
    info: EmbedderInfo,
    spec: EmbeddingSpec,
    snapshot: Snapshot,
    timings: LoadTimings,
    tokenizer: TextTokenizer,
    special: Special,
    vocabulary: Vocabulary,
    vocab: usize,
    colbert_width: usize,
    any_dimensions: bool,
    model: Running,
}

impl Embedder {
    /// Builds the model over the snapshot's mapped weights, in one of the `linked` runtimes.
    ///
    /// Fails with [`Error::Model`] if the model is no embedding model, if the snapshot was packed before it was recorded
    /// how its model embeds, or if the maximum length leaves no room for a text.
    pub fn load(
        linked: &[&'static dyn Runtime],
        snapshot: &Snapshot,
        options: &EmbedderOptions,
    ) -> Result<Self, Error> {
        refuse_language_model(snapshot)?;
        let Opened { common, tokenizer, backend, rest } =
            Opened::open(linked, snapshot, &options.model)?;
        let spec = match (common.embedding, &common.template) {
            (Some(spec), _) => spec,
            (None, Template::Embedding { .. }) => {
                return Err(Error::Model(format!(
                    "snapshot {} does not say how {} embeds (prompts, normalisation, dimensions): it was packed by an \
                     older version; pack the model again",
                    snapshot.path().display(),
                    common.name
                )));
            }
            (None, template) => {
                return Err(Error::Model(format!(
                    "{} scores pairs (template {}), it is no embedding model",
                    common.name,
                    template.name()
                )));
            }
        };
        let vocab = common.vocab.unwrap_or_else(|| tokenizer.largest_id() as usize + 1);
        let special = Special::of(&tokenizer)?;
        let max_length =
            options.model.max_length.unwrap_or(common.max_length).min(common.max_positions);
        let least = tokenizer.added(false) + 4;
        if max_length < least {
            return Err(Error::Model(format!(
                "a maximum length of {max_length} tokens leaves no room for texts, expected at least {least}"
            )));
        }
        let Started { model, timings } = rest.start(&options.model)?;
        let info = EmbedderInfo {
            name: common.name,
            family: common.family,
            pooling: match common.head {
                Head::FirstPooling => "cls",
                Head::LastPooling => "lasttoken",
                Head::MaxPooling => "max",
                Head::SqrtPooling => "mean_sqrt_len_tokens",
                Head::WeightedPooling => "weightedmean",
                _ => "mean",
            },
            hidden: model.runner().outputs(),
            layers: common.layers,
            matryoshka: spec.matryoshka.clone(),
            normalizes: spec.normalizes,
            prompts: spec.prompts.clone(),
            default_prompt: spec.default_prompt.clone(),
            takes_instruction: prompts::takes_instruction(&spec),
            max_length,
            vocab,
            has_sparse: common.token_heads.sparse,
            has_colbert: common.token_heads.colbert > 0,
            // Where layers follow the pooling, hidden states are of another length, and means of them no vectors yet.
            has_tokens: common.answers_tokens,
            precision: common.precision,
            backend,
            kernel: model.runner().kernel(),
            threads: model.runner().threads(),
            snapshot: snapshot.root().to_string(),
            bytes: snapshot.file_len(),
        };
        Ok(Self {
            info,
            spec,
            snapshot: snapshot.clone(),
            timings,
            tokenizer,
            special,
            vocabulary: Vocabulary::new(snapshot.clone()),
            vocab,
            colbert_width: common.token_heads.colbert,
            any_dimensions: options.any_dimensions,
            model,
        })
    }

    /// Facts about the model.
    pub fn info(&self) -> &EmbedderInfo {
        &self.info
    }

    /// Where the time of loading went.
    pub fn timings(&self) -> LoadTimings {
        self.timings
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

    /// Prepares as [`crate::Reranker::prepare_for_snapshot`] does: afterwards a copy of this process's memory is all it
    /// takes to embed.
    pub fn prepare_for_snapshot(&self) -> Result<(), Error> {
        self.model.runner().before_snapshot()?;
        Ok(self.snapshot.detach()?)
    }

    /// Embeds every input of every request, in input order. `cancelled` is asked between micro-batches.
    ///
    /// Fails with [`Error::InvalidInput`] if a request asks for what the model does not have (a prompt, an instruction, an
    /// output, dimensions, a token id), with [`Error::InputTooLong`] if an input does not fit and must not be cut, and with
    /// [`Error::NonFinite`] if the model answered NaN or infinity.
    pub fn embed(
        &self,
        requests: &[EmbedTask],
        cancelled: &(dyn Fn() -> bool + Sync),
    ) -> Result<Vec<Vec<Embedding>>, Error> {
        let one = |request: &EmbedTask| {
            let prepared = self.prepare(request)?;
            let answers = self.model.run_all(&prepared, cancelled)?;
            prepared.finish(&answers)
        };
        let requests = requests.iter().enumerate();
        requests.map(|(at, request)| one(request).map_err(|error| error.of_request(at))).collect()
    }

    /// Encodes a request's inputs, on all threads. Fails as [`Embedder::embed`]; the request's position in errors is 0.
    pub fn prepare(&self, request: &EmbedTask) -> Result<Prepared<Vec<Embedding>>, Error> {
        let prepared = self.prepare_unchecked(request);
        // Tokens come from the mapped file too; one that was edited is the reason for whatever is wrong with them.
        self.snapshot.intact()?;
        prepared
    }

    fn prepare_unchecked(&self, request: &EmbedTask) -> Result<Prepared<Vec<Embedding>>, Error> {
        self.check(request)?;
        let common = self.common(request)?;
        let encoder = self.encoder(&common);
        if request.late_chunking {
            return self.prepare_chunks(&encoder, request);
        }
        let inputs: Vec<(usize, &Input)> = request.inputs.iter().enumerate().collect();
        let sequences = in_parallel(self.model.runner(), &inputs, |&(index, input)| {
            encoder.encode(input, (0, index))
        })?;
        Ok(self.prepared(request, sequences))
    }

    /// The sequences of a request's inputs, and what becomes of the answers to them.
    fn prepared(&self, request: &EmbedTask, sequences: Vec<Sequence>) -> Prepared<Vec<Embedding>> {
        let rules = self.rules(request);
        let (sequences, cut): (Vec<Tokens>, Vec<bool>) =
            sequences.into_iter().map(|Sequence { tokens, truncated }| (tokens, truncated)).unzip();
        let wanted = wanted(request);
        let finish = move |said: &[Said<'_>]| {
            let inputs = said.iter().zip(cut).enumerate();
            inputs
                .map(|(index, (said, cut))| {
                    let embedding = rules.embedding(*said, cut);
                    embedding.ok_or(Error::NonFinite { request: 0, index })
                })
                .collect()
        };
        Prepared::new(sequences, self.model.runner().grouping(wanted), wanted, finish)
    }

    fn rules(&self, request: &EmbedTask) -> Rules {
        let usual = self.spec.normalizes || request.dimensions.is_some();
        Rules {
            outputs: request.outputs,
            dimensions: request.dimensions,
            normalize: request.normalize.unwrap_or(usual),
            hidden: self.info.hidden,
            weightless: self.spec.weightless.clone(),
            colbert_width: self.colbert_width,
        }
    }

    /// The answers to one micro-batch of sequences that [`Embedder::prepare`] gave, of any requests.
    pub fn run(&self, sequences: &[Planned<'_>], wanted: Wanted) -> Result<Vec<Answers>, Error> {
        self.model.run(sequences, wanted)
    }

    fn common(&self, request: &EmbedTask) -> Result<Common, Error> {
        let prompt = prompts::resolve(&self.spec, &request.prompt)?;
        let (tokenizer, special) = (&self.tokenizer, &self.special);
        let (truncation, max_length) = (request.truncation, self.info.max_length);
        Common::new(tokenizer, special, prompt, truncation, max_length, self.vocab)
    }

    fn encoder<'a>(&'a self, common: &'a Common) -> Encoder<'a> {
        Encoder { tokenizer: &self.tokenizer, special: &self.special, common }
    }

    /// Refuses what the model cannot give, before anything is computed.
    fn check(&self, request: &EmbedTask) -> Result<(), Error> {
        let refuse = |param, message| Err(Error::InvalidInput { param, message });
        let (info, outputs) = (&self.info, request.outputs);
        for (wanted, has, what) in [
            (outputs.sparse, info.has_sparse, "sparse vectors"),
            (outputs.colbert, info.has_colbert, "ColBERT vectors"),
            (outputs.tokens, info.has_tokens, "vectors of single tokens"),
        ] {
            if wanted && !has {
                return refuse("outputs", format!("{} has no {what}", info.name));
            }
        }
        chunks::check(info, request)?;
        let (hidden, matryoshka) = (info.hidden, &info.matryoshka);
        match request.dimensions {
            Some(dimensions) if dimensions == 0 || dimensions > hidden => {
                refuse("dimensions", format!("dimensions is {dimensions}, expected 1 to {hidden}"))
            }
            Some(dimensions) if !self.any_dimensions && !matryoshka.allows(dimensions, hidden) => {
                let expected = match matryoshka {
                    Matryoshka::No => "is not trained for other dimensions than",
                    Matryoshka::From(_) | Matryoshka::Only(_) => "takes other dimensions:",
                };
                let allowed = match matryoshka {
                    Matryoshka::No => hidden.to_string(),
                    Matryoshka::From(least) => format!("{least} to {hidden}"),
                    Matryoshka::Only(_) => format!("{matryoshka} or {hidden}"),
                };
                refuse(
                    "dimensions",
                    format!("dimensions is {dimensions}, {} {expected} {allowed}", info.name),
                )
            }
            _ => Ok(()),
        }
    }
}

/// What a request wants of every token.
fn wanted(request: &EmbedTask) -> Wanted {
    let Outputs { sparse, colbert, tokens, .. } = request.outputs;
    Wanted { hidden: tokens, sparse, colbert }
}
