//! A process from its settings: everything that requests share, and its first model on the way.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use tokio::sync::{Semaphore, watch};

use crate::app::App;
use crate::config::Config;
use crate::edge::budget::Budget;
use crate::edge::cache::Cache;
use crate::edge::metrics::Metrics;
use crate::function::Function;
use crate::life::connections::Connections;
use crate::life::phases::PhaseRecorder;
use crate::life::quiesce::Hooks;
use crate::models::admission::bounds;
use crate::models::admission_gate::AdmissionGate;
use crate::models::fleet::Fleet;
use crate::models::tokenise::Tokenising;
use crate::service::{Offer, Service, Services};

/// Starts loading the model on a thread of its own and returns at once; requests may come in.
/// `offers` are the services that there may be, at least one; models that do not say theirs are of
/// the first.
pub fn start(
    function: Function,
    config: Config,
    phases: Arc<PhaseRecorder>,
    offers: impl Into<Vec<Offer>>,
) -> std::io::Result<Arc<App>> {
    let metrics = Arc::new(Metrics::new(&function));
    let offers: Vec<Offer> = offers.into();
    let offered: Vec<&'static Service> = offers.iter().map(|offer| offer.service).collect();
    let loaders = offers.into_iter().map(|Offer { service, load }| (service.role, load)).collect();
    let fleet = Arc::new(Fleet::new(&config, loaders, Arc::clone(&metrics)));
    let services = Box::new(Services::new(&offered, &fleet.roles()));
    for slot in fleet.slots.iter().filter(|slot| fleet.has_several() && slot.is_missing()) {
        tracing::warn!(
            "MODELS: {} is not there; requests for {} fail until it is",
            slot.config.model,
            slot.names().join(", ")
        );
    }
    if config.lazy_load {
        metrics.lazy();
    } else {
        fleet.boot(&phases)?;
        if config.tiers {
            fleet.slots.iter().skip(1).for_each(|slot| fleet.wake(slot, false));
        }
    }
    for slot in fleet.slots.iter().filter(|_| config.tiers) {
        tracing::info!("{} ({}): {}", slot.names().join(", "), slot.role.name, slot.config.model);
    }
    let config = Arc::new(config);
    let budget = Budget::of(config.bytes_in_flight());
    Ok(Arc::new(App {
        function,
        phases,
        metrics,
        services,
        fleet,
        draining: watch::Sender::new(false),
        tokenising: Tokenising::within(bounds(&config, &budget)),
        budget,
        places: Arc::new(Semaphore::new(config.max_queue)),
        waiting_room: Semaphore::new(config.max_queue),
        answered: AtomicBool::new(false),
        gate: AdmissionGate::default(),
        connections: Connections::default(),
        hooks: Hooks::default(),
        activity: Arc::default(),
        cache: Cache::of(&function, &config),
        config,
    }))
}
