//! The weights of a model as a pass names them: addresses in the arena, and what they are there.
//!
//! Made once, before the bytes have arrived, so that what the kernels cannot run is refused at load, by the name of its part.

use defrost_loader::Dtype;
use defrost_model::architecture::{Norm as NormWord, Placed};
use defrost_model::{Error, Head, ModelConfig};

use crate::Address;
use crate::arena::Arena;
use crate::kernels::{Attention, Element, Gemm, Norm, NormKind, Table, TableKind};

/// The matrix of a product, with its bias.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Linear {
    pub(crate) n: u32,
    pub(crate) k: u32,
    pub(crate) element: Element,
    pub(crate) weight: Address,
    /// Of int8 rows.
    pub(crate) scales: Option<Address>,
    pub(crate) bias: Option<Address>,
}

impl Linear {
    /// Whether its inputs are int8.
    pub(crate) fn is_int8(&self) -> bool {
        self.element == Element::Int8
    }
}

/// The weights of a norm.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NormWeights {
    pub(crate) weight: Address,
    pub(crate) bias: Option<Address>,
}

/// A small layer in f32.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Small {
    pub(crate) n: u32,
    pub(crate) k: u32,
    pub(crate) weight: Address,
    pub(crate) bias: Option<Address>,
}

/// Tables whose rows are added, and the norm of their sum.
#[derive(Debug)]
pub(crate) struct Tables {
    pub(crate) words: Table,
    pub(crate) types: Option<Table>,
    pub(crate) positions: Option<Table>,
    pub(crate) norm: Option<NormWeights>,
}

/// A layer.
#[derive(Debug)]
pub(crate) struct Layer {
    pub(crate) attention_norm: NormWeights,
    pub(crate) qkv: Linear,
    /// The norms of queries and of keys, head by head.
    pub(crate) head_norms: Option<(Address, Address)>,
    pub(crate) out: Linear,
    pub(crate) output_norm: NormWeights,
    pub(crate) up: Linear,
    pub(crate) down: Linear,
    /// Keys and values of the stored prefix.
    pub(crate) stored: Option<Address>,
}

/// All weights of a model.
#[derive(Debug)]
pub(crate) struct Weights {
    pub(crate) tables: Tables,
    pub(crate) layers: Vec<Layer>,
    pub(crate) norm: Option<NormWeights>,
    /// The hidden and the last layer of a classifier.
    pub(crate) classifier: Option<[Small; 2]>,
    /// The rows of the words no and yes.
    pub(crate) no_yes: Option<Small>,
    /// Layers after a pooling.
    pub(crate) dense: Vec<Small>,
    pub(crate) sparse: Option<Small>,
    pub(crate) colbert: Option<Small>,
}

/// What the kernels call a family's norm.
pub(crate) fn norm_kind(config: &ModelConfig) -> NormKind {
    match config.family.blueprint.norm {
        NormWord::Layer => NormKind::Layer,
        NormWord::Rms => NormKind::Rms,
    }
}

/// A size as the kernels have it; no model has larger ones ([`ModelConfig::validate`]).
pub(crate) fn size(size: usize) -> u32 {
    u32::try_from(size).expect("sizes of models fit 32 bits")
}

impl Weights {
    /// Where the weights of such a model lie.
    ///
    /// # Errors
    /// If one is missing, or of a kind or size that there is no kernel for.
    pub(crate) fn find(arena: &Arena, config: &ModelConfig) -> Result<Self, Error> {
        let find = Find { arena, config };
        find.check()?;
        let (blueprint, hidden) = (&config.family.blueprint, config.hidden);
        let classifier = || {
            let dense = find.small("head.dense", hidden, hidden, true)?;
            Ok::<_, Error>([dense, find.small("head.out", 1, hidden, true)?])
        };
        let mut inputs = hidden;
        let dense = config.dense.iter().enumerate().map(|(at, layer)| {
            let own = find.small(&format!("head.dense.{at}"), layer.outputs, inputs, layer.bias);
            inputs = layer.outputs;
            own
        });
        let dense = dense.collect::<Result<_, _>>()?;
        let token_head = |name: &str, width: usize| {
            (width > 0).then(|| find.small(name, width, hidden, true)).transpose()
        };
        let no_yes = || {
            let weight = find.values("head.tokens.weight")?;
            Ok::<_, Error>(Small { n: 2, k: size(hidden), weight, bias: None })
        };
        Ok(Self {
            tables: find.tables()?,
            layers: (0..config.layers).map(|at| find.layer(at)).collect::<Result<_, _>>()?,
            norm: blueprint.final_norm.then(|| find.norm("norm")).transpose()?,
            classifier: (config.head == Head::Classifier).then(classifier).transpose()?,
            no_yes: (config.head == Head::YesNo).then(no_yes).transpose()?,
            dense,
            sparse: token_head("head.sparse", usize::from(config.token_heads.sparse))?,
            colbert: token_head("head.colbert", config.token_heads.colbert)?,
        })
    }
}

/// A model's tensors in the arena.
#[derive(Clone, Copy)]
struct Find<'a> {
    arena: &'a Arena,
    config: &'a ModelConfig,
}

