//! Random models of any true size: checkpoints with the names, shapes and files of real ones.
//!
//! For speed, memory and faults at full size where no real weights are at hand. The result is an
//! ordinary checkpoint directory, so `pack`, `transformers` and ONNX exporters all read it. Weights
//! are uniform with the standard deviation 0.02 that these models are initialised with, from a
//! counter-based generator: a tensor's values depend on the seed and its name alone.

mod gguf;
mod language_model;
mod outliers;
mod tokenizer;

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::Path;

use defrost_model::architecture::Positions;
use defrost_model::parts::{Naming, Part, Storage, plan};
use defrost_model::{Family, Head, ModelConfig, TokenHeads};
use defrost_tasks::TextTokenizer;
use half::bf16;
use safetensors::{Dtype, View};
use serde_json::{Value, json};

pub(crate) use self::gguf::Role;
pub use self::gguf::{Quantization, synthesize_gguf};
use self::outliers::{Planted, Planter};
use crate::Error;

/// The dimensions of a model to make up.
#[derive(Debug, Clone)]
pub struct Shape {
    /// Dimensions and head.
    pub config: ModelConfig,
    /// Whether scores spread over documents as a trained reranker's do.
    pub ranking: bool,
    /// Whether scores spread and the model also has outlier channels, as real decoders do.
    pub outliers: bool,
}

impl Shape {
    /// The dimensions of a known model, or of the one that stands for a family.
    pub fn preset(name: &str) -> Option<Self> {
        let (family, preset) = Family::preset(name)?;
        let colbert = if preset.token_heads { preset.hidden } else { 0 };
        Some(Self {
            config: ModelConfig {
                family,
                head: preset.head,
                token_heads: TokenHeads { sparse: preset.token_heads, colbert },
                bidirectional: false,
                dense: Vec::new(),
                hidden: preset.hidden,
                layers: preset.layers,
                heads: preset.heads,
                kv_heads: preset.kv_heads,
                head_dim: preset.head_dim,
                intermediate: preset.intermediate,
                vocab: preset.vocab,
                max_positions: preset.max_positions,
                type_vocab: preset.type_vocab,
                norm_eps: preset.norm_eps,
                rope_theta: preset.rope_theta,
                attention: preset.attention,
                tied: preset.head == Head::LanguageModel,
                pad_id: preset.pad_id,
                stored_prefix: 0,
            },
            ranking: false,
            outliers: false,
        })
    }

    /// Names that [`Shape::preset`] knows.
    pub fn presets() -> impl Iterator<Item = &'static str> {
        Family::presets().map(|(_, preset)| preset.name)
    }

    /// Replaces one dimension, such as `layers` by 2.
    pub fn set(&mut self, dimension: &str, size: usize) -> Result<(), Error> {
        let config = &mut self.config;
        let slot = match dimension {
            "hidden" => &mut config.hidden,
            "layers" => &mut config.layers,
            "heads" => &mut config.heads,
            "kv_heads" => &mut config.kv_heads,
            "head_dim" => &mut config.head_dim,
            "intermediate" => &mut config.intermediate,
            "vocab" => &mut config.vocab,
            "max_positions" => &mut config.max_positions,
            other => {
                return Err(Error::Model(format!(
                    "unknown dimension {other:?}, expected hidden, layers, heads, kv_heads, head_dim, \
                     intermediate, vocab or max_positions"
                )));
            }
        };
        *slot = size;
        Ok(())
    }

    /// The text of config.json.
    fn config_json(&self) -> Value {
        let config = &self.config;
        let (blueprint, files) = (&config.family.blueprint, &config.family.files);
        let [bare, with_head] = files.classes;
        let headless = config.head.is_pooling() && !blueprint.causal;
        let architecture = if headless { bare } else { with_head };
        let reserved = blueprint.positions.reserved(config.pad_id);
        let mut json = json!({
            "architectures": [architecture],
            "model_type": config.family.name,
            "hidden_act": blueprint.feed_forward.activation_names()[0],
            "hidden_size": config.hidden,
            "num_hidden_layers": config.layers,
            "num_attention_heads": config.heads,
            "intermediate_size": config.intermediate,
            "vocab_size": config.vocab,
            "max_position_embeddings": config.max_positions + reserved,
        });
        let more = if blueprint.positions == Positions::Rotary {
            json!({
                "num_key_value_heads": config.kv_heads,
                "head_dim": config.head_dim,
                "rms_norm_eps": config.norm_eps,
                "rope_theta": config.rope_theta,
                "tie_word_embeddings": config.tied || config.head != Head::LanguageModel,
            })
        } else {
            json!({
                "type_vocab_size": config.type_vocab,
                "layer_norm_eps": config.norm_eps,
                "pad_token_id": config.pad_id,
                "id2label": {"0": "LABEL_0"},
                "label2id": {"LABEL_0": 0},
            })
        };
        if let (Value::Object(json), Value::Object(more)) = (&mut json, more) {
            json.extend(more);
            for &(own, usual) in files.keys {
                if let Some(value) = json.remove(usual) {
                    json.insert(own.to_owned(), value);
                }
            }
            json.retain(|key, _| !files.harmless.contains(&key.as_str()));
            if !blueprint.token_types {
                json.remove("type_vocab_size");
            }
            if config.head == Head::LanguageModel {
                json.extend(language_model::attention(config));
            }
        }
        json
    }
}

