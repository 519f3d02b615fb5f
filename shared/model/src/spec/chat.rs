//! What a language model's files say about conversations: its templates, the tokens that end a turn, and how its authors
//! sample.
//!
//! Templates are longer than metadata strings may be, so all of it is one JSON text, the tensor [`stored::CHAT`] beside the
//! tokenizer. A name in it that this version does not know is refused, as it could change what the model says.

use std::collections::{BTreeMap, BTreeSet};

use defrost_loader::Snapshot;
use serde::{Deserialize, Serialize};

use crate::{Error, stored};

/// See the module page.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChatSpec {
    /// The Jinja source that makes a prompt of messages; `None`: the model only continues texts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
    /// Further templates by name, such as `tool_use`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub named_templates: BTreeMap<String, String>,
    /// Texts of special tokens under the names by which templates know them: `bos_token`, `eos_token` and the like.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub special_tokens: BTreeMap<String, String>,
    /// The token that sequences begin with, if the model has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bos: Option<u32>,
    /// Whether a text that is to be continued gets [`ChatSpec::bos`] in front; templates write it themselves. The snapshot's
    /// tokenizer adds it where it is asked for special tokens.
    #[serde(default)]
    pub add_bos: bool,
    /// The tokens after which the model has finished its turn.
    #[serde(default)]
    pub ends: BTreeSet<u32>,
    /// How the authors sample.
    #[serde(default)]
    pub sampling: SamplingDefaults,
    /// What the blocks of a GGUF file are called together, such as `Q4_K_M`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quantization: Option<String>,
}

/// How a model's authors sample (`generation_config.json`), as far as they say it.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SamplingDefaults {
    /// 0: the likeliest token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f32>,
    /// Only so many likeliest tokens; 0: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top_k: Option<u32>,
    /// Only the likeliest tokens that have this probability together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top_p: Option<f32>,
    /// Only tokens at least so probable, as a part of the likeliest one's probability.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_p: Option<f32>,
    /// Divides the logits of tokens that are there already, or multiplies negative ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repetition_penalty: Option<f32>,
}

impl SamplingDefaults {
    /// What is said, for people; `None` if nothing is.
    pub fn described(&self) -> Option<String> {
        let all = [
            ("temperature", self.temperature.map(|value| value.to_string())),
            ("top_k", self.top_k.map(|value| value.to_string())),
            ("top_p", self.top_p.map(|value| value.to_string())),
            ("min_p", self.min_p.map(|value| value.to_string())),
            ("repetition_penalty", self.repetition_penalty.map(|value| value.to_string())),
        ];
        let said: Vec<String> = all
            .into_iter()
            .filter_map(|(name, value)| value.map(|value| format!("{name} {value}")))
            .collect();
        (!said.is_empty()).then(|| said.join(", "))
    }

    /// Refuses numbers that no sampler takes.
    ///
    /// # Errors
    /// The error names the number at fault.
    pub fn validate(&self) -> Result<(), Error> {
        let within = |name: &str, value: Option<f32>, fits: fn(f32) -> bool, expected: &str| {
            let wrong = value.filter(|&value| !(value.is_finite() && fits(value)));
            match wrong {
                None => Ok(()),
                Some(value) => {
                    Err(Error::Config(format!("{name} is {value}, expected {expected}")))
                }
            }
        };
        within("temperature", self.temperature, |t| t >= 0.0, "a finite number from 0")?;
        within("top_p", self.top_p, |p| p > 0.0 && p <= 1.0, "a number above 0, up to 1")?;
        within("min_p", self.min_p, |p| (0.0..=1.0).contains(&p), "a number from 0 to 1")?;
        within("repetition_penalty", self.repetition_penalty, |p| p > 0.0, "a number above 0")
    }
}

impl ChatSpec {
    /// The JSON text that snapshots hold.
    ///
    /// # Errors
    /// If a number has no place in JSON.
    pub fn to_json(&self) -> Result<Vec<u8>, Error> {
        serde_json::to_vec(self)
            .map_err(|error| Error::Config(format!("{}: {error}", stored::CHAT)))
    }

    /// Reads it back, for a model of so many words.
    ///
    /// # Errors
    /// If it is not what [`ChatSpec::to_json`] writes, or names a token that the model has not.
    pub fn from_json(bytes: &[u8], vocab: usize) -> Result<Self, Error> {
        let spec: Self = serde_json::from_slice(bytes).map_err(|error| {
            Error::Config(format!(
                "{}: {error}, which this version does not read: pack the model again or use the version that packed it",
                stored::CHAT
            ))
        })?;
        spec.sampling.validate()?;
        match spec.ends.iter().chain(&spec.bos).find(|&&id| id as usize >= vocab) {
            None => Ok(spec),
            Some(id) => Err(Error::Config(format!(
                "{} names the token {id}, expected ids below the model's {vocab}",
                stored::CHAT
            ))),
        }
    }

    /// What a snapshot of a language model says.
    pub(crate) fn of(snapshot: &Snapshot, vocab: usize) -> Result<Self, Error> {
        let tensor = snapshot.tensor(stored::CHAT)?;
        Self::from_json(&tensor.bytes, vocab).map_err(|error| {
            Error::Model(format!("snapshot {}: {error}", snapshot.path().display()))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> ChatSpec {
        ChatSpec {
            template: Some("{% for m in messages %}{{ m.content }}{% endfor %}\n\u{1f600}".into()),
            named_templates: BTreeMap::from([("tool_use".into(), "{{ tools }}".into())]),
            special_tokens: BTreeMap::from([("bos_token".into(), "<s>".into())]),
            bos: Some(1),
            add_bos: true,
            ends: BTreeSet::from([2, 7]),
            sampling: SamplingDefaults {
                temperature: Some(0.7),
                top_k: Some(20),
                top_p: Some(0.8),
                min_p: Some(0.0),
                repetition_penalty: Some(1.05),
            },
            quantization: Some("Q4_K_M".into()),
        }
    }

    #[test]
    fn it_is_read_as_it_is_written() {
        for spec in [spec(), ChatSpec::default()] {
            let json = spec.to_json().unwrap();
            assert_eq!(ChatSpec::from_json(&json, 8).unwrap(), spec);
        }
        let empty = ChatSpec::default().to_json().unwrap();
        assert_eq!(
            String::from_utf8(empty).unwrap(),
            r#"{"add_bos":false,"ends":[],"sampling":{}}"#
        );
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for (json, part) in [
            (r#"{"tone":"kind"}"#, "unknown field `tone`"),
            (r#"{"sampling":{"typical_p":0.5}}"#, "unknown field `typical_p`"),
            (
                r#"{"sampling":{"temperature":-1}}"#,
                "temperature is -1, expected a finite number from 0",
            ),
            (r#"{"sampling":{"top_p":0}}"#, "top_p is 0"),
            (r#"{"sampling":{"top_p":1.5}}"#, "top_p is 1.5"),
            (r#"{"sampling":{"min_p":2}}"#, "min_p is 2"),
            (r#"{"sampling":{"repetition_penalty":0}}"#, "repetition_penalty is 0"),
            (r#"{"sampling":{"temperature":1e39}}"#, "number out of range"),
            (r#"{"ends":[8]}"#, "names the token 8, expected ids below the model's 8"),
            (r#"{"bos":9}"#, "names the token 9"),
            ("", "EOF"),
        ] {
            let error = ChatSpec::from_json(json.as_bytes(), 8).unwrap_err().to_string();
            assert!(error.contains(part), "{json}: {error}");
        }
    }
}
