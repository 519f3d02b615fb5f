//! Before a memory snapshot and after a restore: what the process lets go of, and what it renews.
//!
//! Some platforms copy the memory of a warm process and start later ones from the copy (AWS Lambda
//! `SnapStart`, Modal's memory snapshots, checkpoints on gVisor). Boot is then paid once, but three
//! things must not be in the copy: sockets, whose other end is gone; readings of clocks, which
//! stand elsewhere in the copy; and random state, which every copy would share.
//!
//! Each hook is a small object with one subject, and [`HOOKS`] is their order, foundations first.
//! As everywhere where things are built up and torn down, `before_snapshot` runs from the last to
//! the first and `after_restore` from the first to the last:
//!
//! ```text
//! before_snapshot   close the gate, drain, wait for what loads -> close idle connections -> warm up
//!                   -> detach the models -> flush the log
//! after_restore     new zero of the clocks -> models, and their times -> keep connections
//!                   -> note the phase `restored`, open the gate
//! ```
//!
//! The gate is last in and first out: nothing is scored between the two calls. A request that comes
//! meanwhile waits as one during boot does, and is answered if its connection is still there
//! afterwards. A hook that fails before the snapshot undoes those before it, so that the process
//! serves on; one that fails after the restore leaves the gate closed, and may be tried again.
//!
//! Both calls may be repeated: a second one does nothing. The clients' randomness needs no hook
//! because none is kept: see [`crate::edge::request_id`].

use std::io::Write as _;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::time::Instant;

use tokio::sync::oneshot;

use crate::app::App;
use crate::life::quiesce::{HookError, Quiesced};
use crate::models::command::{Command, HookCall, HookStep};
use crate::models::state::Status;
use crate::sync::timeout;

type Step<'a> = Pin<Box<dyn Future<Output = Result<(), HookError>> + Send + 'a>>;

/// One subject of a snapshot. Nothing to do is the default.
trait Hook: Sync {
    fn before_snapshot<'a>(&'a self, _: &'a App) -> Step<'a> {
        Box::pin(std::future::ready(Ok(())))
    }

    /// Takes `before_snapshot` back: there will be no snapshot.
    fn undo(&self, _: &App) {}

    fn after_restore<'a>(&'a self, _: &'a App) -> Step<'a> {
        Box::pin(std::future::ready(Ok(())))
    }
}

/// All hooks, foundations first.
const HOOKS: [&dyn Hook; 6] =
    [&FlushLog, &ResetClocks, &DetachModels, &WarmUpModels, &CloseConnections, &CloseGate];

impl App {
    /// Makes the process ready for a snapshot of its memory, and returns when it is. Requests wait
    /// until [`after_restore`](Self::after_restore). Not to be dropped before it is done.
    pub async fn before_snapshot(&self) -> Result<(), HookError> {
        let _turn = self.hooks.turn.lock().await;
        if self.hooks.quiesced() == Quiesced::Yes {
            return Ok(());
        }
        let begun = Instant::now();
        self.hooks.quiesced.send_replace(Quiesced::Partly);
        for (at, hook) in HOOKS.iter().enumerate().rev() {
            if let Err(error) = hook.before_snapshot(self).await {
                HOOKS.iter().skip(at).for_each(|hook| hook.undo(self));
                self.hooks.quiesced.send_replace(Quiesced::No);
                tracing::error!("not ready for a memory snapshot: {error}");
                return Err(error);
            }
        }
        self.hooks.quiesced.send_replace(Quiesced::Yes);
        tracing::debug!(
            "ready for a memory snapshot in {:.1} ms",
            begun.elapsed().as_secs_f64() * 1e3
        );
        Ok(())
    }

    /// Makes a process that was restored from a snapshot serve, and returns when it does. Does
    /// nothing in one that was not made ready for a snapshot.
    pub async fn after_restore(&self) -> Result<(), HookError> {
        let _turn = self.hooks.turn.lock().await;
        if self.hooks.quiesced() == Quiesced::No {
            return Ok(());
        }
        self.hooks.quiesced.send_replace(Quiesced::Partly);
        for hook in HOOKS {
            if let Err(error) = hook.after_restore(self).await {
                self.hooks.quiesced.send_replace(Quiesced::Yes);
                tracing::error!("not restored from a memory snapshot: {error}");
                return Err(error);
            }
        }
        self.hooks.quiesced.send_replace(Quiesced::No);
        Ok(())
    }

