//! From a valid request to its scores: wait for the model, wait in the queue, wait for the worker.
//!
//! ```text
//! loading:  waiting room (MAX_QUEUE permits, BOOT_TIMEOUT)  -> full, late or draining: 503
//! ready:    queue (MAX_QUEUE jobs)                          -> full: 429
//! ```

use std::sync::Arc;
use std::time::Instant;

use defrost_inference::ScoreRequest;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::oneshot;

use crate::app::{App, Model, Status};
use crate::error::ApiError;
use crate::worker::{Job, Outcome};

impl App {
    /// The model, as soon as it is loaded.
    pub(crate) async fn model(&self) -> Result<Arc<Model>, ApiError> {
        if let Some(result) = settled(&self.status.borrow()) {
            return result;
        }
        let Ok(_permit) = self.waiting_room.try_acquire() else {
            return Err(ApiError::loading(format!(
                "the model is loading and {} requests wait already (MAX_QUEUE); retry later",
                self.config.max_queue
            )));
        };
        let mut status = self.status.clone();
        let mut draining = self.draining.subscribe();
        tokio::select! {
            status = status.wait_for(|status| !matches!(status, Status::Loading)) => match status {
                Ok(status) => settled(&status).unwrap_or_else(|| Err(ApiError::unavailable())),
                Err(_) => Err(ApiError::unavailable()),
            },
            _ = draining.wait_for(|draining| *draining) => Err(ApiError::shutting_down()),
            () = tokio::time::sleep(self.config.boot_timeout) => Err(ApiError::loading(format!(
                "the model is still loading after {} s (BOOT_TIMEOUT); retry later",
                self.config.boot_timeout.as_secs_f64()
            ))),
        }
    }

    /// Queues the texts and waits for their scores. Dropping the future cancels the work.
    pub(crate) async fn score(
        &self,
        requests: Arc<Vec<ScoreRequest>>,
    ) -> Result<Outcome, ApiError> {
        let (reply, outcome) = oneshot::channel();
        let job = Job { requests, reply, queued: Instant::now() };
        self.queue.try_send(job).map_err(|error| match error {
            TrySendError::Full(_) => ApiError::queue_full(self.config.max_queue),
            TrySendError::Closed(_) => ApiError::unavailable(),
        })?;
        outcome.await.map_err(|_| ApiError::unavailable())
    }
}

fn settled(status: &Status) -> Option<Result<Arc<Model>, ApiError>> {
    match status {
        Status::Loading => None,
        Status::Ready(model) => Some(Ok(Arc::clone(model))),
        Status::Failed(_) => Some(Err(ApiError::unavailable())),
    }
}
