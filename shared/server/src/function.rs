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

    /// Whether its models are run by a runtime that has devices, unless another is asked for.
    pub(crate) fn is_for_devices(&self) -> bool {
        is_for_devices(self.runtimes)
    }

    /// What runs the model, as far as that is known before one is loaded.
    pub(crate) fn backend(&self) -> &'static str {
        self.runtimes.first().map_or("none", |runtime| runtime.name())
    }
}

/// Whether the first of a function's runtimes has devices.
pub(crate) fn is_for_devices(runtimes: &[&dyn Runtime]) -> bool {
    runtimes.first().is_some_and(|runtime| !runtime.devices().is_empty())
}
