//! What can be wrong with a snapshot, its weights, a configuration or a batch.

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
        /// The type, layout or size that the configuration implies.
        expected: String,
        /// The type, layout or size that the weights have.
        found: String,
    },
    /// The configuration contradicts itself or asks for something unknown.
    #[error("model configuration: {0}")]
    Config(String),
    /// A batch holds an id or a length that the model has no row for.
    #[error("batch: {0}")]
    Batch(String),
    /// What restricts a text cannot be followed: it is too much work, or no token can come next.
    #[error("{0}")]
    Constraint(String),
    /// The snapshot or checkpoint is not one this version can run.
    #[error("{0}")]
    Model(String),
    /// A library that runs models could not be opened, or refused a model or a batch.
    #[error("{name}: {message}")]
    Library {
        /// The name of the library.
        name: &'static str,
        /// The message of the library.
        message: String,
    },
    /// There is no memory for this batch now; a smaller one, or a later try, may find some.
    #[error("{0}")]
    OutOfMemory(String),
    /// What runs the model is gone for good, such as a device that has failed: this process cannot go on.
    #[error("{0}")]
    Lost(String),
    /// Reading or verifying the snapshot failed.
    #[error(transparent)]
    Loader(#[from] defrost_loader::Error),
    /// The weights' bytes cannot be had, or are not the right ones.
    #[error(transparent)]
    Weights(Box<dyn std::error::Error + Send + Sync>),
}

impl Error {
    /// That a tensor is not what the configuration implies.
    pub fn mismatch(name: &str, expected: impl Into<String>, found: impl Into<String>) -> Self {
        Self::Mismatch { name: name.to_owned(), expected: expected.into(), found: found.into() }
    }
}
