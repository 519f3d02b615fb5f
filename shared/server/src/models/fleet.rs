//! The models of one process: one as a rule (`MODEL`), several where `MODELS` names them, of several
//! roles where the process serves several.
//!
//! ```text
//!                    a request names it             loaded
//!   unloaded  ────────────────────────────> loading ──────> ready
//!      ^                                       │ fails        │ another one needs its memory
//!      ├──────── the next request tries again ─┘              │
//!      └──────────────────────────────────────────────────────┘
//! ```
//!
//! Every model that is loaded has a thread of its own, with its own queue
//! ([`crate::models::worker`]); micro-batches of all models take turns
//! ([`crate::models::fair_lock`]), since each fills the machine. The first model is the default and
//! is loaded at start unless `LAZY_LOAD` says otherwise, the others when a request first names
//! them, one after the other.
//!
//! What is loaded takes at most `MODELS_MEMORY` bytes together, counted as the lengths of the
//! snapshots and, of models that chat, their room for keys and values. A load that needs room lets go of the model that was used longest ago, of those that
//! no request is using if there is one. Such a model takes no more requests (the next one loads it
//! again, in its turn), finishes those it has, and only when its thread has ended and its mapping
//! is gone does the other one begin to load. So no request ever loses its model, and models that
//! are always in use keep no other model out for ever. A model that is larger than the limit is
//! loaded alone.
//!
//! Which steps a model's state may take, and which thread may take them, is in
//! [`crate::models::state`]; that no request waits for ever is checked in thousands of orders of
//! steps (`src/interleavings.rs`).
//!
//! A model that could not be loaded twice in a row rests before it is tried again
//! ([`crate::models::state`]): else each request for it would throw a good one out.
//!
//! A process with one model ends when that cannot be loaded, so that the platform that started it
//! starts another. One with several goes on with the others, unless it is the default that cannot
//! be loaded at start.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::config::{Config, NamedModel};
use crate::edge::metrics::Metrics;
use crate::life::phases::PhaseRecorder;
use crate::models::fair_lock::FairLock;
use crate::models::naming::{Likeness, Naming};
use crate::models::role::Role;
use crate::models::slot::{Hold, Slot};
use crate::models::state::Load;
use crate::models::worker::{Loader, Worker};
use crate::sync;

/// Which model a request means.
pub(crate) enum Found<'a> {
    Here(&'a Arc<Slot>),
    /// One of another role than the path's.
    Elsewhere(&'a Arc<Slot>),
    Nowhere,
}

impl<'a> Found<'a> {
    /// The model, where it may be asked here.
    pub(crate) fn here(self) -> Option<&'a Arc<Slot>> {
        match self {
            Found::Here(slot) => Some(slot),
            Found::Elsewhere(_) | Found::Nowhere => None,
        }
    }
}

/// All models of a process; the first is the default.
pub(crate) struct Fleet {
    pub(crate) slots: Vec<Arc<Slot>>,
    /// What restores models, by what they are for.
    loaders: Vec<(&'static Role, Box<Loader>)>,
    metrics: Arc<Metrics>,
    /// Held while a micro-batch runs, by the threads of all models.
    machine: Arc<FairLock>,
    /// Held by the task that loads a model. A fair lock: first come, first loaded.
    loading: tokio::sync::Mutex<()>,
    most_bytes: u64,
    /// How names of models are read.
    naming: Naming,
    /// Counts uses, to tell which was last.
    uses: AtomicU64,
}

impl Fleet {
    /// # Panics
    /// Without anything that restores models.
    pub(crate) fn new(
        config: &Config,
        loaders: Vec<(&'static Role, Box<Loader>)>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let first = loaders.first().expect("a process serves something").0;
        let of_kind =
            |kind: &str| loaders.iter().map(|(role, _)| *role).find(|role| role.name == kind);
        let slots = match config.models.as_slice() {
            [] => vec![Arc::new(Slot::new(config.clone(), first))],
            models => {
                let slot = |model: &NamedModel| {
                    let role = model.kind.and_then(of_kind).unwrap_or(first);
                    Arc::new(Slot::of_named(config, model, role))
                };
                models.iter().map(slot).collect()
            }
        };
        let naming = match (config.tiers, config.strict_model) {
            (false, _) => Naming::Exact,
            (true, is_strict) => Naming::Near { is_strict },
        };
        let most_bytes = config.models_memory.unwrap_or_else(crate::models::memory::most_bytes);
        let (machine, loading, uses) =
            (Arc::default(), tokio::sync::Mutex::new(()), AtomicU64::new(0));
        Self { slots, loaders, metrics, machine, loading, most_bytes, naming, uses }
    }

    /// The model of requests that name none.
    pub(crate) fn default(&self) -> &Arc<Slot> {
        &self.slots[0]
    }

    pub(crate) fn has_several(&self) -> bool {
        self.slots.len() > 1
    }

    /// The model of this role that is meant by requests which name none.
    pub(crate) fn default_of(&self, role: &Role) -> Option<&Arc<Slot>> {
        self.slots.iter().find(|slot| slot.role.is(role))
    }

    /// What there are models for, in the order of the first of each.
    pub(crate) fn roles(&self) -> Vec<&'static Role> {
        let mut roles: Vec<&'static Role> = Vec::new();
        for slot in &self.slots {
            if !roles.iter().any(|known| known.is(slot.role)) {
                roles.push(slot.role);
            }
        }
        roles
    }

