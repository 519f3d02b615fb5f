//! What a template does with messages of all kinds, found by trying: templates agree on no more than `role` and `content`.
//!
//! Each habit is the answer to a small conversation: whether a word of it is in the prompt, and what stands around it.

use serde_json::{Value, json};

use super::{Context, Template};
use crate::format::FormatKind;
use crate::thinking::Thinking;

/// Words that no template has of itself.
const WORD: &str = "Xylophon7";
const FUNCTION: &str = "probe_function";
const KEY: &str = "probe_key";
/// Of the length that Mistral's templates insist on.
const ID: &str = "probeid12";

/// What a template does with messages.
#[expect(clippy::struct_excessive_bools, reason = "each is a question of its own")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Habits {
    /// How it writes calls of tools, where it shows tools and this crate can read what models answer then.
    pub calls: Option<FormatKind>,
    /// Arguments of calls are wanted as the text of their JSON, not as an object.
    pub arguments_as_text: bool,
    /// A message must have content, if only an empty one.
    pub needs_content: bool,
    /// Content is wanted as a list of parts.
    pub content_in_parts: bool,
    /// It takes messages of the system.
    pub system: bool,
    /// It tells the role `developer` from others.
    pub developer: bool,
    /// Ids of calls are wanted as nine letters and digits.
    pub short_ids: bool,
    /// How the model thinks before it answers.
    pub thinking: Option<Thinking>,
}

pub(super) fn habits(template: &Template) -> Habits {
    let mut habits = Habits {
        short_ids: template.source.contains("length != 9")
            || template.source.contains("length == 9"),
        thinking: Thinking::of(&template.source),
        ..Habits::default()
    };
    let text = |content: &Value| print(template, &[json!({"role": "user", "content": content})]);
    habits.content_in_parts = !text(&json!(WORD)).contains(WORD)
        && text(&json!([{"type": "text", "text": WORD}])).contains(WORD);
    habits.system = print(template, &[from(&habits, "system"), user(&habits)]).contains(WORD);
    // Many templates print any role; few know this one.
    habits.developer = template.source.contains("developer")
        && print(template, &[from(&habits, "developer"), user(&habits)]).contains(WORD);
    let as_object = print(template, &calling(&habits, &json!({KEY: WORD}), None));
    let as_text = || {
        let arguments = json!({KEY: WORD}).to_string();
        print(template, &calling(&habits, &Value::String(arguments), None))
    };
    // An object that was put into a text that way is Python's, not JSON.
    let writes_object = as_object.contains(WORD) && !as_object.contains(&format!("'{KEY}'"));
    let mut printed = as_object;
    if !writes_object {
        let as_text = as_text();
        if as_text.contains(WORD) {
            habits.arguments_as_text = true;
            printed = as_text;
        }
    }
    if !printed.contains(WORD) || printed.contains("None") {
        let arguments = json!({KEY: WORD});
        let with_content = print(template, &calling(&habits, &arguments, Some("")));
        if with_content.contains(WORD) {
            habits.needs_content = true;
            habits.arguments_as_text = false;
            printed = with_content;
        }
    }
    if shows_tools(template, &habits) {
        habits.calls = FormatKind::of_example(&printed, FUNCTION, KEY);
    }
    habits
}

fn content(habits: &Habits, text: &str) -> Value {
    if habits.content_in_parts { json!([{"type": "text", "text": text}]) } else { json!(text) }
}

fn user(habits: &Habits) -> Value {
    json!({"role": "user", "content": content(habits, "Hi.")})
}

fn from(habits: &Habits, role: &str) -> Value {
    json!({"role": role, "content": content(habits, WORD)})
}

/// A conversation with a call of a function.
fn calling(habits: &Habits, arguments: &Value, said: Option<&str>) -> [Value; 4] {
    let function = json!({"name": FUNCTION, "arguments": arguments});
    let mut message = json!({
        "role": "assistant",
        "tool_calls": [{"id": ID, "type": "function", "function": function}],
    });
    if let Some(said) = said {
        message["content"] = content(habits, said);
    }
    let result = content(habits, "7");
    [
        user(habits),
        message,
        json!({"role": "tool", "tool_call_id": ID, "name": FUNCTION, "content": result}),
        json!({"role": "assistant", "content": content(habits, "Done.")}),
    ]
}

fn shows_tools(template: &Template, habits: &Habits) -> bool {
    let parameters = json!({"type": "object", "properties": {KEY: {"type": "string"}}});
    let function = json!({"name": FUNCTION, "description": WORD, "parameters": parameters});
    let context = Context {
        messages: vec![user(habits)],
        tools: vec![json!({"type": "function", "function": function})],
        add_generation_prompt: true,
        ..Context::default()
    };
    let printed = template.render(&context).unwrap_or_default();
    printed.contains(FUNCTION) && printed.contains(KEY)
}

/// What is printed, or nothing where the template fails.
fn print(template: &Template, messages: &[Value]) -> String {
    let context = Context { messages: messages.to_vec(), ..Context::default() };
    template.render(&context).unwrap_or_default()
}
