//! The dimensions and variants of a model, as plain values.

use crate::architecture::{FeedForward, Placed, Positions};
use crate::{Attention, DenseLayer, Error, Family, Head, TokenHeads};

/// Everything the forward pass needs to know besides the weights.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelConfig {
    /// The architecture.
    pub family: Family,
    /// The head, which makes answers of hidden states.
    pub head: Head,
    /// Heads that answer for every token.
    pub token_heads: TokenHeads,
    /// Whether the tokens of a causal family see all tokens of their sequence, as an encoder's do: embedding models made of
    /// language models without their causal mask. Never set for other families.
    pub bidirectional: bool,
    /// Layers that the pooled vector goes through, in order; of poolings only.
    pub dense: Vec<DenseLayer>,
    /// Width of the hidden states.
    pub hidden: usize,
    /// The number of transformer layers.
    pub layers: usize,
    /// The number of query heads.
    pub heads: usize,
    /// The number of key-value heads.
    pub kv_heads: usize,
    /// Width of one head.
    pub head_dim: usize,
    /// Width of the feed-forward layer.
    pub intermediate: usize,
    /// Rows of the word embedding.
    pub vocab: usize,
    /// The most tokens that a sequence may have, without positions that are reserved.
    pub max_positions: usize,
    /// Rows of the token-type embedding; 0 if there is none.
    pub type_vocab: usize,
    /// Epsilon of the norms.
    pub norm_eps: f32,
    /// Base of the rotary frequencies.
    pub rope_theta: f32,
    /// Where attention departs from what the family's layers do otherwise.
    pub attention: Attention,
    /// Whether the language-model head is the table of words; of models with [`Head::LanguageModel`] only.
    pub tied: bool,
    /// Padding id, after which positions of some families start.
    pub pad_id: u32,
    /// Tokens of the stored prefix: a beginning of sequences whose keys and values lie beside each layer's weights. Only
    /// for models that share prefixes; 0 if there is none.
    pub stored_prefix: usize,
}

/// Sizes above this are no model we know, but would overflow or exhaust memory.
const LARGEST: usize = 1 << 24;

/// The most layers of a model. The deepest have 126; every layer costs memory for its names before any weight is looked
/// for.
const MOST_LAYERS: usize = 1024;

/// Longest row of an int8 matrix whose sums fit 32 bits: 255 * 128 * 65,536 is below 2^31.
const LONGEST_ROW: usize = 1 << 16;

/// The most layers after the pooling; published models have two.
const MOST_DENSE: usize = 16;

impl ModelConfig {
    /// Whether tokens see only what precedes them.
    pub fn is_causal(&self) -> bool {
        self.family.blueprint.causal && !self.bidirectional
    }

    /// Values of a sequence's answer: 1 logit, one for each token of a language model, or the length of the pooled vector
    /// after all layers.
    pub fn outputs(&self) -> usize {
        let pooled = match self.head {
            Head::LanguageModel => self.vocab,
            head if head.is_pooling() => self.hidden,
            _ => 1,
        };
        self.dense.last().map_or(pooled, |layer| layer.outputs)
    }

    /// Whether sequences may share what they begin with: tokens see only what precedes them, and the answer is read at
    /// the end.
    pub fn shares_prefixes(&self) -> bool {
        self.is_causal()
            && matches!(self.head, Head::YesNo | Head::LanguageModel | Head::LastPooling)
    }

    /// Rows of the table of positions.
    pub fn position_rows(&self) -> usize {
        self.max_positions + self.family.blueprint.positions.reserved(self.pad_id)
    }

    /// Values of one row of a layer's stored prefix: `[k heads | v heads]`.
    pub fn stored_row(&self) -> usize {
        2 * self.kv_heads * self.head_dim
    }

    /// Multiply-adds of a token in the linear layers of the body; the last layer's are counted in full, though most heads
    /// need them for one token only.
    pub fn multiply_adds(&self) -> usize {
        let groups = crate::parts::plan(self, &crate::parts::Naming::default());
        let parts = groups.iter().flat_map(|group| &group.parts);
        let linear = parts.filter(|part| part.storage == crate::parts::Storage::Linear);
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
        if self.bidirectional && !self.family.blueprint.causal {
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
        if self.tied && self.head != Head::LanguageModel {
            return Err(Error::Config(
                "only a language model's head can be its table of words".into(),
            ));
        }
        self.attention.validate()?;
        self.validate_family()
    }

    /// Whether its layers compute nothing but what the first families' do: norms before or after, full attention by plain
    /// angles, the usual scale, and an answer a sequence.
    pub fn is_plain(&self) -> bool {
        let blueprint = &self.family.blueprint;
        self.attention == Attention::default()
            && self.head != Head::LanguageModel
            && blueprint.placed != Placed::Sandwich
            && blueprint.feed_forward != FeedForward::GeGluTanh
            && !blueprint.embedding_scale
    }

    /// Refuses what the family has not, or cannot do.
    fn validate_family(&self) -> Result<(), Error> {
        let blueprint = &self.family.blueprint;
        let refuse = |message: String| Err(Error::Config(message));
        if blueprint.positions == Positions::Rotary && !self.head_dim.is_multiple_of(2) {
            let found = self.head_dim;
            return refuse(format!("head_dim must be even to rotate, it is {found}"));
        }
        let whole = self.heads * self.head_dim == self.hidden && self.heads == self.kv_heads;
        if !blueprint.causal && !whole {
            return refuse(format!(
                "an encoder's {} heads of {} must make up the hidden size {}",
                self.heads, self.head_dim, self.hidden
            ));
        }
        if blueprint.token_types && !(1..=LARGEST).contains(&self.type_vocab) {
            return refuse("an encoder needs a token-type embedding".into());
        }
        match self.head {
            Head::Classifier if blueprint.classifier.is_none() => {
                refuse("a decoder with a classifier head is not supported".into())
            }
            Head::YesNo | Head::LanguageModel if !self.is_causal() => refuse(format!(
                "a model that sees what follows, with the head {}, is not supported",
                self.head.name()
            )),
            _ => Ok(()),
        }
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
    use crate::DenseActivation;

    fn config() -> ModelConfig {
        ModelConfig {
            family: Family::by_name("qwen3").unwrap(),
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
            attention: Attention::default(),
            tied: false,
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
        let encoder = ModelConfig {
            family: Family::by_name("bert").unwrap(),
            kv_heads: 2,
            type_vocab: 2,
            ..without
        };
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
