//! Numbers that a checkpoint says twice. Where the two differ, one of the files belongs to another model.

use defrost_model::{Family, Head, Matryoshka};
use serde_json::Value;

use super::kind::ModelKind;
use super::modules::Modules;
use super::sentence_transformers::said_kind;
use super::{RawConfig, refuse};
use crate::Error;
use crate::formats::Checkpoint;

/// Refuses sizes in config.json that contradict each other.
pub(crate) fn check_sizes(raw: &RawConfig) -> Result<(), Error> {
    if let (Some(kinds), Some(layers)) = (&raw.layer_types, raw.num_hidden_layers)
        && kinds.len() != layers
    {
        let found = format!("a list of {} layers", kinds.len());
        return Err(refuse(
            "layer_types",
            &found,
            &format!("one of the {layers} of num_hidden_layers"),
        ));
    }
    if let (Some(table), Some(hidden)) = (raw.embedding_size, raw.hidden_size)
        && table != hidden
    {
        let expected =
            format!("the {hidden} of hidden_size: a table of another width is not supported");
        return Err(refuse("embedding_size", &table.to_string(), &expected));
    }
    Ok(())
}

/// Refuses a classifier of several labels, whether its tensor or config.json says so.
pub(crate) fn check_labels(
    checkpoint: &Checkpoint,
    raw: &RawConfig,
    family: Family,
    head: Head,
) -> Result<(), Error> {
    let name = format!("{}.weight", family.files.names.classifier[1]);
    if head != Head::Classifier {
        return Ok(());
    }
    match checkpoint.get(&name).map(|tensor| tensor.shape) {
        Some(shape) if shape.first() == Some(&1) => {}
        Some(shape) => {
            return Err(Error::Model(format!(
                "{name} has shape {shape:?}: expected one label, as rerankers have"
            )));
        }
        None => return Err(Error::Model(format!("the checkpoint has no tensor {name:?}"))),
    }
    let entries = match &raw.id2label {
        Some(Value::Object(names)) => Some(names.len()),
        Some(Value::Array(names)) => Some(names.len()),
        _ => None,
    };
    let one = format!("1, as {name} has one row");
    match (&raw.num_labels, entries) {
        (Some(labels), _) if labels.as_f64() != Some(1.0) => {
            Err(refuse("num_labels", &labels.to_string(), &one))
        }
        (_, Some(entries)) if entries != 1 => {
            Err(refuse("id2label", &format!("a map of {entries} labels"), &one))
        }
        _ => Ok(()),
    }
}

/// Refuses a model of the other kind than `config_sentence_transformers.json` says.
pub(crate) fn check_model_type(checkpoint: &Checkpoint, kind: ModelKind) -> Result<(), Error> {
    let Some(said) = said_kind(checkpoint)?.filter(|&said| said != kind) else {
        return Ok(());
    };
    Err(Error::Model(format!(
        "config_sentence_transformers.json: model_type is that of the kind {}, and the other files are of the kind {}: \
         expected both to say the same. Say --kind {} or --kind {}, as the model's \
         card has it",
        said.name(),
        kind.name(),
        said.name(),
        kind.name()
    )))
}

/// Refuses a pooling that was made for vectors of another width than the model's.
pub(crate) fn check_pooling(modules: Option<&Modules>, hidden: usize) -> Result<(), Error> {
    let widths = modules.into_iter().flat_map(|modules| &modules.widths);
    match widths.into_iter().find(|(_, width)| width.as_f64() != Some(exact(hidden))) {
        None => Ok(()),
        Some((from, width)) => Err(Error::Model(format!(
            "{from} is {width}, expected the {hidden} of hidden_size in config.json: the files belong to different models"
        ))),
    }
}

/// Refuses shorter vectors that are longer than the model's, which has `width` dimensions.
pub(crate) fn check_matryoshka(
    matryoshka: &Matryoshka,
    width: usize,
    said: bool,
) -> Result<(), Error> {
    let most = match matryoshka {
        // What is known of a name alone says nothing of this model.
        Matryoshka::From(_) if !said => return Ok(()),
        Matryoshka::No => return Ok(()),
        Matryoshka::From(least) => *least,
        Matryoshka::Only(few) => few.last().copied().unwrap_or_default(),
    };
    if most <= width {
        return Ok(());
    }
    let from = if said { "--matryoshka" } else { "config.json: what vectors may be cut to" };
    Err(Error::Model(format!(
        "{from} is {matryoshka}, expected at most the {width} dimensions that vectors have"
    )))
}

/// Widths are far below 2^53.
#[allow(clippy::cast_precision_loss, reason = "widths are far below 2^53")]
fn exact(width: usize) -> f64 {
    width as f64
}
