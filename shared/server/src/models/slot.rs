//! A place for a model in the process, whether it is loaded or not.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use defrost_loader::Location;

use crate::boot_error::BootError;
use crate::config::{Config, NamedModel};
use crate::models::model::Model;
use crate::models::role::Role;
use crate::models::state::Life;

/// The key under which a snapshot keeps the model's name.
const NAME: &str = "model.name";

/// The key under which a snapshot keeps the model's width.
const HIDDEN: &str = "model.hidden";

/// See the module page.
pub(crate) struct Slot {
    /// The process's settings, with this model's place and names.
    pub(crate) config: Arc<Config>,
    /// What its model is for.
    pub(crate) role: &'static Role,
    /// What lists say of its owner, unless it is what infinity's client reads.
    pub(crate) owner: Option<String>,
    pub(crate) life: Life,
    /// How many requests hold it.
    holders: AtomicUsize,
    last_use: AtomicU64,
    /// What it takes, once known; 0 before.
    bytes: AtomicU64,
    /// What it takes beside the snapshot, as far as the snapshot says.
    room: OnceLock<u64>,
    /// Whether it has been loaded at least once.
    was_loaded: AtomicBool,
    /// The root of the snapshot that was loaded first.
    snapshot: OnceLock<String>,
    /// The snapshot's own name for the model, once known.
    full_name: OnceLock<Option<String>>,
    /// The width that the snapshot gives, once known.
    hidden: OnceLock<Option<usize>>,
}

impl Slot {
    pub(crate) fn new(config: Config, role: &'static Role) -> Self {
        Self {
            config: Arc::new(config),
            role,
            owner: None,
            life: Life::default(),
            holders: AtomicUsize::new(0),
            last_use: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            room: OnceLock::new(),
            was_loaded: AtomicBool::new(false),
            snapshot: OnceLock::new(),
            full_name: OnceLock::new(),
            hidden: OnceLock::new(),
        }
    }

    /// The place of one of several models, of which a few things may be known beforehand.
    pub(crate) fn of_named(config: &Config, model: &NamedModel, role: &'static Role) -> Self {
        let mut slot = Self::new(config.for_model(model), role);
        slot.owner.clone_from(&model.owner);
        slot.bytes = AtomicU64::new(model.bytes);
        if let Some(name) = &model.full_name {
            slot.full_name = OnceLock::from(Some(name.clone()));
        }
        slot
    }

    /// The names it was given, the first of which it goes by; none where only its snapshot knows.
    pub(crate) fn names(&self) -> &[String] {
        &self.config.served_model_name
    }

    /// Refuses another snapshot than the one that was loaded first: its numbers would go out under
    /// the first one's name.
    pub(crate) fn expect_the_same(&self, snapshot: &str) -> Result<(), BootError> {
        let first = self.snapshot.get_or_init(|| snapshot.to_owned());
        if first == snapshot {
            return Ok(());
        }
        Err(BootError::new(format!(
            "{} is snapshot {snapshot} now and was {first} when it was first loaded; start the function again to serve the new one",
            self.config.model
        )))
    }

    /// Notes what only a loaded model tells.
    pub(crate) fn learn(&self, name: &str, bytes: u64) {
        let _ = self.full_name.set(Some(name.to_owned()));
        self.bytes.store(bytes, Ordering::Relaxed);
        self.was_loaded.store(true, Ordering::Relaxed);
    }

    pub(crate) fn was_loaded(&self) -> bool {
        self.was_loaded.load(Ordering::Relaxed)
    }

    /// What the snapshot calls the model, which a snapshot on this machine says before it is
    /// loaded.
    pub(crate) fn full_name(&self) -> Option<&str> {
        if let Some(known) = self.full_name.get() {
            return known.as_deref();
        }
        let path = local(&self.config.model)?;
        let (_, manifest) = defrost_loader::inspect(Path::new(&path)).ok()?;
        let name = manifest.meta.get(NAME).map(ToString::to_string);
        self.full_name.get_or_init(|| name).as_deref()
    }

    /// The model's width, which a snapshot on this machine says before it is loaded.
    pub(crate) fn hidden(&self) -> Option<usize> {
        *self.hidden.get_or_init(|| {
            let path = local(&self.config.model)?;
            let (_, manifest) = defrost_loader::inspect(Path::new(&path)).ok()?;
            manifest.meta.get(HIDDEN)?.to_string().parse().ok()
        })
    }

    /// Marks it as in use; the use's number tells which was last.
    pub(crate) fn hold(self: &Arc<Self>, number: u64) -> Hold {
        self.holders.fetch_add(1, Ordering::Relaxed);
        self.last_use.store(number, Ordering::Relaxed);
        Hold(Arc::clone(self))
    }

    pub(crate) fn is_held(&self) -> bool {
        self.holders.load(Ordering::Relaxed) > 0
    }

    /// The number of its last use.
    pub(crate) fn last_use(&self) -> u64 {
        self.last_use.load(Ordering::Relaxed)
    }

    pub(crate) fn ready(&self) -> Option<Arc<Model>> {
        self.life.ready()
    }

    /// Whether it is a file of this machine that is not there.
    pub(crate) fn is_missing(&self) -> bool {
        local(&self.config.model).is_some_and(|path| !path.exists())
    }

    /// What it takes once it is loaded, as far as that is known before.
    pub(crate) fn expected_bytes(&self) -> u64 {
        match self.bytes.load(Ordering::Relaxed) {
            0 => local(&self.config.model)
                .and_then(|path| std::fs::metadata(path).ok())
                .map_or(0, |data| data.len().saturating_add(self.room())),
            known => known,
        }
    }

    fn room(&self) -> u64 {
        *self.room.get_or_init(|| {
            let manifest = local(&self.config.model)
                .and_then(|path| defrost_loader::inspect(Path::new(&path)).ok());
            manifest.map_or(0, |(_, manifest)| {
                let number = |key: &str| manifest.meta.get(key)?.to_string().parse().ok();
                (self.role.room)(&self.config, &number)
            })
        })
    }
}

fn local(place: &str) -> Option<std::path::PathBuf> {
    match place.parse() {
        Ok(Location::Path(path)) => Some(path),
        _ => None,
    }
}

/// A request's hold on a model.
pub(crate) struct Hold(Arc<Slot>);

impl Drop for Hold {
    fn drop(&mut self) {
        self.0.holders.fetch_sub(1, Ordering::Relaxed);
    }
}
