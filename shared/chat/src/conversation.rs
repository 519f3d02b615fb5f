//! A conversation to a prompt: messages in the way that the model's template wants them, tools shown, the reply's form and
//! grammar beside it.
//!
//! What templates disagree about is smoothed over, by what was found out about the template ([`crate::template::Habits`]):
//!
//! * arguments of calls go in as an object, or as text where the template prints text;
//! * a template that takes no system message gets its text at the beginning of the user's first message;
//! * `developer` is `system` where the template does not know it;
//! * ids of calls are made nine letters and digits where the template insists;
//! * a template that shows no tools, or writes calls in a way of its own, gets them in words of ours, and earlier calls and
//!   their results as text.

use serde_json::{Map, Value, json};

use crate::format::{FormatKind, TOOL_CALL};
use crate::grammar::{Answer, Calling, Grammar, Stage};
use crate::message::{Message, ResponseFormat, Role, Tool, ToolCall, ToolChoice};
use crate::reply::ReplyForm;
use crate::template::{Context, Habits};
use crate::{Error, SpecialTexts, Template};

/// A model's templates.
#[derive(Debug)]
pub struct Templates {
    default: Template,
    with_tools: Option<Template>,
}

/// A conversation, and what is asked of the reply.
#[derive(Debug, Clone)]
pub struct Conversation {
    /// What was said so far.
    pub messages: Vec<Message>,
    /// The tools that there are.
    pub tools: Vec<Tool>,
    /// Which of them are to be called.
    pub tool_choice: ToolChoice,
    /// Whether there may be several calls.
    pub parallel_tool_calls: bool,
    /// The form of the answer.
    pub response_format: ResponseFormat,
    /// Whether the prompt ends with what makes the model answer.
    pub add_generation_prompt: bool,
    /// Whether the model goes on with the last message.
    pub continue_final_message: bool,
    /// Variables for the template.
    pub chat_template_kwargs: Map<String, Value>,
    /// The time, in seconds since 1970.
    pub now: i64,
}

impl Default for Conversation {
    fn default() -> Self {
        Self {
            messages: Vec::new(),
            tools: Vec::new(),
            tool_choice: ToolChoice::Auto,
            parallel_tool_calls: true,
            response_format: ResponseFormat::Text,
            add_generation_prompt: true,
            continue_final_message: false,
            chat_template_kwargs: Map::new(),
            now: 0,
        }
    }
}

/// What a model is given, and how its reply is read.
#[derive(Debug, Clone, PartialEq)]
pub struct Prompt {
    /// The text. It has the special tokens that it needs.
    pub text: String,
    /// What the reply is to be read as.
    pub form: ReplyForm,
    /// What the reply must be; `None`: anything.
    pub grammar: Option<Grammar>,
}

impl Templates {
    /// The template, and the one that is used when there are tools, if the model has two.
    ///
    /// # Errors
    /// If one of them is not Jinja.
    pub fn new(
        default: &str,
        with_tools: Option<&str>,
        texts: &SpecialTexts,
    ) -> Result<Self, Error> {
        let with_tools =
            with_tools.map(|source| Template::new(source, texts.clone())).transpose()?;
        Ok(Self { default: Template::new(default, texts.clone())?, with_tools })
    }

    /// A template for every conversation.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn of_one(template: Template) -> Self {
        Self { default: template, with_tools: None }
    }

    /// The template for a conversation with tools, or without.
    pub fn of(&self, has_tools: bool) -> &Template {
        self.with_tools.as_ref().filter(|_| has_tools).unwrap_or(&self.default)
    }

    /// The prompt of a conversation.
    ///
    /// # Errors
    /// If its parts contradict each other, or the template refuses it or fails.
    pub fn prompt(&self, conversation: &Conversation) -> Result<Prompt, Error> {
        check(conversation)?;
        let shows_tools = conversation.tool_choice != ToolChoice::None;
        let tools: &[Tool] = if shows_tools { &conversation.tools } else { &[] };
        let template = self.of(!tools.is_empty());
        let habits = template.habits();
        let mut context = Context {
            messages: messages(conversation, tools, habits)?,
            tools: match habits.calls {
                Some(_) => tools.iter().map(shown).collect(),
                None => Vec::new(),
            },
            add_generation_prompt: conversation.add_generation_prompt
                && !conversation.continue_final_message,
            continue_final_message: conversation.continue_final_message,
            kwargs: conversation.chat_template_kwargs.clone(),
            now: conversation.now,
        };
        let text = match template.render(&context) {
            // Some templates add a tool's description to a text, and fail where there is none.
            Err(Error::Render { .. }) if tools.iter().any(|tool| tool.description.is_none()) => {
                context.tools.iter_mut().for_each(describe);
                template.render(&context)?
            }
            other => other?,
        };
        let thinking = habits.thinking.filter(|_| !conversation.continue_final_message);
        let is_thinking = thinking.is_some_and(|thinking| thinking.is_open_in(&text));
        let form = ReplyForm {
            calls: (!tools.is_empty()).then(|| habits.calls.unwrap_or(FormatKind::Generic)),
            tools: tools.iter().map(|tool| tool.name.clone()).collect(),
            thinking,
            is_thinking,
            short_ids: habits.short_ids,
        };
        let stage = match thinking {
            Some(marks) if is_thinking => Stage::Open(marks),
            Some(marks) if !text.trim_end().ends_with(marks.close) => Stage::Maybe(marks),
            _ => Stage::None,
        };
        let calling = form.calls.map(|format| calling(conversation, format));
        let answer = Answer { format: conversation.response_format.clone(), calling };
        Ok(Prompt { text, form, grammar: Grammar::new(stage, answer)? })
    }
}

