//! The seam between serving and scoring.

use defrost_inference::{Error, ModelInfo, Reranker, Score, ScoreRequest};

/// A loaded model that scores documents. Tests put a deterministic scorer behind it.
pub trait Backend: Send + Sync {
    /// Facts about the model.
    fn info(&self) -> &ModelInfo;

    /// Scores every document of every request, in input order. Asks `cancelled` now and then and
    /// stops with [`Error::Cancelled`] when it says so.
    fn score(
        &self,
        requests: &[ScoreRequest],
        cancelled: &(dyn Fn() -> bool + Sync),
    ) -> Result<Vec<Vec<Score>>, Error>;
}

impl Backend for Reranker {
    fn info(&self) -> &ModelInfo {
        Reranker::info(self)
    }

    fn score(
        &self,
        requests: &[ScoreRequest],
        cancelled: &(dyn Fn() -> bool + Sync),
    ) -> Result<Vec<Vec<Score>>, Error> {
        Reranker::score(self, requests, cancelled)
    }
}
