//! Architectures: what a family of models computes and what its checkpoints look like, a file each, as data.
//!
//! ```text
//! Architecture
//!   blueprint   what a layer computes           read by parts, by every runtime and by calibration
//!   files       config.json, names of tensors   read by pack and by synth
//!   presets     models of it in true sizes      read by synth
//! ```
//!
//! The table `ALL` lists them. Nothing else in the house asks which family a model is of: it asks for what the blueprint and the
//! files say. A new family is a new file here, its line in `ALL`, and its golden outputs; where it computes something that
//! no family did before, the blueprint gets a word for that, and the runtimes that know the word run it.

mod bert;
mod distilbert;
mod gemma3;
mod llama;
mod qwen2;
mod qwen3;
mod roberta;
mod xlm_roberta;

use std::fmt;
use std::ops::Deref;

use crate::{Attention, DenseActivation, Head};

/// Every architecture.
const ALL: [&Architecture; 9] = [
    &bert::BERT,
    &xlm_roberta::XLM_ROBERTA,
    &roberta::ROBERTA,
    &roberta::CAMEMBERT,
    &distilbert::DISTILBERT,
    &qwen2::QWEN2,
    &qwen3::QWEN3,
    &llama::LLAMA,
    &gemma3::GEMMA3,
];

/// A family of models.
#[derive(Debug)]
pub struct Architecture {
    /// The `model_type` of config.json; also its name in snapshots.
    pub name: &'static str,
    /// Other `model_type`s that mean the same.
    pub aliases: &'static [&'static str],
    /// The arithmetic of the family's layers.
    pub blueprint: Blueprint,
    /// The form of the family's checkpoints.
    pub files: Files,
    /// Well-known models of the family, the one that stands for it first.
    pub presets: &'static [Preset],
}

/// What the layers of a model compute, beside sizes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "independent facts")]
pub struct Blueprint {
    /// The norm of hidden states.
    pub norm: Norm,
    /// The place of the norms in a layer.
    pub placed: Placed,
    /// The way in which a token's place enters.
    pub positions: Positions,
    /// Whether tokens have types, whose vectors are added to the words'.
    pub token_types: bool,
    /// Whether the sum of a token's vectors is normalised before the first layer.
    pub embedding_norm: bool,
    /// Whether the sum of a token's vectors is multiplied with the square root of the hidden size (Gemma).
    pub embedding_scale: bool,
    /// Whether hidden states are normalised after the last layer.
    pub final_norm: bool,
    /// Whether tokens see only what precedes them, unless a model says otherwise ([`crate::ModelConfig::bidirectional`]).
    pub causal: bool,
    /// The products that have a bias.
    pub biases: Biases,
    /// Whether queries and keys are normalised head by head.
    pub head_norms: bool,
    /// The feed-forward layer.
    pub feed_forward: FeedForward,
    /// The activation of the classifier's hidden layer; `None` if the family has no classifier that is known.
    pub classifier: Option<DenseActivation>,
}

/// A norm of rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Norm {
    /// `(x - mean) / sqrt(variance + eps) * weight + bias`.
    Layer,
    /// `x / sqrt(mean(x^2) + eps) * weight`.
    Rms,
}

/// Where a layer normalises.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Placed {
    /// The norms are taken of what enters attention and feed-forward layer: `x += f(norm(x))`.
    Pre,
    /// The norms are taken of what comes out: `x = norm(x + f(x))`.
    Post,
    /// Both: `x += norm_after(f(norm(x)))`.
    Sandwich,
}

/// How a token's place enters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Positions {
    /// A learned vector for each place, from 0 on.
    Learned,
    /// The same, from the place after the padding id on; a literal padding token has the padding id's and is not counted
    /// (`create_position_ids_from_input_ids` of `transformers`).
    LearnedAfterPadding,
    /// Queries and keys are turned by angles that grow with the place.
    Rotary,
}

impl Positions {
    /// Rows of the table before the first token's.
    pub fn reserved(self, pad_id: u32) -> usize {
        if self == Self::LearnedAfterPadding { pad_id as usize + 1 } else { 0 }
    }

    /// Whether there is a table of them.
    pub fn are_learned(self) -> bool {
        self != Self::Rotary
    }

    /// The row of the table for each of a sequence's tokens.
    pub fn rows(self, pad_id: u32, ids: &[u32]) -> impl Iterator<Item = usize> + '_ {
        let mut next = self.reserved(pad_id);
        ids.iter().map(move |&id| {
            if self == Self::LearnedAfterPadding && id == pad_id {
                return pad_id as usize;
            }
            next += 1;
            next - 1
        })
    }
}

/// Which products have a bias.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Biases {
    /// Whether those of queries, keys and values have one.
    pub qkv: bool,
    /// Whether the output projection of attention has one.
    pub out: bool,
    /// Whether those of the feed-forward layer have one.
    pub feed_forward: bool,
}

