//! What a request took of the model.

use crate::models::usage::Times;

/// What a request took of the model, for the log: handlers leave it with their answer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cost {
    pub(crate) items: usize,
    pub(crate) tokens: usize,
    pub(crate) times: Times,
}
