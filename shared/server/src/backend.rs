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

    /// Gives up what a copy of the process's memory could not bring back: files, mappings of
    /// files, sockets. Called while nothing is scored; scoring must still work afterwards.
    fn before_snapshot(&self) -> Result<(), Error> {
        Ok(())
    }

    /// Renews what must not be shared with other copies of the same memory. Called before anything
    /// is scored in the copy, also where [`before_snapshot`](Self::before_snapshot) gave up nothing.
    fn after_restore(&self) -> Result<(), Error> {
        Ok(())
    }
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

    fn before_snapshot(&self) -> Result<(), Error> {
        self.prepare_for_snapshot()
    }
}
