//! What a model is for, as far as models themselves are concerned: which requests may mean it, and what it takes.

use crate::config::Config;

/// The numbers that a snapshot's metadata has, by their names.
pub(crate) type Numbers<'a> = dyn Fn(&str) -> Option<u64> + 'a;

/// See the module page. Each service has one.
#[derive(Debug)]
pub(crate) struct Role {
    /// What lists of models call it.
    pub(crate) name: &'static str,
    /// The first of its service's paths, for those who ask for its models on another one's.
    pub(crate) path: &'static str,
    /// Bytes that a model takes beside its snapshot.
    pub(crate) room: fn(&Config, &Numbers<'_>) -> u64,
}

impl Role {
    /// Whether it is this one.
    pub(crate) fn is(&self, other: &Self) -> bool {
        self.name == other.name
    }
}
