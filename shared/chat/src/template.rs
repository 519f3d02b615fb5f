//! Chat templates: Jinja, written for Python's, run as `transformers` runs them.
//!
//! A template gets `messages`, `tools`, `add_generation_prompt`, the texts of special tokens and whatever the request's
//! `chat_template_kwargs` add, and prints the prompt. What it may rely on beyond Jinja:
//!
//! * blocks are trimmed (`trim_blocks`, `lstrip_blocks`), loops can `break` and `continue`;
//! * `tojson` writes JSON as Python's `json.dumps(ensure_ascii=False)` does, with its spaces and its order of keys;
//! * `raise_exception` refuses a conversation, `strftime_now` knows the date, methods of Python's texts, lists and
//!   dictionaries are there;
//! * `{% generation %}`, which marks what a model is trained on, is there and does nothing.
//!
//! What is `None` in a message is absent for the template, as in `transformers`.
//!
//! A template is part of a snapshot and may come from anywhere: its work is bounded by a number of steps, it reads no file
//! and no clock.

mod probe;
mod python;
mod source;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{Environment, ErrorKind};
use serde_json::{Map, Value};

use crate::Error;
pub use probe::Habits;

/// What one rendering may cost: instructions, and texts in units of 64 bytes, for each copy that a template makes. It is two
/// seconds' work at most, and far more than the dearest template under test, which goes through all messages at each, costs with
/// some hundreds of them.
const FUEL: u64 = 10_000_000;

/// The same for each of the small conversations that show what a template does with messages: a hundred times what the dearest
/// template needs for them. There are a dozen, and a template that does not end is to be found out soon.
const PROBE_FUEL: u64 = 500_000;

/// The name under which the environment holds the template.
const NAME: &str = "chat_template";

/// What marks the place after which the model goes on, while it is rendered. The space tells whether the template trims.
const CONTINUED: &str = "CONTINUE_FINAL_MESSAGE_TAG ";

/// The variables that only a conversation sets.
const OWN: [&str; 3] = ["messages", "tools", "add_generation_prompt"];

/// The texts of the special tokens that templates print.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SpecialTexts {
    /// What a text begins with.
    pub bos: String,
    /// What a text ends with.
    pub eos: String,
}

/// What a template is given.
#[derive(Debug, Clone, Default)]
pub struct Context {
    /// The messages, each an object, as clients of Hugging Face's API write them.
    pub messages: Vec<Value>,
    /// The tools, each `{"type": "function", "function": …}`; empty: none.
    pub tools: Vec<Value>,
    /// Whether the prompt ends with what makes the model answer.
    pub add_generation_prompt: bool,
    /// Whether the prompt ends within the last message.
    pub continue_final_message: bool,
    /// More variables.
    pub kwargs: Map<String, Value>,
    /// The time, in seconds since 1970, in UTC.
    pub now: i64,
}

/// A model's chat template, ready to run.
#[derive(Debug)]
pub struct Template {
    environment: Environment<'static>,
    source: String,
    texts: SpecialTexts,
    habits: Habits,
}

impl Template {
    /// Reads a template, and tries out what it does with messages of all kinds.
    ///
    /// # Errors
    /// [`Error::Template`] if it is not Jinja.
    pub fn new(source: &str, texts: SpecialTexts) -> Result<Self, Error> {
        Self::with_fuel(source, texts, FUEL)
    }

    /// With another bound of the work.
    pub(crate) fn with_fuel(source: &str, texts: SpecialTexts, fuel: u64) -> Result<Self, Error> {
        let mut environment = Environment::new();
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        environment.set_syntax(syntax.unwrap_or_default());
        environment.set_fuel(Some(fuel.min(PROBE_FUEL)));
        environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
        python::add_to(&mut environment);
        let unmarked = source::prepared(source);
        environment.add_template_owned(NAME, unmarked).map_err(|error| Error::Template {
            line: error.line().unwrap_or(1),
            message: python::message_of(&error),
        })?;
        let mut template =
            Self { environment, source: source.to_owned(), texts, habits: Habits::default() };
        template.habits = probe::habits(&template);
        template.environment.set_fuel(Some(fuel));
        Ok(template)
    }

    /// Its source.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// What it does with messages.
    pub fn habits(&self) -> &Habits {
        &self.habits
    }

    /// The prompt.
    ///
    /// # Errors
    /// If the template refuses the conversation or fails on it, or if there is no last message that could go on.
    pub fn render(&self, context: &Context) -> Result<String, Error> {
        if let Some(name) = OWN.into_iter().find(|name| context.kwargs.contains_key(*name)) {
            return Err(Error::Request {
                field: "chat_template_kwargs",
                message: format!(
                    "{name:?} is what the request's own field says; leave it out here"
                ),
            });
        }
        if !context.continue_final_message {
            return self.print(context, &context.messages);
        }
        let mut messages = context.messages.clone();
        let last = messages.last_mut().and_then(|last| last.get_mut("content"));
        let Some(Value::String(last)) = last else {
            return Err(Error::Request {
                field: "continue_final_message",
                message: "expected a last message with text that the model can continue".to_owned(),
            });
        };
        let text = last.clone();
        last.push_str(CONTINUED);
        let printed = self.print(context, &messages)?;
        let tag = CONTINUED.trim_end();
        let Some(at) = printed.rfind(tag).filter(|_| printed.contains(text.trim())) else {
            return Err(Error::Request {
                field: "continue_final_message",
                message: "the model's chat template leaves out or changes the last message, which \
                          cannot be continued then"
                    .to_owned(),
            });
        };
        let keeps_spaces = printed[at..].starts_with(CONTINUED);
        let printed = &printed[..at];
        Ok(if keeps_spaces { printed } else { printed.trim_end() }.to_owned())
    }

