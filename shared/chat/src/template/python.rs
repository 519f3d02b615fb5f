//! What templates know of Python: JSON as `json.dumps` writes it, the date, methods of texts, and refusals.

use std::error::Error as _;
use std::fmt;

use minijinja::value::{Kwargs, ValueKind, from_args};
use minijinja::{Environment, Error, ErrorKind, State, Value};

use super::super::calendar;

/// The variable that holds the time for `strftime_now`.
pub(super) const NOW: &str = "__now";

pub(super) fn add_to(environment: &mut Environment<'static>) {
    environment.set_unknown_method_callback(method);
    environment.add_filter("tojson", tojson);
    environment.add_test("iterable", is_iterable);
    environment.add_function("raise_exception", raise_exception);
    environment.add_function("strftime_now", strftime_now);
}

/// As in Python, where `None` is not.
fn is_iterable(value: &Value) -> bool {
    !matches!(value.kind(), ValueKind::None | ValueKind::Bool | ValueKind::Number)
}

/// What a template says when it refuses.
#[derive(Debug)]
struct Refusal(String);

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Refusal {}

fn raise_exception(message: &Value) -> Result<Value, Error> {
    let error = Error::new(ErrorKind::InvalidOperation, "the template refuses");
    Err(error.with_source(Refusal(message.to_string())))
}

/// The words of `raise_exception`, if that is what has happened.
pub(super) fn refusal(error: &Error) -> Option<&str> {
    let mut at = error.source();
    while let Some(cause) = at {
        if let Some(refusal) = cause.downcast_ref::<Refusal>() {
            return Some(&refusal.0);
        }
        at = cause.source();
    }
    None
}

/// What went wrong, with the innermost cause.
pub(super) fn message_of(error: &Error) -> String {
    let said = error.detail().map_or_else(|| error.kind().to_string(), str::to_owned);
    match error.source() {
        Some(cause) => format!("{said}: {cause}"),
        None => said,
    }
}

fn strftime_now(state: &State<'_, '_>, format: &str) -> Result<String, Error> {
    let now = state.lookup(NOW).and_then(|now| i64::try_from(now).ok()).unwrap_or(0);
    calendar::strftime(now, format)
        .map_err(|message| Error::new(ErrorKind::InvalidOperation, message))
}

fn method(
    state: &mut State<'_, '_>,
    value: &Value,
    name: &str,
    args: &[Value],
) -> Result<Value, Error> {
    match (name, value.as_str()) {
        ("removeprefix", Some(text)) => {
            let (affix,): (&str,) = from_args(args)?;
            Ok(Value::from(text.strip_prefix(affix).unwrap_or(text)))
        }
        ("removesuffix", Some(text)) => {
            let (affix,): (&str,) = from_args(args)?;
            Ok(Value::from(text.strip_suffix(affix).unwrap_or(text)))
        }
        _ => minijinja_contrib::pycompat::unknown_method_callback(state, value, name, args),
    }
}

/// Hugging Face's `tojson`: Python's `json.dumps` with `ensure_ascii=False` unless it is asked for.
#[expect(clippy::needless_pass_by_value, reason = "how minijinja calls filters")]
fn tojson(value: &Value, indent: Option<Value>, kwargs: Kwargs) -> Result<String, Error> {
    let indent = indent.filter(|indent| !indent.is_none());
    let indent = match indent {
        None => kwargs.get::<Option<usize>>("indent")?,
        // The first argument after the value is `ensure_ascii` there.
        Some(_) => return Err(refused("takes its options by name, such as indent=4")),
    };
    let ascii = kwargs.get::<Option<bool>>("ensure_ascii")?.unwrap_or(false);
    let sorted = kwargs.get::<Option<bool>>("sort_keys")?.unwrap_or(false);
    let separators = kwargs.get::<Option<Vec<String>>>("separators")?;
    kwargs.assert_all_used()?;
    let default = if indent.is_some() { "," } else { ", " };
    let (item, key) = match separators.as_deref() {
        None => (default.to_owned(), ": ".to_owned()),
        Some([item, key]) => (item.clone(), key.clone()),
        Some(_) => return Err(refused("takes two separators, of items and of keys")),
    };
    let mut dumped = Dump { text: String::new(), indent, item, key, ascii, sorted };
    dumped.value(value, 0)?;
    Ok(dumped.text)
}

fn refused(what: &str) -> Error {
    Error::new(ErrorKind::InvalidOperation, format!("tojson {what}"))
}

struct Dump {
    text: String,
    indent: Option<usize>,
    item: String,
    key: String,
    ascii: bool,
    sorted: bool,
}

