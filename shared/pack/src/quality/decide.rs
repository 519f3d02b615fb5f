//! Walks a checkpoint layer by layer with the built-in texts and decides about each product.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use defrost_engine::layout::quantize_rows;
use defrost_engine::{Encoding, Kernel, LayerPass, Probe, ProbedProduct, Threads};
use defrost_model::architecture::Placed;
use defrost_model::parts::{Group, Part, Storage};
use defrost_model::{ModelConfig, Precision, Tokens, isa};

use super::equalise::Product;
use super::measure::{Machine, distance, measure, spreads};
use super::report::{Entry, WORDS};
use super::{TOO_MUCH, TOO_MUCH_OF_WORDS, Treatment, texts};
use crate::Error;
use crate::checkpoint::FromCheckpoint;
use crate::formats::{Checkpoint, CheckpointTensor, to_f32};
use crate::pack::{Tensors, values};

/// Decides about every product of the model. `progress` is called with each layer's values once
/// it is done.
pub(crate) fn decide(
    checkpoint: &Checkpoint,
    source: &FromCheckpoint,
    groups: &[Group],
    progress: &mut dyn FnMut(usize),
) -> Result<Treatment, Error> {
    let config = &source.spec.config;
    let sequences = texts::sequences(&source.spec, &source.tokenizer)?;
    let lengths: Vec<usize> = sequences.iter().map(|tokens| tokens.ids.len()).collect();
    let mut walk = Walk {
        config,
        machine: Machine { kernel: Kernel::detect(), threads: Threads::new(None) },
        treatment: Treatment::default(),
    };
    let embedding = Embedding::of(checkpoint, config, groups);
    walk.words(&embedding, &sequences)?;
    let states = embedding.states(&sequences)?;
    let mut pass = LayerPass::new(config, &states, &lengths, Kernel::detect(), Threads::new(None))?;
    let embedded = groups.iter().filter(|group| group.name == "embedding");
    let norms =
        embedded.flat_map(|group| &group.parts).filter(|part| part.storage == Storage::Vector);
    pass.normalise(&exact(norms, checkpoint)?)?;
    for (at, group) in groups.iter().filter(|group| group.name.starts_with("layer.")).enumerate() {
        let mut parts = BTreeMap::new();
        let mut count = 0;
        for part in &group.parts {
            let values = values(checkpoint, part)?;
            count += values.len();
            let name = part.name.strip_prefix(&format!("layer.{at}.")).unwrap_or(&part.name);
            parts.insert(name.to_owned(), values);
        }
        let weights = exact(group.parts.iter(), checkpoint)?;
        pass.layer(&weights, &mut Watching { walk: &mut walk, layer: &Layer { at, parts } })?;
        if !pass.states().iter().all(|value| value.is_finite()) {
            // Such a model scores nothing, which the engine says when asked; no error can be measured.
            return Ok(Treatment::default());
        }
        progress(count);
    }
    Ok(walk.treatment)
}

/// Parts as the engine's weights, in f32.
fn exact<'a>(
    parts: impl Iterator<Item = &'a Part>,
    checkpoint: &Checkpoint,
) -> Result<Tensors, Error> {
    let none = BTreeSet::new();
    let encoding = Encoding { precision: Precision::F32, isa: isa::NATIVE, bf16: &none };
    let mut tensors = Vec::new();
    for part in parts {
        let bytes = encoding.fill(part, values(checkpoint, part)?).into_iter().map(Bytes::from);
        tensors.extend(encoding.plan(part).into_iter().zip(bytes));
    }
    Ok(Tensors(tensors))
}

/// One layer's values by part name.
struct Layer {
    at: usize,
    parts: BTreeMap<String, Vec<f32>>,
}

impl Layer {
    fn get(&self, part: &str) -> &[f32] {
        self.parts.get(part).map_or(&[], Vec::as_slice)
    }

    fn name(&self, part: &str) -> String {
        format!("layer.{}.{part}", self.at)
    }
}

/// What decides about the products of a layer while a pass runs it.
struct Watching<'a, 'b> {
    walk: &'a mut Walk<'b>,
    layer: &'a Layer,
}