    fn print(&self, context: &Context, messages: &[Value]) -> Result<String, Error> {
        let mut variables = Map::new();
        variables.insert("bos_token".to_owned(), Value::String(self.texts.bos.clone()));
        variables.insert("eos_token".to_owned(), Value::String(self.texts.eos.clone()));
        variables.extend(context.kwargs.iter().map(|(key, value)| (key.clone(), value.clone())));
        let tools = (!context.tools.is_empty()).then(|| Value::Array(context.tools.clone()));
        for (name, value) in [
            ("messages", Value::Array(messages.iter().map(without_nulls).collect())),
            ("tools", tools.unwrap_or(Value::Null)),
            ("add_generation_prompt", Value::Bool(context.add_generation_prompt)),
            ("documents", Value::Null),
            (python::NOW, Value::from(context.now)),
        ] {
            if name != "documents" || !variables.contains_key(name) {
                variables.insert(name.to_owned(), value);
            }
        }
        let template = self.environment.get_template(NAME).map_err(|error| failed(&error))?;
        let variables = minijinja::Value::from(Serde(&variables));
        template.render(variables).map_err(|error| failed(&error))
    }
}

fn without_nulls(message: &Value) -> Value {
    match message {
        Value::Object(fields) => {
            let there = fields.iter().filter(|(_, value)| !value.is_null());
            there.map(|(key, value)| (key.clone(), value.clone())).collect()
        }
        other => other.clone(),
    }
}

fn failed(error: &minijinja::Error) -> Error {
    if let Some(words) = python::refusal(error) {
        return Error::Refused(words.to_owned());
    }
    let message = match error.kind() {
        ErrorKind::OutOfFuel => {
            "it does not come to an end within the work that is allowed".to_owned()
        }
        _ => python::message_of(error),
    };
    Error::Render { line: error.line().unwrap_or(1), message }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each would take more time, memory or stack than there is.
    #[test]
    fn templates_that_take_too_much_are_stopped() {
        let nested = "{% set ns = namespace(x=[]) %}{% for i in range(100000) %}{% set ns.x = [ns.x] %}{% endfor %}";
        let within = "{% set ns = namespace() %}{% set ns.x = ns %}";
        let doubled = "{% set ns = namespace(x='ab') %}{% for i in range(60) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}{{ ns.x }}";
        let shared = "{% set ns = namespace(x=[1]) %}{% for i in range(60) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}";
        for source in [
            "{% for i in range(10 ** 9) %}x{% endfor %}",
            "{{ range(10 ** 9) | list }}",
            "{{ 'x' * 10 ** 12 }}",
            "{{ [1] * 10 ** 12 | length }}{% for i in [1] * 10 ** 12 %}{% endfor %}",
            doubled,
            "{{ 'a\nb' | indent(10 ** 12) }}",
            "{{ [1] | tojson(indent=10 ** 12) }}",
            "{{ [1] | tojson(indent=2 ** 63) }}",
            "{{ range(1000) | list | tojson(separators=('x' * 10 ** 7, ':')) }}",
            &format!("{nested}{{{{ ns.x | tojson }}}}"),
            &format!("{nested}{{{{ ns.x }}}}"),
            &format!("{nested}{{{{ raise_exception(ns.x) }}}}"),
            &format!("{nested}{{{{ ns.x == [ns.x] }}}}{{{{ 1 / 0 }}}}"),
            &format!("{within}{{{{ ns | tojson }}}}"),
            &format!("{within}{{{{ ns }}}}"),
            &format!("{shared}{{{{ ns.x | tojson }}}}"),
            &format!("{shared}{{{{ ns.x }}}}"),
            &format!("{shared}{{{{ raise_exception(ns.x) }}}}"),
            &format!("{shared}{{% set other = namespace(x=ns.x) %}}{{{{ other.x == ns.x * 1 }}}}"),
            "{% set a = namespace() %}{% set b = namespace(x=a) %}{% set a.x = b %}{{ a }}",
            "{% set ns = namespace(x=[1]) %}{% for i in range(100000) %}{% set ns.x = ns.x * 1 %}{% set ns.x = [ns.x] | map('first') %}{% endfor %}{{ 1 // 0 }}",
            "{% macro f(a) %}{{ f(a) }}{% endmacro %}{{ f(1) }}",
        ] {
            println!("{source}");
            let template =
                Template::with_fuel(source, SpecialTexts::default(), 200_000).expect("Jinja");
            template.render(&Context::default()).expect_err(source);
        }
    }
}
