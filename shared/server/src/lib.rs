//! Everything between a socket and a backend: configuration, boot, routes, errors, metrics, and
//! the two ways in (plain HTTP and the Lambda runtime API).
//!
//! ```text
//! main ── config ── bind ──┬── accept loop ── router ── validate ── wait until ready ── queue ─┐
//!                          └── worker thread: load the backend, then score ────────────────────┘
//! ```
//!
//! A function's `main` is one call of [`run`] with a closure that loads its backend. The port is
//! bound before the backend is loaded: what arrives meanwhile waits, bounded in number and time.

mod admission;
mod app;
mod backend;
mod boot;
mod clock;
mod config;
mod connections;
mod error;
mod gate;
mod healthcheck;
mod hooks;
mod http;
mod lambda;
mod logging;
mod metrics;
mod observe;
mod phases;
mod request_id;
mod restore;
mod router;
mod routes;
mod worker;

pub use app::App;
pub use backend::Backend;
pub use boot::{BootError, Function, run, run_with_args};
pub use clock::Clock;
pub use config::{Action, Config, ConfigError, LogFormat, ReturnData, SETTINGS, Setting};
pub use error::ApiError;
pub use hooks::HookError;
pub use http::serve;
pub use lambda::serve as serve_lambda;
pub use phases::PhaseRecorder;
pub use restore::reranker as restore_reranker;
pub use router::router;
pub use worker::start;