impl Probe for Watching<'_, '_> {
    /// Every product is measured, and goes on to fifteen bits.
    fn product(&mut self, product: &ProbedProduct<'_>, out: &mut [f32]) -> bool {
        let config = self.walk.config;
        let (sections, inverse) = treated(config, product.name);
        let y = self.walk.product(self.layer, product, &sections, inverse);
        out.copy_from_slice(&y);
        true
    }
}

/// The heights of the matrices that make up a product, and where scales of its inputs would go.
fn treated(config: &ModelConfig, product: &str) -> (Vec<usize>, Inverse<'static>) {
    let blueprint = &config.family.blueprint;
    let width = config.head_dim;
    let (queries, keys) = (config.heads * width, config.kv_heads * width);
    let (hidden, inner, up) = (config.hidden, config.intermediate, blueprint.feed_forward.up());
    // What leaves a norm goes elsewhere too where it is placed after the sum.
    let normed = |norm| match blueprint.placed {
        Placed::Pre | Placed::Sandwich => Inverse::Norm(norm),
        Placed::Post => Inverse::None,
    };
    match product {
        "qkv" => (vec![queries, keys, keys], normed("attention_norm")),
        "out" => (vec![hidden], Inverse::Rows { of: "qkv", first: queries + keys }),
        "down" if blueprint.feed_forward.is_gated() => {
            (vec![hidden], Inverse::Rows { of: up, first: inner })
        }
        "down" => (vec![hidden], Inverse::None),
        _ if blueprint.feed_forward.is_gated() => (vec![inner; 2], normed("output_norm")),
        _ => (vec![inner], normed("output_norm")),
    }
}

/// Where the scales of a product's inputs go.
#[derive(Clone, Copy)]
enum Inverse<'a> {
    /// The scales go nowhere: the inputs also go elsewhere, or are not linear in any weight.
    None,
    /// The scales go into a norm's weight.
    Norm(&'a str),
    /// The scales go into rows of a product and its bias, from the row `first` on.
    Rows { of: &'a str, first: usize },
}

struct Walk<'a> {
    config: &'a ModelConfig,
    machine: Machine,
    treatment: Treatment,
}

impl Walk<'_> {
    /// Decides about the table of words.
    fn words(&mut self, embedding: &Embedding<'_>, sequences: &[Tokens]) -> Result<(), Error> {
        let ids: BTreeSet<u32> = sequences.iter().flat_map(|tokens| &tokens.ids).copied().collect();
        let mut rows = Vec::new();
        for id in ids {
            rows.extend(embedding.row("words.weight", id as usize)?);
        }
        let width = self.config.hidden;
        let (codes, scales) = quantize_rows(&rows, width);
        let rounded: Vec<f32> = codes
            .chunks_exact(width)
            .zip(scales)
            .flat_map(|(row, scale)| row.iter().map(move |&q| f32::from(q) * scale))
            .collect();
        let error = distance(&rounded, &rows, width, &spreads(&rows, width));
        self.decided(WORDS.to_owned(), None, error, error, TOO_MUCH_OF_WORDS);
        Ok(())
    }

    /// Notes a decision; says whether the product stays int8.
    fn decided(
        &mut self,
        product: String,
        exponent: Option<f32>,
        before: f32,
        after: f32,
        most: f32,
    ) -> bool {
        let int8 = after <= most;
        self.treatment.report.0.push(Entry {
            product,
            exponent: exponent.filter(|_| int8).map(hundredths),
            before: hundredths(before * 100.0),
            after: int8.then(|| hundredths(after * 100.0)),
        });
        int8
    }

    /// Decides about one product and returns its outputs, without bias.
    fn product(
        &mut self,
        layer: &Layer,
        product: &ProbedProduct<'_>,
        sections: &[usize],
        inverse: Inverse<'_>,
    ) -> Vec<f32> {
        let &ProbedProduct { name, x, residual } = product;
        let weight = format!("{name}.weight");
        let weights = layer.get(&weight);
        let k = weights.len() / sections.iter().sum::<usize>();
        let slots = (name == "out").then(|| value_slots(self.config));
        let product = Product { x, weights, k, slots: slots.as_deref() };
        let foldable = !matches!(inverse, Inverse::None);
        let measured = measure(&self.machine, product, sections, foldable, residual);
        let exponent = measured.scales.as_ref().map(|scales| scales.exponent);
        let product_name = format!("{}.{name}", layer.at);
        let int8 = self.decided(product_name, exponent, measured.before, measured.after, TOO_MUCH);
        let scales = measured.scales.as_ref().filter(|_| int8);
        if let Some(scales) = scales {
            self.treatment.columns(&layer.name(&weight), product.spread(scales));
            match inverse {
                Inverse::None => {}
                Inverse::Norm(norm) => {
                    let norm = format!("{norm}.weight");
                    self.treatment.divide_rows(&layer.name(&norm), k, 0, &scales.values);
                }
                Inverse::Rows { of, first } => {
                    let bias = format!("{of}.bias");
                    let weight = format!("{of}.weight");
                    let rows = first + scales.values.len();
                    self.treatment.divide_rows(&layer.name(&weight), rows, first, &scales.values);
                    if !layer.get(&bias).is_empty() {
                        self.treatment.divide_rows(&layer.name(&bias), rows, first, &scales.values);
                    }
                }
            }
        }
        measured.y
    }
}

