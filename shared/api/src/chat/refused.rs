//! Fields of other servers that change what is answered and that nothing here honours.
//!
//! A field that only steers how an answer is made is let pass ([`WITHOUT_EFFECT`]). One that changes
//! the answer is refused by its name, unless it holds what means that it is off: an answer without
//! what was asked for would look right.

use crate::error::Invalid;
use crate::fields::{Held, Names};

/// When a field that is refused may come all the same.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Off {
    /// Never.
    Null,
    /// `false`, 0, or nothing in it.
    Nothing,
    /// `true`.
    True,
    /// This number.
    Is(f64),
    /// This number or less.
    UpTo(f64),
}

impl Off {
    fn allows(self, held: Held) -> bool {
        match (self, held) {
            (_, Held::Null)
            | (Self::Nothing, Held::Empty | Held::Flag(false))
            | (Self::True, Held::Flag(true)) => true,
            #[allow(clippy::float_cmp, reason = "the number that was sent, not one computed")]
            (Self::Is(number), Held::Number(found)) => found == number,
            (Self::UpTo(most), Held::Number(found)) => found <= most,
            (Self::Nothing, Held::Number(found)) => found == 0.0,
            _ => false,
        }
    }

    fn words(self) -> String {
        match self {
            Self::Null => "leave it out".to_owned(),
            Self::Nothing => "leave it out or empty".to_owned(),
            Self::True => "leave it out or send true".to_owned(),
            Self::Is(number) => format!("leave it out or send {number}"),
            Self::UpTo(most) => format!("leave it out or send {most}"),
        }
    }
}

struct Row {
    field: &'static str,
    off: Off,
    /// What it would do.
    what: &'static str,
}

const fn row(field: &'static str, off: Off, what: &'static str) -> Row {
    Row { field, off, what }
}

const ROWS: &[Row] = &[
    // OpenAI
    row("suffix", Off::Nothing, "texts are continued, not filled in between a prompt and a suffix"),
    row("web_search_options", Off::Null, "nothing is searched"),
    row("moderation", Off::Null, "nothing is moderated"),
    row("background", Off::Nothing, "an answer is made while its request waits"),
    row("conversation", Off::Null, "no conversation is stored; send it as input"),
    row(
        "previous_response_id",
        Off::Nothing,
        "no response is stored; send the conversation as input",
    ),
    row("image", Off::Null, "no images are made"),
    // Anthropic
    row("container", Off::Nothing, "no code is run"),
    row("mcp_servers", Off::Nothing, "no server is asked for tools"),
    // vLLM
    row("use_beam_search", Off::Nothing, "there is no beam search"),
    row("length_penalty", Off::Is(1.0), "it belongs to beam search, which there is not"),
    row("min_tokens", Off::Nothing, "no least number of tokens is held to"),
    row("include_stop_str_in_output", Off::Nothing, "a stop string is no part of the answer"),
    row("skip_special_tokens", Off::True, "special tokens are no part of the answer"),
    row("truncate_prompt_tokens", Off::Is(-1.0), "a prompt is not cut; send a shorter one"),
    row("prompt_logprobs", Off::Nothing, "they come in completions, with echo and logprobs"),
    row("allowed_token_ids", Off::Null, "tokens are forbidden by logit_bias, texts by a grammar"),
    row("bad_words", Off::Nothing, "tokens are forbidden by logit_bias"),
    row("logits_processors", Off::Nothing, "no code of clients is run"),
    row("return_tokens_as_token_ids", Off::Nothing, "tokens are returned as texts and bytes"),
    row("return_token_ids", Off::Nothing, "/tokenize turns texts into token ids"),
    row("kv_transfer_params", Off::Null, "keys and values are not moved between servers"),
    row("vllm_xargs", Off::Nothing, "nothing reads it"),
    row(
        "structural_tag",
        Off::Null,
        "the forms are json schemas, regular expressions and grammars",
    ),
    row("guided_whitespace_pattern", Off::Null, "the white space of json is not chosen"),
    row("chat_template", Off::Null, "the template is the model's own"),
    row("mm_processor_kwargs", Off::Nothing, "the model reads text"),
    row("media_io_kwargs", Off::Nothing, "the model reads text"),
    row("thinking_token_budget", Off::Null, "the length of thoughts is not bounded by itself"),
    // llama.cpp
    row("samplers", Off::Nothing, "the order of samplers is fixed"),
    row("mirostat", Off::Nothing, "there is no mirostat sampling"),
    row("typical_p", Off::Is(1.0), "there is no typical sampling"),
    row("typ_p", Off::Is(1.0), "there is no typical sampling"),
    row("tfs_z", Off::Is(1.0), "there is no tail-free sampling"),
    row("xtc_probability", Off::Nothing, "there is no sampler that excludes top choices"),
    row("dry_multiplier", Off::Nothing, "there is no penalty of repeated sequences"),
    row("dynatemp_range", Off::Nothing, "the temperature is one number"),
    row("top_n_sigma", Off::UpTo(0.0), "there is no top-n-sigma sampling"),
    row("min_keep", Off::UpTo(1.0), "samplers keep one token at least"),
    row("n_indent", Off::Nothing, "indentation is not held to"),
    row("t_max_predict_ms", Off::UpTo(0.0), "time is bounded by the header x-request-timeout"),
    row("t_max_prompt_ms", Off::UpTo(0.0), "time is bounded by the header x-request-timeout"),
    row("post_sampling_probs", Off::Nothing, "probabilities are those before sampling"),
    row("return_tokens", Off::Nothing, "/tokenize turns texts into token ids"),
    row("response_fields", Off::Nothing, "an answer has all of its fields"),
    row("lora", Off::Nothing, "adapters are part of the model"),
    row("image_data", Off::Nothing, "the model reads text"),
    row("multimodal_data", Off::Nothing, "the model reads text"),
    row("grammar_lazy", Off::Nothing, "a grammar holds from the first token"),
    row("grammar_triggers", Off::Nothing, "a grammar holds from the first token"),
    row("parse_tool_calls", Off::True, "calls of tools are always read out of the answer"),
    row(
        "reasoning_in_content",
        Off::Nothing,
        "reasoning_format: none leaves thoughts in the answer",
    ),
    row("reasoning_budget", Off::Is(-1.0), "the length of thoughts is not bounded by itself"),
    row("thinking_forced_open", Off::Nothing, "the template begins the answer"),
    row("input_prefix", Off::Nothing, "texts are continued, not filled in"),
    row("input_suffix", Off::Nothing, "texts are continued, not filled in"),
    row("input_extra", Off::Nothing, "texts are continued, not filled in"),
];

