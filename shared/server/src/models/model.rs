//! A model that is loaded.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use crate::config::Config;
use crate::error::ApiError;
use crate::models::command::Command;
use crate::models::info::Info;
use crate::models::loaded::Loaded;
use crate::models::role::Role;

/// The loaded model, as requests see it.
pub(crate) struct Model {
    pub(crate) info: Info,
    /// The model itself, for what does not need its thread.
    pub(crate) loaded: Loaded,
    /// Where its jobs go. As long as a copy of this sender is there, the model's thread is.
    pub(crate) queue: mpsc::UnboundedSender<Command>,
    /// The settings that hold for it.
    pub(crate) config: Arc<Config>,
    /// What it is for.
    pub(crate) role: &'static Role,
    /// Names it is served under, at least one.
    pub(crate) names: Vec<String>,
    /// Time from exec, or from the last restore of a memory snapshot, until it was ready.
    pub(crate) ready_after: Duration,
    /// Unix time at that moment.
    pub(crate) created: u64,
}

impl fmt::Debug for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Model({})", self.info.name)
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