/// The scale that each input of `out` takes: query heads of one key-value head share its values'.
fn value_slots(config: &ModelConfig) -> Vec<usize> {
    let (width, shared) = (config.head_dim, config.heads / config.kv_heads);
    (0..config.heads * width).map(|at| at / width / shared * width + at % width).collect()
}

fn add(x: &mut [f32], y: &[f32]) {
    x.iter_mut().zip(y).for_each(|(x, y)| *x += y);
}

/// A ratio in hundredths; errors above some thousand percent are all the same.
fn hundredths(value: f32) -> u32 {
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "clamped to 0..=999,999"
    )]
    let rounded = (value * 100.0).round().clamp(0.0, 999_999.0) as u32;
    rounded
}

/// The tables before the first layer, of which few rows are read.
struct Embedding<'a> {
    checkpoint: &'a Checkpoint,
    config: &'a ModelConfig,
    parts: BTreeMap<&'a str, &'a Part>,
}

impl<'a> Embedding<'a> {
    fn of(checkpoint: &'a Checkpoint, config: &'a ModelConfig, groups: &'a [Group]) -> Self {
        let parts = groups
            .iter()
            .flat_map(|group| &group.parts)
            .filter_map(|part| Some((part.name.strip_prefix("embedding.")?, part)))
            .collect();
        Self { checkpoint, config, parts }
    }

    fn row(&self, table: &str, index: usize) -> Result<Vec<f32>, Error> {
        let source = self.parts.get(table).and_then(|part| part.sources.first());
        let tensor = source.and_then(|source| self.checkpoint.get(source)).ok_or_else(|| {
            Error::Model(format!("the checkpoint has no tensor for embedding.{table}"))
        })?;
        let rows = tensor.shape.first().copied().unwrap_or(0);
        if index >= rows || tensor.shape.get(1) != Some(&self.config.hidden) {
            return Err(Error::Model(format!(
                "embedding.{table} has shape {:?}, expected row {index} of {} values",
                tensor.shape, self.config.hidden
            )));
        }
        let len = tensor.bytes.len() / rows;
        let bytes = tensor.bytes.slice(index * len..(index + 1) * len);
        let blocks = tensor.blocks;
        let (dtype, shape) = (tensor.dtype, vec![self.config.hidden]);
        let row = CheckpointTensor { dtype, shape, bytes, blocks };
        Ok(to_f32(&row)?)
    }

    /// The sums that enter the first layer, or the norm before it.
    fn states(&self, sequences: &[Tokens]) -> Result<Vec<f32>, Error> {
        let (config, blueprint) = (self.config, &self.config.family.blueprint);
        let mut x = Vec::new();
        for tokens in sequences {
            let places = blueprint.positions.rows(config.pad_id, &tokens.ids);
            for ((at, &id), place) in tokens.ids.iter().enumerate().zip(places) {
                let mut hidden = self.row("words.weight", id as usize)?;
                if blueprint.token_types {
                    let kind = tokens.types.get(at).copied().unwrap_or(0);
                    add(&mut hidden, &self.row("types.weight", kind as usize)?);
                }
                if blueprint.positions.are_learned() {
                    add(&mut hidden, &self.row("positions.weight", place)?);
                }
                x.extend(hidden);
            }
        }
        Ok(x)
    }
}
