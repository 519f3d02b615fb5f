//! From texts to scores: tokenise, prompt, batch, run the engine, score.

mod error;
mod reranker;
mod score;

pub use error::Error;
pub use reranker::{ModelInfo, Reranker, RerankerOptions, Score, ScoreRequest, Truncation};
pub use score::{Normalization, RerankerKind};
