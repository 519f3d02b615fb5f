//! The thread that loads a model and then runs it.
//!
//! Running a model is CPU work that fills the machine, so it has a thread of its own beside the
//! runtime's, on which the jobs of all requests take turns (see [`crate::models::turns`]); with several
//! models, rounds of their threads do (see [`crate::models::fleet`]). A thread ends
//! when the model is not served any more and no request holds it. How many requests wait is bounded
//! by `MAX_QUEUE`; a full queue is an answer (429), never a wait without end. A job whose request
//! has been given up is dropped before its next micro-batch: its events are closed by then (see
//! [`crate::models::events`]). What a memory snapshot needs done with the model goes through the
//! same queue: it never meets a micro-batch.

use std::sync::Arc;
use std::time::Duration;

use defrost_tasks::Error;
use tokio::sync::mpsc;

use crate::boot_error::{BootError, chain};
use crate::config::Config;
use crate::edge::metrics::Metrics;
use crate::life::phases::PhaseRecorder;
use crate::models::command::{Command, HookCall, HookStep};
use crate::models::events::End;
use crate::models::fair_lock::FairLock;
use crate::models::loaded::Loaded;
use crate::models::model::Model;
use crate::models::pipeline::Pipeline;
use crate::models::slot::Slot;
use crate::models::state::Load;
use crate::models::turns::{Ended, Round};
use crate::sync;

/// Loads the snapshot that the settings name; may record phases of its own.
pub(crate) type Loader = dyn Fn(&Config, &PhaseRecorder) -> Result<Loaded, BootError> + Send + Sync;

/// A model's thread, as long as it runs.
pub(crate) struct Worker {
    pub(crate) slot: Arc<Slot>,
    /// Which load of the model it is.
    pub(crate) load: Load,
    pub(crate) phases: Arc<PhaseRecorder>,
    pub(crate) metrics: Arc<Metrics>,
    /// Held while a micro-batch runs, by the threads of all models.
    pub(crate) machine: Arc<FairLock>,
}

