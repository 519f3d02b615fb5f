//! What a request took of the model, as its log line says it.

use crate::models::usage::Times;

/// Handlers leave it with their answer, among its extensions.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cost {
    pub(crate) items: usize,
    pub(crate) tokens: usize,
    pub(crate) times: Times,
}
