//! Log lines on stderr.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

use crate::config::{Config, LogFormat};

/// Reads a level or a tracing filter.
pub(crate) fn filter(level: &str) -> Result<EnvFilter, String> {
    EnvFilter::try_new(level.to_ascii_lowercase()).map_err(|_| {
        format!("expected error, warn, info, debug, trace or a tracing filter, found {level:?}")
    })
}

/// Starts logging; later calls in one process change nothing.
pub(crate) fn start(config: &Config) {
    let Ok(filter) = filter(&config.log_level) else {
        return;
    };
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    let started = match config.log_format {
        LogFormat::Text => builder.with_target(false).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    drop(started);
}
