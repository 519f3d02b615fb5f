//! Everything between a socket and a backend: configuration, boot, routes, errors, metrics, and
//! the two ways in (plain HTTP and the Lambda runtime API).
//!
//! ```text
//! main ── config ── bind ──┬── accept loop ── router ── validate ── wait until ready ── queue ─┐
//!                          └── worker thread: load the backend, then run micro-batches ────────┘
//! ```
//!
//! A function's `main` is one call of [`run`] with a closure that loads its backend. The port is
//! bound before the backend is loaded: what arrives meanwhile waits, bounded in number and time.
//!
//! # Memory snapshots
//!
//! A platform may copy the memory of a process that has booted, and start later ones from the copy.
//! [`App::before_snapshot`] makes a process fit to be copied and [`App::after_restore`] makes a copy
//! serve; between the two, requests wait as they do during boot. Afterwards no file, no idle
//! connection, no reading of a clock and no random state of the process is left in its memory:
//!
//! | what | before the snapshot | after the restore |
//! |---|---|---|
//! | requests | boot is waited for, running ones are finished, new ones wait | those that wait go on |
//! | connections (HTTP) | closed with their next answer (`connection: close`), idle ones after 100 ms | kept again |
//! | first touch | one pair is scored | |
//! | weights | [`Backend::before_snapshot`]: every byte verified, detached from the file | [`Backend::after_restore`] |
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
//!   without, only requests from loopback to a loopback `Host`, not passed on by a proxy, are taken.
//!   Boot and running requests get `BOOT_TIMEOUT`; a failure before the snapshot is undone.
//!
//! What stays: the listening socket; the connection that calls the route, until it has its answer;
//! connections whose requests wait, or have come only in part; the runtime's timers, which fire
//! early or late when the monotonic clock jumps; hash keys of in-memory maps; and the kernels chosen
//! for the processor of the first boot, so a copy must wake up on one that has its instructions.

mod admission;
mod app;
mod backend;
mod batching;
mod boot;
mod boot_error;
mod budget;
mod cache;
mod clock;
mod config;
mod connections;
mod cost;
mod deadline;
mod error;
mod files;
mod fleet;
mod function;
mod gate;
mod healthcheck;
mod hooks;
mod http;
mod idle;
mod info;
#[cfg(test)]
mod interleavings;
mod lambda;
mod life;
mod logging;
mod memory;
mod metrics;
mod model;
mod observe;
mod openapi;
mod pace;
mod paths;
mod phases;
mod quiesce;
mod request_id;
mod restore;
mod router;
mod routes;
mod slot;
mod start;
mod sync;
mod tokenise;
mod turns;
mod web;
mod work;
mod worker;

pub use app::App;
pub use backend::{Backend, Inputs, Outputs};
pub use boot::{run, run_with_args};
pub use boot_error::BootError;
pub use clock::Clock;
pub use config::{
    Action, Config, ConfigError, LogFormat, NamedModel, ReturnData, SETTINGS, Setting,
};
pub use error::ApiError;
pub use function::{Function, Role};
pub use http::serve;
pub use info::Info;
pub use lambda::serve as serve_lambda;
pub use openapi::{Api, Description, openapi};
pub use phases::PhaseRecorder;
pub use quiesce::HookError;
pub use restore::{embedder as restore_embedder, reranker as restore_reranker};
pub use router::router;
pub use start::start;
