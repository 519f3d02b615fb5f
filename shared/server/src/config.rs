//! Settings: read once from flags and environment, checked together, printed at start.
//!
//! Flag beats variable beats default; an empty variable is unset, as compose files leave it.
//! Everything is parsed before anything is reported, so one run shows every mistake. The lookup is
//! a closure: tests never touch the process environment.

mod log_level;
mod models;
mod parse;
mod settings;
mod table;

pub(crate) use log_level::filter as log_filter;
pub use parse::{OwnSetting, SettingsSource, arguments};
#[cfg(feature = "chat")]
pub(crate) use settings::ChatSettings;
pub use settings::{Action, Config, ConfigError, LogFormat, NamedModel, ReturnData};
pub(crate) use settings::{EmbedSettings, InvokeMode, KeptAnswers};
pub use table::{SETTINGS, Setting};
