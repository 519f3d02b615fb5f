//! Grammars as Lark, in llguidance's dialect.
//!
//! Text that may turn into a call is a lexeme that ends, as early as it can, with what introduces a call
//! (`[lazy]`); the other way on is text to the end. So nothing restricts an answer before a call begins.

use serde_json::{Value, json};

use super::{Answer, Calling, Grammar, Stage, of_format, schema};
use crate::Error;
use crate::format::{ARGS, CALL_ID, FormatKind, PYTHON_TAG, TOOL_CALL, TOOL_CALLS};
use crate::message::{ResponseFormat, Tool};

/// A text as a literal.
pub(super) fn quoted(text: &str) -> String {
    Value::from(text).to_string().replace('\u{7f}', "\\u007f")
}

/// Lark's rules of a grammar, as they are collected.
struct Rules<'a> {
    lines: Vec<String>,
    /// What stands for a text that may be a special token.
    mark: &'a dyn Fn(&str) -> String,
    /// Tools whose schema is known to be too much, and need not be followed.
    is_loose: &'a dyn Fn(&Tool) -> bool,
}

impl Grammar {
    /// The whole, with `mark` for texts that may be special tokens, and with arguments that may be any object for tools that are
    /// loose.
    pub(super) fn lark(
        &self,
        mark: &dyn Fn(&str) -> String,
        is_loose: &dyn Fn(&Tool) -> bool,
    ) -> Result<String, Error> {
        let mut rules = Rules { lines: Vec::new(), mark, is_loose };
        rules.add("TEXT", r"/(.|\n)*/");
        let answer = rules.answer(&self.answer)?;
        let start = match self.stage {
            Stage::None => answer,
            Stage::Open(marks) => {
                let thoughts = rules.text_until("thoughts", marks.close);
                rules.add("GAP", r"/\n*/");
                format!("{thoughts} GAP ({answer})")
            }
            // Text that may be anything may be thoughts as well.
            Stage::Maybe(_) if self.answer.is_free() => answer,
            Stage::Maybe(marks) => {
                let thoughts = rules.text_until("thoughts", marks.close);
                rules.add("GAP", r"/\n*/");
                let open = mark(marks.open);
                format!("({open} {thoughts} GAP)? ({answer})")
            }
        };
        rules.add("start", &start);
        Ok(rules.lines.join("\n"))
    }
}

impl Answer {
    fn is_free(&self) -> bool {
        let must_call = self.calling.as_ref().is_some_and(|calling| calling.is_required);
        self.format.is_free() && !must_call
    }
}

