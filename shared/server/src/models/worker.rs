//! The thread that loads a model's backend and then runs it.
//!
//! Running a model is CPU work that fills the machine, so it has a thread of its own beside the runtime's, on which the
//! jobs of all requests take turns (see [`crate::models::batching`]); with several models, micro-batches of their threads do (see
//! [`crate::models::fleet`]). A thread ends when the model is not served any more and nobody holds it. How many wait is bounded by `MAX_QUEUE`; a full queue is an
//! answer (429), never a wait without end. A job whose client has gone is dropped before its next micro-batch: its
//! oneshot channel is closed by then. What a memory snapshot needs done with the backend goes through the same queue: it
//! never meets a micro-batch.

use std::sync::Arc;

use defrost_model::Tokens;
use defrost_tasks::Error;
use tokio::sync::mpsc;

use crate::boot_error::{BootError, chain};
use crate::config::Config;
use crate::edge::metrics::Metrics;
use crate::life::phases::PhaseRecorder;
use crate::models::backend::Backend;
use crate::models::batching::{Batching, Ended, Round};
use crate::models::model::Model;
use crate::models::slot::Slot;
use crate::models::state::Load;
use crate::models::turns::Turns;
use crate::models::work::{Call, Task, Work};
use crate::sync;

/// Makes a backend of the snapshot that the settings name; may record phases of its own.
pub(crate) type Loader =
    dyn Fn(&Config, &PhaseRecorder) -> Result<Box<dyn Backend>, BootError> + Send + Sync;

/// A model's thread, as long as it runs.
pub(crate) struct Worker {
    pub(crate) slot: Arc<Slot>,
    /// Which load of the model it is.
    pub(crate) load: Load,
    pub(crate) phases: Arc<PhaseRecorder>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) turns: Arc<Turns>,
}

impl Worker {
    pub(crate) fn run(self, load: &Loader) {
        let loaded = load(&self.slot.config, &self.phases).and_then(|backend| {
            if !self.slot.config.fast_boot {
                let _turn = self.turns.wait();
                self.warm_up(&*backend, "FAST_BOOT=false")?;
            }
            self.slot.expect_the_same(backend.info().snapshot())?;
            Ok(Arc::from(backend))
        });
        match loaded {
            Ok(backend) => {
                // Bounded by the places, of which each job has one.
                let (queue, jobs) = mpsc::unbounded_channel();
                let weak = queue.downgrade();
                self.announce(&backend, queue);
                self.serve(&backend, jobs, &weak);
            }
            Err(error) => {
                let reason = error.to_string();
                if self.phases.is_on_demand() {
                    tracing::error!(model = %self.slot.config.model, "not loaded: {reason}");
                }
                self.slot.life.fail(self.load, &reason);
            }
        }
    }

    /// Serves until every sender has gone.
    fn serve(
        &self,
        backend: &Arc<dyn Backend>,
        mut jobs: mpsc::UnboundedReceiver<Work>,
        queue: &mpsc::WeakUnboundedSender<Work>,
    ) {
        let Config { max_batch_tokens, max_queue, .. } = *self.slot.config;
        let mut batching = Batching::new(max_batch_tokens, max_queue);
        loop {
            let work = if batching.is_empty() {
                let Some(work) = sync::receive(&mut jobs) else { return };
                Some(work)
            } else {
                jobs.try_recv().ok()
            };
            match work {
                Some(Work::Run(job)) => batching.push(job),
                Some(Work::Broken(error)) => self.slot.life.fail(self.load, &chain(&*error)),
                Some(Work::Call(Call { task, reply })) => {
                    // Nobody listens any more when the snapshot was given up.
                    let _ = reply.send(self.call(backend, queue, task));
                }
                None => {
                    let round = {
                        let _turn = self.turns.wait();
                        batching.round(&**backend)
                    };
                    self.ended(round);
                }
            }
        }
    }

    /// Runs one small request, so that the first client's finds pages mapped, buffers grown and
    /// threads started. A model that cannot do this cannot serve.
    fn warm_up(&self, backend: &dyn Backend, why: &str) -> Result<(), BootError> {
        let run = || -> Result<(), Error> {
            let prepared = backend.prepare(&backend.sample())?;
            let sequences: Vec<&Tokens> = prepared.sequences().iter().collect();
            let answers = backend.run(&sequences, prepared.wanted())?;
            prepared.finish(&answers).map(drop)
        };
        let run = self.phases.time("warmup", run);
        self.metrics.warmed(&self.phases.phases());
        run.map_err(|error| failed(&format!("the warm-up ({why})"), &error))
    }

