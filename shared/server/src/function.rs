//! What a binary says about itself.

/// What this binary says about itself.
#[derive(Debug, Clone, Copy)]
pub struct Function {
    /// The binary's name.
    pub name: &'static str,
    /// The binary's version.
    pub version: &'static str,
    /// One phrase for `--help`.
    pub about: &'static str,
    /// What runs the model.
    pub backend: &'static str,
}
