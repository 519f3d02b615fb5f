//! Anthropic's messages: content in blocks, results of tools in the user's turn.
//!
//! Turns of one role in a row are one turn there, so they become one message here: templates that
//! hold to alternation would refuse them.

use super::{template, tools};
use crate::chat::body::{ChatBody, MessageBody, Part, Parts, TextContent};
use crate::chat::message::{ChatMessage, Conversation, Role, ToolCall};
use crate::error::Invalid;

pub(super) fn read(body: &mut ChatBody) -> Result<Conversation, Invalid> {
    let sent = body.messages.take().unwrap_or_default().0;
    if sent.is_empty() {
        return Err(Invalid::empty("messages", "messages: expected at least one message"));
    }
    let mut messages = Vec::new();
    if let Some(TextContent(text)) = body.system.take().filter(|system| !system.0.is_empty()) {
        messages.push(ChatMessage::text(Role::System, text));
    }
    for (at, sent) in sent.into_iter().enumerate() {
        turn(at, sent, &mut messages)?;
    }
    let toolbox = tools::read(body, true)?;
    // The assistant's words at the end are the beginning of what it is to say.
    let continued = messages
        .last()
        .is_some_and(|last| last.role == Role::Assistant && last.tool_calls.is_empty());
    Ok(Conversation {
        messages,
        tools: toolbox.tools,
        tool_choice: toolbox.choice,
        parallel_tool_calls: toolbox.parallel,
        add_generation_prompt: !continued,
        continue_final_message: continued,
        template_kwargs: template::variables(body)?,
    })
}

fn turn(at: usize, sent: MessageBody, messages: &mut Vec<ChatMessage>) -> Result<(), Invalid> {
    let parts = match sent.content {
        None => {
            let param = format!("messages[{at}].content");
            return Err(Invalid::new(param.clone(), format!("{param} is missing; send a text")));
        }
        Some(Parts::Text(text)) => vec![Part::Text(text)],
        Some(Parts::List(parts)) => parts,
    };
    if sent.role == Role::Tool {
        return Err(Invalid::new(
            format!("messages[{at}].role"),
            format!(
                "messages[{at}]: expected a role of user or assistant; send results of tools as blocks of type tool_result"
            ),
        ));
    }
    if parts.is_empty() {
        let param = format!("messages[{at}].content");
        return Err(Invalid::empty(param.clone(), format!("{param}: expected at least one block")));
    }
    for (place, part) in parts.into_iter().enumerate() {
        let wrong = |expected: &str| {
            let param = format!("messages[{at}].content[{place}]");
            Invalid::new(param.clone(), format!("{param}: {expected}"))
        };
        let is_assistant = sent.role == Role::Assistant;
        match part {
            Part::Text(text) => {
                let message = open(messages, sent.role);
                message.content = Some(match message.content.take() {
                    None => text,
                    Some(before) => format!("{before}\n{text}"),
                });
            }
            Part::Thinking(_) if !is_assistant => {
                return Err(wrong("only the assistant thinks"));
            }
            Part::Thinking(text) => {
                let message = open(messages, sent.role);
                if !text.is_empty() {
                    message.reasoning = Some(text);
                }
            }
            Part::ToolUse { .. } if !is_assistant => {
                return Err(wrong("only the assistant uses tools"));
            }
            Part::ToolUse { id, name, input } => {
                let call = ToolCall { id, name, arguments: input };
                open(messages, sent.role).tool_calls.push(call);
            }
            Part::ToolResult { .. } if is_assistant => {
                return Err(wrong("results of tools are the user's to send"));
            }
            Part::ToolResult { id, content } => {
                let result = ChatMessage::text(Role::Tool, content.unwrap_or_default());
                messages.push(ChatMessage { tool_call_id: Some(id), ..result });
            }
        }
    }
    Ok(())
}

/// The message of this role that the next block belongs to.
fn open(messages: &mut Vec<ChatMessage>, role: Role) -> &mut ChatMessage {
    // An assistant that has called tools has ended its turn, unless it goes on in the same message.
    if messages.last().is_none_or(|last| last.role != role) {
        messages.push(ChatMessage::of(role));
    }
    let last = messages.len() - 1;
    &mut messages[last]
}
