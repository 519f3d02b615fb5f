//! Which function a binary is, and what it is for.

/// What a function is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Scores documents against queries.
    Rerank,
    /// Embeds texts.
    Embed,
}

/// Which function this binary is.
#[derive(Debug, Clone, Copy)]
pub struct Function {
    /// The binary's name.
    pub name: &'static str,
    /// The binary's version.
    pub version: &'static str,
    /// One phrase for `--help`.
    pub about: &'static str,
    /// Which routes it has.
    pub role: Role,
    /// What runs the model.
    pub backend: &'static str,
}
