//! Which keys of a GGUF file's metadata are known, and what of them: as of the files of Hugging Face's folders
//! ([`crate::checkpoint`]), a key is read, or known to change nothing, or accepted with such values only as change nothing. With
//! any other key of its architecture or its tokenizer a file is refused. Keys of `general` and of other tools are notes.

use super::{float, shown};
use crate::Error;
use crate::formats::{Gguf, GgufValue};

/// What is known of a key.
#[derive(Debug, Clone, Copy)]
#[cfg_attr(
    not(test),
    allow(dead_code, reason = "the value of a key that is read is for the row's test")
)]
pub(super) enum Rule {
    /// The key is read. With this value a model becomes another or is refused; without one, its lists have tests of their own.
    Read(Option<Sample>),
    /// The key changes nothing.
    Harmless,
    /// The key changes nothing with one of these values.
    Only(&'static [Sample]),
}

/// A value as it is written in the table.
#[derive(Debug, Clone, Copy)]
pub(super) enum Sample {
    N(f32),
    T(&'static str),
    B(bool),
}

use Rule::{Harmless, Only, Read};
use Sample::{B, N, T};

/// There is none of it.
const NONE: Rule = Only(&[N(0.0)]);
/// It is not so.
const NOT: Rule = Only(&[B(false)]);

const fn number(value: f32) -> Rule {
    Read(Some(N(value)))
}

/// Keys after the architecture's name, in order.
pub(super) const MODEL: &[(&str, Rule)] = &[
    ("attention.causal", Only(&[B(true)])),
    ("attention.clamp_kqv", NONE),
    ("attention.head_count", number(3.0)),
    ("attention.head_count_kv", number(3.0)),
    ("attention.key_length", number(8.0)),
    ("attention.layer_norm_rms_epsilon", number(0.5)),
    ("attention.max_alibi_bias", NONE),
    ("attention.scale", NONE),
    ("attention.sliding_window", number(7.0)),
    ("attention.sliding_window_pattern", number(2.0)),
    ("attention.value_length", number(8.0)),
    ("attn_logit_softcapping", NONE),
    ("block_count", number(1.0)),
    ("context_length", number(77.0)),
    ("embedding_length", number(8.0)),
    ("embedding_scale", NONE),
    ("expert_count", NONE),
    ("expert_used_count", NONE),
    ("feed_forward_length", number(8.0)),
    ("final_logit_softcapping", NONE),
    ("leading_dense_block_count", NONE),
    ("logit_scale", NONE),
    ("nextn_predict_layers", NONE),
    ("pooling_type", NONE),
    ("residual_scale", NONE),
    ("rope.dimension_count", number(8.0)),
    ("rope.freq_base", number(77.0)),
    ("rope.freq_base_swa", number(77.0)),
    ("rope.scale_linear", number(2.0)),
    ("rope.scaling.attn_factor", Only(&[N(1.0)])),
    ("rope.scaling.factor", number(2.0)),
    // What was done, not what is to be done.
    ("rope.scaling.finetuned", Harmless),
    // Of kinds of scaling that are refused.
    ("rope.scaling.original_context_length", Harmless),
    ("rope.scaling.type", Read(Some(T("yarn")))),
    // How llama.cpp's converter found the rows, which it has put into its own order.
    ("tensor_data_layout", Harmless),
    ("use_parallel_residual", NOT),
    ("vocab_size", number(8.0)),
];

/// Keys after `tokenizer.`, in order.
pub(super) const TOKENIZER: &[(&str, Rule)] = &[
    ("chat_template", Read(Some(T("another")))),
    ("chat_templates", Harmless),
    ("ggml.add_bos_token", Read(Some(B(true)))),
    ("ggml.add_eos_token", NOT),
    ("ggml.add_sep_token", NOT),
    ("ggml.add_space_prefix", Read(Some(B(false)))),
    ("ggml.bos_token_id", number(1.0)),
    ("ggml.cls_token_id", Harmless),
    ("ggml.eom_token_id", number(1.0)),
    ("ggml.eos_token_id", number(1.0)),
    ("ggml.eot_token_id", number(1.0)),
    ("ggml.fim_mid_token_id", Harmless),
    ("ggml.fim_pad_token_id", Harmless),
    ("ggml.fim_pre_token_id", Harmless),
    ("ggml.fim_rep_token_id", Harmless),
    ("ggml.fim_sep_token_id", Harmless),
    ("ggml.fim_suf_token_id", Harmless),
    ("ggml.mask_token_id", Harmless),
    ("ggml.merges", Read(None)),
    ("ggml.middle_token_id", Harmless),
    ("ggml.model", Read(Some(T("bert")))),
    ("ggml.padding_token_id", number(1.0)),
    ("ggml.pre", Read(Some(T("no such rule")))),
    ("ggml.prefix_token_id", Harmless),
    ("ggml.remove_extra_whitespaces", NOT),
    ("ggml.scores", Read(None)),
    ("ggml.separator_token_id", Harmless),
    ("ggml.seperator_token_id", Harmless),
    ("ggml.suffix_token_id", Harmless),
    ("ggml.token_type", Read(None)),
    ("ggml.tokens", Read(None)),
    ("ggml.unknown_token_id", number(1.0)),
    // The original's own file, from which llama.cpp reads nothing either.
    ("huggingface.json", Harmless),
];

/// Keys of other names that matter.
pub(super) const OTHERS: &[(&str, Rule)] =
    &[("general.type", Only(&[T("model")])), ("split.count", Only(&[N(0.0), N(1.0)]))];

/// Refuses what is not known, and values that change what is not honoured.
pub(super) fn check(file: &Gguf, architecture: &str) -> Result<(), Error> {
    let prefix = format!("{architecture}.");
    for (key, value) in file.metadata() {
        let row = |table: &[(&str, Rule)], name: &str| {
            table.iter().find(|row| row.0 == name).map(|row| row.1)
        };
        let rule = if let Some(name) = key.strip_prefix(&prefix) {
            row(MODEL, name)
        } else if let Some(name) = key.strip_prefix("tokenizer.") {
            // Templates with names.
            row(TOKENIZER, name).or(name.starts_with("chat_template.").then_some(Harmless))
        } else {
            Some(row(OTHERS, key).unwrap_or(Harmless))
        };
        match rule {
            Some(Read(_) | Harmless) => {}
            Some(Only(values)) if values.iter().any(|sample| sample.is(value)) => {}
            Some(Only(values)) => {
                let expected: Vec<String> = values.iter().map(|sample| sample.text()).collect();
                return Err(Error::Model(format!(
                    "{key} is {}, which would change results and is not supported: expected {}",
                    shown(value),
                    expected.join(" or ")
                )));
            }
            None => {
                return Err(Error::Model(format!(
                    "{key} is {}, and this version does not know whether that key changes results: expected known keys \
                     only. If it changes nothing, take it out with gguf_new_metadata.py of the package `gguf`",
                    shown(value)
                )));
            }
        }
    }
    Ok(())
}

impl Sample {
    fn is(self, value: &GgufValue) -> bool {
        match (self, value) {
            (B(sample), GgufValue::Bool(value)) => sample == *value,
            (T(sample), GgufValue::String(value)) => sample == value,
            (N(sample), value) => {
                float(value).is_some_and(|value| value.to_bits() == sample.to_bits())
            }
            _ => false,
        }
    }

    fn text(self) -> String {
        match self {
            N(number) => number.to_string(),
            T(text) => format!("{text:?}"),
            B(flag) => flag.to_string(),
        }
    }
}
