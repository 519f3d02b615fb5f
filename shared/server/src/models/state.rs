//! Whether a model is there: one state, changed in one step at a time.
//!
//! ```text
//!              begin                  ready
//!   unloaded ────────> loading #n ───────────> ready #n ──┐
//!      ^                  │ fail                  │ fail  │ let go
//!      │                  v                       v       │
//!      │               failed <───────────────────┘       │
//!      │                  │ begin: loading #n+1           │
//!      └──────────────────────────────────────────────────┘
//! ```
//!
//! Requests begin loads and let go of models, each model's own thread says how its load went and
//! when it ends, and neither waits for the other to have looked. So every load has a number, and
//! what a thread says counts only while its load is the last one: a thread that ends late, or whose
//! model was let go of, changes nothing that has begun since. A task that waits for a load waits
//! for its number, and is told also when a later one has begun meanwhile.
//!
//! The thread of a model that was let go of runs on until its last request is answered, beside the
//! state of the next load; it is in the same place, so that no step sees the one without the other.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::models::model::Model;
use crate::sync;

/// How far a model has come.
#[derive(Debug, Clone)]
pub(crate) enum Status {
    /// Not loaded, until a request asks for it.
    Unloaded,
    Loading,
    Ready(Arc<Model>),
    /// The reason is for the log and the operator; clients are not told.
    Failed(Arc<str>),
}

/// One of the times that a model was loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Load(u64);

/// See the module page.
#[derive(Debug)]
pub(crate) struct Life(watch::Sender<State>);

#[derive(Debug)]
struct State {
    status: Status,
    /// The last load that has begun.
    load: Load,
    /// The load whose thread is there.
    thread: Option<Load>,
    /// How many loads failed since the last good one.
    failures: u32,
    /// When a request first saw that the last of them failed.
    failed_at: Option<sync::Instant>,
}

/// The rest of a model that failed twice, and of one that has failed many times, doubled from the
/// one to the other. Once may be an accident, so the next request tries again at once. A model that
/// can never be loaded would else throw a good one out of memory, and read its snapshot, at every
/// request for it.
const FIRST_REST: Duration = Duration::from_secs(1);
const LONGEST_REST: Duration = Duration::from_mins(1);

/// How long a model rests that could not be loaded so many times in a row.
fn rest(failures: u32) -> Duration {
    match failures.checked_sub(2) {
        None => Duration::ZERO,
        Some(doubled) => FIRST_REST.saturating_mul(1 << doubled.min(16)).min(LONGEST_REST),
    }
}

impl Default for Life {
    fn default() -> Self {
        Self(watch::Sender::new(State {
            status: Status::Unloaded,
            load: Load(0),
            thread: None,
            failures: 0,
            failed_at: None,
        }))
    }
}

impl Life {
    /// What it is at this moment.
    pub(crate) fn status(&self) -> Status {
        self.0.borrow().status.clone()
    }

    pub(crate) fn is_loading(&self) -> bool {
        matches!(self.0.borrow().status, Status::Loading)
    }

    pub(crate) fn ready(&self) -> Option<Arc<Model>> {
        match &self.0.borrow().status {
            Status::Ready(model) => Some(Arc::clone(model)),
            Status::Unloaded | Status::Loading | Status::Failed(_) => None,
        }
    }

    /// Whether it takes memory: its thread is there, whatever has become of its load.
    pub(crate) fn has_thread(&self) -> bool {
        self.0.borrow().thread.is_some()
    }

    /// How long it is not tried again, because it could not be loaded several times in a row.
    pub(crate) fn rests(&self) -> Option<Duration> {
        let mut left = None;
        self.0.send_if_modified(|state| {
            left = state.rests();
            false
        });
        left
    }

    /// Begins a load of a model that is not there. One that has failed is tried `again`, unless it
    /// rests, or stays as it is.
    pub(crate) fn begin(&self, again: bool) -> Option<Load> {
        let mut begun = None;
        self.change(|state| {
            let begins = match state.status {
                Status::Unloaded => true,
                Status::Failed(_) => again && state.rests().is_none(),
                Status::Loading | Status::Ready(_) => false,
            };
            if begins {
                state.load = Load(state.load.0 + 1);
                state.status = Status::Loading;
                begun = Some(state.load);
            }
            begins
        });
        begun
    }

