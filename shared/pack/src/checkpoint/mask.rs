//! What a decoder's tokens see: what precedes them, or all of their sequence.
//!
//! Embedding models made of Qwen2 and Qwen3 often drop the causal mask. Some say so in config.json (`is_causal`,
//! `use_bidirectional_attention`); older ones say it in Python that `auto_map` names, and `transformers` runs. That is not
//! run here, but read for the words by which it drops the mask: the class that is named, with what it inherits and builds
//! in that file ([`super::python`]), and no other. Where it has none, or the named classes differ, or such a line stands under
//! a condition, or another sets the mask again, or a key says otherwise, the user is asked.

use std::collections::BTreeMap;

use defrost_model::Family;
use serde_json::Value;

use super::kind::ModelKind;
use super::modules::Modules;
use super::told::Told;
use super::{RawConfig, SpecOptions, python};
use crate::Error;
use crate::formats::Checkpoint;

/// What tokens see, as a user says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttentionMask {
    /// Tokens see those that precede them.
    Causal,
    /// Tokens see all of their sequence.
    Bidirectional,
}

impl AttentionMask {
    /// `causal` or `bidirectional`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Causal => "causal",
            Self::Bidirectional => "bidirectional",
        }
    }
}

/// Classes that `auto_map` replaces and that matter here; the tokenizer's and the configuration's do not compute.
const CLASSES: [&str; 3] =
    ["AutoModel", "AutoModelForCausalLM", "AutoModelForSequenceClassification"];

/// A line of code with one of these, blanks left out, drops the mask: by a parameter of the model's own that later versions of
/// `transformers` made a key, or by the function that makes the other mask. An argument `is_causal=False` does not: that is how
/// a call that is given the causal mask as a tensor is written.
const MARKS: [&str; 4] = [
    "is_causal:bool=False",
    "is_causal:Optional[bool]=False",
    "is_causal:bool|None=False",
    "create_bidirectional_mask(",
];

/// A line that ends so drops it for a layer.
const ASSIGNED: &str = ".is_causal=False";

/// Whether the model is bidirectional, and what to tell.
pub(crate) fn decide(
    checkpoint: &Checkpoint,
    raw: &RawConfig,
    family: Family,
    modules: Option<&Modules>,
    options: &SpecOptions,
) -> Result<(bool, Vec<Told>), Error> {
    let classes = custom_code(raw);
    let code = classes.first().cloned();
    if !family.blueprint.causal {
        return match (code, raw.is_causal, options.attention) {
            (_, _, Some(AttentionMask::Causal)) | (_, Some(true), None) => {
                Err(Error::Model(format!(
                    "config.json: a {} model with causal attention is not supported: expected is_causal false or no such key",
                    family.name
                )))
            }
            (Some((key, class)), _, None) => Err(Error::Model(format!(
                "config.json: auto_map says that {key} is {class}, code that may compute anything and is not run: expected \
                 the architecture {} as `transformers` has it. If the code computes just that, say --attention \
                 bidirectional",
                family.name
            ))),
            _ => Ok((false, Vec::new())),
        };
    }
    let told = |mask: AttentionMask, from: String| {
        let told = Told::new("attention", mask.name(), from);
        Ok((mask == AttentionMask::Bidirectional, vec![told]))
    };
    if let Some(mask) = options.attention {
        return told(mask, "--attention".to_owned());
    }
    let mask = |bidirectional| {
        if bidirectional { AttentionMask::Bidirectional } else { AttentionMask::Causal }
    };
    if raw.is_causal == Some(true) || raw.use_bidirectional_attention == Some(false) {
        for (key, class) in &classes {
            if drops_the_mask(checkpoint, class)? {
                return Err(Error::Model(format!(
                    "config.json: a key says that the attention is causal (is_causal or use_bidirectional_attention), and \
                     auto_map that {key} is {class}, code that drops the causal mask: expected both to say the same. Say \
                     --attention causal or --attention bidirectional (the model's card knows)"
                )));
            }
        }
    }
    match (raw.is_causal.map(|causal| !causal), raw.use_bidirectional_attention) {
        (Some(one), Some(other)) if one != other => Err(Error::Model(
            "config.json: is_causal and use_bidirectional_attention contradict each other: expected one of them, or say \
             --attention causal or --attention bidirectional"
                .to_owned(),
        )),
        (Some(bidirectional), _) => told(mask(bidirectional), "config.json: is_causal".to_owned()),
        (None, Some(false)) => {
            told(AttentionMask::Causal, "config.json: use_bidirectional_attention".to_owned())
        }
        (None, Some(true)) => told(
            AttentionMask::Bidirectional,
            format!(
                "config.json: use_bidirectional_attention, which `transformers` does not read of {} models: it computes \
                 with the causal mask, as --attention causal does here",
                family.name
            ),
        ),
        (None, None) => {
            let of_embedder = classes.iter().any(|(key, _)| *key == "AutoModel");
            if let Some((key, class)) = classes.first().filter(|_| !of_embedder)
                && is_embedder(modules, options)
            {
                return Err(Error::Model(format!(
                    "config.json: auto_map says that {key} is {class}, and names no AutoModel, which is what an embedder is \
                     loaded as: whether it has the causal mask cannot be told. Say --attention causal (what \
                     sentence-transformers computes) or --attention bidirectional (the model's card knows)"
                )));
            }
            let mut bidirectional = None;
            for (key, class) in &classes {
                if !drops_the_mask(checkpoint, class)? {
                    return Err(Error::Model(format!(
                        "config.json: auto_map says that {key} is {class}, code that is not run and does not show whether \
                         that class drops the causal mask: say --attention causal or --attention bidirectional (the model's \
                         card or code knows), if it computes the architecture {} otherwise",
                        family.name
                    )));
                }
                bidirectional.get_or_insert_with(|| format!("config.json: auto_map, {key} is {class}"));
            }
            bidirectional
                .map_or(Ok((false, Vec::new())), |from| told(AttentionMask::Bidirectional, from))
        }
    }
}

