//! From a valid request to its result: wait for the model, tokenise, wait in the queue, wait for
//! the worker.
//!
//! ```text
//! loading:  waiting room (MAX_QUEUE permits, BOOT_TIMEOUT)  -> full, late or draining: 503
//! ready:    queue (MAX_QUEUE jobs that have not begun)      -> full: 429; asks for more than there are bounds for: 413
//! ```
//!
//! A model that is not loaded begins to load when a request comes for it. Around a memory snapshot
//! the gate is closed, and requests wait as while loading.

use std::ops::Deref;
use std::sync::Arc;
use std::time::Instant;

use defrost_tasks::{Bounds, Error};
use prometheus_client::metrics::counter::Counter;

use crate::app::App;
use crate::config::Config;
use crate::edge::budget::{BYTES_OF_A_NUMBER, Budget, Held};
use crate::error::ApiError;
use crate::models::admission_gate::Pass;
use crate::models::command::{Command, Queued};
use crate::models::events::{self, End, Events};
use crate::models::fleet::Found;
use crate::models::job::Question;
use crate::models::model::Model;
use crate::models::role::Role;
use crate::models::slot::{Hold, Slot};
use crate::models::state::Status;
use crate::models::tokenise::Tokenised;
use crate::models::usage::Times;
use crate::sync;

/// A model, in the hands of a request: while one lives, no snapshot is taken.
pub(crate) struct Admitted {
    model: Arc<Model>,
    _pass: Pass,
    _hold: Hold,
}

impl Admitted {
    /// The error as an answer. One after which the model's bytes cannot be had any more ends it.
    pub(crate) fn failed(&self, error: Error) -> ApiError {
        let answer = ApiError::from(&error);
        if error.is_permanent() {
            // Gone already is as good.
            let _ = self.queue.send(Command::Break(Arc::new(error)));
        }
        answer
    }

    /// The model for as long as it takes to tell about it.
    pub(crate) fn shared(&self) -> Arc<Model> {
        Arc::clone(&self.model)
    }
}

impl Deref for Admitted {
    type Target = Model;

    fn deref(&self) -> &Model {
        &self.model
    }
}

impl App {
    /// The model of this role that a request names, as soon as it is loaded and the gate is open.
    /// Unless `STRICT_MODEL` or several models make the name matter, one without a place here means
    /// the only model.
    pub(crate) async fn model(
        &self,
        role: &Role,
        asked: Option<&str>,
    ) -> Result<Admitted, ApiError> {
        self.model_of(Some(role), asked).await
    }

    /// The model that a request names, of any role.
    pub(crate) async fn any_model(&self, asked: Option<&str>) -> Result<Admitted, ApiError> {
        self.model_of(None, asked).await
    }

    async fn model_of(
        &self,
        role: Option<&Role>,
        asked: Option<&str>,
    ) -> Result<Admitted, ApiError> {
        let name = asked.unwrap_or_default();
        let slot = match self.fleet.find(role, asked) {
            Found::Here(slot) => slot,
            Found::Elsewhere(slot) => {
                let here = self.fleet.names(role);
                return Err(ApiError::model_elsewhere(name, slot.role.path, &here));
            }
            Found::Nowhere => {
                return Err(ApiError::model_not_found(name, &self.fleet.names(role)));
            }
        };
        let admitted = self.admitted(slot).await?;
        if self.config.strict_model && self.fleet.reads_names_exactly() {
            admitted.refuse_others(asked)?;
        }
        Ok(admitted)
    }

    async fn admitted(&self, slot: &Arc<Slot>) -> Result<Admitted, ApiError> {
        let pass = self.gate.try_pass();
        let is_open = pass.is_some();
        if let Some(pass) = pass {
            self.fleet.wake(slot, true);
            if let Some(result) = self.settled(slot, pass) {
                return result;
            }
        }
        let doing = if is_open || slot.life.is_loading() {
            "loading"
        } else {
            "quiesced for a memory snapshot"
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
            admitted = self.model_later(slot, is_open) => admitted,
            _ = draining.wait_for(|draining| *draining) => Err(ApiError::shutting_down()),
            () = sync::sleep(self.config.boot_timeout) => Err(ApiError::loading(format!(
                "the model is still {doing} after {} s (BOOT_TIMEOUT); retry later",
                self.config.boot_timeout.as_secs_f64()
            ))),
        }
    }

    /// The model once it is loaded, which this request has seen to if it is `awake` already. A load
    /// is begun with a pass in hand, so none begins around a snapshot; it goes on without one, so a
    /// snapshot can wait for it.
    async fn model_later(&self, slot: &Arc<Slot>, mut awake: bool) -> Result<Admitted, ApiError> {
        loop {
            slot.life.settled().await;
            // Now the pass: the model is another one after a restore.
            let pass = self.gate.pass().await;
            if !awake {
                self.fleet.wake(slot, true);
                awake = true;
            }
            if let Some(result) = self.settled(slot, pass) {
                return result;
            }
            // It may have been unloaded again before this request had it.
            if let Some(_pass) = self.gate.try_pass() {
                self.fleet.wake(slot, false);
            }
        }
    }

