//! What a pass is asked, and what it answers.

/// What a pass answers for every token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Wanted {
    /// The last hidden states.
    pub hidden: bool,
    /// The sparse head's weights.
    pub sparse: bool,
    /// The `ColBERT` head's vectors.
    pub colbert: bool,
}

/// What came of a pass. `T` is the number of tokens of the batch, row-major each; what was not wanted is empty.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Answers {
    /// `[sequences, ModelConfig::outputs]`: the head's answers, poolings not normalised.
    pub pooled: Vec<f32>,
    /// `[T, hidden]`.
    pub hidden: Vec<f32>,
    /// `[T]`: weights from 0 on.
    pub sparse: Vec<f32>,
    /// `[T, colbert]`, not normalised.
    pub colbert: Vec<f32>,
}
