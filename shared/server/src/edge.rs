//! What is done around every request, whatever it asks for: paths, ids, keys, deadlines, bytes in
//! flight, kept answers, log lines and metrics.

pub(crate) mod budget;
pub(crate) mod cache;
pub(crate) mod cost;
pub(crate) mod deadline;
pub(crate) mod metrics;
pub(crate) mod observe;
pub(crate) mod pace;
pub(crate) mod paths;
pub(crate) mod request_id;
pub(crate) mod ticket;
