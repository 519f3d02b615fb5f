//! What was decided about a model, and which file it comes from: `pack` prints it, so that a wrong decision is seen.

use std::fmt;

/// One decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// The subject of the decision: `kind`, `pooling`, `attention`, …
    pub what: &'static str,
    /// The value that was decided on.
    pub value: String,
    /// The file and the key that say so, or the option.
    pub from: String,
}

impl Told {
    pub(crate) fn new(
        what: &'static str,
        value: impl Into<String>,
        from: impl Into<String>,
    ) -> Self {
        Self { what, value: value.into(), from: from.into() }
    }
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.value, self.from)
    }
}
