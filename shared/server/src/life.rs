//! A process's life: configure, bind, load, serve over HTTP or Lambda, be copied and restored,
//! drain.

pub(crate) mod boot;
pub(crate) mod clock;
pub(crate) mod connections;
pub(crate) mod files;
pub(crate) mod healthcheck;
pub(crate) mod hooks;
pub(crate) mod http;
pub(crate) mod idle;
pub(crate) mod lambda;
pub(crate) mod logging;
pub(crate) mod phases;
pub(crate) mod quiesce;
pub(crate) mod start;