/// Writes a random checkpoint into the directory `out`, in bf16. `tokenizer` are the bytes of a
/// tokenizer.json whose ids fit the vocabulary; without one, a byte-level tokenizer is made up.
pub fn synthesize(
    shape: &Shape,
    tokenizer: Option<&[u8]>,
    seed: u64,
    out: &Path,
) -> Result<(), Error> {
    let config = &shape.config;
    config.validate()?;
    let tokenizer = match tokenizer {
        Some(tokenizer) => Cow::Borrowed(tokenizer),
        None => Cow::Owned(tokenizer::byte_level(config)?),
    };
    let io = |err: std::io::Error| Error::Model(format!("cannot write {}: {err}", out.display()));
    std::fs::create_dir_all(out).map_err(io)?;
    let classifies = config.head == Head::Classifier;
    let prefixes = config.family.files.prefixes;
    // A bare encoder's tensors stand alone; what has a head names the body.
    let with_head = usize::from(classifies && prefixes[0].is_empty());
    let prefix = prefixes.get(with_head).copied().unwrap_or_default();
    let lm_head = "lm_head.weight".to_owned();
    let naming = Naming { prefix: prefix.to_owned(), lm_head, ..Naming::default() };
    let tensors: Vec<(String, RandomTensor)> = plan(config, &naming)
        .iter()
        .flat_map(|group| &group.parts)
        .filter(|part| part.rows.is_empty())
        .flat_map(|part| random_tensors(config, part, seed))
        .collect();
    let tensors = if shape.outliers || shape.ranking {
        planted(shape, &tokenizer, seed, tensors)?
    } else {
        tensors
    };
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    safetensors::serialize_to_file(tensors, Some(metadata), &out.join("model.safetensors"))
        .map_err(|err| Error::Model(format!("cannot write model.safetensors: {err}")))?;
    let text = serde_json::to_vec_pretty(&shape.config_json())
        .map_err(|err| Error::Model(err.to_string()))?;
    std::fs::write(out.join("config.json"), text).map_err(io)?;
    std::fs::write(out.join("tokenizer.json"), tokenizer).map_err(io)?;
    if config.head == Head::LanguageModel {
        for (name, json) in language_model::files() {
            std::fs::write(out.join(name), json.to_string()).map_err(io)?;
        }
    }
    if let Some(flag) = pooling_flag(config.head) {
        let modules = json!([
            {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
            {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
            {"idx": 2, "name": "2", "path": "2_Normalize", "type": "sentence_transformers.models.Normalize"},
        ]);
        std::fs::write(out.join("modules.json"), modules.to_string()).map_err(io)?;
        std::fs::create_dir_all(out.join("1_Pooling")).map_err(io)?;
        let pooling = json!({"word_embedding_dimension": config.hidden, flag: true});
        std::fs::write(out.join("1_Pooling/config.json"), pooling.to_string()).map_err(io)?;
    }
    Ok(())
}

fn pooling_flag(head: Head) -> Option<&'static str> {
    match head {
        Head::MeanPooling => Some("pooling_mode_mean_tokens"),
        Head::FirstPooling => Some("pooling_mode_cls_token"),
        Head::LastPooling => Some("pooling_mode_lasttoken"),
        Head::MaxPooling => Some("pooling_mode_max_tokens"),
        Head::SqrtPooling => Some("pooling_mode_mean_sqrt_len_tokens"),
        Head::WeightedPooling => Some("pooling_mode_weightedmean_tokens"),
        Head::Classifier | Head::YesNo | Head::LanguageModel => None,
    }
}

/// A tensor whose values are made when they are written.
struct RandomTensor {
    seed: u64,
    shape: Vec<usize>,
    /// The value of all, if it is the same: norms multiply by one, as at initialisation.
    constant: Option<f32>,
    /// The values themselves, where they are not random.
    given: Option<Vec<f32>>,
    planted: Planted,
}

/// Half-width of a uniform distribution with standard deviation 0.02.
const HALF_WIDTH: f32 = 0.034_641_016;

impl RandomTensor {
    /// One whose values are all the same.
    fn constant(shape: Vec<usize>, value: f32) -> Self {
        Self { seed: 0, shape, constant: Some(value), given: None, planted: Planted::default() }
    }

    fn width(&self) -> usize {
        self.shape.iter().skip(1).product()
    }

    /// One row as it is without outliers.
    fn plain(&self, row: usize) -> Vec<f32> {
        let width = self.width();
        (row * width..(row + 1) * width).map(|index| self.value(index as u64)).collect()
    }

    fn value(&self, index: u64) -> f32 {
        if let Some(given) = &self.given {
            return usize::try_from(index)
                .ok()
                .and_then(|at| given.get(at))
                .copied()
                .unwrap_or(0.0);
        }
        if let Some(constant) = self.constant {
            return constant;
        }
        let bits = mix(self.seed.wrapping_add(index.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
        ((bits >> 40) as f32 / 8_388_608.0 - 1.0) * HALF_WIDTH
    }
}

/// The tensors with outliers in them.
fn planted(
    shape: &Shape,
    tokenizer: &[u8],
    seed: u64,
    tensors: Vec<(String, RandomTensor)>,
) -> Result<Vec<(String, RandomTensor)>, Error> {
    let config = &shape.config;
    if config.head != Head::YesNo {
        return Err(Error::Model("outliers are planted into decoders with a yes/no head".into()));
    }
    let first_token = TextTokenizer::from_json(tokenizer)?.single_token("<|im_start|>")?;
    let planter = Planter { config, seed, outliers: shape.outliers, first_token };
    let words = tensors.iter().find(|(name, _)| name.ends_with("embed_tokens.weight"));
    let first = words.map(|(_, words)| words.plain(first_token as usize)).unwrap_or_default();
    Ok(tensors
        .into_iter()
        .map(|(name, mut tensor)| {
            tensor.planted = planter.plant(&name, &tensor.shape, &first);
            (name, tensor)
        })
        .collect())
}

impl View for RandomTensor {
    fn dtype(&self) -> Dtype {
        Dtype::BF16
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        let mut bytes = Vec::with_capacity(self.data_len());
        for row in 0..self.shape[0] {
            let mut values = self.plain(row);
            self.planted.apply(row, &mut values);
            bytes.extend(values.iter().flat_map(|&value| bf16::from_f32(value).to_le_bytes()));
        }
        Cow::Owned(bytes)
    }

    fn data_len(&self) -> usize {
        self.shape.iter().product::<usize>() * 2
    }
}

/// The finaliser of `SplitMix64`.
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn random_tensors(config: &ModelConfig, part: &Part, seed: u64) -> Vec<(String, RandomTensor)> {
    let rows = part.shape[0];
    let split = match part.sources.len() {
        3 => {
            let keys = config.kv_heads * config.head_dim;
            vec![rows - 2 * keys, keys, keys]
        }
        count => vec![rows / count; count],
    };
    let is_norm = part.storage == Storage::Vector && part.name.ends_with("weight");
    let constant = is_norm.then(|| 1.0 - config.family.files.norm_offset);
    part.sources
        .iter()
        .zip(split)
        .map(|(name, rows)| {
            let mut shape = part.shape.clone();
            shape[0] = rows;
            let name_hash =
                name.bytes().fold(seed, |hash, byte| mix(hash.wrapping_add(u64::from(byte) + 1)));
            (
                name.clone(),
                RandomTensor {
                    seed: name_hash,
                    shape,
                    constant,
                    given: None,
                    planted: Planted::default(),
                },
            )
        })
        .collect()
}
