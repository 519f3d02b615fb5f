//! The thread that loads the backend and then scores, one job after another.
//!
//! Scoring is CPU work that fills the machine, so it has a thread of its own beside the runtime's
//! and jobs queue for it: two at once would only slow each other down. The queue is bounded by
//! `MAX_QUEUE`; a full one is an answer (429), never a wait without end. A job whose client has
//! gone is dropped when its turn comes, and one that is running is asked to stop between
//! micro-batches, because its oneshot channel is closed by then. What a memory snapshot needs done
//! with the backend goes through the same queue: it never meets a score.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use defrost_inference::{Error, Score, ScoreRequest};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};

use crate::app::{App, Model, Status};
use crate::backend::Backend;
use crate::boot::{BootError, Function};
use crate::config::Config;
use crate::connections::Connections;
use crate::error::chain;
use crate::gate::Gate;
use crate::hooks::Hooks;
use crate::metrics::Metrics;
use crate::phases::PhaseRecorder;

/// One request's texts on their way to the backend.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) requests: Arc<Vec<ScoreRequest>>,
    pub(crate) reply: oneshot::Sender<Outcome>,
    pub(crate) queued: Instant,
}

/// What the inference thread is asked to do, one after the other.
#[derive(Debug)]
pub(crate) enum Work {
    Score(Job),
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

/// What came of a job, and how long it took.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) result: Result<Vec<Vec<Score>>, Error>,
    pub(crate) queue: Duration,
    pub(crate) inference: Duration,
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
    let (queue, jobs) = mpsc::channel(config.max_queue);
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
        waiting_room: Semaphore::new(config.max_queue),
        answered: AtomicBool::new(false),
        gate: Gate::default(),
        connections: Connections::default(),
        hooks: Hooks::default(),
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
    fn run<L>(self, load: L, mut jobs: mpsc::Receiver<Work>)
    where
        L: FnOnce(&Config, &PhaseRecorder) -> Result<Box<dyn Backend>, BootError>,
    {
        match load(&self.config, &self.phases) {
            Ok(backend) => {
                if !self.config.fast_boot
                    && let Err(error) = self.warm_up(&*backend, "FAST_BOOT=false")
                {
                    self.status.send_replace(Status::Failed(error.to_string().into()));
                    return;
                }
                self.announce(&*backend);
                while let Some(work) = jobs.blocking_recv() {
                    match work {
                        Work::Score(job) => self.score(&*backend, job),
                        Work::Call(Call { task, reply }) => {
                            // Nobody listens any more when the snapshot was given up.
                            let _ = reply.send(self.call(&*backend, task));
                        }
                    }
                }
            }
            Err(error) => {
                self.status.send_replace(Status::Failed(error.to_string().into()));
            }
        }
    }

    /// Scores one small request, so that the first client's finds pages mapped, buffers grown and
    /// threads started. A model that cannot do this cannot serve.
    fn warm_up(&self, backend: &dyn Backend, why: &str) -> Result<(), BootError> {
        let request = ScoreRequest {
            query: "which document is warm".into(),
            documents: vec!["a document to warm up with".into()],
            ..ScoreRequest::default()
        };
        let scored = self.phases.time("warmup", || backend.score(&[request], &|| false));
        self.metrics.warmed(&self.phases.phases());
        scored.map(drop).map_err(|error| failed(&format!("the warm-up ({why})"), &error))
    }

    fn call(&self, backend: &dyn Backend, task: Task) -> Result<(), BootError> {
        match task {
            Task::WarmUp => self.warm_up(backend, "before a snapshot"),
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
    fn model(&self, backend: &dyn Backend) -> Model {
        let info = backend.info().clone();
        let names = match self.config.served_model_name.as_slice() {
            [] => vec![info.name.clone()],
            names => names.to_vec(),
        };
        let ready_after = self.phases.since_zero();
        Model { info, names, ready_after, created: self.phases.unix().as_secs() }
    }

    fn announce(&self, backend: &dyn Backend) {
        let model = self.model(backend);
        let Model { info, ready_after, .. } = &model;
        self.metrics.ready(info, *ready_after, &self.phases.phases());
        tracing::info!(
            model = %info.name,
            precision = %info.precision,
            kernel = info.kernel,
            threads = info.threads,
            snapshot = %info.snapshot,
            "ready {:.1} ms after exec ({})",
            ready_after.as_secs_f64() * 1e3,
            self.phases.summary(),
        );
        self.status.send_replace(Status::Ready(Arc::new(model)));
    }

    fn score(&self, backend: &dyn Backend, job: Job) {
        if job.reply.is_closed() {
            self.metrics.cancelled.inc();
            return;
        }
        let begun = Instant::now();
        let queue = begun - job.queued;
        let result = backend.score(&job.requests, &|| job.reply.is_closed());
        let inference = begun.elapsed();
        match &result {
            Ok(scores) => {
                self.metrics.scored(queue, inference, scores);
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
            Err(Error::Cancelled) => {
                self.metrics.cancelled.inc();
            }
            Err(error) if error.is_permanent() => {
                // Whoever started this process starts another, which may find the bytes.
                self.status.send_replace(Status::Failed(chain(error).into()));
            }
            Err(_) => {}
        }
        // Nobody listens any more when the client has gone.
        let _ = job.reply.send(Outcome { result, queue, inference });
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