    /// Its thread starts; the one before has ended.
    pub(crate) fn thread_starts(&self, load: Load) {
        self.change(|state| {
            debug_assert_eq!(state.thread, None, "two threads of one model");
            state.thread = Some(load);
            true
        });
    }

    /// Its thread serves. Drops the model if this load is not the last one any more.
    pub(crate) fn serves(&self, load: Load, model: Arc<Model>) {
        self.change(|state| {
            let heard = state.load == load && matches!(state.status, Status::Loading);
            if heard {
                state.status = Status::Ready(model);
                state.failures = 0;
            }
            heard
        });
    }

    /// Puts the model as it is after a memory snapshot in the place of what it was.
    pub(crate) fn renew(&self, load: Load, model: Arc<Model>) {
        self.change(|state| {
            let heard = state.load == load && matches!(state.status, Status::Ready(_));
            if heard {
                state.status = Status::Ready(model);
            }
            heard
        });
    }

    /// It cannot be loaded, or not be used any more.
    pub(crate) fn fail(&self, load: Load, reason: &str) {
        self.change(|state| state.fail(load, reason));
    }

    /// Its thread has ended, in whatever way.
    pub(crate) fn thread_ended(&self, load: Load) {
        self.change(|state| {
            state.thread = None;
            state.fail(load, "the inference thread stopped");
            true
        });
    }

    /// Takes it out of service; its thread ends when its last request is answered.
    pub(crate) fn let_go(&self) -> Option<Arc<Model>> {
        let mut model = None;
        self.change(|state| {
            if let Status::Ready(served) = &state.status {
                model = Some(Arc::clone(served));
                state.status = Status::Unloaded;
            }
            model.is_some()
        });
        model
    }

    /// Resolves when it is not loading.
    pub(crate) async fn settled(&self) {
        self.until(|state| !matches!(state.status, Status::Loading)).await;
    }

    /// Resolves when this load has come to an end, good or bad.
    pub(crate) async fn ended(&self, load: Load) {
        let over = |state: &State| state.load != load || !matches!(state.status, Status::Loading);
        self.until(over).await;
    }

    /// Resolves when no thread of it is there.
    pub(crate) async fn gone(&self) {
        self.until(|state| state.thread.is_none()).await;
    }

    /// Resolves when it can be let go of, or needs not be: what its thread was about to do is done.
    /// A load that has begun without a thread yet is not waited for; it may itself wait for the
    /// task that asks.
    pub(crate) async fn movable(&self) {
        let movable =
            |state: &State| state.thread.is_none() || matches!(state.status, Status::Ready(_));
        self.until(movable).await;
    }

    /// Resolves, with the reason, when it has failed.
    pub(crate) async fn failed(&self) -> Arc<str> {
        let mut states = self.0.subscribe();
        let failed = states.wait_for(|state| matches!(state.status, Status::Failed(_))).await;
        match failed.as_deref() {
            Ok(State { status: Status::Failed(reason), .. }) => Arc::clone(reason),
            _ => "the inference thread stopped".into(),
        }
    }

    /// One step: `change` says whether there was one.
    fn change(&self, change: impl FnOnce(&mut State) -> bool) {
        sync::step();
        self.0.send_if_modified(change);
        sync::step();
    }

    async fn until(&self, holds: impl FnMut(&State) -> bool) {
        // The sender is ours: the channel is open.
        let _ = self.0.subscribe().wait_for(holds).await;
    }
}

impl State {
    fn fail(&mut self, load: Load, reason: &str) -> bool {
        let heard = self.load == load && matches!(self.status, Status::Loading | Status::Ready(_));
        if heard {
            // One that was ready and broke is tried again at once.
            self.failures = self.failures.saturating_add(1);
            self.failed_at = None;
            self.status = Status::Failed(reason.into());
        }
        heard
    }

    fn rests(&mut self) -> Option<Duration> {
        let Status::Failed(_) = self.status else { return None };
        let since = sync::since(*self.failed_at.get_or_insert_with(sync::now));
        rest(self.failures).checked_sub(since).filter(|left| !left.is_zero())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rests_double_from_a_second_to_a_minute() {
        let seconds = [0, 1, 2, 3, 4, 7, 8, 9, u32::MAX].map(|failures| rest(failures).as_secs());
        assert_eq!(seconds, [0, 0, 1, 2, 4, 32, 60, 60, 60]);
    }
}
