//! What a snapshot says about its ONNX model, read from config.json and the graph at pack time.
//!
//! Any architecture will do, since the graph is the architecture: of config.json only what texts and pooling depend on is
//! used. Where the files leave it open, a model with the output `logits` is a cross-encoder, any other an embedder.

use std::collections::BTreeMap;

use defrost_loader::Dtype;
use defrost_model::spec::OnnxSpec;
use defrost_model::{Family, Head, Template, TextRules};
use defrost_tasks::{Prompt, QWEN3_INSTRUCTION, TextTokenizer};
use serde::Deserialize;

use super::weights::Weight;
use crate::Error;
use crate::checkpoint::{
    ModelKind, Modules, RawActivation, RawMatryoshka, SpecOptions, Told, check_matryoshka,
    check_pooling, check_reranker, decide_activation, embedding, estimated_max, length,
    named_template, not_normalized, pooling_by_name, pooling_name, pooling_names, required, size,
    tokenizer_files, transformer,
};
use crate::formats::{Checkpoint, OnnxModel};

/// The output that needs no pooling.
const POOLED: &str = "sentence_embedding";

/// Positions of a model that does not say: what BERT has.
const USUAL_POSITIONS: usize = 512;
/// Families whose tokenizers `transformers` repairs on request.
const MISTRAL: [&str; 5] = ["mistral", "mistral3", "voxtral", "ministral", "pixtral"];
/// Operators that take one scale for all activations of a run. With them a pair's score would depend on its neighbours.
const WHOLE_BATCH: [&str; 4] = [
    "DynamicQuantizeLinear",
    "DynamicQuantizeMatMul",
    "DynamicQuantizeLSTM",
    "QEmbedLayerNormalization",
];

/// The fields of config.json that matter, under the names of several architectures.
#[derive(Debug, Deserialize)]
struct RawConfig {
    #[serde(default)]
    model_type: Option<String>,
    #[serde(default)]
    architectures: Option<Vec<String>>,
    #[serde(
        default,
        deserialize_with = "size",
        alias = "dim",
        alias = "d_model",
        alias = "n_embd"
    )]
    hidden_size: Option<usize>,
    #[serde(
        default,
        deserialize_with = "size",
        alias = "n_layers",
        alias = "num_layers",
        alias = "n_layer"
    )]
    num_hidden_layers: Option<usize>,
    #[serde(default, deserialize_with = "size", alias = "n_positions")]
    max_position_embeddings: Option<usize>,
    #[serde(default, deserialize_with = "size")]
    type_vocab_size: Option<usize>,
    tokenizer_class: Option<String>,
    /// The id of the padding token; below 0 there is none.
    pad_token_id: Option<i64>,
    #[serde(flatten)]
    matryoshka: RawMatryoshka,
    #[serde(flatten)]
    activation: RawActivation,
}

