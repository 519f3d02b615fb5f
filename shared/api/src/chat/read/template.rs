//! What the template is told beside messages and tools, and what becomes of the model's thoughts.
//!
//! Models that think let their templates say whether: `enable_thinking` of
//! `chat_template_kwargs`. Four APIs have names of their own for it, which become that variable.

use serde_json::{Map, Value};

use crate::chat::body::{ChatBody, KindBody};
use crate::chat::request::ReasoningOutput;
use crate::checks;
use crate::error::Invalid;
use crate::lenient::Flag;

/// Variables that the server sets.
const OWN: [&str; 9] = [
    "messages",
    "tools",
    "add_generation_prompt",
    "continue_final_message",
    "bos_token",
    "eos_token",
    "raise_exception",
    "strftime_now",
    "tojson",
];

/// Most bytes of the further variables of a template.
const MAX_BYTES: usize = 64 * 1024;

const EFFORTS: [&str; 7] = ["none", "minimal", "low", "medium", "high", "xhigh", "max"];

/// The template's further variables.
pub(super) fn variables(body: &mut ChatBody) -> Result<Map<String, Value>, Invalid> {
    let field = "chat_template_kwargs";
    let mut variables = match body.chat_template_kwargs.take() {
        None => Map::new(),
        Some(json) if json.bytes > MAX_BYTES => {
            let message =
                format!("{field}: expected at most {MAX_BYTES} bytes, found {}", json.bytes);
            return Err(Invalid::new(field, message));
        }
        Some(json) => match json.value {
            Value::Object(variables) => variables,
            _ => return Err(Invalid::new(field, format!("{field}: expected an object"))),
        },
    };
    if let Some(own) = OWN.into_iter().find(|own| variables.contains_key(*own)) {
        return Err(Invalid::new(
            format!("{field}.{own}"),
            format!("{field}.{own} is set by the server; leave it out"),
        ));
    }
    if let Some(documents) = body.documents.take() {
        variables.entry("documents").or_insert(documents.value);
    }
    let effort = effort(body)?;
    if let Some(thinks) = thinking(body, effort.as_deref(), &variables)? {
        variables.entry("enable_thinking").or_insert(thinks.into());
    }
    if let Some(effort) = effort {
        variables.entry("reasoning_effort").or_insert(effort.into());
    }
    Ok(variables)
}

fn effort(body: &mut ChatBody) -> Result<Option<String>, Invalid> {
    let of_output = body.output_config.as_mut().and_then(|output| output.0.effort.take());
    let of_reasoning = body.reasoning.as_ref().and_then(|reasoning| reasoning.0.effort.clone());
    let effort = checks::agreed([
        ("reasoning_effort", body.reasoning_effort.take()),
        ("reasoning.effort", of_reasoning),
        ("output_config.effort", of_output),
    ])?;
    match effort {
        Some(effort) if !EFFORTS.contains(&effort.as_str()) => {
            let shown: String = effort.chars().take(40).collect();
            Err(Invalid::new(
                "reasoning_effort",
                format!(
                    "reasoning_effort: expected one of {}, found {shown:?}",
                    EFFORTS.join(", ")
                ),
            ))
        }
        effort => Ok(effort),
    }
}

fn thinking(
    body: &ChatBody,
    effort: Option<&str>,
    variables: &Map<String, Value>,
) -> Result<Option<bool>, Invalid> {
    let kind = body.thinking.as_ref().and_then(|thinking| thinking.0.r#type.as_deref());
    let kind = match kind {
        None => None,
        Some("enabled" | "adaptive" | "auto" | "between_tools") => Some(true),
        Some("disabled") => Some(false),
        Some(_) => {
            return Err(Invalid::new(
                "thinking.type",
                "thinking.type: expected enabled, adaptive or disabled",
            ));
        }
    };
    let variable = variables.get("enable_thinking").and_then(Value::as_bool);
    let asked = checks::agreed([
        ("chat_template_kwargs.enable_thinking", variable),
        ("enable_thinking", body.enable_thinking.map(|Flag(thinks)| thinks)),
        ("thinking", kind),
    ])?;
    // An effort of none is a wish of the lowest rank: clients have a default for it.
    Ok(asked.or_else(|| (effort == Some("none")).then_some(false)))
}

/// What becomes of the model's thoughts.
pub(super) fn reasoning_output(body: &ChatBody) -> Result<ReasoningOutput, Invalid> {
    let format = match body.reasoning_format.as_deref() {
        None => None,
        Some("none" | "raw") => Some(ReasoningOutput::Inline),
        Some("deepseek" | "deepseek-legacy" | "auto" | "parsed") => Some(ReasoningOutput::Separate),
        Some("hidden") => Some(ReasoningOutput::Hidden),
        Some(_) => {
            return Err(Invalid::new(
                "reasoning_format",
                "reasoning_format: expected auto, deepseek, none or hidden",
            ));
        }
    };
    let included = body.include_reasoning.map(|Flag(included)| included);
    let omitted = body.thinking.as_ref().is_some_and(|thinking| {
        let KindBody { display, .. } = &thinking.0;
        display.as_deref() == Some("omitted")
    });
    match (format, included) {
        (Some(ReasoningOutput::Inline | ReasoningOutput::Separate), Some(false))
        | (Some(ReasoningOutput::Hidden), Some(true)) => {
            Err(checks::contradiction("reasoning_format", "include_reasoning"))
        }
        (None, Some(false)) => Ok(ReasoningOutput::Hidden),
        (None, None) if omitted => Ok(ReasoningOutput::Hidden),
        (format, _) => Ok(format.unwrap_or_default()),
    }
}
