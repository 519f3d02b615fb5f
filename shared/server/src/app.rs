//! What every request handler shares.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use tokio::sync::{Semaphore, watch};

use crate::config::Config;
use crate::edge::budget::Budget;
use crate::edge::cache::Cache;
use crate::edge::metrics::Metrics;
use crate::function::Function;
use crate::life::connections::Connections;
use crate::life::idle::Activity;
use crate::life::phases::PhaseRecorder;
use crate::life::quiesce::{Hooks, Quiesced};
use crate::models::admission_gate::AdmissionGate;
use crate::models::fleet::Fleet;
use crate::models::model::Model;
use crate::models::role::Role;
use crate::models::state::Status;
use crate::models::tokenise::Tokenising;

/// One running function: its settings, its state of boot, its models. Made by [`crate::start`].
#[derive(Debug)]
pub struct App {
    pub(crate) function: Function,
    pub(crate) config: Arc<Config>,
    pub(crate) phases: Arc<PhaseRecorder>,
    pub(crate) metrics: Arc<Metrics>,
    /// What it serves, for [`crate::service`], which alone knows what these are.
    pub(crate) services: Box<dyn Any + Send + Sync>,
    pub(crate) fleet: Arc<Fleet>,
    pub(crate) draining: watch::Sender<bool>,
    pub(crate) tokenising: Tokenising,
    /// The bytes that requests and answers may hold.
    pub(crate) budget: Budget,
    /// One permit for each job that may wait for its turn.
    pub(crate) places: Arc<Semaphore>,
    /// One permit for each request that may wait for the model to load.
    pub(crate) waiting_room: Semaphore,
    /// Whether the times of boot have been told with an answer.
    pub(crate) answered: AtomicBool,
    /// The gate in front of the models, closed around a memory snapshot.
    pub(crate) gate: AdmissionGate,
    pub(crate) connections: Connections,
    pub(crate) hooks: Hooks,
    pub(crate) activity: Arc<Activity>,
    /// The answers to questions that may come again, if they are kept.
    pub(crate) cache: Option<Cache>,
}

impl App {
    /// Resolves, with the reason, when there is nothing left to serve: the only model has failed,
    /// or of several the one that is loaded at start.
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

    /// The model of this role that requests mean which name none, if it is loaded.
    pub(crate) fn ready_model_of(&self, role: &Role) -> Option<Arc<Model>> {
        self.fleet.default_of(role)?.ready()
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
