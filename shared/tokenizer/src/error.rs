//! What can go wrong when compiling a tokenizer and when opening an image.

/// Why a tokenizer.json gave no image. The caller goes on with the `tokenizers` crate.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// The file has a component, or a setting of one, that the compiled form does not reproduce exactly.
    #[error("the tokenizer cannot be compiled: {0}")]
    Unsupported(String),
    /// The file is no tokenizer.json.
    #[error("tokenizer.json: {0}")]
    Json(#[from] serde_json::Error),
    /// The `tokenizers` crate refuses the file.
    #[error("tokenizer.json: {0}")]
    Refused(String),
}

impl CompileError {
    pub(crate) fn unsupported(reason: impl Into<String>) -> Self {
        Self::Unsupported(reason.into())
    }
}

/// Why bytes are not an image that this version reads.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// The bytes do not start as an image does.
    #[error("these bytes are no compiled tokenizer")]
    Foreign,
    /// Written by another version of this crate.
    #[error("the compiled tokenizer has version {found}, this build reads {expected}")]
    Version {
        /// Version of the image.
        found: u32,
        /// Version of this crate.
        expected: u32,
    },
    /// The header contradicts itself or the length of the bytes.
    #[error("the compiled tokenizer is damaged: {0}")]
    Damaged(&'static str),
}
