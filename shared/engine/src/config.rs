//! The dimensions and variants of a model, as plain values.

use crate::Error;

/// A model architecture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// BERT: post-norm encoder, learned positions, token types.
    Bert,
    /// XLM-RoBERTa: as BERT, positions start after the padding id.
    XlmRoberta,
    /// Qwen2: pre-norm causal decoder, grouped-query attention, biased q/k/v.
    Qwen2,
    /// Qwen3: as Qwen2, without biases, with per-head RMSNorm on queries and keys.
    Qwen3,
}

impl Family {
    /// Every family.
    pub const ALL: [Self; 4] = [Self::Bert, Self::XlmRoberta, Self::Qwen2, Self::Qwen3];

    /// The `model_type` of config.json.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bert => "bert",
            Self::XlmRoberta => "xlm-roberta",
            Self::Qwen2 => "qwen2",
            Self::Qwen3 => "qwen3",
        }
    }

    /// The family of that `model_type`.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|family| family.name() == name)
    }

    /// Whether it is built as a decoder: norms before the products, rotary positions. Whether its tokens see only what
    /// precedes them is the model's own business, see [`ModelConfig::is_causal`].
    pub fn is_decoder(self) -> bool {
        matches!(self, Self::Qwen2 | Self::Qwen3)
    }
}

/// What turns hidden states into an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Head {
    /// `out(tanh(dense(h[0])))`, one logit.
    Classifier,
    /// `h[last] . row(yes) - h[last] . row(no)` of the language-model head, one logit.
    YesNo,
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
    pub const ALL: [Self; 8] = [
        Self::Classifier,
        Self::YesNo,
        Self::MeanPooling,
        Self::FirstPooling,
        Self::LastPooling,
        Self::MaxPooling,
        Self::SqrtPooling,
        Self::WeightedPooling,
    ];

    /// Its name in snapshots.
    pub fn name(self) -> &'static str {
        match self {
            Self::Classifier => "classifier",
            Self::YesNo => "yes-no",
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
        !matches!(self, Self::Classifier | Self::YesNo)
    }

    /// The one position of a sequence of `len` tokens that the head reads; `None`: all of them.
    pub(crate) fn reads(self, len: usize) -> Option<usize> {
        match self {
            Self::Classifier | Self::FirstPooling => Some(0),
            Self::YesNo | Self::LastPooling => Some(len - 1),
            Self::MeanPooling | Self::MaxPooling | Self::SqrtPooling | Self::WeightedPooling => {
                None
            }
        }
    }
}

/// A layer that the pooled vector goes through, `activation(W x + b)`: the module `Dense` of sentence-transformers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DenseLayer {
    /// Length of its vectors.
    pub outputs: usize,
    /// What each value of them goes through.
    pub activation: DenseActivation,
    /// Whether there is a bias.
    pub bias: bool,
}

/// What the values of a [`DenseLayer`] go through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DenseActivation {
    /// Nothing.
    Identity,
    /// Hyperbolic tangent.
    Tanh,
    /// What is below 0 becomes 0.
    Relu,
    /// `x Phi(x)` with the error function.
    Gelu,
    /// `x sigmoid(x)`.
    Silu,
    /// `1 / (1 + exp(-x))`.
    Sigmoid,
}

impl DenseActivation {
    /// Every one.
    pub const ALL: [Self; 6] =
        [Self::Identity, Self::Tanh, Self::Relu, Self::Gelu, Self::Silu, Self::Sigmoid];

    /// Its name in snapshots: that of torch's module, in lower case.
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

    /// The one of that name.
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

/// Everything the forward pass needs to know besides the weights.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelConfig {
    /// Architecture.
    pub family: Family,
    /// Head.
    pub head: Head,
    /// Heads that answer for every token.
    pub token_heads: TokenHeads,
    /// Whether a decoder's tokens see all tokens of their sequence, as an encoder's do: embedding models made of language
    /// models without their causal mask. Never set for encoders.
    pub bidirectional: bool,
    /// Layers that the pooled vector goes through, in order; of poolings only.
    pub dense: Vec<DenseLayer>,
    /// Width of the hidden states.
    pub hidden: usize,
    /// Transformer layers.
    pub layers: usize,
    /// Query heads.
    pub heads: usize,
    /// Key-value heads; equal to `heads` for encoders.
    pub kv_heads: usize,
    /// Width of one head.
    pub head_dim: usize,
    /// Width of the feed-forward layer.
    pub intermediate: usize,
    /// Rows of the word embedding.
    pub vocab: usize,
    /// Most tokens of a sequence (for XLM-RoBERTa without the two reserved positions).
    pub max_positions: usize,
    /// Rows of the token-type embedding; 0 for decoders.
    pub type_vocab: usize,
    /// Epsilon of the norms.
    pub norm_eps: f32,
    /// Base of the rotary frequencies; decoders only.
    pub rope_theta: f32,
    /// Padding id, which shifts XLM-RoBERTa's positions.
    pub pad_id: u32,
    /// Tokens of the stored prefix: a beginning of sequences whose keys and values lie beside each layer's weights. Only
    /// for models that share prefixes; 0 if there is none.
    pub stored_prefix: usize,
}