fn refused(field: &'static str, message: impl Into<String>) -> Error {
    Error::Request { field, message: message.into() }
}

fn check(conversation: &Conversation) -> Result<(), Error> {
    let named = |name: &String| conversation.tools.iter().any(|tool| tool.name == *name);
    for (at, tool) in conversation.tools.iter().enumerate() {
        if tool.name.is_empty() {
            return Err(refused("tools", format!("tool {at} has no name")));
        }
        if conversation.tools[..at].iter().any(|other| other.name == tool.name) {
            return Err(refused("tools", format!("there are two tools named {:?}", tool.name)));
        }
    }
    let wanted: &[String] = match &conversation.tool_choice {
        ToolChoice::Named(name) => std::slice::from_ref(name),
        ToolChoice::Allowed { names, .. } => names,
        _ => &[],
    };
    if let Some(stranger) = wanted.iter().find(|name| !named(name)) {
        let message = format!("expected the name of one of the tools, found {stranger:?}");
        return Err(refused("tool_choice", message));
    }
    let must_call = match &conversation.tool_choice {
        ToolChoice::Required => conversation.tools.is_empty(),
        ToolChoice::Allowed { names, .. } => names.is_empty(),
        _ => false,
    };
    if must_call {
        return Err(refused(
            "tool_choice",
            "a tool is to be called, but there is none in \"tools\"",
        ));
    }
    Ok(())
}

fn calling(conversation: &Conversation, format: FormatKind) -> Calling {
    let (names, is_required): (Option<&[String]>, bool) = match &conversation.tool_choice {
        ToolChoice::Required => (None, true),
        ToolChoice::Named(name) => (Some(std::slice::from_ref(name)), true),
        ToolChoice::Allowed { names, required } => (Some(names), *required),
        ToolChoice::Auto | ToolChoice::None => (None, false),
    };
    let allowed = |tool: &&Tool| names.is_none_or(|names| names.contains(&tool.name));
    Calling {
        format,
        tools: conversation.tools.iter().filter(allowed).cloned().collect(),
        is_required,
        // One that is named is called once, as clients expect.
        are_several: conversation.parallel_tool_calls
            && !matches!(conversation.tool_choice, ToolChoice::Named(_)),
    }
}

/// A tool as templates are given it.
fn shown(tool: &Tool) -> Value {
    let mut function = Map::new();
    function.insert("name".to_owned(), json!(tool.name));
    if let Some(description) = &tool.description {
        function.insert("description".to_owned(), json!(description));
    }
    let none = || json!({"type": "object", "properties": {}});
    function.insert("parameters".to_owned(), tool.parameters.clone().unwrap_or_else(none));
    json!({"type": "function", "function": function})
}

/// Gives a tool an empty description if it has none.
fn describe(tool: &mut Value) {
    let description = &mut tool["function"]["description"];
    if description.is_null() {
        *description = json!("");
    }
}

/// The messages as the template wants them.
fn messages(
    conversation: &Conversation,
    tools: &[Tool],
    habits: &Habits,
) -> Result<Vec<Value>, Error> {
    let mut messages = conversation.messages.clone();
    for at in 0..messages.len() {
        let id = messages[at].tool_call_id.clone();
        if messages[at].role == Role::Tool && messages[at].name.is_none() && id.is_some() {
            let calls = messages[..at].iter().rev().flat_map(|message| &message.tool_calls);
            let of_id = calls.filter(|call| Some(&call.id) == id.as_ref());
            messages[at].name = of_id.map(|call| call.name.clone()).next();
        }
        if messages[at].role == Role::Developer && !habits.developer {
            messages[at].role = Role::System;
        }
    }
    if habits.calls.is_none() {
        as_text(&mut messages);
        if !tools.is_empty() {
            instruct(&mut messages, tools);
        }
    }
    if !habits.system {
        without_system(&mut messages);
    }
    messages.iter().map(|message| value(message, habits)).collect()
}

