//! What a cross-encoder's author has sentence-transformers do to its logits.
//!
//! Three places say it: `sentence_transformers.activation_fn` in config.json, `sbert_ce_default_activation_function` of
//! versions before 4 there, and `activation_fn` in `config_sentence_transformers.json`. A snapshot holds logits; identity
//! and sigmoid are what servers and requests choose between (`NORMALIZATION`), so these are told and any other is refused.
//! Embedders have no such step, whatever their files say.

use serde::Deserialize;
use serde_json::Value;

use super::told::Told;
use crate::Error;

/// Names of the modules of torch whose function can be served, and what that is called.
const SERVED: [(&str, &str); 2] = [("Identity", "raw"), ("Sigmoid", "sigmoid")];

/// The two keys of config.json.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct RawActivation {
    sbert_ce_default_activation_function: Option<Value>,
    sentence_transformers: Option<Value>,
}

/// What the files say, for a reranker; `in_file` is what `config_sentence_transformers.json` says.
pub(crate) fn decide(raw: &RawActivation, in_file: Option<&Value>) -> Result<Vec<Told>, Error> {
    let inner = raw.sentence_transformers.as_ref().and_then(|keys| keys.get("activation_fn"));
    let said = [
        ("config.json: sentence_transformers.activation_fn", inner),
        (
            "config.json: sbert_ce_default_activation_function",
            raw.sbert_ce_default_activation_function.as_ref(),
        ),
        ("config_sentence_transformers.json: activation_fn", in_file),
    ];
    let said = said.into_iter().filter_map(|(from, value)| Some((from, value?)));
    let told = said.filter(|(_, value)| !value.is_null()).map(|(from, value)| {
        let class = value.as_str().and_then(|name| name.strip_prefix("torch."));
        let class = class.and_then(|rest| rest.rsplit('.').next());
        let served = SERVED.iter().find(|(name, _)| class == Some(name));
        let Some((name, mapping)) = served else {
            return Err(Error::Model(format!(
                "{from} is {value}, which is not applied to scores here: expected torch.nn.modules.linear.Identity or \
                 torch.nn.modules.activation.Sigmoid. If scores without it will do, take it out in a copy of the folder"
            )));
        };
        let value = format!("{name}: scores as the author means them are those of NORMALIZATION={mapping}");
        Ok(Told::new("activation", value, from))
    });
    told.collect()
}