impl Dump {
    fn value(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        match value.kind() {
            ValueKind::None => self.text.push_str("null"),
            ValueKind::Bool => self.text.push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number => self.number(value)?,
            ValueKind::String => self.string(value.as_str().unwrap_or_default()),
            ValueKind::Seq | ValueKind::Iterable => {
                let items: Vec<Value> = value.try_iter()?.collect();
                self.text.push('[');
                for (at, item) in items.iter().enumerate() {
                    self.next(at, depth + 1);
                    self.value(item, depth + 1)?;
                }
                self.close(!items.is_empty(), depth, ']');
            }
            ValueKind::Map => {
                let mut keys: Vec<Value> = value.try_iter()?.collect();
                if self.sorted {
                    keys.sort();
                }
                self.text.push('{');
                for (at, key) in keys.iter().enumerate() {
                    self.next(at, depth + 1);
                    match key.as_str() {
                        Some(key) => self.string(key),
                        None => self.string(&key.to_string()),
                    }
                    self.text.push_str(&self.key);
                    self.value(&value.get_item(key)?, depth + 1)?;
                }
                self.close(!keys.is_empty(), depth, '}');
            }
            kind => return Err(refused(&format!("cannot write what is {kind}"))),
        }
        Ok(())
    }

    fn next(&mut self, at: usize, depth: usize) {
        if at > 0 {
            self.text.push_str(&self.item);
        }
        self.line(depth);
    }

    fn close(&mut self, has_items: bool, depth: usize, bracket: char) {
        if has_items {
            self.line(depth);
        }
        self.text.push(bracket);
    }

    fn line(&mut self, depth: usize) {
        if let Some(indent) = self.indent {
            self.text.push('\n');
            self.text.extend(std::iter::repeat_n(' ', indent * depth));
        }
    }

    fn number(&mut self, value: &Value) -> Result<(), Error> {
        if value.is_integer() {
            self.text.push_str(&value.to_string());
        } else {
            let float = f64::try_from(value.clone())?;
            self.text.push_str(&float_repr(float));
        }
        Ok(())
    }

    fn string(&mut self, text: &str) {
        self.text.push('"');
        for letter in text.chars() {
            match letter {
                '"' => self.text.push_str("\\\""),
                '\\' => self.text.push_str("\\\\"),
                '\n' => self.text.push_str("\\n"),
                '\r' => self.text.push_str("\\r"),
                '\t' => self.text.push_str("\\t"),
                '\u{8}' => self.text.push_str("\\b"),
                '\u{c}' => self.text.push_str("\\f"),
                control if (control as u32) < 0x20 => self.escape(control),
                other if self.ascii && !other.is_ascii() => self.escape(other),
                other => self.text.push(other),
            }
        }
        self.text.push('"');
    }

    fn escape(&mut self, letter: char) {
        for unit in letter.encode_utf16(&mut [0; 2]) {
            let escaped = format!("\\u{unit:04x}");
            self.text.push_str(&escaped);
        }
    }
}

/// Python's `repr` of a float: exponents from 1e16 on and below 1e-4, with a sign and two digits.
fn float_repr(float: f64) -> String {
    if float.is_nan() {
        return "NaN".to_owned();
    }
    if float.is_infinite() {
        return if float > 0.0 { "Infinity" } else { "-Infinity" }.to_owned();
    }
    let written = format!("{float:?}");
    match written.split_once('e') {
        Some((mantissa, exponent)) => {
            let exponent: i32 = exponent.parse().unwrap_or(0);
            format!("{mantissa}e{exponent:+03}")
        }
        None => written,
    }
}

/// The same template without `{% generation %}`: its blocks become conditions that hold, with the same control of spaces.
pub(super) fn without_generation_blocks(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(at) = rest.find("{%") {
        let (before, tag) = rest.split_at(at);
        out.push_str(before);
        let Some(end) = tag[2..].find("%}").map(|end| end + 4) else {
            rest = tag;
            break;
        };
        let inside = &tag[2..end - 2];
        let word =
            inside.trim_matches(|letter: char| letter.is_whitespace() || "-+".contains(letter));
        match word {
            "generation" => out.push_str(&tag[..end].replacen("generation", "if true", 1)),
            "endgeneration" => out.push_str(&tag[..end].replacen("endgeneration", "endif", 1)),
            _ => out.push_str(&tag[..end]),
        }
        rest = &tag[end..];
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_are_written_as_python_does() {
        for (float, expected) in [
            (1.0, "1.0"),
            (0.1, "0.1"),
            (1e16, "1e+16"),
            (123_456_789_012_345.0, "123456789012345.0"),
            (1e-5, "1e-05"),
            (0.0001, "0.0001"),
            (-2.5e-300, "-2.5e-300"),
        ] {
            assert_eq!(float_repr(float), expected);
        }
    }

    #[test]
    fn marks_of_training_are_conditions_that_hold() {
        for (source, expected) in [
            ("a{%- generation -%}b{% endgeneration %}", "a{%- if true -%}b{% endif %}"),
            ("{% if generation %}x{% endif %}", "{% if generation %}x{% endif %}"),
            ("{% generation", "{% generation"),
            ("{%}{% generation %}", "{%}{% generation %}"),
            ("é{% set x = '%}' %}", "é{% set x = '%}' %}"),
        ] {
            assert_eq!(without_generation_blocks(source), expected);
        }
    }
}
