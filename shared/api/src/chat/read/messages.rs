//! `OpenAI`'s messages.

use super::{template, tools};
use crate::chat::body::{Arguments, CalledFunction, ChatBody, MessageBody, Part, Parts, lines};
use crate::chat::message::{ChatMessage, Conversation, Role, ToolCall};
use crate::checks;
use crate::error::Invalid;

pub(super) fn read(body: &mut ChatBody) -> Result<Conversation, Invalid> {
    let sent = body.messages.take().unwrap_or_default().0;
    if sent.is_empty() {
        return Err(Invalid::empty("messages", "messages: expected at least one message"));
    }
    let is_prefix = sent.last().is_some_and(|last| last.prefix.is_some_and(|prefix| prefix.0));
    let messages: Result<Vec<_>, _> =
        sent.into_iter().enumerate().map(|(at, sent)| message(at, sent)).collect();
    let messages = messages?;
    let continued = body.continue_final_message.map_or(is_prefix, |continued| continued.0);
    let begins = body.add_generation_prompt.map(|begins| begins.0);
    if continued && begins == Some(true) {
        return Err(checks::contradiction("add_generation_prompt", "continue_final_message"));
    }
    if continued && messages.last().is_some_and(|last| last.role != Role::Assistant) {
        return Err(Invalid::new(
            "continue_final_message",
            "continue_final_message: the last message is not the assistant's; send one to continue",
        ));
    }
    let toolbox = tools::read(body, false)?;
    Ok(Conversation {
        messages,
        tools: toolbox.tools,
        tool_choice: toolbox.choice,
        parallel_tool_calls: toolbox.parallel,
        add_generation_prompt: begins.unwrap_or(!continued),
        continue_final_message: continued,
        template_kwargs: template::variables(body)?,
    })
}

fn message(at: usize, sent: MessageBody) -> Result<ChatMessage, Invalid> {
    let param = |field: &str| format!("messages[{at}].{field}");
    let mut message = ChatMessage {
        name: sent.name,
        reasoning: sent.reasoning_content.or(sent.reasoning).filter(|text| !text.is_empty()),
        tool_call_id: sent.tool_call_id,
        ..ChatMessage::of(sent.role)
    };
    match sent.content {
        None => {}
        Some(Parts::Text(text)) => message.content = Some(text),
        Some(Parts::List(parts)) => {
            let text = |(place, part)| match part {
                Part::Text(text) => Ok(text),
                Part::Thinking(_) | Part::ToolUse { .. } | Part::ToolResult { .. } => {
                    let field = format!("messages[{at}].content[{place}]");
                    let message = format!(
                        "{field}: parts of Anthropic's types are read on /v1/messages; send them there"
                    );
                    Err(Invalid::new(field, message))
                }
            };
            let texts: Result<Vec<String>, _> = parts.into_iter().enumerate().map(text).collect();
            message.content = Some(lines(texts?.iter().map(String::as_str)));
        }
    }
    let calls = sent.tool_calls.map(|calls| calls.0).unwrap_or_default();
    let calls = calls.into_iter().map(|call| (call.id, call.function.0));
    let older = sent.function_call.map(|call| (None, call.0));
    for (place, (id, CalledFunction { name, arguments })) in calls.chain(older).enumerate() {
        message.tool_calls.push(ToolCall {
            id: id.unwrap_or_else(|| format!("call_{at}_{place}")),
            name,
            arguments: arguments.map(|Arguments(text)| text).unwrap_or_default(),
        });
    }
    if sent.role != Role::Assistant {
        if !message.tool_calls.is_empty() {
            return Err(Invalid::new(
                param("tool_calls"),
                format!(
                    "messages[{at}]: tools are called by the assistant; found calls of another role"
                ),
            ));
        }
        if message.content.is_none() {
            return Err(Invalid::new(
                param("content"),
                format!("messages[{at}].content is missing; send a text"),
            ));
        }
    } else if message.content.is_none() {
        // What an assistant refused to say is what it said.
        message.content = sent.refusal;
        if message.content.is_none() && message.tool_calls.is_empty() {
            message.content = Some(String::new());
        }
    }
    Ok(message)
}

/// Results of calls know which tool they are of: some templates write its name.
pub(super) fn name_results(messages: &mut [ChatMessage]) {
    for at in 0..messages.len() {
        let (before, rest) = messages.split_at_mut(at);
        let Some(result) = rest.first_mut().filter(|one| one.role == Role::Tool) else { continue };
        if result.name.is_some() {
            continue;
        }
        let Some(id) = &result.tool_call_id else { continue };
        // Results stand right after the assistant's message that called, with other results between.
        let calls = before.iter().rev().find(|one| one.role == Role::Assistant);
        let call = calls.and_then(|one| one.tool_calls.iter().find(|call| call.id == *id));
        result.name = call.map(|call| call.name.clone());
    }
}