    /// Runs a step on the thread of every loaded model, between two micro-batches.
    async fn on_worker(&self, step: HookStep) -> Result<(), HookError> {
        let stopped = || HookError::NotLoaded("the inference thread stopped".into());
        for model in self.fleet.slots.iter().filter_map(|slot| slot.ready()) {
            let (reply, done) = oneshot::channel();
            let call = Command::Hook(HookCall { step, reply });
            model.queue.send(call).map_err(|_| stopped())?;
            done.await.map_err(|_| stopped())??;
        }
        Ok(())
    }
}

/// Log lines leave the process before its memory is copied, or each copy would write them.
struct FlushLog;

impl Hook for FlushLog {
    fn before_snapshot<'a>(&'a self, _: &'a App) -> Step<'a> {
        // A closed stream has no reader to miss the lines.
        let _ = std::io::stdout().flush().and_then(|()| std::io::stderr().flush());
        Box::pin(std::future::ready(Ok(())))
    }
}

/// Times are counted from the restore on, and told with the first answer.
struct ResetClocks;

impl Hook for ResetClocks {
    fn after_restore<'a>(&'a self, app: &'a App) -> Step<'a> {
        app.phases.restart();
        app.activity.touch();
        app.answered.store(false, Ordering::Relaxed);
        Box::pin(std::future::ready(Ok(())))
    }
}

/// Files and mappings of files, and what the models themselves must renew.
struct DetachModels;

impl Hook for DetachModels {
    fn before_snapshot<'a>(&'a self, app: &'a App) -> Step<'a> {
        Box::pin(app.on_worker(HookStep::BeforeSnapshot))
    }

    fn after_restore<'a>(&'a self, app: &'a App) -> Step<'a> {
        Box::pin(app.on_worker(HookStep::AfterRestore))
    }
}

/// Whatever the first request makes the process allocate, map or start is in the copy.
struct WarmUpModels;

impl Hook for WarmUpModels {
    fn before_snapshot<'a>(&'a self, app: &'a App) -> Step<'a> {
        Box::pin(app.on_worker(HookStep::WarmUp))
    }
}

/// No connection lies idle in the copy; those with a request at hand end with its answer.
struct CloseConnections;

impl Hook for CloseConnections {
    fn before_snapshot<'a>(&'a self, app: &'a App) -> Step<'a> {
        Box::pin(async {
            app.connections.close_idle().await;
            Ok(())
        })
    }

    fn undo(&self, app: &App) {
        app.connections.keep();
    }

    fn after_restore<'a>(&'a self, app: &'a App) -> Step<'a> {
        app.connections.keep();
        Box::pin(std::future::ready(Ok(())))
    }
}

/// No request is at a model.
struct CloseGate;

impl Hook for CloseGate {
    fn before_snapshot<'a>(&'a self, app: &'a App) -> Step<'a> {
        Box::pin(async {
            if *app.draining.borrow() {
                return Err(HookError::ShuttingDown);
            }
            let closed = async {
                // First the gate: no request that comes now begins to load another model.
                app.gate.close().await;
                app.fleet.at_rest().await;
            };
            timeout(app.config.boot_timeout, closed)
                .await
                .map_err(|_| HookError::Late(app.config.boot_timeout))?;
            match app.fleet.default().life.status() {
                Status::Failed(reason) => Err(HookError::NotLoaded(reason.to_string())),
                Status::Unloaded | Status::Loading | Status::Ready(_) => Ok(()),
            }
        })
    }

    fn undo(&self, app: &App) {
        app.gate.open();
    }

    fn after_restore<'a>(&'a self, app: &'a App) -> Step<'a> {
        let took = app.phases.restored();
        app.metrics.restored(took);
        tracing::info!("restored from a memory snapshot in {:.1} ms", took.as_secs_f64() * 1e3);
        app.gate.open();
        Box::pin(std::future::ready(Ok(())))
    }
}