impl Biases {
    /// Every product has a bias.
    pub const ALL: Self = Self { qkv: true, out: true, feed_forward: true };
    /// No product has a bias.
    pub const NONE: Self = Self { qkv: false, out: false, feed_forward: false };
}

/// A feed-forward layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FeedForward {
    /// `down(gelu(up(x)))`, GELU with the error function.
    Gelu,
    /// `down(silu(gate(x)) * up(x))`.
    SwiGlu,
    /// `down(gelu(gate(x)) * up(x))`, GELU by its approximation with tanh.
    GeGluTanh,
}

impl FeedForward {
    /// Whether a gate is multiplied beside the way up.
    pub fn is_gated(self) -> bool {
        self != Self::Gelu
    }

    /// What its way up is called in snapshots.
    pub fn up(self) -> &'static str {
        if self.is_gated() { "gate_up" } else { "up" }
    }

    /// What config.json calls its activation; the first is the usual name.
    pub fn activation_names(self) -> &'static [&'static str] {
        match self {
            Self::Gelu => &["gelu", "gelu_python"],
            Self::SwiGlu => &["silu", "swish"],
            Self::GeGluTanh => &["gelu_pytorch_tanh"],
        }
    }
}

/// What the checkpoints of a family look like.
#[derive(Debug)]
pub struct Files {
    /// Keys of config.json that other families call otherwise: its own name and theirs.
    pub keys: &'static [(&'static str, &'static str)],
    /// Keys of config.json that no other family has and that change nothing when a model is run.
    pub harmless: &'static [&'static str],
    /// Keys that must have this value, or be absent: what another value means is not implemented.
    pub only: &'static [(&'static str, bool)],
    /// Values of keys that config.json may leave out.
    pub defaults: Defaults,
    /// The prefixes that the names of the transformer's tensors may have: a bare model's, then that of one with a head.
    pub prefixes: &'static [&'static str],
    /// The beginnings of the names of tensors that only training needs.
    pub unused: &'static [&'static str],
    /// Names of tensors, without `.weight` and `.bias`.
    pub names: Names,
    /// What is added to the weights of norms of a Hugging Face checkpoint: Gemma's are stored less one.
    pub norm_offset: f32,
    /// Whether config.json says which layers see a window only, with angles of their own, and by what scores are scaled.
    pub local_layers: bool,
    /// The family in GGUF files; `None`: those are not read.
    pub gguf: Option<Gguf>,
    /// The tokenizer's class, without `Tokenizer` and `Fast`, where no file names one.
    pub tokenizer: &'static str,
    /// The classes of `transformers`: of the bare model, and of the one that this project's rerankers are.
    pub classes: [&'static str; 2],
    /// The template where no file says it: that of this family's rerankers, by which query and document are put together, or
    /// `chat`.
    pub template: &'static str,
    /// Whether published rerankers keep the chat template of the model that they were made from, which is not theirs.
    pub keeps_chat_template: bool,
}

impl Files {
    /// What the family calls a key of config.json that others call so.
    pub fn own_key<'a>(&self, usual: &'a str) -> &'a str {
        self.keys.iter().find(|(_, known)| *known == usual).map_or(usual, |(own, _)| own)
    }
}

/// What a family is in GGUF files.
#[derive(Debug)]
pub struct Gguf {
    /// The values of `general.architecture`.
    pub architectures: &'static [&'static str],
    /// Names of tensors, without `.weight` and `.bias`.
    pub names: &'static Names,
    /// Whether the rows of each query and key head lie in the order of pairs that are turned together, as llama.cpp turns
    /// Llama's, and not in that of Hugging Face.
    pub paired_heads: bool,
}

/// What holds where config.json does not say.
#[derive(Debug)]
pub struct Defaults {
    /// Epsilon of the norms.
    pub norm_eps: f32,
    /// Rows of the table of token types.
    pub type_vocab: usize,
    /// The padding id.
    pub pad_id: u32,
    /// Width of a head; `None`: the hidden size over the number of heads.
    pub head_dim: Option<usize>,
    /// Whether the language-model head is the table of words.
    pub tied: bool,
}