/// Whether the user or the modules say that the model gives vectors.
fn is_embedder(modules: Option<&Modules>, options: &SpecOptions) -> bool {
    match (&options.template, options.kind) {
        (Some(template), _) => template == "embedding",
        (None, Some(kind)) => kind == ModelKind::Embedder,
        (None, None) => {
            options.pooling.is_some() || modules.is_some_and(|modules| modules.pooling.is_some())
        }
    }
}

/// The entries of `auto_map` that replace the model: which of them is loaded depends on what for.
fn custom_code(raw: &RawConfig) -> Vec<(&'static str, String)> {
    let Some(map): Option<&BTreeMap<String, Value>> = raw.auto_map.as_ref() else {
        return Vec::new();
    };
    let named = CLASSES.into_iter().filter_map(|key| {
        let class = map.get(key).filter(|class| !class.is_null())?;
        let text = class.as_str().map_or_else(|| class.to_string(), str::to_owned);
        Some((key, text))
    });
    named.collect()
}

/// Whether a class that `auto_map` names drops the mask, by its name or by its code, if that is in the folder.
fn drops_the_mask(checkpoint: &Checkpoint, class: &str) -> Result<bool, Error> {
    // `org/name--module.Class` is code of another repository.
    let local = class.rsplit("--").next().unwrap_or(class);
    let (module, name) = local.rsplit_once('.').unwrap_or(("", local));
    if name.to_lowercase().contains("bidirectional") {
        return Ok(true);
    }
    if module.is_empty() || class.contains("--") {
        return Ok(false);
    }
    let file = format!("{}.py", module.replace('.', "/"));
    let Some(code) = checkpoint.file_beside_weights(&file)? else {
        return Ok(false);
    };
    let lines = python::reachable(&String::from_utf8_lossy(&code), name).unwrap_or_default();
    Ok(shows_no_mask(&lines))
}

/// Whether lines of code drop the mask for certain: by a line that no condition stands before, with none that sets it
/// again.
fn shows_no_mask(lines: &[String]) -> bool {
    let bare = |line: &String| -> String {
        line.chars().filter(|character| !character.is_whitespace()).collect()
    };
    let all: Vec<String> = lines.iter().map(bare).collect();
    let sets_again = |line: &String| {
        line.contains(".is_causal=") && !line.contains(".is_causal==") && !line.ends_with(ASSIGNED)
    };
    if all.iter().any(sets_again) {
        return false;
    }
    all.iter().enumerate().any(|(at, line)| {
        (line.ends_with(ASSIGNED) || MARKS.iter().any(|mark| line.contains(mark)))
            && !python::is_conditional(lines, at)
    })
}
