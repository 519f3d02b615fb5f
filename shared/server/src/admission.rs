//! From a valid request to its result: wait for the model, wait in the queue, wait for the worker.
//!
//! ```text
//! loading:  waiting room (MAX_QUEUE permits, BOOT_TIMEOUT)  -> full, late or draining: 503
//! ready:    queue (MAX_QUEUE jobs that have not begun)      -> full: 429
//! ```
//!
//! Around a memory snapshot the gate is closed, and requests wait as while loading.

use std::ops::Deref;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::oneshot;

use crate::app::{App, Model, Status};
use crate::backend::Inputs;
use crate::batching::{Job, Outcome};
use crate::error::ApiError;
use crate::gate::Pass;
use crate::worker::Work;

/// The model, in the hands of a request: while one lives, no snapshot is taken.
#[derive(Debug)]
pub(crate) struct Admitted<'a> {
    model: Arc<Model>,
    _pass: Pass<'a>,
}

impl Deref for Admitted<'_> {
    type Target = Model;

    fn deref(&self) -> &Model {
        &self.model
    }
}

impl App {
    /// The model, as soon as it is loaded and the gate is open.
    pub(crate) async fn model(&self) -> Result<Admitted<'_>, ApiError> {
        if let Some(result) = self.model_now() {
            return result;
        }
        let doing = match *self.status.borrow() {
            Status::Loading => "loading",
            Status::Ready(_) | Status::Failed(_) => "quiesced for a memory snapshot",
        };
        let Ok(_permit) = self.waiting_room.try_acquire() else {
            return Err(ApiError::loading(format!(
                "the model is {doing} and {} requests wait already (MAX_QUEUE); retry later",
                self.config.max_queue
            )));
        };
        let mut draining = self.draining.subscribe();
        tokio::select! {
            // First: of an answer and a timer that a jump of the clock has fired, the answer.
            biased;
            admitted = self.model_later() => admitted,
            _ = draining.wait_for(|draining| *draining) => Err(ApiError::shutting_down()),
            () = tokio::time::sleep(self.config.boot_timeout) => Err(ApiError::loading(format!(
                "the model is still {doing} after {} s (BOOT_TIMEOUT); retry later",
                self.config.boot_timeout.as_secs_f64()
            ))),
        }
    }

    fn model_now(&self) -> Option<Result<Admitted<'_>, ApiError>> {
        // The pass first: the model is another one after a restore.
        let pass = self.gate.try_pass()?;
        settled(&self.status.borrow(), pass)
    }

    async fn model_later(&self) -> Result<Admitted<'_>, ApiError> {
        self.booted().await;
        let pass = self.gate.pass().await;
        settled(&self.status.borrow(), pass).unwrap_or_else(|| Err(ApiError::unavailable()))
    }

    /// Queues what a request asks and waits for what comes of it. Dropping the future cancels the work.
    pub(crate) async fn run(&self, inputs: Inputs) -> Result<Outcome, ApiError> {
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            return Err(ApiError::queue_full(self.config.max_queue));
        };
        let (reply, outcome) = oneshot::channel();
        let job = Job { inputs, reply, queued: Instant::now(), place };
        self.queue.send(Work::Run(job)).map_err(|_| ApiError::unavailable())?;
        outcome.await.map_err(|_| ApiError::unavailable())
    }
}

fn settled<'a>(status: &Status, pass: Pass<'a>) -> Option<Result<Admitted<'a>, ApiError>> {
    match status {
        Status::Loading => None,
        Status::Ready(model) => Some(Ok(Admitted { model: Arc::clone(model), _pass: pass })),
        Status::Failed(_) => Some(Err(ApiError::unavailable())),
    }
}