    fn settled(&self, slot: &Arc<Slot>, pass: Pass) -> Option<Result<Admitted, ApiError>> {
        match slot.life.status() {
            Status::Unloaded | Status::Loading => None,
            Status::Ready(model) => {
                Some(Ok(Admitted { model, _pass: pass, _hold: self.fleet.hold(slot) }))
            }
            Status::Failed(_) => Some(Err(match slot.life.rests() {
                Some(left) if self.fleet.has_several() => ApiError::resting(left),
                _ => ApiError::unavailable(),
            })),
        }
    }

    /// As [`App::begin`], for an answer at once: waits for the one part of it.
    pub(crate) async fn run<Q: Question>(
        &self,
        model: &Admitted,
        question: Q,
    ) -> Result<Finished<Q::Part>, ApiError> {
        let Begun { events, held } = self.begin(model, question).await?;
        let (result, times) = events.only().await.ok_or_else(ApiError::unavailable)?;
        Ok(Finished { result, times, held })
    }

    /// Tokenises what a request asks of a model and queues it. Dropping the future, or the events,
    /// gives the job up.
    pub(crate) async fn begin<Q: Question>(
        &self,
        model: &Admitted,
        question: Q,
    ) -> Result<Begun<Q::Part>, ApiError> {
        let since = Instant::now();
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            return Err(ApiError::queue_full(self.config.max_queue));
        };
        let (sink, events) = events::channel();
        let own = sink.clone();
        let bytes = question.bytes();
        let waiting = CountedIfDropped(Some(&self.metrics.cancelled));
        let begin = |bounds| question.begin(bounds, sink);
        let tokenised = self.tokenising.tokenise(&model.model, bytes, begin).await;
        waiting.disarm();
        let mut held = self.budget.hold();
        let Tokenised { job, took } = match tokenised {
            Ok(tokenised) => tokenised,
            Err(error) if error.is_permanent() => return Err(model.failed(error)),
            // The handler knows by which name the client finds the text at fault.
            Err(error) => {
                let times = Times { tokenize: since.elapsed(), ..Times::default() };
                own.end(End { result: Err(Arc::new(error)), times });
                return Ok(Begun { events, held });
            }
        };
        held.resize(job.bytes())?;
        let queued = Queued { job, tokenize: took, since, place };
        model.queue.send(Command::Run(queued)).map_err(|_| ApiError::unavailable())?;
        Ok(Begun { events, held })
    }
}

/// A request whose job is on its way: what comes of it, and the bytes that are held for its answer.
pub(crate) struct Begun<P> {
    pub(crate) events: Events<P>,
    pub(crate) held: Held,
}

/// What came of a request that is answered at once, where its time went, and the bytes that are
/// held for its answer.
pub(crate) struct Finished<P> {
    pub(crate) result: Result<P, Arc<Error>>,
    pub(crate) times: Times,
    pub(crate) held: Held,
}

/// Bytes of text in a request's sequences, for each byte of its body: a prompt of a quarter of a
/// kilobyte before 2,048 short texts, or a page of text before hundreds, is within.
const TEXT_OF_A_BODY: usize = 4;

/// Sequences for each document or input that a request may have: Cohere's ten pieces a document.
const SEQUENCES_OF_A_TEXT: usize = 10;

/// What a request may grow into, by the settings. A token has a byte of text at least, as a rule.
pub(crate) fn bounds(config: &Config, budget: &Budget) -> Bounds {
    let texts = config.max_documents.max(config.embed.limits.max_inputs);
    Bounds {
        // With small bodies too, what was within the other bounds is within this.
        text_bytes: config.max_body_bytes.saturating_mul(TEXT_OF_A_BODY).max(1 << 20),
        sequences: texts.saturating_mul(SEQUENCES_OF_A_TEXT),
        tokens: config.max_body_bytes.max(1 << 20),
        // Every token of the longest text of a model with 1,024 numbers each, by the usual setting.
        numbers: config.max_body_bytes.max(1 << 20).min(budget.most() / BYTES_OF_A_NUMBER),
    }
}

/// Counts a request that is given up while it is tokenised.
struct CountedIfDropped<'a>(Option<&'a Counter>);

impl CountedIfDropped<'_> {
    fn disarm(mut self) {
        self.0 = None;
    }
}

impl Drop for CountedIfDropped<'_> {
    fn drop(&mut self) {
        if let Some(cancelled) = self.0 {
            cancelled.inc();
        }
    }
}