    fn call(
        &self,
        backend: &Arc<dyn Backend>,
        queue: &mpsc::WeakUnboundedSender<Work>,
        task: Task,
    ) -> Result<(), BootError> {
        match task {
            Task::WarmUp => {
                let _turn = self.turns.wait();
                self.warm_up(&**backend, "before a snapshot")
            }
            Task::BeforeSnapshot => backend
                .before_snapshot()
                .map_err(|error| failed("detaching the model before a snapshot", &error)),
            Task::AfterRestore => {
                backend
                    .after_restore()
                    .map_err(|error| failed("renewing the model after a restore", &error))?;
                if let Some(queue) = queue.upgrade() {
                    let model = self.model(backend, queue);
                    self.slot.life.renew(self.load, Arc::new(model));
                }
                Ok(())
            }
        }
    }

    /// The model as it is at this moment.
    fn model(&self, backend: &Arc<dyn Backend>, queue: mpsc::UnboundedSender<Work>) -> Model {
        let info = backend.info();
        self.slot.learn(info.name(), info.bytes());
        let mut names = self.slot.names().to_vec();
        let is_one_of_several = !self.slot.config.models.is_empty();
        if names.is_empty() || is_one_of_several && !names.iter().any(|name| name == info.name()) {
            names.push(info.name().to_owned());
        }
        let ready_after = self.phases.since_zero();
        let backend = Arc::clone(backend);
        Model { info, backend, queue, names, ready_after, created: self.phases.unix().as_secs() }
    }

    fn announce(&self, backend: &Arc<dyn Backend>, queue: mpsc::UnboundedSender<Work>) {
        let model = Model { ready_after: self.phases.ready(), ..self.model(backend, queue) };
        let Model { info, ready_after, .. } = &model;
        if !self.phases.is_on_demand() {
            self.metrics.ready(*ready_after, &self.phases.phases());
        }
        self.metrics.loaded(info);
        tracing::info!(
            model = %info.name(),
            precision = %info.precision(),
            kernel = info.kernel(),
            threads = info.threads(),
            snapshot = %info.snapshot(),
            "ready {:.1} ms after {} ({})",
            ready_after.as_secs_f64() * 1e3,
            self.phases.origin(),
            self.phases.summary(),
        );
        if let Some(asked) = self.slot.config.max_length
            && asked > info.max_length()
        {
            tracing::warn!(
                "MAX_LENGTH={asked}: the model reads {} tokens at most",
                info.max_length()
            );
        }
        self.slot.life.serves(self.load, Arc::new(model));
    }

    /// Counts what has ended and tells those who wait for it.
    fn ended(&self, Round { ended, cancelled }: Round) {
        self.metrics.cancelled.inc_by(cancelled as u64);
        for Ended { outcome, reply } in ended {
            match &outcome.result {
                Ok(outputs) => {
                    let inference = outcome.times.inference;
                    let model = self.slot.full_name().unwrap_or_default();
                    self.metrics.ran(model, &outcome.times, outputs);
                    if let Some(after) = self.phases.scored(inference) {
                        if !self.phases.is_on_demand() {
                            self.metrics.phase("first_score", inference);
                        }
                        tracing::info!(
                            "first score {:.1} ms after {}, computed in {:.1} ms",
                            after.as_secs_f64() * 1e3,
                            self.phases.origin(),
                            inference.as_secs_f64() * 1e3,
                        );
                    }
                }
                Err(error) if error.is_permanent() => {
                    // Whoever started this process starts another, which may find the bytes.
                    self.slot.life.fail(self.load, &chain(&**error));
                }
                Err(_) => {}
            }
            // Nobody listens any more when the client has gone.
            let _ = reply.send(outcome);
        }
    }
}

fn failed(what: &str, error: &Error) -> BootError {
    BootError::new(format!("{what} failed: {}", chain(error)))
}

/// However the thread ends, nobody is left waiting for it.
impl Drop for Worker {
    fn drop(&mut self) {
        self.slot.life.thread_ended(self.load);
    }
}
