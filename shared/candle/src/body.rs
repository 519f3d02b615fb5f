//! The transformers: models of candle-transformers, each for all families whose layers compute the same.
//!
//! Which model runs a family is told by its blueprint. Two words of that make no difference here: a family without token
//! types gets one whose vector is zero, and the classifier is a part of the head, which is written once for all. So candle's
//! BERT runs `DistilBERT` (its own model of that name approximates GELU, which the checkpoints are not trained with), and its
//! XLM-RoBERTa whatever counts positions after the padding id.
//!
//! Caches of keys and values are left empty between sequences.
//!
//! In 16 bits, these models are not all what they are in f32 ([`check`]): BERT masks with the least f32, which is infinite in
//! bf16 and f16, and infinity times zero is no number; XLM-RoBERTa counts positions in the type of the weights; Qwen2
//! makes rotary angles in it. Qwen3 has its angles made in f32. What is refused so is run by `BACKEND=gpu`.

use candle_core::{DType, Tensor};
use candle_nn::{Activation, VarBuilder};
use candle_transformers::models::{bert, qwen2, qwen3, xlm_roberta};
use defrost_loader::Snapshot;
use defrost_model::{Blueprint, Error, Family, ModelConfig};

use crate::fault;
use crate::weights::{Target, Weights};

/// A transformer without a head.
pub(crate) trait Body: Send + Sync {
    /// The last hidden states, `[1, tokens, hidden]`, of ids and types of one sequence, `[1, tokens]` each.
    fn run(&self, ids: &Tensor, types: &Tensor) -> candle_core::Result<Tensor>;
}