/// Reads the specification from the files beside the model.
pub(super) fn read(
    checkpoint: &Checkpoint,
    model: &OnnxModel,
    weights: &[Weight],
    options: &SpecOptions,
) -> Result<(OnnxSpec, Vec<u8>, Vec<Told>), Error> {
    let raw: RawConfig = required(checkpoint, "config.json")?;
    let family = raw.model_type.clone().unwrap_or_default();
    let known = Family::by_name(&family);
    let files = tokenizer_files(checkpoint, known, raw.tokenizer_class.as_deref())?;
    if files.fixes_mistral && MISTRAL.contains(&&*family) {
        return Err(Error::Model(
            "tokenizer_config.json: fix_mistral_regex is true, which cuts texts otherwise than tokenizer.json does: \
             expected false. Load the tokenizer with it and save it again, so that tokenizer.json has it"
                .to_owned(),
        ));
    }
    let mut told = files.told;
    let transformer = transformer(checkpoint)?;
    let modules = Modules::read(checkpoint)?;
    let modules = modules.as_ref();
    if let Some(module) = modules.and_then(|modules| modules.dense.first()) {
        return Err(Error::Model(format!(
            "modules.json: the module Dense in {} is not supported for ONNX models: expected Transformer, Pooling, \
             Normalize. Pack the model's safetensors instead",
            module.path
        )));
    }
    let Decided { template, head, output } =
        decide(checkpoint, model, &raw, modules, options, &mut told)?;
    let pad_id = raw.pad_token_id.and_then(|id| u32::try_from(id).ok());
    let pad_id = pad_id.unwrap_or_else(|| known.map_or(0, |known| known.files.defaults.pad_id));
    let reserved = known.map_or(0, |known| known.blueprint.positions.reserved(pad_id));
    let max_positions =
        raw.max_position_embeddings.unwrap_or(USUAL_POSITIONS).saturating_sub(reserved).max(1);
    let (max_length, from) =
        length(&transformer, files.max_length.as_ref(), &template, max_positions, options)?;
    told.extend(from.map(|from| Told::new("length", format!("{max_length} tokens"), from)));
    let text = TextRules {
        lowercase: transformer.do_lower_case == Some(true),
        // A graph without an input for them takes none either way.
        token_types: files.token_types && raw.type_vocab_size != Some(1),
    };
    // What no start would accept is refused here already.
    let tokenizer = TextTokenizer::from_json(&files.json)?.with_rules(text);
    Prompt::new(tokenizer, &template, max_length, max_positions)?;
    let hidden = raw.hidden_size.unwrap_or_default();
    let embedding = if let Template::Embedding { .. } = &template {
        let matryoshka = raw.matryoshka.decide(options)?;
        // Of a graph that pools by itself the width is not known here.
        if hidden > 0 && output != POOLED {
            check_matryoshka(&matryoshka, hidden, options.matryoshka.is_some())?;
            check_pooling(modules, hidden)?;
        }
        told.extend(not_normalized(modules));
        Some(embedding(checkpoint, modules, matryoshka)?)
    } else {
        let instruction = (template == Template::Qwen3Reranker).then_some(QWEN3_INSTRUCTION);
        let in_file = check_reranker(checkpoint, instruction)?;
        told.extend(decide_activation(&raw.activation, in_file.as_ref())?);
        None
    };
    let spec = OnnxSpec {
        name: options.name.clone(),
        family,
        head,
        hidden,
        layers: raw.num_hidden_layers.unwrap_or_default(),
        max_positions,
        pad_id,
        text,
        template,
        max_length,
        estimated_max: estimated_max(hidden),
        embedding,
        precision: precision(weights).to_owned(),
        output,
        alone: WHOLE_BATCH.iter().any(|kind| model.operators().contains(*kind)),
    };
    Ok((spec, files.json, told))
}

/// What kind of model it is.
struct Decided {
    template: Template,
    head: Head,
    output: String,
}

