//! What a raw score means, and how it becomes a number in `[0, 1]`.

use defrost_model::RerankerKind;

/// How raw scores are mapped before they are returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ScoreScale {
    /// The score in `[0, 1]`: `sigmoid(logit)`; for embeddings `(1 + cosine) / 2`.
    #[default]
    Sigmoid,
    /// The logit or cosine itself.
    Raw,
    /// `sigmoid(logit - estimated_max / 2)` as the `mxbai_rerank` package does with `normalize=True`.
    Mxbai,
}

impl ScoreScale {
    /// Maps one raw score. `estimated_max` is the model's own constant (see [`crate::ModelInfo`]).
    /// Computed in f64: strong positives must not all round to 1.0 and tie.
    pub fn apply(self, kind: RerankerKind, raw: f32, estimated_max: f32) -> f64 {
        let raw = f64::from(raw);
        match (self, kind) {
            (Self::Raw, _) => raw,
            (_, RerankerKind::EmbeddingSimilarity) => f64::midpoint(1.0, raw).clamp(0.0, 1.0),
            (Self::Sigmoid, _) => sigmoid(raw),
            (Self::Mxbai, _) => sigmoid(raw - f64::from(estimated_max) / 2.0),
        }
    }

    /// Whether [`ScoreScale::Mxbai`] is meant for models of this template.
    pub fn takes_mxbai(template: &str) -> bool {
        template == "mxbai-rerank-v2"
    }

    /// The value of `score_type` in answers.
    pub fn score_type(self, kind: RerankerKind) -> &'static str {
        match (self, kind) {
            (Self::Raw, RerankerKind::EmbeddingSimilarity) => "cosine",
            (_, RerankerKind::EmbeddingSimilarity) => "scaled_cosine",
            (Self::Raw, _) => "logit",
            (Self::Sigmoid, _) => "sigmoid",
            (Self::Mxbai, _) => "mxbai_sigmoid",
        }
    }
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}