impl Find<'_> {
    /// Refuses what no kernel computes, whatever the weights.
    fn check(self) -> Result<(), Error> {
        let (blueprint, width) = (&self.config.family.blueprint, self.config.head_dim);
        let refuse = |part: String, expected: String| {
            let name = self.config.family.name;
            Err(Error::Model(format!(
                "the GPU's kernels do not run this {name} model: {part}, expected {expected}; `{}` runs it",
                crate::device::WITHOUT_A_GPU
            )))
        };
        if !Attention::supports(size(width)) {
            let expected = "a multiple of 8 from 8 to 256".to_owned();
            return refuse(format!("its heads are {width} wide"), expected);
        }
        if self.config.hidden > Norm::WIDEST as usize {
            let part = format!("its hidden states have {} values", self.config.hidden);
            return refuse(part, format!("at most {}", Norm::WIDEST));
        }
        if blueprint.placed == Placed::Post && !blueprint.embedding_norm {
            let part = "it normalises after each step, but not before the first layer".to_owned();
            return refuse(part, "a norm of the embedding".to_owned());
        }
        Ok(())
    }

    fn any(self, name: &str) -> Result<(Address, Dtype), Error> {
        self.arena.find(name).ok_or_else(|| Error::Missing { name: name.to_owned() })
    }

    /// Values of f32.
    fn values(self, name: &str) -> Result<Address, Error> {
        match self.any(name)? {
            (at, Dtype::F32) => Ok(at),
            (_, other) => Err(Error::mismatch(name, "f32 elements", other.to_string())),
        }
    }

    fn linear(self, name: &str, n: usize, k: usize, bias: bool) -> Result<Linear, Error> {
        let weight_name = format!("{name}.weight");
        let (weight, dtype) = self.any(&weight_name)?;
        let element = match dtype {
            Dtype::Bf16 => Element::Bf16,
            Dtype::F16 => Element::F16,
            Dtype::I8 => Element::Int8,
            other => {
                let found = other.to_string();
                return Err(Error::mismatch(&weight_name, "int8, bf16 or f16 elements", found));
            }
        };
        if !Gemm::supports(element, size(k)) {
            let expected = format!("rows of a multiple of {}, for the GPU", element.granule());
            return Err(Error::mismatch(&weight_name, expected, format!("rows of {k}")));
        }
        let scales = (element == Element::Int8)
            .then(|| self.values(&format!("{name}.scale")))
            .transpose()?;
        let bias = bias.then(|| self.values(&format!("{name}.bias"))).transpose()?;
        Ok(Linear { n: size(n), k: size(k), element, weight, scales, bias })
    }

    fn small(self, name: &str, n: usize, k: usize, bias: bool) -> Result<Small, Error> {
        let bias = bias.then(|| self.values(&format!("{name}.bias"))).transpose()?;
        Ok(Small { n: size(n), k: size(k), weight: self.values(&format!("{name}.weight"))?, bias })
    }

    fn norm(self, name: &str) -> Result<NormWeights, Error> {
        let bias = norm_kind(self.config) == NormKind::Layer;
        Ok(NormWeights {
            weight: self.values(&format!("{name}.weight"))?,
            bias: bias.then(|| self.values(&format!("{name}.bias"))).transpose()?,
        })
    }

    fn table(self, name: &str) -> Result<Table, Error> {
        let weight_name = format!("{name}.weight");
        let (address, dtype) = self.any(&weight_name)?;
        let kind = match dtype {
            Dtype::F32 => TableKind::F32,
            Dtype::Bf16 => TableKind::Bf16,
            Dtype::F16 => TableKind::F16,
            Dtype::I8 => TableKind::Int8,
            other => {
                let expected = "int8, bf16, f16 or f32 elements";
                return Err(Error::mismatch(&weight_name, expected, other.to_string()));
            }
        };
        let scales =
            (kind == TableKind::Int8).then(|| self.values(&format!("{name}.scale"))).transpose()?;
        Ok(Table { address, kind, scales })
    }

    fn tables(self) -> Result<Tables, Error> {
        let blueprint = &self.config.family.blueprint;
        let table = |there: bool, name: &str| there.then(|| self.table(name)).transpose();
        Ok(Tables {
            words: self.table("embedding.words")?,
            types: table(blueprint.token_types, "embedding.types")?,
            positions: table(blueprint.positions.are_learned(), "embedding.positions")?,
            norm: blueprint.embedding_norm.then(|| self.norm("embedding.norm")).transpose()?,
        })
    }

    fn layer(self, at: usize) -> Result<Layer, Error> {
        let ModelConfig { hidden, intermediate, heads, kv_heads, head_dim, .. } = *self.config;
        let blueprint = &self.config.family.blueprint;
        let (gated, biases) = (blueprint.feed_forward.is_gated(), blueprint.biases);
        let name = |part: &str| format!("layer.{at}.{part}");
        let ups = if gated { 2 * intermediate } else { intermediate };
        let head_norm = |part: &str| self.values(&name(&format!("{part}.weight")));
        let head_norms = || Ok::<_, Error>((head_norm("query_norm")?, head_norm("key_norm")?));
        let stored = || self.any(&name("prefix")).map(|(at, _)| at);
        Ok(Layer {
            attention_norm: self.norm(&name("attention_norm"))?,
            qkv: self.linear(
                &name("qkv"),
                (heads + 2 * kv_heads) * head_dim,
                hidden,
                biases.qkv,
            )?,
            head_norms: blueprint.head_norms.then(head_norms).transpose()?,
            out: self.linear(&name("out"), hidden, heads * head_dim, biases.out)?,
            output_norm: self.norm(&name("output_norm"))?,
            up: self.linear(
                &name(blueprint.feed_forward.up()),
                ups,
                hidden,
                biases.feed_forward,
            )?,
            down: self.linear(&name("down"), hidden, intermediate, biases.feed_forward)?,
            stored: (self.config.stored_prefix > 0).then(stored).transpose()?,
        })
    }
}