/// Calls and results of tools in words.
fn as_text(messages: &mut Vec<Message>) {
    let [open, close] = TOOL_CALL;
    let mut out: Vec<Message> = Vec::new();
    for mut message in messages.drain(..) {
        for call in std::mem::take(&mut message.tool_calls) {
            let name = Value::String(call.name);
            let arguments = if call.arguments.is_empty() { "{}" } else { &call.arguments };
            let said = format!("{open}\n{{\"name\": {name}, \"arguments\": {arguments}}}\n{close}");
            append(&mut message, "\n", &said);
        }
        if message.role == Role::Tool {
            let result = message.content.unwrap_or_default();
            let text = format!("<tool_response>\n{result}\n</tool_response>");
            message = Message::text(Role::User, text);
            if let Some(last) = out.last_mut().filter(|last| last.role == Role::User) {
                append(last, "\n", &message.content.unwrap_or_default());
                continue;
            }
        } else if message.role == Role::User {
            let after_result = out.last_mut().filter(|last| {
                let content = last.content.as_deref().unwrap_or_default();
                last.role == Role::User && content.ends_with("</tool_response>")
            });
            if let Some(last) = after_result {
                append(last, "\n", &message.content.unwrap_or_default());
                continue;
            }
        }
        out.push(message);
    }
    *messages = out;
}

fn append(message: &mut Message, between: &str, text: &str) {
    let content = message.content.get_or_insert_default();
    if !content.is_empty() {
        content.push_str(between);
    }
    content.push_str(text);
}

/// Tells of tools in words of ours.
fn instruct(messages: &mut Vec<Message>, tools: &[Tool]) {
    let [open, close] = TOOL_CALL;
    let list: Vec<String> = tools.iter().map(|tool| shown(tool).to_string()).collect();
    let text = format!(
        "You can call these functions, one JSON object a line:\n<tools>\n{}\n</tools>\n\nTo call one, \
         write its name and arguments as a JSON object between {open} and {close}, once for each \
         call:\n{open}\n{{\"name\": \"the function\", \"arguments\": {{\"an argument\": \"its \
         value\"}}}}\n{close}\nThe results come between <tool_response> and </tool_response>.",
        list.join("\n")
    );
    match messages.first_mut().filter(|first| first.role == Role::System) {
        Some(system) => append(system, "\n\n", &text),
        None => messages.insert(0, Message::text(Role::System, text)),
    }
}

/// What the system says at the beginning of what the user says next.
fn without_system(messages: &mut Vec<Message>) {
    let mut out: Vec<Message> = Vec::new();
    let mut said = String::new();
    for mut message in messages.drain(..) {
        if message.role == Role::System {
            if !said.is_empty() {
                said.push_str("\n\n");
            }
            said.push_str(message.content.as_deref().unwrap_or_default());
            continue;
        }
        if message.role == Role::User && !said.is_empty() {
            let content = message.content.take().unwrap_or_default();
            message.content = Some(std::mem::take(&mut said));
            append(&mut message, "\n\n", &content);
        }
        out.push(message);
    }
    if !said.is_empty() {
        out.push(Message::text(Role::User, said));
    }
    *messages = out;
}

fn value(message: &Message, habits: &Habits) -> Result<Value, Error> {
    let mut fields = Map::new();
    fields.insert("role".to_owned(), json!(message.role.as_str()));
    let empty = || habits.needs_content.then(String::new);
    if let Some(content) = message.content.clone().or_else(empty) {
        let content = if habits.content_in_parts {
            json!([{"type": "text", "text": content}])
        } else {
            json!(content)
        };
        fields.insert("content".to_owned(), content);
    }
    if let Some(reasoning) = &message.reasoning {
        fields.insert("reasoning_content".to_owned(), json!(reasoning));
        fields.insert("thinking".to_owned(), json!(reasoning));
    }
    if let Some(name) = &message.name {
        fields.insert("name".to_owned(), json!(name));
    }
    if let Some(id) = &message.tool_call_id {
        fields.insert("tool_call_id".to_owned(), json!(id_of(id, habits)));
    }
    if !message.tool_calls.is_empty() {
        let calls = message.tool_calls.iter().map(|call| {
            let function = json!({"name": call.name, "arguments": arguments(call, habits)?});
            Ok(json!({"id": id_of(&call.id, habits), "type": "function", "function": function}))
        });
        let calls = calls.collect::<Result<Vec<Value>, Error>>()?;
        fields.insert("tool_calls".to_owned(), Value::Array(calls));
    }
    Ok(Value::Object(fields))
}

fn arguments(call: &ToolCall, habits: &Habits) -> Result<Value, Error> {
    let text = if call.arguments.trim().is_empty() { "{}" } else { &call.arguments };
    let parsed = serde_json::from_str::<Value>(text).ok().filter(Value::is_object);
    let Some(parsed) = parsed else {
        let message = format!(
            "the arguments of the call {:?} of {:?}: expected the text of a JSON object, found {:?}",
            call.id,
            call.name,
            text.chars().take(100).collect::<String>()
        );
        return Err(refused("messages", message));
    };
    Ok(if habits.arguments_as_text { Value::String(text.to_owned()) } else { parsed })
}

/// An id as the template takes it: another one of the same length for each.
fn id_of(id: &str, habits: &Habits) -> String {
    let is_short = id.len() == 9 && id.chars().all(|letter| letter.is_ascii_alphanumeric());
    if !habits.short_ids || is_short {
        return id.to_owned();
    }
    let number = id.bytes().fold(0, |hash, byte| crate::mix(hash ^ u64::from(byte)));
    crate::reply::short_id(number)
}
