//! A model as it was loaded: what its thread needs of it, and what its service does.

use std::any::Any;
use std::sync::Arc;

use crate::config::Config;
use crate::models::batching::Passes;
use crate::models::pipeline::Pipeline;
use crate::models::turns::Turns;

type MakeTurns = dyn Fn(&Config) -> Box<dyn Turns> + Send + Sync;

/// A loaded model, made by a service: see [`Loaded::scorer`] and [`Loaded::vectorizer`].
#[derive(Clone)]
pub struct Loaded {
    pub(crate) pipeline: Arc<dyn Pipeline>,
    /// How its jobs take turns.
    turns: Arc<MakeTurns>,
    /// The same model as an `Arc` of its service's trait.
    own: Arc<dyn Any + Send + Sync>,
}

impl Loaded {
    /// A model that answers in passes: `own` is that of `pipeline` as an `Arc` of a service's trait.
    pub(crate) fn new<T: ?Sized + Send + Sync + 'static>(
        pipeline: Arc<dyn Pipeline>,
        own: Arc<T>,
    ) -> Self {
        let passes = Arc::clone(&pipeline);
        let turns = move |config: &Config| -> Box<dyn Turns> {
            Box::new(Passes::new(Arc::clone(&passes), config.max_batch_tokens, config.max_queue))
        };
        Self::with_turns(pipeline, own, turns)
    }

    /// A model whose jobs take turns in a way of its own.
    pub(crate) fn with_turns<T: ?Sized + Send + Sync + 'static>(
        pipeline: Arc<dyn Pipeline>,
        own: Arc<T>,
        turns: impl Fn(&Config) -> Box<dyn Turns> + Send + Sync + 'static,
    ) -> Self {
        Self { pipeline, turns: Arc::new(turns), own: Arc::new(own) }
    }

    /// The turns of its jobs, none of which is there yet.
    pub(crate) fn turns(&self, config: &Config) -> Box<dyn Turns> {
        (self.turns)(config)
    }

    /// The model by its service's trait; `None` where it is another service's.
    pub(crate) fn own<T: ?Sized + Send + Sync + 'static>(&self) -> Option<Arc<T>> {
        self.own.downcast_ref::<Arc<T>>().cloned()
    }
}

impl std::fmt::Debug for Loaded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Loaded({})", self.pipeline.info().name)
    }
}
