//! What a binary says about itself.

use defrost_model::Runtime;

/// What this binary says about itself.
#[derive(Debug, Clone, Copy)]
pub struct Function {
    /// The binary's name.
    pub name: &'static str,
    /// The binary's version.
    pub version: &'static str,
    /// One phrase for `--help`.
    pub about: &'static str,
    /// What runs models, in order of preference; the first is named until a model is loaded.
    pub runtimes: &'static [&'static dyn Runtime],
}

impl Function {
    /// Whether a runtime of it has devices.
    pub(crate) fn has_device(&self) -> bool {
        self.runtimes.iter().any(|runtime| !runtime.devices().is_empty())
    }

    /// What runs the model, as far as that is known before one is loaded.
    pub(crate) fn backend(&self) -> &'static str {
        self.runtimes.first().map_or("none", |runtime| runtime.name())
    }
}