    /// The model of that name, of this role or of any. One that is alone is meant
    /// whatever it is called.
    pub(crate) fn find(&self, role: Option<&Role>, name: Option<&str>) -> Found<'_> {
        let is_asked = |slot: &Arc<Slot>| role.is_none_or(|role| slot.role.is(role));
        let (own, others): (Vec<&Arc<Slot>>, Vec<&Arc<Slot>>) =
            self.slots.iter().partition(|slot| is_asked(slot));
        let Some(default) = own.first() else { return Found::Nowhere };
        let Some(name) = name.filter(|_| self.has_several()) else { return Found::Here(default) };
        match (self.naming.pick(&own, name), self.naming.pick(&others, name)) {
            (Some((slot, Likeness::Same)), _) => Found::Here(slot),
            // What is another model's name is never a vague word for one of this role.
            (_, Some((slot, Likeness::Same))) => Found::Elsewhere(slot),
            (Some((slot, Likeness::Part)), _) => Found::Here(slot),
            (None, _) if self.naming.takes_any() => Found::Here(default),
            (None, _) => Found::Nowhere,
        }
    }

    /// The model that has this name, of whatever role.
    pub(crate) fn called(&self, name: &str) -> Option<&Arc<Slot>> {
        let all: Vec<&Arc<Slot>> = self.slots.iter().collect();
        let (slot, likeness) = self.naming.pick(&all, name)?;
        (likeness == Likeness::Same).then_some(slot)
    }

    /// Every name that was given to a model of this role, or of any.
    pub(crate) fn names(&self, role: Option<&Role>) -> Vec<String> {
        let is_asked = |slot: &&Arc<Slot>| role.is_none_or(|role| slot.role.is(role));
        self.slots.iter().filter(is_asked).flat_map(|slot| slot.names()).cloned().collect()
    }

    /// Whether a model that was found by a name may be meant by it under `STRICT_MODEL` only if it
    /// has exactly that name.
    pub(crate) fn reads_names_exactly(&self) -> bool {
        matches!(self.naming, Naming::Exact)
    }

    /// Marks a model as in use.
    pub(crate) fn hold(&self, slot: &Arc<Slot>) -> Hold {
        slot.hold(self.uses.fetch_add(1, Ordering::Relaxed) + 1)
    }

    /// Resolves when the default is loaded, if it is not yet, and nothing else is being loaded or
    /// unloaded. For a memory snapshot, which is to hold the model that the first request will
    /// want; while the gate is closed, so that no request begins another load.
    pub(crate) async fn at_rest(self: &Arc<Self>) {
        self.wake(self.default(), true);
        for slot in &self.slots {
            slot.life.settled().await;
        }
        drop(self.loading.lock().await);
    }

    /// Begins to load the default at once, on a thread of its own. Its phases are those of boot.
    pub(crate) fn boot(self: &Arc<Self>, phases: &Arc<PhaseRecorder>) -> std::io::Result<()> {
        let slot = self.default();
        match slot.life.begin(false) {
            Some(load) => self.start(slot, load, Arc::clone(phases)),
            None => Ok(()),
        }
    }

