//! What a pass is asked, and what it answers.

/// What a pass answers for every token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Wanted {
    /// Whether the last hidden states are wanted.
    pub hidden: bool,
    /// Whether the sparse head's weights are wanted.
    pub sparse: bool,
    /// Whether the `ColBERT` head's vectors are wanted.
    pub colbert: bool,
}

/// What came of a pass. `T` is the number of tokens of the batch, row-major each; what was not wanted is empty.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Answers {
    /// `[sequences, ModelConfig::outputs]`: the head's answers, poolings not normalised.
    pub pooled: Vec<f32>,
    /// `[T, hidden]`: the last hidden states.
    pub hidden: Vec<f32>,
    /// `[T]`: the sparse head's weights, from 0 on.
    pub sparse: Vec<f32>,
    /// `[T, colbert]`: the `ColBERT` head's vectors, not normalised.
    pub colbert: Vec<f32>,
}
