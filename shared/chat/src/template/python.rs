//! What templates know of Python: JSON as `json.dumps` writes it, the date, methods of texts, and refusals.

use std::error::Error as _;
use std::fmt::{self, Write as _};

use minijinja::value::{Kwargs, ObjectRepr, ValueKind, from_args};
use minijinja::{Environment, Error, ErrorKind, State, Value};

use super::super::calendar;

/// The variable that holds the time for `strftime_now`.
pub(super) const NOW: &str = "__now";

pub(super) fn add_to(environment: &mut Environment<'static>) {
    environment.set_unknown_method_callback(method);
    environment.add_filter("tojson", tojson);
    environment.add_filter(super::source::ASSIGNED, assigned);
    environment.add_filter(super::source::KEPT, kept);
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
    let mut said = Short(String::new());
    // What is too long ends where there is no more room.
    let _ = write!(said, "{message}");
    Err(error.with_source(Refusal(said.0)))
}

/// A text that takes so much and no more: values can be far longer in words than they are in memory.
struct Short(String);

/// The longest words of a refusal, in bytes.
const LONGEST_REFUSAL: usize = 4_096;

impl fmt::Write for Short {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = LONGEST_REFUSAL - self.0.len();
        self.0.push_str(&text[..text.floor_char_boundary(room)]);
        if text.len() > room { Err(fmt::Error) } else { Ok(()) }
    }
}

/// How deep values may be nested that a template puts into variables. What is printed, compared and dropped goes down a level
/// of the stack with each.
const DEEPEST_VARIABLE: usize = 150;

/// What is put into a variable (see [`super::source`]).
fn assigned(state: &State<'_, '_>, value: &Value) -> Result<Value, Error> {
    weigh(state, value, 0, true)?;
    Ok(value.clone())
}

/// What is put into a namespace, which lasts: a list that is made as it is read becomes one that is there, since one may be made
/// of the other without end; and a namespace would be within itself.
fn kept(state: &State<'_, '_>, value: &Value) -> Result<Value, Error> {
    if value.kind() != ValueKind::Iterable {
        weigh(state, value, 0, false)?;
        return Ok(value.clone());
    }
    let mut items = Vec::new();
    for item in value.try_iter()? {
        weigh(state, &item, 1, false)?;
        items.push(item);
    }
    Ok(Value::from(items))
}

/// Pays for all values within a value.
fn weigh(
    state: &State<'_, '_>,
    value: &Value,
    depth: usize,
    may_be_namespace: bool,
) -> Result<(), Error> {
    let wrong = |message: String| Err(Error::new(ErrorKind::InvalidOperation, message));
    state.consume_fuel(1)?;
    if depth > DEEPEST_VARIABLE {
        return wrong(format!("a value is nested more than {DEEPEST_VARIABLE} deep"));
    }
    let Some(object) = value.as_object() else { return Ok(()) };
    if !may_be_namespace && object.type_name().ends_with("::Namespace") {
        return wrong("a namespace cannot be put into a namespace".to_owned());
    }
    let weigh = |value: &Value| weigh(state, value, depth + 1, may_be_namespace);
    match object.repr() {
        ObjectRepr::Map => {
            for (key, value) in object.try_iter_pairs().into_iter().flatten() {
                weigh(&key)?;
                weigh(&value)?;
            }
        }
        ObjectRepr::Seq | ObjectRepr::Iterable => {
            for item in object.try_iter().into_iter().flatten() {
                weigh(&item)?;
            }
        }
        _ => {}
    }
    Ok(())
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

/// How deep values may be nested that are written as JSON: what a request brings is no more than 128 deep, and templates can
/// nest without end, or put a namespace into itself.
const DEEPEST: usize = 200;

/// The text that one unit of fuel pays for, as minijinja has it for texts of its own.
const PAID_BYTES: usize = 64;

/// Hugging Face's `tojson`: Python's `json.dumps` with `ensure_ascii=False` unless it is asked for.
#[expect(clippy::needless_pass_by_value, reason = "how minijinja calls filters")]
fn tojson(
    state: &State<'_, '_>,
    value: &Value,
    indent: Option<Value>,
    kwargs: Kwargs,
) -> Result<String, Error> {
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
    let mut dumped = Dump { state, text: String::new(), paid: 0, indent, item, key, ascii, sorted };
    dumped.value(value, 0)?;
    Ok(dumped.text)
}

fn refused(what: &str) -> Error {
    Error::new(ErrorKind::InvalidOperation, format!("tojson {what}"))
}

struct Dump<'a, 't, 'e> {
    state: &'a State<'t, 'e>,
    text: String,
    /// So many bytes of the text are paid for.
    paid: usize,
    indent: Option<usize>,
    item: String,
    key: String,
    ascii: bool,
    sorted: bool,
}