    /// Sees to it that a model which is not there is loaded. One of several that has failed is
    /// tried `again` if so wished.
    pub(crate) fn wake(self: &Arc<Self>, slot: &Arc<Slot>, again: bool) {
        if let Some(load) = slot.life.begin(again && self.has_several()) {
            let (fleet, slot) = (Arc::clone(self), Arc::clone(slot));
            sync::spawn(async move { fleet.load(&slot, load).await });
        }
    }

    async fn load(self: &Arc<Self>, slot: &Arc<Slot>, load: Load) {
        let _turn_to_load = self.loading.lock().await;
        slot.life.gone().await;
        self.tell_of_a_large_one(slot);
        self.make_room(slot, slot.expected_bytes()).await;
        if let Err(error) = self.start(slot, load, Arc::new(PhaseRecorder::on_demand())) {
            tracing::error!(model = %slot.config.model, "not loaded: starting a thread for it: {error}");
            return;
        }
        slot.life.ended(load).await;
        // The length of one that came from a store is known only now.
        self.make_room(slot, slot.expected_bytes()).await;
    }

    fn start(
        self: &Arc<Self>,
        slot: &Arc<Slot>,
        load: Load,
        phases: Arc<PhaseRecorder>,
    ) -> std::io::Result<()> {
        slot.life.thread_starts(load);
        let worker = Worker {
            slot: Arc::clone(slot),
            load,
            phases,
            metrics: Arc::clone(&self.metrics),
            machine: Arc::clone(&self.machine),
        };
        let fleet = Arc::clone(self);
        let role = slot.role;
        let work = move || worker.run(fleet.loader(role));
        // Where no thread can be started the worker is dropped, which says that it has ended.
        sync::Builder::new().name("inference".into()).spawn(work).map(drop)
    }

    /// What restores models of this role.
    fn loader(&self, role: &Role) -> &Loader {
        let own = self.loaders.iter().find(|(known, _)| known.is(role));
        // Each slot's role is one of them.
        &*own.unwrap_or(&self.loaders[0]).1
    }

    /// Lets go of other models until `slot` with its `bytes` fits beside those that stay.
    async fn make_room(&self, slot: &Arc<Slot>, bytes: u64) {
        loop {
            let others = || self.slots.iter().filter(|other| !Arc::ptr_eq(other, slot));
            let with_thread = || others().filter(|other| other.life.has_thread());
            let taken: u64 = with_thread().map(|other| other.expected_bytes()).sum();
            if taken.saturating_add(bytes) <= self.most_bytes {
                return;
            }
            let loaded = others().filter(|other| other.ready().is_some());
            let oldest = loaded.min_by_key(|other| (other.is_held(), other.last_use()));
            match oldest {
                // Before its mapping is gone, nothing is won.
                Some(oldest) => {
                    self.let_go(oldest);
                    oldest.life.gone().await;
                }
                // The default during boot becomes one to let go of; one that ends by itself is
                // waited for.
                None => match with_thread().next() {
                    Some(other) => other.life.movable().await,
                    None => return,
                },
            }
        }
    }

    fn tell_of_a_large_one(&self, slot: &Slot) {
        let bytes = slot.expected_bytes();
        if bytes > self.most_bytes {
            tracing::warn!(
                model = %slot.config.model,
                "its snapshot has {bytes} bytes, more than the {} of MODELS_MEMORY: it is loaded alone, and unloaded when another \
                 model is asked for",
                self.most_bytes
            );
        }
    }

    /// Takes a model out of service.
    fn let_go(&self, slot: &Slot) {
        if let Some(model) = slot.life.let_go() {
            let name = model.name_for(None);
            tracing::info!(model = name, "unloading {name}: another model needs its memory");
            self.metrics.unloaded(&model.info);
        }
    }

    /// Lets go of every model and returns when no thread is left. No more requests come.
    #[cfg(test)]
    pub(crate) async fn end(&self) {
        for slot in &self.slots {
            slot.life.settled().await;
            self.let_go(slot);
            slot.life.gone().await;
        }
    }
}

impl std::fmt::Debug for Fleet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Fleet({:?})", self.names(None))
    }
}
