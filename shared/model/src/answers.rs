//! What a pass is asked, and what it answers.

use crate::Planned;

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

impl Answers {
    /// Each sequence's part of what a pass over them said: a row of what is pooled, and its tokens' rows of the rest.
    pub fn of_each(&self, sequences: &[Planned<'_>], wanted: Wanted) -> Vec<Self> {
        // Sequences that share beginnings have more tokens than rows; then nothing is wanted of tokens.
        let tokens: usize = sequences.iter().map(|sequence| sequence.tokens.ids.len()).sum();
        let part = |values: &[f32], first: usize, count: usize, all: usize| {
            let width = values.len() / all;
            values[first * width..(first + count) * width].to_vec()
        };
        let mut next = 0;
        let of_one = |(at, sequence): (usize, &Planned<'_>)| {
            let (first, count) = (next, sequence.tokens.ids.len());
            next += count;
            let pooled = part(&self.pooled, at, 1, sequences.len());
            if wanted == Wanted::default() {
                return Self { pooled, ..Self::default() };
            }
            let of_tokens = |values: &[f32]| part(values, first, count, tokens);
            Self {
                pooled,
                hidden: of_tokens(&self.hidden),
                sparse: of_tokens(&self.sparse),
                colbert: of_tokens(&self.colbert),
            }
        };
        sequences.iter().enumerate().map(of_one).collect()
    }
}
