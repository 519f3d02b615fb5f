//! Everything between a socket and a model: configuration, boot, routes, errors, metrics, and the
//! two ways in (plain HTTP and the Lambda runtime API).
//!
//! ```text
//! main ── config ── bind ──┬── accept loop ── router ── validate ── wait until ready ── queue ─┐
//!                          └── model's thread: load the model, then run micro-batches ─────────┘
//! ```
//!
//! A function's `main` is one call of [`run`] with a closure that loads its model. The port is
//! bound before the model is loaded: what arrives meanwhile waits, bounded in number and time.
//!
//! # Memory snapshots
//!
//! A platform may copy the memory of a process that has booted, and start later ones from the copy.
//! [`App::before_snapshot`] makes a process fit to be copied and [`App::after_restore`] makes a
//! copy serve; between the two, requests wait as they do during boot. Afterwards no file, no idle
//! connection, no reading of a clock and no random state of the process is left in its memory:
//!
//! | what | before the snapshot | after the restore |
//! |---|---|---|
//! | requests | boot is waited for, running ones are finished, new ones wait | those that wait go on |
//! | connections (HTTP) | closed with their next answer (`connection: close`), idle ones after 100 ms | kept again |
//! | first touch | one pair is scored | |
//! | weights | [`Pipeline::before_snapshot`]: every byte verified, detached from the file | [`Pipeline::after_restore`] |
//! | times | | counted from the restore: phase `restored`, `first_score`, `uptime_seconds`, `created` |
//! | request ids | | nothing to do: each is fresh from the operating system |
//! | metrics | | `defrost_restores_total`, `defrost_restore_seconds`; counters go on |
//!
//! - **AWS Lambda, `SnapStart`** (container images): nothing to set. The first hook runs at the end
//!   of init, the second before the first event. A failure is reported as one of init or of the
//!   restore, and ends the process.
//! - **Modal, checkpoints of containers**: `SNAPSHOT_HOOKS=true` makes routes of the hooks, `POST
//!   /admin/before_snapshot` (`/admin/quiesce`, `/sleep`) and `POST /admin/after_restore`
//!   (`/wake_up`). They answer `{"state": "quiesced" | "ok", "took_ms": …}` and may be repeated.
//!   `/health` and `/ready` say `quiesced` with 503 in between. With `API_KEYS` they need a key;
//!   without, only requests from loopback to a loopback `Host`, not passed on by a proxy, are
//!   taken. Boot and running requests get `BOOT_TIMEOUT`; a failure before the snapshot is undone.
//!
//! What stays: the listening socket; the connection that calls the route, until it has its answer;
//! connections whose requests wait, or have come only in part; the runtime's timers, which fire
//! early or late when the monotonic clock jumps; hash keys of in-memory maps; and the kernels
//! chosen for the processor of the first boot, so a copy must wake up on one that has its
//! instructions.

mod app;
mod boot_error;
mod config;
mod edge;
mod error;
mod function;
#[cfg(test)]
mod interleavings;
mod life;
mod models;
mod openapi;
mod router;
mod routes;
mod service;
mod services;
mod sync;
mod web;

pub use app::App;
pub use boot_error::BootError;
pub use config::{
    Action, Config, ConfigError, LogFormat, NamedModel, OwnSetting, ReturnData, SETTINGS, Setting,
    SettingsSource, arguments,
};
pub use error::ApiError;
pub use function::Function;
pub use life::boot::{run, run_with_args, run_with_config};
pub use life::clock::Clock;
pub use life::http::serve;
pub use life::lambda::serve as serve_lambda;
pub use life::phases::PhaseRecorder;
pub use life::quiesce::HookError;
pub use life::start::start;
pub use models::info::Info;
pub use models::loaded::Loaded;
pub use models::pipeline::Pipeline;
pub use openapi::{Api, Description, openapi};
pub use router::router;
pub use service::{Offer, Service};
#[cfg(feature = "chat")]
pub use services::chat::CHAT;
#[cfg(feature = "chat")]
pub use services::chat::completer::Completer;
#[cfg(feature = "chat")]
pub use services::chat::load::restore_completer;
pub use services::embed::EMBED;
pub use services::embed::vectorizer::{Vectorizer, restore_embedder};
pub use services::rerank::RERANK;
pub use services::rerank::scorer::{ScoreLists, Scorer, restore_reranker};
