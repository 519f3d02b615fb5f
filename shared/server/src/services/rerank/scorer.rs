//! Models that score documents against queries.

use std::sync::Arc;
use std::time::Duration;

use defrost_model::{Answers, Measure, Planned, Wanted};
use defrost_tasks::{
    Bounds, Error, ModelInfo, Prepared, Preparing, Reranker, Score, ScoreScale, ScoreTask,
    TextToken,
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

/// Bytes of a template around each text, about.
const TEMPLATE_BYTES: usize = 64;

/// The scores of every document of every request, in input order.
pub type ScoreLists = Vec<Vec<Score>>;

/// A loaded model that scores. Tests put a deterministic one behind it.
pub trait Scorer: Pipeline {
    /// What is known about the model.
    fn facts(&self) -> &ModelInfo;

    /// Tokenises requests.
    ///
    /// # Errors
    /// What is wrong with the requests.
    fn prepare(&self, requests: &[ScoreTask]) -> Result<Prepared<ScoreLists>, Error>;

    /// As [`Scorer::prepare`], in steps and within bounds.
    ///
    /// # Errors
    /// What is wrong with the requests.
    fn begin(
        self: Arc<Self>,
        requests: Arc<Vec<ScoreTask>>,
        bounds: Bounds,
    ) -> Result<Box<dyn Preparing<ScoreLists>>, Error> {
        let _ = bounds;
        Ok(Box::new(InOneStep::new(self.prepare(&requests)?)))
    }
}

impl Loaded {
    /// A model that scores.
    pub fn scorer(model: impl Scorer + 'static) -> Self {
        let model: Arc<dyn Scorer> = Arc::new(model);
        Self::new(Arc::<dyn Scorer>::clone(&model), model)
    }
}

/// Scores of documents against queries.
pub(crate) struct ScoreQuestion {
    pub(crate) scorer: Arc<dyn Scorer>,
    pub(crate) requests: Arc<Vec<ScoreTask>>,
}

impl Question for ScoreQuestion {
    type Part = ScoreLists;

    fn bytes(&self) -> usize {
        let of = |one: &ScoreTask| {
            let instruction = one.instruction.as_ref().map_or(0, String::len);
            let before = TEMPLATE_BYTES + one.query.len() + instruction;
            let documents = one.documents.iter().map(String::len).sum::<usize>();
            before.saturating_mul(one.documents.len() + 1).saturating_add(documents)
        };
        self.requests.iter().map(of).fold(0, usize::saturating_add)
    }

    fn begin(self, bounds: Bounds, sink: Sink<ScoreLists>) -> Result<Box<dyn Preparation>, Error> {
        Ok(at_once(self.scorer.begin(self.requests, bounds)?, sink, usage))
    }
}

fn usage(scores: &ScoreLists) -> Usage {
    let scores = scores.iter().flatten();
    Usage {
        lengths: scores.clone().map(|score| score.tokens).collect(),
        truncated: scores.filter(|score| score.truncated).count(),
        tei: Some(TeiCounter::Predict),
        completions: None,
    }
}

impl From<&ModelInfo> for Info {
    fn from(info: &ModelInfo) -> Self {
        // Taken apart whole: a field that is new there must be looked at here.
        let ModelInfo {
            name,
            family,
            template: _,
            kind: _,
            precision,
            hidden,
            layers,
            max_length,
            max_sequence: _,
            vocab,
            takes_instruction,
            estimated_max: _,
            backend,
            kernel,
            threads,
            snapshot,
            bytes,
            default_normalization: _,
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

impl Scorer for Reranker {
    fn facts(&self) -> &ModelInfo {
        Reranker::info(self)
    }

    fn prepare(&self, requests: &[ScoreTask]) -> Result<Prepared<ScoreLists>, Error> {
        Reranker::prepare(self, requests)
    }

    fn begin(
        self: Arc<Self>,
        requests: Arc<Vec<ScoreTask>>,
        bounds: Bounds,
    ) -> Result<Box<dyn Preparing<ScoreLists>>, Error> {
        Ok(Box::new(self.preparing(requests, bounds)))
    }
}

impl Pipeline for Reranker {
    fn info(&self) -> Info {
        Reranker::info(self).into()
    }

    fn run(&self, sequences: &[Planned<'_>], wanted: Wanted) -> Result<Vec<Answers>, Error> {
        Reranker::run(self, sequences, wanted)
    }

    fn measure(&self) -> Measure {
        Reranker::measure(self)
    }

    fn phases(&self) -> Vec<(&'static str, Duration)> {
        Reranker::phases(self)
    }

    fn sample(&self) -> Result<Prepared<()>, Error> {
        let request = ScoreTask {
            query: "which document is warm".into(),
            documents: vec!["a document to warm up with".into()],
            ..ScoreTask::default()
        };
        Ok(Reranker::prepare(self, &[request])?.map(drop))
    }

    fn tokenize(&self, text: &str, add_special: bool) -> Result<Vec<TextToken>, Error> {
        Reranker::tokenize(self, text, add_special)
    }

    fn count_tokens(&self, text: &str, most: usize) -> Result<usize, Error> {
        Reranker::count_tokens(self, text, most)
    }

    fn detokenize(&self, ids: &[u32], skip_special: bool) -> Result<String, Error> {
        Reranker::detokenize(self, ids, skip_special)
    }

    fn before_snapshot(&self) -> Result<(), Error> {
        self.prepare_for_snapshot()
    }
}

/// Restores the snapshot named by `MODEL` and builds a reranker over it.
pub fn restore_reranker(config: &Config, phases: &PhaseRecorder) -> Result<Loaded, BootError> {
    let snapshot = restore::snapshot(config, phases)?;
    let reranker = Reranker::load(config.runtimes, &snapshot, &restore::options(config))
        .map_err(|error| BootError::from_error(&error))?;
    restore::note(phases, reranker.notes(), reranker.timings());
    let info = reranker.info();
    if config.normalization == Some(ScoreScale::Mxbai) && !ScoreScale::takes_mxbai(info.template) {
        return Err(BootError::new(format!(
            "NORMALIZATION=mxbai is made for mxbai-rerank-v2 models only, {} is none: use sigmoid \
             or raw",
            info.name
        )));
    }
    Ok(Loaded::scorer(reranker))
}