impl Dump<'_, '_, '_> {
    fn value(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        if depth > DEEPEST {
            return Err(refused(&format!("cannot write what is nested more than {DEEPEST} deep")));
        }
        match value.kind() {
            ValueKind::None => self.push("null")?,
            ValueKind::Bool => self.push(if value.is_true() { "true" } else { "false" })?,
            ValueKind::Number => self.number(value)?,
            ValueKind::String => self.string(value.as_str().unwrap_or_default())?,
            ValueKind::Seq | ValueKind::Iterable => {
                let mut has_items = false;
                self.push("[")?;
                for (at, item) in value.try_iter()?.enumerate() {
                    has_items = true;
                    self.next(at, depth + 1)?;
                    self.value(&item, depth + 1)?;
                }
                self.close(has_items, depth, "]")?;
            }
            ValueKind::Map => {
                let mut keys: Vec<Value> = value.try_iter()?.collect();
                if self.sorted {
                    keys.sort();
                }
                self.push("{")?;
                for (at, key) in keys.iter().enumerate() {
                    self.next(at, depth + 1)?;
                    match key.as_str() {
                        Some(key) => self.string(key)?,
                        None => self.string(&key.to_string())?,
                    }
                    self.pay(self.key.len())?;
                    self.text.push_str(&self.key);
                    self.value(&value.get_item(key)?, depth + 1)?;
                }
                self.close(!keys.is_empty(), depth, "}")?;
            }
            kind => return Err(refused(&format!("cannot write what is {kind}"))),
        }
        Ok(())
    }

    /// Pays for more text before there is any: what a template makes of a list can be far more than the list.
    fn pay(&mut self, more: usize) -> Result<(), Error> {
        let due = self.text.len().saturating_add(more).saturating_sub(self.paid);
        let units = due.div_ceil(PAID_BYTES);
        self.state.consume_fuel(units as u64)?;
        self.paid = self.paid.saturating_add(units.saturating_mul(PAID_BYTES));
        Ok(())
    }

    fn push(&mut self, text: &str) -> Result<(), Error> {
        self.pay(text.len())?;
        self.text.push_str(text);
        Ok(())
    }

    fn next(&mut self, at: usize, depth: usize) -> Result<(), Error> {
        if at > 0 {
            self.pay(self.item.len())?;
            self.text.push_str(&self.item);
        }
        self.line(depth)
    }

    fn close(&mut self, has_items: bool, depth: usize, bracket: &str) -> Result<(), Error> {
        if has_items {
            self.line(depth)?;
        }
        self.push(bracket)
    }

    fn line(&mut self, depth: usize) -> Result<(), Error> {
        let Some(indent) = self.indent else { return Ok(()) };
        let spaces = indent.saturating_mul(depth);
        self.pay(spaces.saturating_add(1))?;
        self.text.push('\n');
        self.text.extend(std::iter::repeat_n(' ', spaces));
        Ok(())
    }

    fn number(&mut self, value: &Value) -> Result<(), Error> {
        if value.is_integer() {
            return self.push(&value.to_string());
        }
        let float = f64::try_from(value.clone())?;
        self.push(&float_repr(float))
    }

    fn string(&mut self, text: &str) -> Result<(), Error> {
        self.pay(text.len() + 2)?;
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
        Ok(())
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
}
