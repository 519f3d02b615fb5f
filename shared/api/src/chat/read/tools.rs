//! Tools, and which of them may or must be called.

use serde_json::Value;

use crate::chat::body::{ChatBody, ChoiceBody, ChoiceObject, FunctionBody, Json, ToolBody};
use crate::chat::message::{Tool, ToolChoice};
use crate::checks;
use crate::error::Invalid;

/// Most characters of a tool's name; `OpenAI` allows 64, names of MCP servers are longer.
const MAX_NAME_CHARS: usize = 256;

/// Most bytes of the schemas of all tools: the sets of large MCP servers are half of it.
const MAX_BYTES: usize = 512 * 1024;

/// What is said of tools in a request.
#[derive(Debug, Default)]
pub(super) struct Toolbox {
    pub(super) tools: Vec<Tool>,
    pub(super) choice: ToolChoice,
    pub(super) parallel: bool,
}

/// `custom` is what Anthropic calls a tool of the client's own; to `OpenAI` it is one without a
/// schema.
pub(super) fn read(body: &mut ChatBody, custom_is_function: bool) -> Result<Toolbox, Invalid> {
    if body.tools.is_some() && body.functions.is_some() {
        return Err(checks::contradiction("tools", "functions"));
    }
    let mut bytes = 0;
    let (tools, choice): (Result<Vec<_>, _>, _) = if let Some(functions) = body.functions.take() {
        let tool = |(at, function)| tool(&format!("functions[{at}]"), function, &mut bytes);
        let tools = functions.0.into_iter().enumerate().map(tool).collect();
        (tools, body.function_call.take().map(|choice| ("function_call", choice)))
    } else {
        let tool = |(at, sent)| {
            let param = format!("tools[{at}]");
            tool(&param, function(&param, sent, custom_is_function)?, &mut bytes)
        };
        let sent = body.tools.take().unwrap_or_default().0;
        let tools = sent.into_iter().enumerate().map(tool).collect();
        (tools, body.tool_choice.take().map(|choice| ("tool_choice", choice)))
    };
    let tools = tools?;
    if bytes > MAX_BYTES {
        return Err(Invalid::new(
            "tools",
            format!(
                "tools: expected at most {MAX_BYTES} bytes of schemas, found {bytes}; send fewer"
            ),
        ));
    }
    refuse_twins(&tools)?;
    let mut parallel = body.parallel_tool_calls.is_none_or(|parallel| parallel.0);
    let choice = match choice {
        None => ToolChoice::Auto,
        Some((field, choice)) => {
            if let ChoiceBody::Object(object) = &choice
                && object.disable_parallel_tool_use.is_some_and(|flag| flag.0)
            {
                parallel = false;
            }
            chosen(field, choice, &tools)?
        }
    };
    Ok(Toolbox { tools, choice, parallel })
}

/// The function that a tool is.
fn function(
    param: &str,
    tool: ToolBody,
    custom_is_function: bool,
) -> Result<FunctionBody, Invalid> {
    match tool.r#type.as_deref() {
        None | Some("function") => {}
        Some("custom") if custom_is_function => {}
        Some(other) => {
            let shown: String = other.chars().take(40).collect();
            return Err(Invalid::new(
                format!("{param}.type"),
                format!(
                    "{param}: tools of type {shown:?} are not run here; send functions, which the client runs"
                ),
            ));
        }
    }
    Ok(tool.function.unwrap_or(FunctionBody {
        name: tool.name,
        description: tool.description,
        parameters: tool.parameters.or(tool.input_schema),
        strict: tool.strict,
    }))
}