/// A model, and the weights for its head.
type Built = (Box<dyn Body>, VarBuilder<'static>);

/// A model of candle's.
struct Written {
    /// The family that it is written for, whose names its tensors have.
    family: &'static str,
    /// The prefix of the names.
    prefix: &'static str,
    build: fn(&ModelConfig, Weights) -> Result<Built, Error>,
}

const WRITTEN: [Written; 4] = [
    Written { family: "bert", prefix: "", build: build_bert },
    Written { family: "xlm-roberta", prefix: "", build: build_xlm_roberta },
    Written { family: "qwen2", prefix: "model.", build: build_qwen2 },
    Written { family: "qwen3", prefix: "model.", build: build_qwen3 },
];

/// What of a family's computation a model of candle's must do.
fn layers(family: Family) -> Blueprint {
    Blueprint { token_types: false, classifier: None, ..family.blueprint }
}

/// The model that runs such a family.
fn written(config: &ModelConfig) -> Result<(&'static Written, Family), Error> {
    let mut written = WRITTEN
        .iter()
        .filter_map(|model| Some((model, Family::by_name(model.family)?)))
        .filter(|(_, family)| layers(*family) == layers(config.family));
    written.next().ok_or_else(|| {
        let known: Vec<&str> = WRITTEN.iter().map(|model| model.family).collect();
        let why = format!("no layers like its are among those of {}", known.join(", "));
        refuse(config, &why)
    })
}

/// The largest whole number below which a type has all others.
fn counts_to(dtype: DType) -> usize {
    match dtype {
        DType::BF16 => 1 << 8,
        DType::F16 => 1 << 11,
        _ => 1 << 24,
    }
}

/// Refuses a type in which candle's model would not compute what it should.
pub(crate) fn check(config: &ModelConfig, dtype: DType) -> Result<(), Error> {
    let (model, _) = written(config)?;
    if dtype == DType::F32 {
        return Ok(());
    }
    let name = dtype.as_str();
    let (most, last) = (counts_to(dtype), config.position_rows() - 1);
    let why = match model.family {
        "bert" => format!("its mask is infinite in {name}, and its answers would be no numbers"),
        "xlm-roberta" if last > most => format!(
            "it counts positions in the type of the weights, {name} counts to {most}, and there are positions up to {last}"
        ),
        "qwen2" => format!(
            "it makes rotary angles in the type of the weights, and in {name} they are rounded by up to half a radian from token {} on",
            most / 2
        ),
        _ => return Ok(()),
    };
    let (of, name) = (model.family, name.to_owned());
    Err(Error::Model(format!(
        "DTYPE={name}: candle's model of {of} does not compute in it: {why}. Expected DTYPE=f32, or leave DTYPE unset"
    )))
}

/// The model of a snapshot, and its weights for the head.
pub(crate) fn load(
    snapshot: &Snapshot,
    config: &ModelConfig,
    target: &Target,
) -> Result<Built, Error> {
    let (model, family) = written(config)?;
    let types = config.type_vocab.max(usize::from(family.blueprint.token_types));
    let config = ModelConfig { family, type_vocab: types, ..config.clone() };
    let weights = Weights::read(snapshot, &config, model.prefix, target)?;
    // Of a file that is edited while it is read, the tensors are anything.
    snapshot.intact()?;
    (model.build)(&config, weights)
}

fn refuse(config: &ModelConfig, why: &str) -> Error {
    let name = config.family.name;
    Error::Model(format!("candle does not run this {name} model: {why}. Leave BACKEND unset"))
}

fn build_bert(config: &ModelConfig, weights: Weights) -> Result<Built, Error> {
    let candle = bert::Config {
        vocab_size: config.vocab,
        hidden_size: config.hidden,
        num_hidden_layers: config.layers,
        num_attention_heads: config.heads,
        intermediate_size: config.intermediate,
        hidden_act: bert::HiddenAct::Gelu,
        max_position_embeddings: config.position_rows(),
        type_vocab_size: config.type_vocab,
        layer_norm_eps: f64::from(config.norm_eps),
        pad_token_id: config.pad_id as usize,
        ..bert::Config::default()
    };
    let weights = weights.builder();
    let model = bert::BertModel::load(weights.clone(), &candle).map_err(fault)?;
    Ok((Box::new(Bert(model)), weights))
}

struct Bert(bert::BertModel);

impl Body for Bert {
    fn run(&self, ids: &Tensor, types: &Tensor) -> candle_core::Result<Tensor> {
        self.0.forward(ids, types, None)
    }
}

fn build_xlm_roberta(config: &ModelConfig, weights: Weights) -> Result<Built, Error> {
    let candle = xlm_roberta::Config {
        hidden_size: config.hidden,
        layer_norm_eps: f64::from(config.norm_eps),
        attention_probs_dropout_prob: 0.0,
        hidden_dropout_prob: 0.0,
        num_attention_heads: config.heads,
        position_embedding_type: "absolute".to_owned(),
        intermediate_size: config.intermediate,
        hidden_act: Activation::Gelu,
        num_hidden_layers: config.layers,
        vocab_size: config.vocab,
        max_position_embeddings: config.position_rows(),
        type_vocab_size: config.type_vocab,
        pad_token_id: config.pad_id,
    };
    let weights = weights.builder();
    let model = xlm_roberta::XLMRobertaModel::new(&candle, weights.clone()).map_err(fault)?;
    Ok((Box::new(XlmRoberta(model)), weights))
}

struct XlmRoberta(xlm_roberta::XLMRobertaModel);

impl Body for XlmRoberta {
    fn run(&self, ids: &Tensor, types: &Tensor) -> candle_core::Result<Tensor> {
        // Tokens for padding that stand in a text are tokens like others.
        let mask = Tensor::ones(ids.shape(), DType::F32, ids.device())?;
        self.0.forward(ids, &mask, types, None, None, None)
    }
}

fn build_qwen2(config: &ModelConfig, weights: Weights) -> Result<Built, Error> {
    if config.head_dim * config.heads != config.hidden {
        let why = format!(
            "its heads are {} wide, and candle's are {} / {}",
            config.head_dim, config.hidden, config.heads
        );
        return Err(refuse(config, &why));
    }
    let candle = qwen2::Config {
        vocab_size: config.vocab,
        hidden_size: config.hidden,
        intermediate_size: config.intermediate,
        num_hidden_layers: config.layers,
        num_attention_heads: config.heads,
        num_key_value_heads: config.kv_heads,
        max_position_embeddings: config.max_positions,
        // It looks at the window whether or not it is used.
        sliding_window: config.max_positions,
        max_window_layers: config.layers,
        tie_word_embeddings: true,
        rope_theta: f64::from(config.rope_theta),
        rms_norm_eps: f64::from(config.norm_eps),
        use_sliding_window: false,
        hidden_act: Activation::Silu,
    };
    let weights = weights.builder();
    let model = qwen2::Model::new(&candle, weights.clone()).map_err(fault)?;
    Ok((Box::new(Qwen2 { model, causal: config.is_causal() }), weights))
}

struct Qwen2 {
    model: qwen2::Model,
    causal: bool,
}

impl Body for Qwen2 {
    fn run(&self, ids: &Tensor, _: &Tensor) -> candle_core::Result<Tensor> {
        // With a mask of its caller's it leaves out its own, the causal one.
        let mask = Tensor::ones(ids.shape(), DType::U8, ids.device())?;
        let mask = (!self.causal).then_some(mask);
        // The clone shares the weights and takes the cache of this sequence with it.
        self.model.clone().forward(ids, 0, mask.as_ref())
    }
}

fn build_qwen3(config: &ModelConfig, weights: Weights) -> Result<Built, Error> {
    if !config.is_causal() {
        let why = "its tokens see all of their sequence, and candle has this architecture with the causal mask only";
        return Err(refuse(config, why));
    }
    let candle = qwen3::Config {
        vocab_size: config.vocab,
        hidden_size: config.hidden,
        intermediate_size: config.intermediate,
        num_hidden_layers: config.layers,
        num_attention_heads: config.heads,
        head_dim: config.head_dim,
        attention_bias: false,
        num_key_value_heads: config.kv_heads,
        max_position_embeddings: config.max_positions,
        sliding_window: None,
        max_window_layers: config.layers,
        tie_word_embeddings: true,
        rope_theta: f64::from(config.rope_theta),
        rms_norm_eps: f64::from(config.norm_eps),
        use_sliding_window: false,
        hidden_act: Activation::Silu,
    };
    let weights = weights.builder();
    let model = qwen3::Model::new(&candle, weights.clone()).map_err(fault)?;
    Ok((Box::new(Qwen3(model)), weights))
}

struct Qwen3(qwen3::Model);

impl Body for Qwen3 {
    fn run(&self, ids: &Tensor, _: &Tensor) -> candle_core::Result<Tensor> {
        // As for Qwen2.
        self.0.clone().forward(ids, 0)
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;
    use defrost_model::Head;
    use half::{bf16, f16};

    use super::*;

    /// Why it is refused in 16 bits. Once candle has another mask, it need not be.
    #[test]
    fn in_16_bits_the_mask_of_bert_leaves_no_numbers() {
        let sizes = bert::Config {
            vocab_size: 8,
            hidden_size: 8,
            num_hidden_layers: 1,
            num_attention_heads: 1,
            intermediate_size: 8,
            max_position_embeddings: 8,
            ..bert::Config::default()
        };
        for dtype in [DType::F32, DType::BF16, DType::F16] {
            let model = bert::BertModel::load(VarBuilder::zeros(dtype, &Device::Cpu), &sizes);
            let ids = Tensor::ones((1, 3), DType::U32, &Device::Cpu).unwrap();
            let states = model.unwrap().forward(&ids, &ids, None).unwrap();
            let states = states.to_dtype(DType::F32).unwrap().flatten_all().unwrap();
            let is_number = states.to_vec1::<f32>().unwrap().iter().all(|state| !state.is_nan());
            assert_eq!(is_number, dtype == DType::F32, "{dtype:?}");
        }
    }

    #[test]
    fn types_count_as_far_as_is_said() {
        for (dtype, rounded) in [
            (DType::BF16, (|count| bf16::from_f32(count).to_f32()) as fn(f32) -> f32),
            (DType::F16, |count| f16::from_f32(count).to_f32()),
        ] {
            let is_exact = |count: usize| (rounded(count as f32) - count as f32).abs() < 0.5;
            let most = counts_to(dtype);
            assert!((0..=most).all(is_exact) && !is_exact(most + 1), "{dtype:?}");
        }
    }

    /// Nothing that the engine runs is left out, but families that only continue texts, which this runtime does not.
    #[test]
    fn every_family_has_a_model() {
        let continues = |family: &Family| {
            family.presets.iter().all(|preset| preset.head == Head::LanguageModel)
        };
        for family in Family::all().filter(|family| !continues(family)) {
            let models = WRITTEN.iter().filter_map(|model| Family::by_name(model.family));
            let fit = models.filter(|written| layers(*written) == layers(family)).count();
            assert_eq!(fit, 1, "{family:?}");
        }
    }
}
