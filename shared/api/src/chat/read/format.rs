//! The form that is asked of the answer, from whichever of many fields says it.

use serde_json::Value;

use crate::chat::body::{ChatBody, FormatBody, Json};
use crate::chat::request::OutputFormat;
use crate::checks;
use crate::error::Invalid;

/// Most texts to choose among.
const MAX_CHOICES: usize = 1000;

pub(super) fn read(body: &mut ChatBody) -> Result<OutputFormat, Invalid> {
    let mut asked: Vec<(&'static str, OutputFormat)> = Vec::new();
    if let Some(format) = body.response_format.take() {
        asked.push(("response_format", named("response_format", format.0)?));
    }
    if let Some(format) = body.text.take().and_then(|text| text.0.format) {
        asked.push(("text.format", named("text.format", format.0)?));
    }
    if let Some(format) = body.output_config.take().and_then(|output| output.0.format) {
        asked.push(("output_config.format", named("output_config.format", format.0)?));
    }
    if let Some(format) = body.output_format.take() {
        asked.push(("output_format", named("output_format", format.0)?));
    }
    if let Some(json) = body.json_schema.take() {
        asked.push(("json_schema", schema("json_schema", json)?));
    }
    if let Some(json) = body.guided_json.take() {
        asked.push(("guided_json", schema("guided_json", json)?));
    }
    let texts = [
        ("guided_regex", body.guided_regex.take(), regex as fn(&'static str, String) -> _),
        ("guided_grammar", body.guided_grammar.take(), grammar),
        // llama.cpp's clients send an empty one for none.
        ("grammar", body.grammar.take().filter(|text| !text.is_empty()), grammar),
    ];
    for (field, text, form) in texts {
        if let Some(text) = text {
            asked.push((field, form(field, text)?));
        }
    }
    if let Some(texts) = body.guided_choice.take() {
        asked.push(("guided_choice", choice("guided_choice", texts.0)?));
    }
    structured(body, &mut asked)?;
    asked.retain(|(_, format)| *format != OutputFormat::Text);
    let mut asked = asked.into_iter();
    match (asked.next(), asked.next()) {
        (Some((first, _)), Some((second, _))) => Err(checks::contradiction(first, second)),
        (Some((_, format)), None) => Ok(format),
        (None, _) => Ok(OutputFormat::Text),
    }
}

fn structured(
    body: &mut ChatBody,
    asked: &mut Vec<(&'static str, OutputFormat)>,
) -> Result<(), Invalid> {
    let Some(outputs) = body.structured_outputs.take().map(|outputs| outputs.0) else {
        return Ok(());
    };
    if outputs.structural_tag.is_some() {
        return Err(Invalid::new(
            "structured_outputs.structural_tag",
            "structured_outputs.structural_tag is not honoured here; send json, regex, choice or grammar",
        ));
    }
    let field = "structured_outputs.json";
    if let Some(json) = outputs.json {
        asked.push((field, schema(field, json)?));
    }
    let field = "structured_outputs.regex";
    if let Some(pattern) = outputs.regex {
        asked.push((field, regex(field, pattern)?));
    }
    let field = "structured_outputs.choice";
    if let Some(texts) = outputs.choice {
        asked.push((field, choice(field, texts.0)?));
    }
    let field = "structured_outputs.grammar";
    if let Some(text) = outputs.grammar {
        asked.push((field, grammar(field, text)?));
    }
    if outputs.json_object.is_some_and(|flag| flag.0) {
        asked.push(("structured_outputs.json_object", OutputFormat::JsonObject));
    }
    Ok(())
}

/// A form with a `type`: `OpenAI`'s three, and two of other servers.
fn named(field: &'static str, format: FormatBody) -> Result<OutputFormat, Invalid> {
    let Some(kind) = format.r#type.as_deref() else {
        return Err(Invalid::new(
            field,
            format!(
                "{field}: expected a type: text, json_object, json_schema, regex or gbnf_grammar"
            ),
        ));
    };
    let missing = |key: &str| {
        let message = format!("{field}: a format of type {kind} has a {key}, which is missing");
        Invalid::new(format!("{field}.{key}"), message)
    };
    let value_text = |value: Option<Json>| match value.map(|json| json.value) {
        Some(Value::String(text)) => Some(text),
        _ => None,
    };
    match kind {
        "text" => Ok(OutputFormat::Text),
        // llama.cpp and others take a schema with it.
        "json_object" | "json" => match format.schema.or(format.value) {
            Some(json) => schema(field, json),
            None => Ok(OutputFormat::JsonObject),
        },
        "json_schema" => {
            let inner = format.json_schema.and_then(inner_schema);
            let json = inner.or(format.schema).or(format.value);
            json.map_or_else(|| Err(missing("json_schema.schema")), |json| schema(field, json))
        }
        "regex" => {
            let pattern = format.regex.or(format.pattern).or_else(|| value_text(format.value));
            pattern.map_or_else(|| Err(missing("regex")), |pattern| regex(field, pattern))
        }
        "gbnf_grammar" | "grammar" | "gbnf" => {
            let text = format.grammar.or_else(|| value_text(format.value));
            text.map_or_else(|| Err(missing("grammar")), |text| grammar(field, text))
        }
        other => {
            let shown: String = other.chars().take(40).collect();
            Err(Invalid::new(
                format!("{field}.type"),
                format!(
                    "{field}: expected a type of text, json_object, json_schema, regex or gbnf_grammar, \
                     found {shown:?}"
                ),
            ))
        }
    }
}

/// The schema in `json_schema`, beside its name; some clients put the schema itself there.
fn inner_schema(json: Json) -> Option<Json> {
    /// Words that a schema begins with and that a name and its `strict` have not.
    const WORDS: [&str; 7] = ["type", "properties", "$ref", "anyOf", "oneOf", "enum", "const"];

    let Json { mut value, bytes } = json;
    if let Some(schema) = value.get_mut("schema") {
        let schema = schema.take();
        return (!schema.is_null()).then_some(Json { value: schema, bytes });
    }
    let is_schema = WORDS.iter().any(|word| value.get(word).is_some());
    (is_schema || !value.is_object()).then_some(Json { value, bytes })
}

/// A schema, also (vLLM) as JSON in a string.
fn schema(field: &'static str, json: Json) -> Result<OutputFormat, Invalid> {
    let schema = match json.value {
        Value::String(text) => serde_json::from_str(&text).map_err(|error| {
            Invalid::new(field, format!("{field}: the text is not valid json: {error}"))
        })?,
        schema => schema,
    };
    if schema.is_object() || schema.is_boolean() {
        Ok(OutputFormat::JsonSchema { field, schema })
    } else {
        Err(Invalid::new(field, format!("{field}: expected a json schema, which is an object")))
    }
}

#[allow(clippy::unnecessary_wraps, reason = "as its siblings")]
fn regex(field: &'static str, pattern: String) -> Result<OutputFormat, Invalid> {
    Ok(OutputFormat::Regex { field, pattern })
}

fn grammar(field: &'static str, text: String) -> Result<OutputFormat, Invalid> {
    if text.trim().is_empty() {
        return Err(Invalid::new(
            field,
            format!("{field}: expected a grammar, found an empty text"),
        ));
    }
    Ok(OutputFormat::Grammar { field, text })
}

fn choice(field: &'static str, texts: Vec<String>) -> Result<OutputFormat, Invalid> {
    if (1..=MAX_CHOICES).contains(&texts.len()) {
        return Ok(OutputFormat::Choice { field, texts });
    }
    let found = texts.len();
    Err(Invalid::new(field, format!("{field}: expected 1 to {MAX_CHOICES} texts, found {found}")))
}
