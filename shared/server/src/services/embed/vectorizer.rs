//! Models that embed texts.

use std::sync::Arc;
use std::time::Duration;

use defrost_model::{Answers, Measure, Planned, Wanted};
use defrost_tasks::{
    Bounds, EmbedTask, Embedder, EmbedderInfo, EmbedderOptions, Embedding, Error, Input, Prepared,
    Preparing, PromptChoice, TextToken,
};

use crate::boot_error::BootError;
use crate::config::Config;
use crate::life::phases::PhaseRecorder;
use crate::models::events::Sink;
use crate::models::info::Info;
use crate::models::job::{InOneStep, Preparation, Question, at_once};
use crate::models::loaded::Loaded;
use crate::models::pipeline::Pipeline;
use crate::models::restore;
use crate::models::usage::{TeiCounter, Usage};

/// Bytes of a model's own prompt around each text, about.
const PROMPT_BYTES: usize = 64;

/// A loaded model that embeds. Tests put a deterministic one behind it.
pub trait Vectorizer: Pipeline {
    /// What is known about the model.
    fn facts(&self) -> &EmbedderInfo;

    /// Tokenises a request.
    ///
    /// # Errors
    /// What is wrong with the request.
    fn prepare(&self, request: &EmbedTask) -> Result<Prepared<Vec<Embedding>>, Error>;

    /// As [`Vectorizer::prepare`], in steps and within bounds.
    ///
    /// # Errors
    /// What is wrong with the request.
    fn begin(
        self: Arc<Self>,
        request: Arc<EmbedTask>,
        bounds: Bounds,
    ) -> Result<Box<dyn Preparing<Vec<Embedding>>>, Error> {
        let _ = bounds;
        Ok(Box::new(InOneStep::new(self.prepare(&request)?)))
    }
}

impl Loaded {
    /// A model that embeds.
    pub fn vectorizer(model: impl Vectorizer + 'static) -> Self {
        let model: Arc<dyn Vectorizer> = Arc::new(model);
        Self::new(Arc::<dyn Vectorizer>::clone(&model), model)
    }
}

/// Vectors of texts.
pub(crate) struct EmbedQuestion {
    pub(crate) vectorizer: Arc<dyn Vectorizer>,
    pub(crate) request: Arc<EmbedTask>,
}

impl Question for EmbedQuestion {
    type Part = Vec<Embedding>;

    fn bytes(&self) -> usize {
        let asked = match &self.request.prompt {
            PromptChoice::Prefix(text) | PromptChoice::Instruction(text) => text.len(),
            PromptChoice::Default
            | PromptChoice::None
            | PromptChoice::Query
            | PromptChoice::Document
            | PromptChoice::Named(_) => 0,
        };
        let before = PROMPT_BYTES + asked;
        let length = |input: &Input| match input {
            Input::Text(text) => text.len(),
            // They are looked at once.
            Input::Tokens(tokens) => tokens.len(),
        };
        let inputs = self.request.inputs.iter().map(length).sum::<usize>();
        before.saturating_mul(self.request.inputs.len()).saturating_add(inputs)
    }

    fn begin(
        self,
        bounds: Bounds,
        sink: Sink<Vec<Embedding>>,
    ) -> Result<Box<dyn Preparation>, Error> {
        let preparing = self.vectorizer.begin(self.request, bounds)?;
        Ok(at_once(preparing, sink, |embeddings| usage(embeddings)))
    }
}

fn usage(embeddings: &[Embedding]) -> Usage {
    Usage {
        lengths: embeddings.iter().map(|one| one.token_count).collect(),
        truncated: embeddings.iter().filter(|one| one.truncated).count(),
        tei: Some(TeiCounter::Embed),
        completions: None,
    }
}

impl From<&EmbedderInfo> for Info {
    fn from(info: &EmbedderInfo) -> Self {
        // Taken apart whole: a field that is new there must be looked at here.
        let EmbedderInfo {
            name,
            family,
            pooling: _,
            hidden,
            layers,
            matryoshka: _,
            normalizes: _,
            prompts: _,
            default_prompt: _,
            takes_instruction,
            max_length,
            vocab,
            has_sparse: _,
            has_colbert: _,
            has_tokens: _,
            precision,
            backend,
            kernel,
            threads,
            snapshot,
            bytes,
        } = info;
        Self {
            name: name.clone(),
            family: family.clone(),
            precision: precision.clone(),
            hidden: *hidden,
            layers: *layers,
            max_length: *max_length,
            vocab: *vocab,
            takes_instruction: *takes_instruction,
            backend: *backend,
            kernel,
            threads: *threads,
            snapshot: snapshot.clone(),
            bytes: *bytes,
            room_bytes: 0,
        }
    }
}

impl Vectorizer for Embedder {
    fn facts(&self) -> &EmbedderInfo {
        Embedder::info(self)
    }

    fn prepare(&self, request: &EmbedTask) -> Result<Prepared<Vec<Embedding>>, Error> {
        Embedder::prepare(self, request)
    }

    fn begin(
        self: Arc<Self>,
        request: Arc<EmbedTask>,
        bounds: Bounds,
    ) -> Result<Box<dyn Preparing<Vec<Embedding>>>, Error> {
        Ok(Box::new(self.preparing(request, bounds)))
    }
}

impl Pipeline for Embedder {
    fn info(&self) -> Info {
        Embedder::info(self).into()
    }

    fn run(&self, sequences: &[Planned<'_>], wanted: Wanted) -> Result<Vec<Answers>, Error> {
        Embedder::run(self, sequences, wanted)
    }

    fn measure(&self) -> Measure {
        Embedder::measure(self)
    }

    fn phases(&self) -> Vec<(&'static str, Duration)> {
        Embedder::phases(self)
    }

    fn sample(&self) -> Result<Prepared<()>, Error> {
        let inputs = vec!["a text to warm up with".into()];
        let request = Arc::new(EmbedTask { inputs, ..EmbedTask::default() });
        Ok(Embedder::prepare(self, &request)?.map(drop))
    }

    fn tokenize(&self, text: &str, add_special: bool) -> Result<Vec<TextToken>, Error> {
        Embedder::tokenize(self, text, add_special)
    }

    fn count_tokens(&self, text: &str, most: usize) -> Result<usize, Error> {
        Embedder::count_tokens(self, text, most)
    }

    fn detokenize(&self, ids: &[u32], skip_special: bool) -> Result<String, Error> {
        Embedder::detokenize(self, ids, skip_special)
    }

    fn before_snapshot(&self) -> Result<(), Error> {
        self.prepare_for_snapshot()
    }
}

/// Restores the snapshot named by `MODEL` and builds an embedder over it.
pub fn restore_embedder(config: &Config, phases: &PhaseRecorder) -> Result<Loaded, BootError> {
    let snapshot = restore::snapshot(config, phases)?;
    let options =
        // What the model was not trained for is told by the request's handler.
        EmbedderOptions { model: restore::options(config), any_dimensions: true };
    let embedder = Embedder::load(config.runtimes, &snapshot, &options)
        .map_err(|error| BootError::from_error(&error))?;
    restore::note(phases, embedder.notes(), embedder.timings());
    Ok(Loaded::vectorizer(embedder))
}