/// Names of tensors in checkpoints.
#[derive(Debug)]
pub struct Names {
    /// The table of words.
    pub words: &'static str,
    /// The table of positions; empty if there is none.
    pub positions: &'static str,
    /// The table of token types; empty if there is none.
    pub types: &'static str,
    /// The norm before the first layer; empty if there is none.
    pub embedding_norm: &'static str,
    /// The prefix of the names in a layer; `{}` is the layer's number.
    pub layer: &'static str,
    /// Queries, keys and values.
    pub qkv: [&'static str; 3],
    /// The output projection of attention.
    pub out: &'static str,
    /// The norm of attention.
    pub attention_norm: &'static str,
    /// The norm of what attention gives, where there are norms before and after; empty if there is none.
    pub after_attention_norm: &'static str,
    /// Norms of query and key heads; empty if there are none.
    pub head_norms: [&'static str; 2],
    /// The way up of the feed-forward layer, after the gate if there is one.
    pub up: &'static [&'static str],
    /// The way down of the feed-forward layer.
    pub down: &'static str,
    /// The norm of the feed-forward layer.
    pub output_norm: &'static str,
    /// The norm of what the feed-forward layer gives, as of attention.
    pub after_feed_forward_norm: &'static str,
    /// The norm after the last layer; empty if there is none.
    pub final_norm: &'static str,
    /// The classifier's hidden layer, `{}` being the transformer's prefix, and its output; empty if there is none.
    pub classifier: [&'static str; 2],
}

/// A model in its true size.
#[derive(Debug)]
pub struct Preset {
    /// The name of the model in lower case.
    pub name: &'static str,
    /// The head of the model.
    pub head: Head,
    /// Whether the model has the heads of BGE-M3 for every token.
    pub token_heads: bool,
    /// Width of the hidden states.
    pub hidden: usize,
    /// The number of transformer layers.
    pub layers: usize,
    /// The number of query heads.
    pub heads: usize,
    /// The number of key-value heads.
    pub kv_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Width of the feed-forward layer.
    pub intermediate: usize,
    /// Rows of the table of words.
    pub vocab: usize,
    /// The most tokens that a sequence may have.
    pub max_positions: usize,
    /// Rows of the table of token types.
    pub type_vocab: usize,
    /// Epsilon of the norms.
    pub norm_eps: f32,
    /// Base of the rotary frequencies.
    pub rope_theta: f32,
    /// Where attention departs from what the family's layers do otherwise.
    pub attention: Attention,
    /// The padding id.
    pub pad_id: u32,
}

/// One of the table; families are equal if they are the same.
#[derive(Clone, Copy)]
pub struct Family(&'static Architecture);

impl Family {
    /// Every family.
    pub fn all() -> impl Iterator<Item = Self> {
        ALL.into_iter().map(Self)
    }

    /// The family of that `model_type`.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::all().find(|family| family.name == name || family.aliases.contains(&name))
    }

    /// Every model that is known in its true size, and its family.
    pub fn presets() -> impl Iterator<Item = (Self, &'static Preset)> {
        Self::all().flat_map(|family| family.0.presets.iter().map(move |one| (family, one)))
    }

    /// The model of that name, and its family. The name of a family means the model that stands for it.
    pub fn preset(name: &str) -> Option<(Self, &'static Preset)> {
        let mut all =
            Self::all().flat_map(|family| family.0.presets.iter().map(move |one| (family, one)));
        let known = all.find(|(_, preset)| preset.name == name);
        known.or_else(|| {
            let family = Self::by_name(name)?;
            Some((family, family.0.presets.first()?))
        })
    }

    /// Whether this is the `model_type` of one.
    pub fn is_known(name: &str) -> bool {
        Self::by_name(name).is_some()
    }
}

impl Deref for Family {
    type Target = Architecture;

    fn deref(&self) -> &Architecture {
        self.0
    }
}

impl PartialEq for Family {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self.0, other.0)
    }
}

impl Eq for Family {}

impl fmt::Debug for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// What the blueprint says is there has a name in the files, and nothing else has.
    #[test]
    fn blueprints_and_names_agree() {
        for family in Family::all() {
            let (blueprint, names) = (&family.blueprint, &family.files.names);
            for (there, name) in [
                (blueprint.positions.are_learned(), names.positions),
                (blueprint.token_types, names.types),
                (blueprint.embedding_norm, names.embedding_norm),
                (blueprint.final_norm, names.final_norm),
                (blueprint.head_norms, names.head_norms[0]),
                (blueprint.head_norms, names.head_norms[1]),
                (blueprint.classifier.is_some(), names.classifier[0]),
                (blueprint.classifier.is_some(), names.classifier[1]),
                (blueprint.placed == Placed::Sandwich, names.after_attention_norm),
                (blueprint.placed == Placed::Sandwich, names.after_feed_forward_norm),
                (true, names.words),
            ] {
                assert_eq!(there, !name.is_empty(), "{family:?}: {name:?}");
            }
            assert_eq!(names.up.len(), 1 + usize::from(blueprint.feed_forward.is_gated()));
            assert!(names.layer.contains("{}") && !family.files.prefixes.is_empty());
            assert!(!family.presets.is_empty(), "{family:?} has no model to synthesise");
        }
    }

    #[test]
    fn names_are_unique() {
        let mut known = BTreeSet::new();
        for family in Family::all() {
            let presets = family.0.presets.iter().map(|preset| preset.name);
            for name in
                [family.name].into_iter().chain(family.aliases.iter().copied()).chain(presets)
            {
                assert!(known.insert(name), "{name} twice");
            }
        }
    }

    #[test]
    fn padding_has_a_place_of_its_own() {
        let rows = |positions: Positions| positions.rows(1, &[0, 7, 1, 8]).collect::<Vec<_>>();
        assert_eq!(rows(Positions::Learned), [0, 1, 2, 3]);
        assert_eq!(rows(Positions::LearnedAfterPadding), [2, 3, 1, 4]);
    }
}
