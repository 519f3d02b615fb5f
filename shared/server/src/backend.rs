//! The seam between serving and the model.
//!
//! What a request asks is tokenised ([`Backend::prepare`]), its sequences run in micro-batches together with those of
//! other requests ([`Backend::run`]), and what [`Prepared::finish`] makes of their answers is the result.

use std::sync::Arc;

use defrost_inference::{Error, ModelInfo, Prepared, Reranker, Score, ScoreRequest, Tokens};

/// What a request asks of the model.
#[derive(Debug, Clone)]
pub enum Inputs {
    /// Scores of documents against queries.
    Score(Arc<Vec<ScoreRequest>>),
}

impl Inputs {
    /// Bytes of text: what tokenising them costs.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Score(requests) => requests
                .iter()
                .map(|one| one.query.len() + one.documents.iter().map(String::len).sum::<usize>())
                .sum(),
        }
    }
}

/// What the model makes of it.
#[derive(Debug, Clone)]
pub enum Outputs {
    /// Of every document of every request, in input order.
    Scores(Vec<Vec<Score>>),
}

/// A loaded model. Tests put a deterministic one behind it.
pub trait Backend: Send + Sync {
    /// Facts about the model.
    fn info(&self) -> &ModelInfo;

    /// Tokenises what a request asks.
    ///
    /// # Errors
    /// What is wrong with the request.
    fn prepare(&self, inputs: &Inputs) -> Result<Prepared<Outputs>, Error>;

    /// The answers to one micro-batch of sequences, each of which depends on its own tokens alone.
    ///
    /// # Errors
    /// What is wrong with the model.
    fn run(&self, sequences: &[&Tokens]) -> Result<Vec<Vec<f32>>, Error>;

    /// Gives up what a copy of the process's memory could not bring back: files, mappings of
    /// files, sockets. Called while nothing runs; running must still work afterwards.
    fn before_snapshot(&self) -> Result<(), Error> {
        Ok(())
    }

    /// Renews what must not be shared with other copies of the same memory. Called before anything
    /// runs in the copy, also where [`before_snapshot`](Self::before_snapshot) gave up nothing.
    fn after_restore(&self) -> Result<(), Error> {
        Ok(())
    }
}

impl Backend for Reranker {
    fn info(&self) -> &ModelInfo {
        Reranker::info(self)
    }

    fn prepare(&self, inputs: &Inputs) -> Result<Prepared<Outputs>, Error> {
        match inputs {
            Inputs::Score(requests) => Ok(Reranker::prepare(self, requests)?.map(Outputs::Scores)),
        }
    }

    fn run(&self, sequences: &[&Tokens]) -> Result<Vec<Vec<f32>>, Error> {
        Reranker::run(self, sequences)
    }

    fn before_snapshot(&self) -> Result<(), Error> {
        self.prepare_for_snapshot()
    }
}