/// Sizes above this are no model we know, but would overflow or exhaust memory.
const LARGEST: usize = 1 << 24;

/// Most layers. The deepest models have 126; every layer costs memory for its names before any weight is looked for.
const MOST_LAYERS: usize = 1024;

/// Longest row of an int8 matrix whose sums fit 32 bits: 255 * 128 * 65,536 is below 2^31.
const LONGEST_ROW: usize = 1 << 16;

/// Most layers after the pooling; published models have two.
const MOST_DENSE: usize = 16;

impl ModelConfig {
    /// Whether tokens see only what precedes them.
    pub fn is_causal(&self) -> bool {
        self.family.is_decoder() && !self.bidirectional
    }

    /// Values of a sequence's answer: 1 logit, or the length of the pooled vector after all layers.
    pub fn outputs(&self) -> usize {
        let pooled = if self.head.is_pooling() { self.hidden } else { 1 };
        self.dense.last().map_or(pooled, |layer| layer.outputs)
    }

    /// Whether sequences may share what they begin with: tokens see only what precedes them, and the answer is read at
    /// the end.
    pub fn shares_prefixes(&self) -> bool {
        self.is_causal() && matches!(self.head, Head::YesNo | Head::LastPooling)
    }

    /// Values of one row of a layer's stored prefix: `[k heads | v heads]`.
    pub fn stored_row(&self) -> usize {
        2 * self.kv_heads * self.head_dim
    }

    /// Multiply-adds of a token in the linear layers of the body; the last layer's are counted in full, though most heads
    /// need them for one token only.
    pub fn multiply_adds(&self) -> usize {
        let groups = crate::plan::plan(self, &crate::plan::Naming::default());
        let parts = groups.iter().flat_map(|group| &group.parts);
        let linear = parts.filter(|part| part.storage == crate::plan::Storage::Linear);
        linear.map(|part| part.shape.iter().product::<usize>()).sum()
    }

    /// Refuses dimensions that contradict each other.
    pub fn validate(&self) -> Result<(), Error> {
        let sizes = [
            ("hidden", self.hidden),
            ("layers", self.layers),
            ("heads", self.heads),
            ("kv_heads", self.kv_heads),
            ("head_dim", self.head_dim),
            ("intermediate", self.intermediate),
            ("vocab", self.vocab),
            ("max_positions", self.max_positions),
        ];
        for (name, size) in sizes {
            if size == 0 || size > LARGEST {
                return Err(Error::Config(format!("{name} is {size}, expected 1 to {LARGEST}")));
            }
        }
        if self.layers > MOST_LAYERS {
            let found = self.layers;
            return Err(Error::Config(format!(
                "layers is {found}, expected at most {MOST_LAYERS}"
            )));
        }
        if !self.norm_eps.is_finite() || self.norm_eps < 0.0 {
            return Err(Error::Config(format!(
                "norm_eps is {}, expected a finite number from 0",
                self.norm_eps
            )));
        }
        if !self.rope_theta.is_finite() || self.rope_theta <= 0.0 {
            return Err(Error::Config(format!(
                "rope_theta is {}, expected a finite number above 0",
                self.rope_theta
            )));
        }
        let TokenHeads { sparse, colbert } = self.token_heads;
        if colbert > LONGEST_ROW {
            return Err(Error::Config(format!(
                "colbert is {colbert}, expected at most {LONGEST_ROW}"
            )));
        }
        if (sparse || colbert > 0) && !self.head.is_pooling() {
            return Err(Error::Config(format!(
                "a sparse or ColBERT head beside the head {} is not supported",
                self.head.name()
            )));
        }
        self.validate_dense()?;
        if self.bidirectional && !self.family.is_decoder() {
            return Err(Error::Config("an encoder is bidirectional as it is".into()));
        }
        let longest = self.hidden.max(self.intermediate).max(self.heads * self.head_dim);
        if longest > LONGEST_ROW {
            return Err(Error::Config(format!(
                "a matrix has rows of {longest}, expected at most {LONGEST_ROW}"
            )));
        }
        if !self.heads.is_multiple_of(self.kv_heads) {
            return Err(Error::Config(format!(
                "{} query heads cannot share {} key-value heads evenly",
                self.heads, self.kv_heads
            )));
        }
        if self.stored_prefix > 0
            && (!self.shares_prefixes() || self.stored_prefix >= self.max_positions)
        {
            return Err(Error::Config(format!(
                "a stored prefix of {} tokens needs a causal model that reads its last position and has more than as \
                 many positions; this one has {}",
                self.stored_prefix, self.max_positions
            )));
        }
        if self.family.is_decoder() {
            if !self.head_dim.is_multiple_of(2) {
                let found = self.head_dim;
                return Err(Error::Config(format!(
                    "head_dim must be even to rotate, it is {found}"
                )));
            }
            if self.head == Head::Classifier {
                return Err(Error::Config(
                    "a decoder with a classifier head is not supported".into(),
                ));
            }
        } else {
            if self.heads * self.head_dim != self.hidden || self.heads != self.kv_heads {
                return Err(Error::Config(format!(
                    "an encoder's {} heads of {} must make up the hidden size {}",
                    self.heads, self.head_dim, self.hidden
                )));
            }
            if self.type_vocab == 0 || self.type_vocab > LARGEST {
                return Err(Error::Config("an encoder needs a token-type embedding".into()));
            }
            if self.head == Head::YesNo {
                return Err(Error::Config("an encoder with a yes/no head is not supported".into()));
            }
        }
        Ok(())
    }