impl Worker {
    pub(crate) fn run(self, load: &Loader) {
        let loaded = load(&self.slot.config, &self.phases).and_then(|loaded| {
            if !self.slot.config.fast_boot {
                let _machine = self.machine.lock();
                self.warm_up(&*loaded.pipeline, "FAST_BOOT=false")?;
            }
            self.slot.expect_the_same(&loaded.pipeline.info().snapshot)?;
            Ok(loaded)
        });
        match loaded {
            Ok(loaded) => {
                // Bounded by the places, of which each job has one.
                let (queue, commands) = mpsc::unbounded_channel();
                let weak = queue.downgrade();
                self.announce(&loaded, queue);
                self.serve(&loaded, commands, &weak);
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
        loaded: &Loaded,
        mut commands: mpsc::UnboundedReceiver<Command>,
        queue: &mpsc::WeakUnboundedSender<Command>,
    ) {
        let mut turns = loaded.turns(&self.slot.config);
        loop {
            let command = if turns.is_empty() {
                let Some(command) = sync::receive(&mut commands) else { return };
                Some(command)
            } else {
                commands.try_recv().ok()
            };
            match command {
                Some(Command::Run(queued)) => turns.push(queued),
                Some(Command::Break(error)) => self.slot.life.fail(self.load, &chain(&*error)),
                Some(Command::Hook(HookCall { step, reply })) => {
                    // The snapshot may have been given up meanwhile.
                    let _ = reply.send(self.hook(loaded, queue, step));
                }
                None => {
                    let round = {
                        let _machine = self.machine.lock();
                        turns.round()
                    };
                    self.ended(loaded, round);
                }
            }
        }
    }

    /// Runs one small request before the first client's. A model that cannot do this cannot serve.
    fn warm_up(&self, pipeline: &dyn Pipeline, why: &str) -> Result<(), BootError> {
        let run = self.phases.time("warmup", || pipeline.warm_up());
        self.metrics.warmed(&self.phases.phases());
        run.map_err(|error| failed(&format!("the warm-up ({why})"), &error))
    }

    fn hook(
        &self,
        loaded: &Loaded,
        queue: &mpsc::WeakUnboundedSender<Command>,
        step: HookStep,
    ) -> Result<(), BootError> {
        let pipeline = &*loaded.pipeline;
        match step {
            HookStep::WarmUp => {
                let _machine = self.machine.lock();
                self.warm_up(pipeline, "before a snapshot")
            }
            HookStep::BeforeSnapshot => pipeline
                .before_snapshot()
                .map_err(|error| failed("detaching the model before a snapshot", &error)),
            HookStep::AfterRestore => {
                pipeline
                    .after_restore()
                    .map_err(|error| failed("renewing the model after a restore", &error))?;
                if let Some(queue) = queue.upgrade() {
                    let model = self.model(loaded, queue);
                    self.slot.life.renew(self.load, Arc::new(model));
                }
                Ok(())
            }
        }
    }

    /// The model as it is at this moment.
    fn model(&self, loaded: &Loaded, queue: mpsc::UnboundedSender<Command>) -> Model {
        let info = loaded.pipeline.info();
        self.slot.learn(&info.name, info.bytes.saturating_add(info.room_bytes));
        let mut names = self.slot.names().to_vec();
        let is_one_of_several = !self.slot.config.models.is_empty();
        if names.is_empty() || is_one_of_several && !names.contains(&info.name) {
            names.push(info.name.clone());
        }
        let ready_after = self.phases.since_zero();
        let loaded = loaded.clone();
        Model {
            info,
            loaded,
            queue,
            config: Arc::clone(&self.slot.config),
            role: self.slot.role,
            names,
            ready_after,
            created: self.phases.unix().as_secs(),
        }
    }

    fn announce(&self, loaded: &Loaded, queue: mpsc::UnboundedSender<Command>) {
        let model = Model { ready_after: self.phases.ready(), ..self.model(loaded, queue) };
        let Model { info, ready_after, .. } = &model;
        self.note_beside(loaded);
        if !self.phases.is_on_demand() {
            let beside = self.phases.names_beside();
            self.metrics.ready(*ready_after, &self.phases.phases(), &beside);
        }
        self.metrics.loaded(info);
        tracing::info!(
            model = %info.name,
            precision = %info.precision,
            kernel = info.kernel,
            threads = info.threads,
            snapshot = %info.snapshot,
            "ready {:.1} ms after {} ({})",
            ready_after.as_secs_f64() * 1e3,
            self.phases.origin(),
            self.phases.summary(),
        );
        if let Some(asked) = self.slot.config.max_length
            && asked > info.max_length
        {
            tracing::warn!(
                "MAX_LENGTH={asked}: the model reads {} tokens at most",
                info.max_length
            );
        }
        self.slot.life.serves(self.load, Arc::new(model));
    }

    /// Notes what loading was made of and is over by now.
    fn note_beside(&self, loaded: &Loaded) {
        for (phase, took) in loaded.pipeline.phases() {
            self.phases.beside(phase, took);
            if !self.phases.is_on_demand() {
                self.metrics.phase(phase, took);
            }
        }
    }

    /// Counts what has ended and sends the last events.
    fn ended(&self, loaded: &Loaded, Round { ended, cancelled, load }: Round) {
        self.metrics.cancelled.inc_by(cancelled as u64);
        if let Some(load) = load {
            self.metrics.load(self.slot.full_name().unwrap_or_default(), &load);
        }
        for Ended { job, end } in ended {
            let End { result, times } = &end;
            match result {
                Ok(()) => {
                    let inference = times.inference;
                    let model = self.slot.full_name().unwrap_or_default();
                    self.metrics.ran(model, times, job.usage());
                    if let Some(after) = self.phases.scored(inference) {
                        self.note_beside(loaded);
                        if !self.phases.is_on_demand() {
                            self.metrics.phase("first_score", inference);
                        }
                        let made = job.usage().completions;
                        // A completion's first token is what its client sees first.
                        let (what, later) =
                            made.map_or(("score", Duration::ZERO), |made| ("token", made.decoding));
                        tracing::info!(
                            "first {what} {:.1} ms after {}, computed in {:.1} ms",
                            after.saturating_sub(later).as_secs_f64() * 1e3,
                            self.phases.origin(),
                            inference.saturating_sub(later).as_secs_f64() * 1e3,
                        );
                    }
                }
                Err(error) if error.is_permanent() => {
                    // The platform starts another process, which may find the bytes.
                    self.slot.life.fail(self.load, &chain(&**error));
                }
                Err(_) => {}
            }
            job.end(end);
        }
    }
}

fn failed(what: &str, error: &Error) -> BootError {
    BootError::new(format!("{what} failed: {}", chain(error)))
}

/// However the thread ends, no request is left waiting for it.
impl Drop for Worker {
    fn drop(&mut self) {
        self.slot.life.thread_ended(self.load);
    }
}
