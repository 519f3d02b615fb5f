//! What every request handler shares.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc, watch};

use crate::backend::Backend;
use crate::boot::Function;
use crate::cache::Cache;
use crate::config::Config;
use crate::connections::Connections;
use crate::error::ApiError;
use crate::gate::Gate;
use crate::hooks::{Hooks, Quiesced};
use crate::idle::Activity;
use crate::info::Info;
use crate::metrics::Metrics;
use crate::phases::PhaseRecorder;
use crate::worker::Work;

/// One running function: its settings, its state of boot, its queue. Made by [`crate::start`].
#[derive(Debug)]
pub struct App {
    pub(crate) function: Function,
    pub(crate) config: Arc<Config>,
    pub(crate) phases: Arc<PhaseRecorder>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) status: watch::Receiver<Status>,
    pub(crate) draining: watch::Sender<bool>,
    pub(crate) queue: mpsc::UnboundedSender<Work>,
    /// One permit for each job that may wait for its turn.
    pub(crate) places: Arc<Semaphore>,
    /// One permit for each request that may wait for the model to load.
    pub(crate) waiting_room: Semaphore,
    /// Whether the times of boot have been told with an answer.
    pub(crate) answered: AtomicBool,
    /// Closed around a memory snapshot.
    pub(crate) gate: Gate,
    pub(crate) connections: Connections,
    pub(crate) hooks: Hooks,
    pub(crate) activity: Activity,
    /// Answers to questions that may come again.
    pub(crate) cache: Option<Cache>,
}

/// How far boot has come.
#[derive(Debug, Clone)]
pub(crate) enum Status {
    Loading,
    Ready(Arc<Model>),
    /// Why, for the log and the operator; clients are not told.
    Failed(Arc<str>),
}

/// The loaded model, as requests see it.
pub(crate) struct Model {
    pub(crate) info: Info,
    /// For what does not need the inference thread.
    pub(crate) backend: Arc<dyn Backend>,
    /// Names it is served under, at least one.
    pub(crate) names: Vec<String>,
    /// Time from exec, or from the last restore of a memory snapshot, until it was ready.
    pub(crate) ready_after: Duration,
    /// Unix time at that moment.
    pub(crate) created: u64,
}

impl fmt::Debug for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Model({})", self.info.name())
    }
}

impl Model {
    /// With `STRICT_MODEL`, refuses a request that names another model.
    pub(crate) fn refuse_others(&self, app: &App, asked: Option<&str>) -> Result<(), ApiError> {
        match asked {
            Some(asked)
                if app.config.strict_model && !self.names.iter().any(|name| name == asked) =>
            {
                Err(ApiError::model_not_found(asked, &self.names))
            }
            _ => Ok(()),
        }
    }

    /// The name to answer with: the one asked for if it is served, else the first.
    pub(crate) fn name_for<'a>(&'a self, asked: Option<&str>) -> &'a str {
        let served = self.names.iter().find(|name| Some(name.as_str()) == asked);
        served.or_else(|| self.names.first()).map_or("", String::as_str)
    }
}

impl App {
    /// Resolves when boot has failed, with the reason.
    pub async fn failed(&self) -> String {
        let mut status = self.status.clone();
        let failed = status.wait_for(|status| matches!(status, Status::Failed(_))).await;
        match failed.as_deref() {
            Ok(Status::Failed(reason)) => reason.to_string(),
            _ => "the inference thread stopped".to_owned(),
        }
    }

    /// Resolves when the model is loaded or boot has failed.
    pub async fn booted(&self) {
        let mut status = self.status.clone();
        let _ = status.wait_for(|status| !matches!(status, Status::Loading)).await;
    }

    /// Tells requests that still wait for the model that the process is going away.
    pub fn drain(&self) {
        self.draining.send_replace(true);
    }

    pub(crate) fn ready_model(&self) -> Option<Arc<Model>> {
        match &*self.status.borrow() {
            Status::Ready(model) => Some(Arc::clone(model)),
            Status::Loading | Status::Failed(_) => None,
        }
    }

    /// The one word for probes: `ok`, `loading`, `failed`, `draining` or `quiesced`.
    pub(crate) fn state_word(&self) -> &'static str {
        if *self.draining.borrow() {
            return "draining";
        }
        match &*self.status.borrow() {
            Status::Loading => "loading",
            Status::Ready(_) if self.hooks.quiesced() != Quiesced::No => "quiesced",
            Status::Ready(_) => "ok",
            Status::Failed(_) => "failed",
        }
    }
}
