//! What a document is written from.

use std::fmt;

use defrost_api::SchemaBook;
use serde_json::{Map, Value};

use super::parts::Parts;
use crate::function::Function;

/// The routes that a function has beside probes, with what decides how their bodies are read.
pub struct Api {
    pub(super) name: &'static str,
    pub(super) about: &'static str,
    pub(super) describe: Box<Describe>,
    /// The fields of `GET /info` that only this kind of function has, each with its schema.
    pub(super) info: fn() -> Vec<(&'static str, Value)>,
    /// The same of `GET /props`.
    pub(super) props: fn() -> Vec<(&'static str, Value)>,
}

type Describe = dyn Fn(&mut Map<String, Value>, &mut Parts, &mut SchemaBook) + Send + Sync;

impl fmt::Debug for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Api").field("name", &self.name).finish_non_exhaustive()
    }
}

/// What a document is written from.
#[derive(Debug)]
pub struct Description {
    /// What the binary says about itself.
    pub function: Function,
    /// The routes of each service that it has.
    pub apis: Vec<Api>,
    /// Whether clients must send a key (`API_KEYS`).
    pub needs_key: bool,
    /// Whether a request for another model is refused (`STRICT_MODEL`).
    pub strict_model: bool,
    /// Whether the routes around a memory snapshot exist (`SNAPSHOT_HOOKS`).
    pub snapshot_hooks: bool,
}
