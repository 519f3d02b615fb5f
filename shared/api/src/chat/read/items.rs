//! The items of `OpenAI`'s responses, and what an answer repeats of its request.

use serde_json::{Map, Value, json};

use super::{template, tools};
use crate::chat::body::{ChatBody, Input, ItemBody, Part, Parts, TextContent, lines};
use crate::chat::message::{ChatMessage, Conversation, Role, ToolCall, ToolChoice};
use crate::chat::request::ResponsesEcho;
use crate::error::Invalid;

pub(super) fn read(body: &mut ChatBody) -> Result<Conversation, Invalid> {
    let mut messages = Vec::new();
    if let Some(text) = body.instructions.as_ref().filter(|text| !text.is_empty()) {
        messages.push(ChatMessage::text(Role::System, text.clone()));
    }
    match body.input.take() {
        None => {}
        Some(Input::Text(text)) => messages.push(ChatMessage::text(Role::User, text)),
        Some(Input::Items(items)) => {
            if items.is_empty() {
                return Err(Invalid::empty("input", "input: expected at least one item"));
            }
            let mut thoughts = None;
            for (at, item) in items.into_iter().enumerate() {
                self::item(at, item, &mut messages, &mut thoughts)?;
            }
        }
    }
    let toolbox = tools::read(body, false)?;
    Ok(Conversation {
        messages,
        tools: toolbox.tools,
        tool_choice: toolbox.choice,
        parallel_tool_calls: toolbox.parallel,
        add_generation_prompt: true,
        continue_final_message: false,
        template_kwargs: template::variables(body)?,
    })
}

/// Adds an item. `thoughts` are those that belong to the assistant's next words.
fn item(
    at: usize,
    item: ItemBody,
    messages: &mut Vec<ChatMessage>,
    thoughts: &mut Option<String>,
) -> Result<(), Invalid> {
    let missing = |field: &str| {
        let param = format!("input[{at}].{field}");
        Invalid::new(param.clone(), format!("{param} is missing"))
    };
    let kind = item.r#type.as_deref().or_else(|| item.role.map(|_| "message"));
    match kind {
        Some("message") => {
            let role = item.role.ok_or_else(|| missing("role"))?;
            let text = text(at, item.content.ok_or_else(|| missing("content"))?)?;
            let mut message = ChatMessage::text(role, text);
            if role == Role::Assistant {
                message.reasoning = thoughts.take();
            }
            messages.push(message);
        }
        Some("function_call") => {
            let call = ToolCall {
                id: item.call_id.ok_or_else(|| missing("call_id"))?,
                name: item.name.ok_or_else(|| missing("name"))?,
                arguments: item.arguments.map(|arguments| arguments.0).unwrap_or_default(),
            };
            match messages.last_mut() {
                // What the assistant said before it called, or its calls beside this one.
                Some(last) if last.role == Role::Assistant && thoughts.is_none() => {
                    last.tool_calls.push(call);
                }
                _ => messages.push(ChatMessage {
                    reasoning: thoughts.take(),
                    tool_calls: vec![call],
                    ..ChatMessage::of(Role::Assistant)
                }),
            }
        }
        Some("function_call_output") => {
            let id = item.call_id.ok_or_else(|| missing("call_id"))?;
            let TextContent(output) = item.output.ok_or_else(|| missing("output"))?;
            let result = ChatMessage::text(Role::Tool, output);
            messages.push(ChatMessage { tool_call_id: Some(id), ..result });
        }
        Some("reasoning") => {
            let content = item.content.map(|content| text(at, content)).transpose()?;
            let summary = item.summary.map(|TextContent(text)| text);
            let text = content.filter(|text| !text.is_empty()).or(summary);
            *thoughts = text.filter(|text| !text.is_empty());
        }
        Some("item_reference") => {
            return Err(Invalid::new(
                format!("input[{at}].type"),
                format!(
                    "input[{at}]: items of type item_reference refer to what is stored, and nothing is; send \
                     the items themselves, as clients do that are told store: false"
                ),
            ));
        }
        Some(other) => {
            let shown: String = other.chars().take(40).collect();
            return Err(Invalid::new(
                format!("input[{at}].type"),
                format!(
                    "input[{at}]: items of type {shown:?} are not read here; send messages, calls of \
                     functions and their outputs"
                ),
            ));
        }
        None => return Err(missing("role")),
    }
    Ok(())
}

