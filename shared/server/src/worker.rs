//! The thread that loads the backend and then runs it.
//!
//! Running a model is CPU work that fills the machine, so it has a thread of its own beside the runtime's, on which the
//! jobs of all requests take turns (see [`crate::batching`]). How many wait is bounded by `MAX_QUEUE`; a full queue is an
//! answer (429), never a wait without end. A job whose client has gone is dropped before its next micro-batch: its
//! oneshot channel is closed by then. What a memory snapshot needs done with the backend goes through the same queue: it
//! never meets a micro-batch.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use defrost_inference::{Error, Tokens};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};

use crate::app::{App, Model, Status};
use crate::backend::Backend;
use crate::batching::{Batching, Ended, Job, Round};
use crate::boot::{BootError, Function};
use crate::cache::Cache;
use crate::config::Config;
use crate::connections::Connections;
use crate::error::chain;
use crate::gate::Gate;
use crate::hooks::Hooks;
use crate::idle::Activity;
use crate::metrics::Metrics;
use crate::phases::PhaseRecorder;

/// What the inference thread is asked to do.
#[derive(Debug)]
pub(crate) enum Work {
    Run(Job),
    Call(Call),
}

/// A part of a snapshot or a restore that only the thread with the backend can do.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) task: Task,
    pub(crate) reply: oneshot::Sender<Result<(), BootError>>,
}

/// See [`crate::hooks`].
#[derive(Debug, Clone, Copy)]
pub(crate) enum Task {
    WarmUp,
    BeforeSnapshot,
    AfterRestore,
}

/// Starts loading the backend on a thread of its own and returns at once; requests may come in.
/// `load` may record phases of its own.
pub fn start<L>(
    function: Function,
    config: Config,
    phases: Arc<PhaseRecorder>,
    load: L,
) -> std::io::Result<Arc<App>>
where
    L: FnOnce(&Config, &PhaseRecorder) -> Result<Box<dyn Backend>, BootError> + Send + 'static,
{
    // Bounded by the places, of which each job has one.
    let (queue, jobs) = mpsc::unbounded_channel();
    let (status_sender, status) = watch::channel(Status::Loading);
    let config = Arc::new(config);
    let metrics = Arc::new(Metrics::new(&function));
    let worker = Worker {
        config: Arc::clone(&config),
        phases: Arc::clone(&phases),
        metrics: Arc::clone(&metrics),
        status: status_sender,
    };
    std::thread::Builder::new().name("inference".into()).spawn(move || worker.run(load, jobs))?;
    Ok(Arc::new(App {
        function,
        phases,
        metrics,
        status,
        draining: watch::Sender::new(false),
        queue,
        places: Arc::new(Semaphore::new(config.max_queue)),
        waiting_room: Semaphore::new(config.max_queue),
        answered: AtomicBool::new(false),
        gate: Gate::default(),
        connections: Connections::default(),
        hooks: Hooks::default(),
        activity: Activity::default(),
        cache: Cache::of(&function, &config),
        config,
    }))
}

struct Worker {
    config: Arc<Config>,
    phases: Arc<PhaseRecorder>,
    metrics: Arc<Metrics>,
    status: watch::Sender<Status>,
}

impl Worker {
    fn run<L>(self, load: L, jobs: mpsc::UnboundedReceiver<Work>)
    where
        L: FnOnce(&Config, &PhaseRecorder) -> Result<Box<dyn Backend>, BootError>,
    {
        match load(&self.config, &self.phases) {
            Ok(backend) => {
                let backend: Arc<dyn Backend> = Arc::from(backend);
                if !self.config.fast_boot
                    && let Err(error) = self.warm_up(&*backend, "FAST_BOOT=false")
                {
                    self.status.send_replace(Status::Failed(error.to_string().into()));
                    return;
                }
                self.announce(&backend);
                self.serve(&backend, jobs);
            }
            Err(error) => {
                self.status.send_replace(Status::Failed(error.to_string().into()));
            }
        }
    }

    /// Serves until every sender has gone.
    fn serve(&self, backend: &Arc<dyn Backend>, mut jobs: mpsc::UnboundedReceiver<Work>) {
        let Config { max_batch_tokens, max_queue, .. } = *self.config;
        let mut batching = Batching::new(max_batch_tokens, max_queue);
        loop {
            let work = if batching.is_empty() {
                let Some(work) = jobs.blocking_recv() else { return };
                Some(work)
            } else {
                jobs.try_recv().ok()
            };
            match work {
                Some(Work::Run(job)) => batching.push(job),
                Some(Work::Call(Call { task, reply })) => {
                    // Nobody listens any more when the snapshot was given up.
                    let _ = reply.send(self.call(backend, task));
                }
                None => self.ended(batching.round(&**backend)),
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

    fn call(&self, backend: &Arc<dyn Backend>, task: Task) -> Result<(), BootError> {
        match task {
            Task::WarmUp => self.warm_up(&**backend, "before a snapshot"),
            Task::BeforeSnapshot => backend
                .before_snapshot()
                .map_err(|error| failed("detaching the model before a snapshot", &error)),
            Task::AfterRestore => {
                backend
                    .after_restore()
                    .map_err(|error| failed("renewing the model after a restore", &error))?;
                self.status.send_replace(Status::Ready(Arc::new(self.model(backend))));
                Ok(())
            }
        }
    }

    /// The model as it is at this moment.
    fn model(&self, backend: &Arc<dyn Backend>) -> Model {
        let info = backend.info();
        let names = match self.config.served_model_name.as_slice() {
            [] => vec![info.name().to_owned()],
            names => names.to_vec(),
        };
        let ready_after = self.phases.since_zero();
        let backend = Arc::clone(backend);
        Model { info, backend, names, ready_after, created: self.phases.unix().as_secs() }
    }

    fn announce(&self, backend: &Arc<dyn Backend>) {
        let model = self.model(backend);
        let Model { info, ready_after, .. } = &model;
        self.metrics.ready(info, *ready_after, &self.phases.phases());
        tracing::info!(
            model = %info.name(),
            precision = %info.precision(),
            kernel = info.kernel(),
            threads = info.threads(),
            snapshot = %info.snapshot(),
            "ready {:.1} ms after exec ({})",
            ready_after.as_secs_f64() * 1e3,
            self.phases.summary(),
        );
        self.status.send_replace(Status::Ready(Arc::new(model)));
    }

    /// Counts what has ended and tells those who wait for it.
    fn ended(&self, Round { ended, cancelled }: Round) {
        self.metrics.cancelled.inc_by(cancelled as u64);
        for Ended { outcome, reply } in ended {
            match &outcome.result {
                Ok(outputs) => {
                    let inference = outcome.times.inference;
                    self.metrics.ran(&outcome.times, outputs);
                    if let Some(after) = self.phases.scored(inference) {
                        self.metrics.phase("first_score", inference);
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
                    self.status.send_replace(Status::Failed(chain(&**error).into()));
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
        self.status.send_if_modified(|status| {
            let running = !matches!(status, Status::Failed(_));
            if running {
                *status = Status::Failed("the inference thread stopped".into());
            }
            running
        });
    }
}
