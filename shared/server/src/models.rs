//! The models of a process, from a request's texts to what a model makes of them: places and
//! states, loading and letting go, tokenising, the queue, micro-batches, the thread that runs them.

pub(crate) mod admission;
pub(crate) mod admission_gate;
pub(crate) mod batching;
pub(crate) mod command;
pub(crate) mod events;
pub(crate) mod fair_lock;
pub(crate) mod fleet;
pub(crate) mod info;
pub(crate) mod job;
pub(crate) mod loaded;
pub(crate) mod memory;
pub(crate) mod model;
pub(crate) mod naming;
pub(crate) mod pipeline;
pub(crate) mod restore;
pub(crate) mod role;
pub(crate) mod slot;
pub(crate) mod state;
pub(crate) mod tokenise;
pub(crate) mod turns;
pub(crate) mod usage;
pub(crate) mod worker;