fn text(at: usize, content: Parts) -> Result<String, Invalid> {
    let parts = match content {
        Parts::Text(text) => return Ok(text),
        Parts::List(parts) => parts,
    };
    let text = |(place, part)| match part {
        Part::Text(text) => Ok(text),
        Part::Thinking(_) | Part::ToolUse { .. } | Part::ToolResult { .. } => {
            let field = format!("input[{at}].content[{place}]");
            let message = format!("{field}: expected a part of type input_text or output_text");
            Err(Invalid::new(field, message))
        }
    };
    let texts: Result<Vec<String>, _> = parts.into_iter().enumerate().map(text).collect();
    Ok(lines(texts?.iter().map(String::as_str)))
}

/// What the answer repeats, checked where clients read it as something particular.
pub(super) fn echo(
    body: &ChatBody,
    conversation: &Conversation,
    warnings: &mut Vec<String>,
) -> Result<ResponsesEcho, Invalid> {
    match body.truncation.as_deref() {
        None | Some("disabled") => {}
        Some("auto") => warnings.push(
            "truncation: auto was ignored: a conversation that does not fit is refused".to_owned(),
        ),
        Some(_) => {
            return Err(Invalid::new("truncation", "truncation: expected auto or disabled"));
        }
    }
    let metadata = match body.metadata.as_ref().map(|json| &json.value) {
        None => Value::Null,
        Some(Value::Object(texts)) if texts.values().all(Value::is_string) => {
            Value::Object(texts.clone())
        }
        Some(_) => {
            return Err(Invalid::new("metadata", "metadata: expected an object of texts"));
        }
    };
    let number = |number: Option<crate::chat::body::Number>| number.map(|number| number.0);
    let format = body.text.as_ref().and_then(|text| text.0.format.as_ref());
    let format = match format.map(|format| &format.0) {
        None => json!({"type": "text"}),
        Some(format) => {
            let mut repeated = json!({"type": format.r#type});
            if let Some(schema) = &format.schema {
                repeated["schema"] = schema.value.clone();
                repeated["name"] = format.name.as_deref().unwrap_or("schema").into();
                repeated["strict"] = true.into();
            }
            if let Some(description) = &format.description {
                repeated["description"] = description.as_str().into();
            }
            repeated
        }
    };
    let mut echo = Map::new();
    let mut say = |field: &str, value: Value| echo.insert(field.to_owned(), value);
    say("instructions", body.instructions.clone().into());
    say("metadata", metadata);
    say("max_output_tokens", body.max_output_tokens.map(|count| count.0).into());
    say("parallel_tool_calls", conversation.parallel_tool_calls.into());
    say("previous_response_id", Value::Null);
    say(
        "reasoning",
        json!({
            "effort": body.reasoning.as_ref().and_then(|reasoning| reasoning.0.effort.clone()),
            "summary": null,
        }),
    );
    say("store", false.into());
    say("temperature", number(body.temperature).into());
    say("text", json!({"format": format}));
    say("tool_choice", tool_choice(&conversation.tool_choice));
    say(
        "tools",
        conversation
            .tools
            .iter()
            .map(|tool| {
                json!({
                    "type": "function", "name": tool.name, "description": tool.description,
                    "parameters": tool.parameters, "strict": tool.strict,
                })
            })
            .collect(),
    );
    say("top_logprobs", body.top_logprobs.map_or(0, |top| top.0).into());
    say("top_p", number(body.top_p).into());
    say("truncation", "disabled".into());
    say("user", body.user.clone().into());
    Ok(ResponsesEcho(echo))
}

fn tool_choice(choice: &ToolChoice) -> Value {
    match choice {
        ToolChoice::Auto => "auto".into(),
        ToolChoice::None => "none".into(),
        ToolChoice::Required => "required".into(),
        ToolChoice::Named(name) => json!({"type": "function", "name": name}),
        ToolChoice::Allowed { names, required } => {
            let tools: Vec<Value> =
                names.iter().map(|name| json!({"type": "function", "name": name})).collect();
            let mode = if *required { "required" } else { "auto" };
            json!({"type": "allowed_tools", "mode": mode, "tools": tools})
        }
    }
}
