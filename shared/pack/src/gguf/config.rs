//! The metadata of an architecture as config.json.

use defrost_model::{Family, RopeScaling};
use serde_json::{Map, Value, json};

use super::Metadata;
use super::tensors::Tensors;
use crate::Error;
use crate::formats::GgufValue;

/// The base of the rotary frequencies where the file says none, as llama.cpp has it; also of layers with a window.
const THETA: f32 = 10_000.0;

/// Every how many layers one sees all where the file does not say it: what llama.cpp takes for every model with windows here.
const PATTERN: u64 = 6;

/// Layers of the one model whose scores are scaled by the width of all heads and not of one: Gemma 3 27B.
const LAYERS_OF_27B: u64 = 62;

/// The text of config.json.
pub(super) fn read(meta: &Metadata<'_>, family: Family, tensors: &Tensors) -> Result<Value, Error> {
    let files = &family.files;
    let (hidden, heads) = (meta.needed("embedding_length")?, meta.needed("attention.head_count")?);
    let layers = meta.needed("block_count")?;
    let usual = if heads == 0 { 0 } else { hidden / heads };
    let width = meta.size("attention.key_length")?.unwrap_or(usual);
    for key in ["attention.value_length", "rope.dimension_count"] {
        // Only a part of a head that is turned, or values of another width, is another model.
        if let Some(other) = meta.size(key)?.filter(|&other| other != width) {
            return Err(Error::Model(format!(
                "{}.{key} is {other}, expected the {width} of a query's head",
                meta.architecture
            )));
        }
    }
    if let Some(vocab) = meta.size("vocab_size")?.filter(|&vocab| vocab != tensors.vocab as u64) {
        return Err(Error::Model(format!(
            "{}.vocab_size is {vocab}, expected the {} rows of token_embd.weight",
            meta.architecture, tensors.vocab
        )));
    }
    let epsilon = meta.float("attention.layer_norm_rms_epsilon")?.ok_or_else(|| {
        let own = meta.architecture;
        Error::Model(format!("the metadata has no {own}.attention.layer_norm_rms_epsilon"))
    })?;
    let mut config = json!({
        "architectures": [files.classes[1]],
        "model_type": family.name,
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": meta.size("attention.head_count_kv")?.unwrap_or(heads),
        "head_dim": width,
        "intermediate_size": meta.needed("feed_forward_length")?,
        "vocab_size": tensors.vocab,
        "max_position_embeddings": meta.needed("context_length")?,
        "rms_norm_eps": epsilon,
        "rope_theta": meta.float("rope.freq_base")?.unwrap_or(THETA),
        "tie_word_embeddings": tensors.tied,
    });
    let Value::Object(keys) = &mut config else { return Ok(config) };
    let activation = family.blueprint.feed_forward.activation_names()[0];
    keys.insert(files.own_key("hidden_act").to_owned(), activation.into());
    match scaling(meta, tensors)? {
        RopeScaling::None => {}
        RopeScaling::Linear { factor } => {
            keys.insert("rope_scaling".into(), json!({"rope_type": "linear", "factor": factor}));
        }
        RopeScaling::Llama3 { factor, low, high, original } => {
            let scaling = json!({
                "rope_type": "llama3", "factor": factor, "low_freq_factor": low,
                "high_freq_factor": high, "original_max_position_embeddings": original,
            });
            keys.insert("rope_scaling".into(), scaling);
        }
    }
    windows(meta, family, keys, [hidden, heads, layers, width])?;
    Ok(config)
}

/// The layers that see a window only.
fn windows(
    meta: &Metadata<'_>,
    family: Family,
    keys: &mut Map<String, Value>,
    [hidden, heads, layers, width]: [u64; 4],
) -> Result<(), Error> {
    let window = meta.size("attention.sliding_window")?.filter(|&window| window > 0);
    if !family.files.local_layers {
        for key in
            ["attention.sliding_window", "attention.sliding_window_pattern", "rope.freq_base_swa"]
        {
            if let Some(value) = meta.own(key).filter(|value| super::float(value) != Some(0.0)) {
                let expected = format!("none, as {} models have no windows", family.name);
                return Err(meta.refuse(key, value, &expected));
            }
        }
        return Ok(());
    }
    let scalar = if layers == LAYERS_OF_27B { hidden / heads.max(1) } else { width };
    keys.insert("query_pre_attn_scalar".into(), scalar.into());
    let theta = meta.float("rope.freq_base_swa")?.unwrap_or(THETA);
    keys.insert("rope_local_base_freq".into(), json!(theta));
    let Some(window) = window else {
        let layers = usize::try_from(layers).unwrap_or_default().min(1 << 16);
        keys.insert("layer_types".into(), vec!["full_attention"; layers].into());
        return Ok(());
    };
    keys.insert("sliding_window".into(), window.into());
    match meta.own("attention.sliding_window_pattern") {
        // Whether each layer has a window.
        Some(GgufValue::Array(list)) => {
            let kinds = list.values().map(|value| match value {
                GgufValue::Bool(true) => "sliding_attention",
                _ => "full_attention",
            });
            keys.insert("layer_types".into(), kinds.collect::<Vec<_>>().into());
        }
        _ => {
            let every = meta.size("attention.sliding_window_pattern")?.unwrap_or(PATTERN);
            keys.insert("sliding_window_pattern".into(), every.into());
        }
    }
    Ok(())
}