    fn validate_dense(&self) -> Result<(), Error> {
        let (count, head) = (self.dense.len(), self.head.name());
        if count > MOST_DENSE {
            return Err(Error::Config(format!(
                "{count} dense layers, expected at most {MOST_DENSE}"
            )));
        }
        if count > 0 && !self.head.is_pooling() {
            return Err(Error::Config(format!(
                "a dense layer after the head {head} is not supported"
            )));
        }
        let outputs = self.dense.iter().map(|layer| layer.outputs);
        match outputs.clone().find(|outputs| !(1..=LONGEST_ROW).contains(outputs)) {
            None => Ok(()),
            Some(found) => Err(Error::Config(format!(
                "a dense layer has {found} outputs, expected 1 to {LONGEST_ROW}"
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> ModelConfig {
        ModelConfig {
            family: Family::Qwen3,
            head: Head::LastPooling,
            token_heads: TokenHeads::default(),
            bidirectional: false,
            dense: Vec::new(),
            hidden: 32,
            layers: 3,
            heads: 2,
            kv_heads: 1,
            head_dim: 16,
            intermediate: 96,
            vocab: 647,
            max_positions: 4096,
            type_vocab: 0,
            norm_eps: 1e-6,
            rope_theta: 1e6,
            pad_id: 0,
            stored_prefix: 0,
        }
    }

    #[track_caller]
    fn refused(config: &ModelConfig, part: &str) {
        let error = config.validate().unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }

    /// Every layer has a dozen names: sixteen million would take gigabytes before a weight is missed.
    #[test]
    fn more_layers_than_any_model_has() {
        config().validate().unwrap();
        ModelConfig { layers: 1024, ..config() }.validate().unwrap();
        refused(&ModelConfig { layers: 1025, ..config() }, "layers is 1025, expected at most 1024");
    }

    #[test]
    fn token_heads_belong_to_embedders() {
        let both = TokenHeads { sparse: true, colbert: 32 };
        ModelConfig { token_heads: both, ..config() }.validate().unwrap();
        let reranker = ModelConfig { token_heads: both, head: Head::YesNo, ..config() };
        refused(&reranker, "beside the head yes-no");
        let wide = TokenHeads { colbert: LONGEST_ROW + 1, ..both };
        refused(&ModelConfig { token_heads: wide, ..config() }, "colbert is 65537");
    }

    #[test]
    fn dense_layers_belong_to_poolings() {
        let layer = |outputs| DenseLayer { outputs, activation: DenseActivation::Tanh, bias: true };
        let with = |dense| ModelConfig { dense, ..config() };
        let two = with(vec![layer(96), layer(16)]);
        two.validate().unwrap();
        assert_eq!((two.outputs(), config().outputs()), (16, 32));
        refused(&with(vec![layer(0)]), "has 0 outputs");
        refused(&with(vec![layer(LONGEST_ROW + 1)]), "expected 1 to 65536");
        refused(&with(vec![layer(8); MOST_DENSE + 1]), "17 dense layers");
        refused(&ModelConfig { head: Head::YesNo, ..two }, "after the head yes-no");
        for activation in DenseActivation::ALL {
            assert_eq!(DenseActivation::by_name(activation.name()), Some(activation));
        }
    }

    #[test]
    fn only_decoders_can_lose_their_mask_and_with_it_what_prompts_share() {
        assert!(config().is_causal() && config().shares_prefixes());
        let without = ModelConfig { bidirectional: true, ..config() };
        without.validate().unwrap();
        assert!(!without.is_causal() && !without.shares_prefixes());
        refused(&ModelConfig { stored_prefix: 3, ..without.clone() }, "needs a causal model");
        let encoder = ModelConfig { family: Family::Bert, kv_heads: 2, type_vocab: 2, ..without };
        refused(&encoder, "bidirectional as it is");
    }

    /// The first was found by fuzzing; each would turn every score into NaN or into the same number.
    #[test]
    fn numbers_that_make_no_sense() {
        for rope_theta in [0.0, -1.0, f32::INFINITY, f32::NAN] {
            refused(&ModelConfig { rope_theta, ..config() }, "rope_theta is");
        }
        for norm_eps in [-1.0, f32::INFINITY, f32::NAN] {
            refused(&ModelConfig { norm_eps, ..config() }, "norm_eps is");
        }
    }
}