fn tool(param: &str, function: FunctionBody, bytes: &mut usize) -> Result<Tool, Invalid> {
    let name = function.name.unwrap_or_default();
    if name.is_empty() || name.chars().count() > MAX_NAME_CHARS {
        let message = format!("{param}: expected a name of 1 to {MAX_NAME_CHARS} characters");
        return Err(Invalid::new(format!("{param}.name"), message));
    }
    let parameters = match function.parameters {
        None => None,
        Some(Json { value: value @ Value::Object(_), bytes: length }) => {
            *bytes += length;
            Some(value)
        }
        Some(_) => {
            return Err(Invalid::new(
                param,
                format!(
                    "{param}: expected the parameters of {name} as a json schema, which is an object"
                ),
            ));
        }
    };
    Ok(Tool {
        name,
        description: function.description.filter(|text| !text.is_empty()),
        parameters,
        strict: function.strict.is_some_and(|strict| strict.0),
    })
}

fn refuse_twins(tools: &[Tool]) -> Result<(), Invalid> {
    let mut names: Vec<&str> = tools.iter().map(|tool| tool.name.as_str()).collect();
    names.sort_unstable();
    match names.windows(2).find(|pair| pair[0] == pair[1]) {
        None => Ok(()),
        Some(pair) => Err(Invalid::new(
            "tools",
            format!("tools: two of them are called {}; names tell tools apart", pair[0]),
        )),
    }
}

fn chosen(field: &'static str, choice: ChoiceBody, tools: &[Tool]) -> Result<ToolChoice, Invalid> {
    let choice = match choice {
        ChoiceBody::Word(word) => by_word(field, &word)?,
        ChoiceBody::Object(object) => by_object(field, *object)?,
    };
    let known = |name: &String| {
        if tools.iter().any(|tool| tool.name == *name) {
            return Ok(());
        }
        let shown: String = name.chars().take(MAX_NAME_CHARS).collect();
        Err(Invalid::new(field, format!("{field}: there is no tool {shown:?} among the tools")))
    };
    match &choice {
        ToolChoice::Required if tools.is_empty() => {
            let message = format!("{field}: a tool is to be called and there are none; send tools");
            return Err(Invalid::new(field, message));
        }
        ToolChoice::Auto | ToolChoice::None | ToolChoice::Required => {}
        ToolChoice::Named(name) => known(name)?,
        ToolChoice::Allowed { names, .. } => {
            if names.is_empty() {
                let message = format!("{field}: expected the names of one tool or more");
                return Err(Invalid::new(field, message));
            }
            names.iter().try_for_each(known)?;
        }
    }
    Ok(choice)
}

fn by_word(field: &'static str, word: &str) -> Result<ToolChoice, Invalid> {
    match word {
        "auto" => Ok(ToolChoice::Auto),
        "none" => Ok(ToolChoice::None),
        // Mistral's and Anthropic's word for it is the second.
        "required" | "any" => Ok(ToolChoice::Required),
        other => {
            let shown: String = other.chars().take(40).collect();
            Err(Invalid::new(
                field,
                format!(
                    "{field}: expected none, auto, required or an object that names a tool, found {shown:?}"
                ),
            ))
        }
    }
}

fn by_object(field: &'static str, object: ChoiceObject) -> Result<ToolChoice, Invalid> {
    let name = object.function.and_then(|function| function.name).or(object.name);
    match object.r#type.as_deref() {
        None | Some("function" | "tool") => name.map(ToolChoice::Named).ok_or_else(|| {
            Invalid::new(field, format!("{field}: expected the name of a tool; send function.name"))
        }),
        Some("allowed_tools") => {
            let (mode, tools) = match object.allowed_tools {
                Some(allowed) => (allowed.mode, allowed.tools),
                None => (object.mode, object.tools),
            };
            let required = match mode.as_deref() {
                None | Some("auto") => false,
                Some("required") => true,
                Some(_) => {
                    let message = format!("{field}: expected a mode of auto or required");
                    return Err(Invalid::new(format!("{field}.mode"), message));
                }
            };
            let name = |tool: ToolBody| tool.function.and_then(|inner| inner.name).or(tool.name);
            let names = tools.unwrap_or_default().0.into_iter().filter_map(name).collect();
            Ok(ToolChoice::Allowed { names, required })
        }
        Some(word) => by_word(field, word),
    }
}