/// How angles are stretched: what the keys say, or the factors of Llama 3.
fn scaling(meta: &Metadata<'_>, tensors: &Tensors) -> Result<RopeScaling, Error> {
    let named = match meta.own("rope.scaling.type") {
        None => None,
        Some(GgufValue::String(name)) => Some(name.as_str()),
        Some(other) => return Err(meta.refuse("rope.scaling.type", other, "none or linear")),
    };
    let factor = match meta.float("rope.scaling.factor")? {
        Some(factor) => Some(factor),
        None => meta.float("rope.scale_linear")?,
    };
    // 0 stands for none, and without a kind a factor is of the linear one.
    let factor = factor.filter(|&factor| factor != 0.0 && factor.to_bits() != 1f32.to_bits());
    let linear = match (named, factor) {
        (Some("none"), _) | (None | Some("linear"), None) => RopeScaling::None,
        (None | Some("linear"), Some(factor)) => RopeScaling::Linear { factor },
        (Some(other), _) => {
            let own = meta.architecture;
            return Err(Error::Model(format!(
                "{own}.rope.scaling.type is {other:?}, expected none or linear"
            )));
        }
    };
    let Some(factors) = &tensors.rope_factors else { return Ok(linear) };
    if linear != RopeScaling::None {
        return Err(Error::Model(
            "rope_freqs.weight beside rope.scaling.factor: expected one of them".to_owned(),
        ));
    }
    let theta = meta.float("rope.freq_base")?.unwrap_or(THETA);
    llama3(factors, theta).ok_or_else(|| {
        Error::Model(
            "rope_freqs.weight: these factors are not those of Llama 3.1 and later (low 1, high 4, 8192 positions): other \
             scalings are not supported"
                .to_owned(),
        )
    })
}

/// The factors by which a scaling divides the frequencies of `pairs` pairs.
pub(crate) fn rope_factors(rope: RopeScaling, theta: f32, pairs: usize) -> Vec<f32> {
    let factor = |pair: usize| {
        #[allow(clippy::cast_precision_loss, reason = "a head has few pairs")]
        let share = pair as f64 / pairs as f64;
        let wavelength = 2.0 * std::f64::consts::PI * libm::pow(f64::from(theta), share);
        match rope {
            RopeScaling::None => 1.0,
            RopeScaling::Linear { factor } => f64::from(factor),
            RopeScaling::Llama3 { factor, low, high, original } => {
                let [factor, low, high, original] = [factor, low, high, original].map(f64::from);
                if wavelength < original / high {
                    1.0
                } else if wavelength > original / low {
                    factor
                } else {
                    let smooth = (original / wavelength - low) / (high - low);
                    1.0 / ((1.0 - smooth) / factor + smooth)
                }
            }
        }
    };
    #[allow(clippy::cast_possible_truncation, reason = "rounding to f32 is meant")]
    (0..pairs).map(|pair| factor(pair) as f32).collect()
}

/// Llama 3's scaling that makes these factors, by which frequencies are divided: files have no more of it. All models have
/// the same bounds; the factor is that of the lowest frequency.
fn llama3(found: &[f32], theta: f32) -> Option<RopeScaling> {
    /// Converters compute in f32; the factors lie between 1 and some dozens.
    const TOLERANCE: f32 = 1e-4;
    let factor = *found.last()?;
    if found.iter().all(|factor| factor.to_bits() == 1f32.to_bits()) {
        return Some(RopeScaling::None);
    }
    let scaling = RopeScaling::Llama3 { factor, low: 1.0, high: 4.0, original: 8192.0 };
    let expected = rope_factors(scaling, theta, found.len());
    let close = |(found, expected): (&f32, &f32)| (found - expected).abs() <= TOLERANCE * expected;
    (factor > 0.0 && found.iter().zip(&expected).all(close)).then_some(scaling)
}