impl Rules<'_> {
    fn add(&mut self, name: &str, body: &str) {
        self.lines.push(format!("{name}: {body}"));
    }

    /// A rule that is any text up to this one, and this one.
    fn text_until(&mut self, name: &str, end: &str) -> String {
        let mark = (self.mark)(end);
        if mark.starts_with('<') {
            self.add(name, &format!("TEXT {mark}"));
        } else {
            self.add(&format!("{name}[lazy]"), &format!("TEXT {mark}"));
        }
        name.to_owned()
    }

    fn answer(&mut self, answer: &Answer) -> Result<String, Error> {
        let calling = answer.calling.as_ref().filter(|calling| !calling.tools.is_empty());
        let Some(calling) = calling else { return self.format(&answer.format) };
        if calling.is_required {
            return Ok(self.calls(calling));
        }
        if answer.format.is_free() {
            return Ok(self.text_or_calls(calling));
        }
        let calls = self.calls(calling);
        let format = self.format(&answer.format)?;
        Ok(format!("{calls} | {format}"))
    }

    /// A form in words.
    fn format(&mut self, format: &ResponseFormat) -> Result<String, Error> {
        let refused = |message: String| of_format(format, &message);
        let body = match format {
            ResponseFormat::Text => "TEXT".to_owned(),
            ResponseFormat::JsonObject => json_of(&json!({"type": "object"})),
            ResponseFormat::JsonSchema(schema) => json_of(schema),
            ResponseFormat::Regex(regex) => {
                regex_of(regex).ok_or_else(|| refused("it is empty".to_owned()))?
            }
            ResponseFormat::Choice(choices) if choices.is_empty() => {
                return Err(refused("expected one at least, found none".to_owned()));
            }
            ResponseFormat::Choice(choices) => {
                let choices: Vec<String> = choices.iter().map(|choice| quoted(choice)).collect();
                choices.join(" | ")
            }
            ResponseFormat::Gbnf(grammar) => {
                let lark = super::gbnf::to_lark(grammar, self.mark).map_err(refused)?;
                format!("%lark {{\n{lark}\n}}")
            }
            ResponseFormat::Lark(grammar) => format!("%lark {{\n{grammar}\n}}"),
        };
        self.add("answer", &body);
        Ok("answer".to_owned())
    }

    /// Calls and nothing else.
    fn calls(&mut self, calling: &Calling) -> String {
        let mark = self.mark;
        let [open, close] = TOOL_CALL;
        let several = |call: &str, between: &str| {
            let more = format!(" ({between} {call})*");
            format!("{call}{}", if calling.are_several { more.as_str() } else { "" })
        };
        match calling.format {
            FormatKind::Hermes | FormatKind::Generic => {
                let object = self.objects(calling, "{\"name\": ", "arguments");
                self.add(
                    "call",
                    &format!("{} \"\\n\" {object} \"\\n\" {}", mark(open), mark(close)),
                );
                several("call", "\"\\n\"")
            }
            FormatKind::Llama3 => {
                let object = self.objects(calling, "{\"name\": ", "parameters");
                several(&object, "\"; \"")
            }
            FormatKind::Mistral => {
                let object = self.objects(calling, "{\"name\": ", "arguments");
                let list = several(&object, "\", \"");
                format!("{} \"[\" {list} \"]\"", mark(TOOL_CALLS))
            }
            FormatKind::MistralNamed => {
                let named = self.named(calling);
                self.add("call", &format!("{} {named}", mark(TOOL_CALLS)));
                several("call", "")
            }
        }
    }

    /// Any text, or calls, which begin in the middle of text where the format lets them.
    fn text_or_calls(&mut self, calling: &Calling) -> String {
        let mark = self.mark;
        let [open, close] = TOOL_CALL;
        let after_text = |rest: &str| {
            let (begin, end) = if calling.are_several { ("(", ")*") } else { ("", " |") };
            format!("{begin}before {rest}{end} TEXT")
        };
        match calling.format {
            FormatKind::Hermes | FormatKind::Generic => {
                self.text_until("before", open);
                let object = self.objects(calling, "{\"name\": ", "arguments");
                self.add("rest", &format!("\"\\n\" {object} \"\\n\" {}", mark(close)));
                after_text("rest")
            }
            FormatKind::MistralNamed => {
                self.text_until("before", TOOL_CALLS);
                let named = self.named(calling);
                self.add("rest", &named);
                after_text("rest")
            }
            FormatKind::Mistral => {
                self.text_until("before", TOOL_CALLS);
                let object = self.objects(calling, "{\"name\": ", "arguments");
                let more = format!(" (\", \" {object})*");
                let list = format!("{object}{}", if calling.are_several { &more } else { "" });
                format!("before \"[\" {list} \"]\" | TEXT")
            }
            FormatKind::Llama3 => {
                self.add("head[lazy]", &quoted("{\"name\": "));
                let first = self.objects(calling, "", "parameters");
                let more = format!("({} {first})*", quoted("; {\"name\": "));
                let more = if calling.are_several { more.as_str() } else { "" };
                let tag = mark(PYTHON_TAG);
                let tag = if tag.starts_with('<') { format!("{tag}? ") } else { String::new() };
                format!("{tag}head {first} {more} | TEXT")
            }
        }
    }

    /// The object of a call of any of the tools, from `begin` on, which comes before the name's quote.
    fn objects(&mut self, calling: &Calling, begin: &str, word: &str) -> String {
        let mut names = Vec::new();
        for (at, tool) in calling.tools.iter().enumerate() {
            let name = Value::from(tool.name.as_str());
            let head = quoted(&format!("{begin}{name}, \"{word}\": "));
            let arguments = self.arguments(tool);
            self.add(&format!("object{at}"), &format!("{head} {arguments} \"}}\""));
            names.push(format!("object{at}"));
        }
        self.add("object", &names.join(" | "));
        "object".to_owned()
    }

    /// A call that begins with its name.
    fn named(&mut self, calling: &Calling) -> String {
        let (id, args) = ((self.mark)(CALL_ID), (self.mark)(ARGS));
        let mut names = Vec::new();
        for (at, tool) in calling.tools.iter().enumerate() {
            let arguments = self.arguments(tool);
            let name = quoted(&tool.name);
            let rest = format!("{name} ({id} /[a-zA-Z0-9]{{9}}/)? {args} {arguments}");
            self.add(&format!("named{at}"), &rest);
            names.push(format!("named{at}"));
        }
        self.add("named", &names.join(" | "));
        "named".to_owned()
    }

    fn arguments(&self, tool: &Tool) -> String {
        let none = json!({"type": "object", "properties": {}, "additionalProperties": false});
        let any = json!({"type": "object"});
        match &tool.parameters {
            None => json_of(&none),
            Some(_) if (self.is_loose)(tool) => json_of(&any),
            Some(parameters) => json_of(&schema::of_object(parameters)),
        }
    }
}

/// JSON that a schema validates.
fn json_of(schema: &Value) -> String {
    format!("%json {}", schema::on_one_line(schema))
}

/// A regular expression that matches a whole text; the anchors that some write around it say nothing new.
fn regex_of(regex: &str) -> Option<String> {
    let regex = regex.strip_prefix('^').unwrap_or(regex);
    let is_escaped = regex.len() - regex.trim_end_matches('$').len() == 1
        && regex.trim_end_matches('$').chars().rev().take_while(|&it| it == '\\').count() % 2 == 1;
    let regex = if is_escaped { regex } else { regex.strip_suffix('$').unwrap_or(regex) };
    (!regex.is_empty()).then(|| format!("/{}/", llguidance::regex_to_lark(regex, "")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn anchors_around_a_regular_expression_are_left_out() {
        for (regex, expected) in [
            ("^a/b$", Some("/a\\/b/")),
            ("a\\$", Some("/a\\$/")),
            ("a\\\\$", Some("/a\\\\/")),
            ("a", Some("/a/")),
            ("^$", None),
        ] {
            assert_eq!(regex_of(regex).as_deref(), expected, "{regex}");
        }
        assert_eq!(quoted("a\"\n\u{7f}é"), "\"a\\\"\\n\\u007fé\"");
    }
}
