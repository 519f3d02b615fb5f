//! What every request handler shares.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc, watch};

use crate::backend::Backend;
use crate::boot::Function;
use crate::budget::Budget;
use crate::cache::Cache;
use crate::config::Config;
use crate::connections::Connections;
use crate::error::ApiError;
use crate::fleet::{Fleet, Status};
use crate::gate::Gate;
use crate::hooks::{Hooks, Quiesced};
use crate::idle::Activity;
use crate::info::Info;
use crate::metrics::Metrics;
use crate::phases::PhaseRecorder;
use crate::tokenise::Tokenising;
use crate::worker::Work;

/// One running function: its settings, its state of boot, its models. Made by [`crate::start`].
#[derive(Debug)]
pub struct App {
    pub(crate) function: Function,
    pub(crate) config: Arc<Config>,
    pub(crate) phases: Arc<PhaseRecorder>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) fleet: Arc<Fleet>,
    pub(crate) draining: watch::Sender<bool>,
    pub(crate) tokenising: Tokenising,
    /// Bytes that requests and answers may hold.
    pub(crate) budget: Budget,
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

/// The loaded model, as requests see it.
pub(crate) struct Model {
    pub(crate) info: Info,
    /// For what does not need the inference thread.
    pub(crate) backend: Arc<dyn Backend>,
    /// Where its jobs go. While one of these is there, its thread is.
    pub(crate) queue: mpsc::UnboundedSender<Work>,
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
    /// Refuses a request that names another model.
    pub(crate) fn refuse_others(&self, asked: Option<&str>) -> Result<(), ApiError> {
        match asked {
            Some(asked) if !self.names.iter().any(|name| name == asked) => {
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
    /// Resolves, with the reason, when there is nothing left to serve: the only model has failed, or of several the
    /// one that is loaded at start.
    pub async fn failed(&self) -> String {
        let default = self.fleet.default();
        if self.fleet.has_several() {
            default.life.settled().await;
            if self.config.lazy_load || default.was_loaded() {
                return std::future::pending().await;
            }
        }
        default.life.failed().await.to_string()
    }

    /// Resolves when the model that is loaded at start is there, or has failed.
    pub async fn booted(&self) {
        self.fleet.default().life.settled().await;
    }

    /// Tells requests that still wait for the model that the process is going away.
    pub fn drain(&self) {
        self.draining.send_replace(true);
    }

    /// The default model, if it is loaded.
    pub(crate) fn ready_model(&self) -> Option<Arc<Model>> {
        self.fleet.default().ready()
    }

    /// The one word for probes: `ok`, `loading`, `failed`, `draining` or `quiesced`.
    pub(crate) fn state_word(&self) -> &'static str {
        if *self.draining.borrow() {
            return "draining";
        }
        // Of several, all may be gone and come again: the process serves.
        let default = self.fleet.default();
        let comes_again =
            self.fleet.has_several() && (self.config.lazy_load || default.was_loaded());
        match default.life.status() {
            Status::Loading if !comes_again && !self.config.lazy_load => "loading",
            Status::Failed(_) if !comes_again => "failed",
            _ if self.hooks.quiesced() != Quiesced::No => "quiesced",
            _ => "ok",
        }
    }
}
