//! What turns hidden states into answers.

/// What turns hidden states into an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Head {
    /// `out(tanh(dense(h[0])))`, one logit.
    Classifier,
    /// `h[last] . row(yes) - h[last] . row(no)` of the language-model head, one logit.
    YesNo,
    /// `h[last] . row(t)` of the language-model head for every token `t`: what goes on after the sequence ([`crate::Decoder`]).
    LanguageModel,
    /// Mean of all hidden states.
    MeanPooling,
    /// The first hidden state.
    FirstPooling,
    /// The last hidden state.
    LastPooling,
    /// The largest value of each channel.
    MaxPooling,
    /// Sum of all hidden states over the square root of their number.
    SqrtPooling,
    /// Mean of all hidden states, weighted by their positions from 1 on.
    WeightedPooling,
}

impl Head {
    /// Every head.
    pub const ALL: [Self; 9] = [
        Self::Classifier,
        Self::YesNo,
        Self::LanguageModel,
        Self::MeanPooling,
        Self::FirstPooling,
        Self::LastPooling,
        Self::MaxPooling,
        Self::SqrtPooling,
        Self::WeightedPooling,
    ];

    /// The name of the head in snapshots.
    pub fn name(self) -> &'static str {
        match self {
            Self::Classifier => "classifier",
            Self::YesNo => "yes-no",
            Self::LanguageModel => "language-model",
            Self::MeanPooling => "mean-pooling",
            Self::FirstPooling => "first-pooling",
            Self::LastPooling => "last-pooling",
            Self::MaxPooling => "max-pooling",
            Self::SqrtPooling => "sqrt-pooling",
            Self::WeightedPooling => "weighted-pooling",
        }
    }

    /// The head of that name.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|head| head.name() == name)
    }

    /// Whether the answer is a vector made of hidden states.
    pub fn is_pooling(self) -> bool {
        !matches!(self, Self::Classifier | Self::YesNo | Self::LanguageModel)
    }

    /// The one position of a sequence of `len` tokens that the head reads; `None`: all of them.
    pub fn reads(self, len: usize) -> Option<usize> {
        match self {
            Self::Classifier | Self::FirstPooling => Some(0),
            Self::YesNo | Self::LanguageModel | Self::LastPooling => Some(len - 1),
            Self::MeanPooling | Self::MaxPooling | Self::SqrtPooling | Self::WeightedPooling => {
                None
            }
        }
    }
}

/// A layer that the pooled vector goes through, `activation(W x + b)`: the module `Dense` of sentence-transformers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DenseLayer {
    /// The length of the vectors that the layer gives.
    pub outputs: usize,
    /// The function that each value of the vectors goes through.
    pub activation: DenseActivation,
    /// Whether the layer has a bias.
    pub bias: bool,
}

/// What the values of a [`DenseLayer`] go through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DenseActivation {
    /// Values stay as they are.
    Identity,
    /// Hyperbolic tangent.
    Tanh,
    /// Values below 0 become 0.
    Relu,
    /// `x Phi(x)` with the error function.
    Gelu,
    /// `x sigmoid(x)`.
    Silu,
    /// `1 / (1 + exp(-x))`.
    Sigmoid,
}

impl DenseActivation {
    /// Every activation.
    pub const ALL: [Self; 6] =
        [Self::Identity, Self::Tanh, Self::Relu, Self::Gelu, Self::Silu, Self::Sigmoid];

    /// The name of the activation in snapshots: that of torch's module, in lower case.
    pub fn name(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Tanh => "tanh",
            Self::Relu => "relu",
            Self::Gelu => "gelu",
            Self::Silu => "silu",
            Self::Sigmoid => "sigmoid",
        }
    }

    /// The activation of that name.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|activation| activation.name() == name)
    }
}

/// Heads that answer for every token, beside the [`Head`] that answers for the sequence: those of BGE-M3. A model
/// without them has none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TokenHeads {
    /// Whether there is a sparse head: `relu(w . h + b)`, one weight a token.
    pub sparse: bool,
    /// Width of the `ColBERT` head's vectors, `W h + b` for each token; 0 if there is none.
    pub colbert: usize,
}