/// Fields that steer how, where or at what price an answer is made, or that have a meaning only
/// beside another that is refused.
pub(super) const WITHOUT_EFFECT: &[&str] = &[
    "audio",
    "prediction",
    "prompt_cache_key",
    "prompt_cache_options",
    "prompt_cache_retention",
    "background_options",
    "access_programs",
    "cache_control",
    "diagnostics",
    "inference_geo",
    "speed",
    "user_profile_id",
    "workspace_id",
    "max_tool_calls",
    "spaces_between_special_tokens",
    "guided_decoding_backend",
    "mirostat_tau",
    "mirostat_eta",
    "xtc_threshold",
    "dry_base",
    "dry_allowed_length",
    "dry_penalty_last_n",
    "dry_sequence_breakers",
    "dynatemp_exponent",
    "id_slot",
    "n_keep",
    "n_discard",
    "n_cache_reuse",
    "preserved_tokens",
    "timings_per_token",
    "return_progress",
    "speculative.n_max",
    "speculative.n_min",
    "speculative.p_min",
];

/// Refuses a body with a field that would change the answer and is not honoured.
pub(super) fn refuse(names: &Names) -> Result<(), Invalid> {
    for Row { field, off, what } in ROWS {
        if names.held(field).is_some_and(|held| !off.allows(held)) {
            let advice = off.words();
            return Err(Invalid::new(
                *field,
                format!("{field} is not honoured here: {what}; {advice}"),
            ));
        }
    }
    Ok(())
}

/// Fields that are refused unless they are off, and then say nothing.
pub(super) fn refusable() -> impl Iterator<Item = &'static str> {
    ROWS.iter().map(|row| row.field)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(json: &str) -> Result<(), Invalid> {
        refuse(&Names::of(json.as_bytes()))
    }

    #[test]
    fn every_row_refuses_by_name_unless_it_is_off() {
        for row in ROWS {
            let field = row.field;
            let (on, off): (&[&str], &[&str]) = match row.off {
                Off::Null => (&["1", "true", "\"a\"", "{}", "[]"], &["null"]),
                Off::Nothing => {
                    (&["1", "true", "\"a\"", "[1]"], &["0", "false", "\"\"", "[]", "{}", "null"])
                }
                Off::True => (&["false", "\"false\"", "0"], &["true", "\"true\"", "null"]),
                Off::Is(_) => (&["7", "0.5", "true", "[]"], &["null"]),
                Off::UpTo(_) => (&["7", "true", "[]"], &["-1", "0", "0.0", "null"]),
            };
            for value in on {
                let refused = told(&format!("{{\"{field}\":{value}}}")).expect_err(field);
                assert_eq!(refused.param.as_deref(), Some(field));
                assert!(refused.message.starts_with(&format!("{field} is not honoured here: ")));
            }
            for value in off {
                assert_eq!(told(&format!("{{\"{field}\":{value}}}")), Ok(()), "{field}: {value}");
            }
            if let Off::Is(number) = row.off {
                assert_eq!(told(&format!("{{\"{field}\":{number:.1}}}")), Ok(()), "{field}");
            }
        }
    }

    #[test]
    fn no_field_is_in_both_tables_or_twice() {
        let mut all: Vec<&str> = refusable().chain(WITHOUT_EFFECT.iter().copied()).collect();
        all.sort_unstable();
        assert!(all.windows(2).all(|pair| pair[0] != pair[1]), "{all:?}");
    }
}