/// Decides it, and says by what.
fn decide(
    checkpoint: &Checkpoint,
    model: &OnnxModel,
    raw: &RawConfig,
    modules: Option<&Modules>,
    options: &SpecOptions,
    told: &mut Vec<Told>,
) -> Result<Decided, Error> {
    let pooling = match &options.pooling {
        None => modules.and_then(|modules| modules.pooling.clone()),
        Some(name) => {
            let head = pooling_by_name(name).ok_or_else(|| {
                let known = pooling_names();
                Error::Model(format!("--pooling {name:?} is not known, expected one of {known}"))
            })?;
            Some((head, "--pooling".to_owned()))
        }
    };
    let has_logits = model.outputs().iter().any(|name| name == "logits");
    let ends = |end: &str| raw.architectures.iter().flatten().any(|name| name.ends_with(end));
    let family = raw.model_type.as_deref().unwrap_or_default();
    let reranker = || match Family::by_name(family) {
        Some(known) => Ok(known.files.template),
        None if ends("ForCausalLM") => Err(Error::Model(format!(
            "the prompt of a decoder of model_type {family:?} is not known: give --template"
        ))),
        None => Ok("pair"),
    };
    let (template, from) = match (&options.template, options.kind) {
        (Some(name), _) => (name.as_str(), "--template"),
        (None, Some(ModelKind::Embedder)) => ("embedding", "--kind"),
        (None, Some(ModelKind::Chat)) => ("chat", "--kind"),
        (None, Some(ModelKind::Reranker)) => (reranker()?, "--kind"),
        (None, None) if options.pooling.is_some() => ("embedding", "--pooling"),
        (None, None)
            if modules.is_some_and(|modules| modules.pooling.is_some() && modules.listed) =>
        {
            ("embedding", "modules.json: Pooling")
        }
        (None, None) if pooling.is_some() => ("embedding", "1_Pooling/config.json"),
        (None, None) if ends("ForCausalLM") && has_logits => (reranker()?, "config.json"),
        (None, None) if ends("ForSequenceClassification") => ("pair", "config.json"),
        (None, None) if has_logits => ("pair", "the model's output logits"),
        (None, None) => ("embedding", "the model's outputs, none of which is called logits"),
    };
    let template = named_template(checkpoint, template)?;
    let head = match &template {
        Template::Pair => Head::Classifier,
        Template::MxbaiRerankV2 | Template::Qwen3Reranker => Head::YesNo,
        Template::Embedding { .. } => pooling.as_ref().map_or(Head::MeanPooling, |known| known.0),
        Template::Chat => {
            return Err(Error::Model(
                "an ONNX model cannot be packed for chat: expected a reranker or an embedder. Pack the model's safetensors \
                 or its GGUF file"
                    .to_owned(),
            ));
        }
    };
    let output = output(model.outputs(), &template)?;
    let is_embedder = matches!(template, Template::Embedding { .. });
    told.push(Told::new("kind", if is_embedder { "embedder" } else { "reranker" }, from));
    match pooling {
        Some((head, from)) if is_embedder => {
            told.push(Told::new("pooling", pooling_name(head), from));
        }
        None if is_embedder && output != POOLED => {
            return Err(Error::Model(format!(
                "how the vectors of tokens in {output:?} become one cannot be told: there is no modules.json and no \
                 1_Pooling/config.json. Get these files, or say --pooling {}",
                pooling_names().replace(", ", "|")
            )));
        }
        _ => {}
    }
    Ok(Decided { template, head, output })
}

/// The output to read: for scores `logits`, for embeddings those that exporters pool first, then hidden states.
fn output(outputs: &[String], template: &Template) -> Result<String, Error> {
    let wanted: &[&str] = match template {
        Template::Embedding { .. } => {
            &[POOLED, "last_hidden_state", "token_embeddings", "hidden_states"]
        }
        _ => &["logits", "scores", "output"],
    };
    let known = wanted.iter().find(|name| outputs.iter().any(|output| output == *name));
    match (known, outputs) {
        (Some(name), _) => Ok((*name).to_owned()),
        (None, [only]) => Ok(only.clone()),
        (None, several) => Err(Error::Model(format!(
            "the model has the outputs {several:?}, expected one of {wanted:?} or a single one of any name"
        ))),
    }
}

/// The type that most bytes of the weights have.
fn precision(weights: &[Weight]) -> &'static str {
    let mut bytes: BTreeMap<&str, usize> = BTreeMap::new();
    for weight in weights {
        let name = match weight.plan.dtype {
            Dtype::U8 | Dtype::I8 => "int8",
            Dtype::F16 => "f16",
            Dtype::Bf16 => "bf16",
            _ => "f32",
        };
        *bytes.entry(name).or_default() += weight.bytes.len();
    }
    bytes.into_iter().max_by_key(|&(_, bytes)| bytes).map_or("f32", |(name, _)| name)
}
