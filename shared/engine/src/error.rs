//! What can be wrong with weights, a configuration or a batch.

/// Why a model could not be built or run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A tensor that the configuration needs is absent.
    #[error("tensor {name:?} is missing from the weights")]
    Missing {
        /// Name of the tensor.
        name: String,
    },
    /// A tensor is there, with the wrong type, layout or size.
    #[error("tensor {name:?}: expected {expected}, found {found}")]
    Mismatch {
        /// Name of the tensor.
        name: String,
        /// What the configuration implies.
        expected: String,
        /// What the weights hold.
        found: String,
    },
    /// The configuration contradicts itself or asks for something unknown.
    #[error("model configuration: {0}")]
    Config(String),
    /// A batch holds an id or a length that the model has no row for.
    #[error("batch: {0}")]
    Batch(String),
    /// The weights' bytes cannot be had, or are not the right ones.
    #[error(transparent)]
    Weights(Box<dyn std::error::Error + Send + Sync>),
}

impl Error {
    pub(crate) fn mismatch(
        name: &str,
        expected: impl Into<String>,
        found: impl Into<String>,
    ) -> Self {
        Self::Mismatch { name: name.to_owned(), expected: expected.into(), found: found.into() }
    }
}
