//! Walks a checkpoint layer by layer with the built-in texts and decides about each product.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use defrost_engine::layout::quantize_rows;
use defrost_engine::plan::{Group, Part};
use defrost_engine::{Family, Kernel, ModelConfig, Threads};
use defrost_loader::{Checkpoint, CheckpointTensor, to_f32};

use super::equalise::Product;
use super::forward::{add_bias, attention, gelu, layer_norm, rms_norm, rotate, swiglu};
use super::measure::{Machine, distance, measure, spreads};
use super::report::{Entry, WORDS};
use super::{TOO_MUCH, TOO_MUCH_OF_WORDS, Treatment, texts};
use crate::Error;
use crate::pack::values;
use crate::spec::checkpoint::FromCheckpoint;
use crate::tokenizer::Tokens;

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
    let mut ranges = Vec::new();
    let mut end = 0;
    for tokens in &sequences {
        ranges.push(end..end + tokens.ids.len());
        end += tokens.ids.len();
    }
    let mut walk = Walk {
        config,
        machine: Machine { kernel: Kernel::detect(), threads: Threads::new(None) },
        ranges,
        x: Vec::new(),
        treatment: Treatment::default(),
    };
    let embedding = Embedding::of(checkpoint, config, groups);
    walk.words(&embedding, &sequences)?;
    walk.x = embedding.states(&sequences)?;
    for (at, group) in groups.iter().filter(|group| group.name.starts_with("layer.")).enumerate() {
        let mut parts = BTreeMap::new();
        let mut count = 0;
        for part in &group.parts {
            let values = values(checkpoint, part)?;
            count += values.len();
            let name = part.name.strip_prefix(&format!("layer.{at}.")).unwrap_or(&part.name);
            parts.insert(name.to_owned(), values);
        }
        let layer = Layer { at, parts };
        if config.family.is_decoder() {
            walk.decoder_layer(&layer);
        } else {
            walk.encoder_layer(&layer);
        }
        if !walk.x.iter().all(|value| value.is_finite()) {
            // Such a model scores nothing, which the engine says when asked; no error can be measured.
            return Ok(Treatment::default());
        }
        progress(count);
    }
    Ok(walk.treatment)
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

/// Where the scales of a product's inputs go.
#[derive(Clone, Copy)]
enum Inverse<'a> {
    /// Nowhere: the inputs also go elsewhere, or are not linear in any weight.
    None,
    /// Into a norm's weight.
    Norm(&'a str),
    /// Into rows of a product and its bias, from the row on.
    Rows { of: &'a str, first: usize },
}

struct Walk<'a> {
    config: &'a ModelConfig,
    machine: Machine,
    ranges: Vec<Range<usize>>,
    x: Vec<f32>,
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
        name: &str,
        x: &[f32],
        sections: &[usize],
        inverse: Inverse<'_>,
        residual: Option<&[f32]>,
    ) -> Vec<f32> {
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

    fn decoder_layer(&mut self, layer: &Layer) {
        let config = self.config;
        let (width, eps, inner) = (config.head_dim, config.norm_eps, config.intermediate);
        let (queries, keys) = (config.heads * width, config.kv_heads * width);
        let mut x = std::mem::take(&mut self.x);
        let normed = rms_norm(&x, layer.get("attention_norm.weight"), eps);
        let sections = [queries, keys, keys];
        let mut qkv =
            self.product(layer, "qkv", &normed, &sections, Inverse::Norm("attention_norm"), None);
        let bias = layer.get("qkv.bias");
        if !bias.is_empty() {
            add_bias(&mut qkv, bias);
        }
        let norms = [layer.get("query_norm.weight"), layer.get("key_norm.weight")];
        let norms = (!norms[0].is_empty()).then_some(norms);
        rotate(config, &mut qkv, &self.ranges, norms);
        let attended = attention(config, &qkv, &self.ranges);
        let values = Inverse::Rows { of: "qkv", first: queries + keys };
        let out = self.product(layer, "out", &attended, &[config.hidden], values, Some(&x));
        add(&mut x, &out);
        let normed = rms_norm(&x, layer.get("output_norm.weight"), eps);
        let gate_up = self.product(
            layer,
            "gate_up",
            &normed,
            &[inner; 2],
            Inverse::Norm("output_norm"),
            None,
        );
        let gated = swiglu(&gate_up, inner);
        let up = Inverse::Rows { of: "gate_up", first: inner };
        let down = self.product(layer, "down", &gated, &[config.hidden], up, Some(&x));
        add(&mut x, &down);
        self.x = x;
    }

    fn encoder_layer(&mut self, layer: &Layer) {
        let config = self.config;
        let (hidden, eps) = (config.hidden, config.norm_eps);
        let x = std::mem::take(&mut self.x);
        let mut qkv = self.product(layer, "qkv", &x, &[hidden; 3], Inverse::None, None);
        add_bias(&mut qkv, layer.get("qkv.bias"));
        let attended = attention(config, &qkv, &self.ranges);
        let values = Inverse::Rows { of: "qkv", first: 2 * hidden };
        let mut y = self.product(layer, "out", &attended, &[hidden], values, Some(&x));
        add_bias(&mut y, layer.get("out.bias"));
        add(&mut y, &x);
        let norm = |y: &mut [f32], name: &str| {
            let [weight, bias] = ["weight", "bias"].map(|end| layer.get(&format!("{name}.{end}")));
            layer_norm(y, weight, bias, eps);
        };
        norm(&mut y, "attention_norm");
        let mut inner = self.product(layer, "up", &y, &[config.intermediate], Inverse::None, None);
        add_bias(&mut inner, layer.get("up.bias"));
        gelu(&mut inner);
        let mut x = self.product(layer, "down", &inner, &[hidden], Inverse::None, Some(&y));
        add_bias(&mut x, layer.get("down.bias"));
        add(&mut x, &y);
        norm(&mut x, "output_norm");
        self.x = x;
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
        let row = CheckpointTensor { dtype: tensor.dtype, shape: vec![self.config.hidden], bytes };
        Ok(to_f32(&row)?)
    }

    /// The hidden states that enter the first layer.
    fn states(&self, sequences: &[Tokens]) -> Result<Vec<f32>, Error> {
        let config = self.config;
        let reserved = match config.family {
            Family::XlmRoberta => config.pad_id as usize + 1,
            Family::Bert | Family::Qwen2 | Family::Qwen3 => 0,
        };
        let mut x = Vec::new();
        for tokens in sequences {
            for (at, &id) in tokens.ids.iter().enumerate() {
                let mut hidden = self.row("words.weight", id as usize)?;
                if !config.family.is_decoder() {
                    let kind = tokens.types.get(at).copied().unwrap_or(0);
                    add(&mut hidden, &self.row("types.weight", kind as usize)?);
                    add(&mut hidden, &self.row("positions.weight", reserved + at)?);
                }
                x.extend(hidden);
            }
        }
        let norm = ["norm.weight", "norm.bias"].map(|name| self.parts.get(name));
        if let [Some(weight), Some(bias)] = norm {
            let [weight, bias] = [values(self.checkpoint, weight)?, values(self.checkpoint, bias)?];
            layer_norm(&mut x, &weight, &bias, config.norm_eps);
        }
        Ok(x)
    }
}
