//! JSON schemas before they are compiled: what cannot be enforced is found here, with its place and its keyword.
//!
//! Every keyword of every draft is in one of three lists: what llguidance enforces, what only describes, and what is refused.
//! A word in none of them is an annotation, as the specification has it, unless it is a keyword in the wrong case, which
//! would be ignored in silence. Values are checked for their type and bounded, so that the compiler is given nothing that it
//! does not expect.
//!
//! What llguidance takes for something else than the specification is written in its words ([`prepared`]) or refused here:
//! - Keywords that are read together are given together: what stands between them (`allOf` and the like) would part them.
//! - Names of properties could be written in escapes and so evade what the schema says of them: escapes are left out of what
//!   can be written where that is so ([`has_named_among_others`]).
//! - Names that are free may repeat, so that only one of them is sure to count: more are refused.
//! - Numbers are floats inside: constants beyond their digits are refused, and products of `multipleOf` beyond 32 bits.
//! - Classes of regular expressions have sets in Rust's dialect and not in ECMA's ([`super::pattern`]).

use serde_json::{Map, Number, Value, json};

use super::pattern;

/// Nesting of schemas.
const DEEPEST: usize = 64;
/// Lengths and counts. Longer ones are beyond what a context holds.
const LARGEST: u64 = 1_000_000;

/// Bounds of numbers, on both sides of 0: as far as every whole number has a float.
const FARTHEST: f64 = 1e16;

/// Whole numbers up to here are floats, each.
const EXACT: u64 = 1 << 53;

/// Bytes of a regular expression. The longest among 600 schemas of schemastore.org has 2,000; compiling one takes time with
/// its length, and memory with its nested repetitions.
const LONGEST_PATTERN: usize = 4 << 10;

/// Properties of one object that have names: the names of others are none of theirs, which takes time with their square
/// (3 s for 2,000 of them).
const MOST_PROPERTIES: usize = 1_000;

/// What the repetitions of a regular expression multiply to, of those within each other: each of them is a state. Lengths of
/// texts are counted apart, and cheaper.
const MOST_REPEATS: u64 = 2_000;

/// What the value of a keyword is.
#[derive(Clone, Copy)]
enum Kind {
    Schema,
    Schemas,
    NamedSchemas,
    /// A schema, or several: `items` of older drafts.
    SchemaOrSchemas,
    Types,
    Names,
    Values,
    Anything,
    Count,
    Number,
    PositiveNumber,
    Text,
}

const ENFORCED: [(&str, Kind); 29] = [
    ("$ref", Kind::Text),
    ("$defs", Kind::NamedSchemas),
    ("definitions", Kind::NamedSchemas),
    ("additionalItems", Kind::Schema),
    ("additionalProperties", Kind::Schema),
    ("allOf", Kind::Schemas),
    ("anyOf", Kind::Schemas),
    ("const", Kind::Anything),
    ("enum", Kind::Values),
    ("exclusiveMaximum", Kind::Number),
    ("exclusiveMinimum", Kind::Number),
    ("format", Kind::Text),
    ("items", Kind::SchemaOrSchemas),
    ("maxItems", Kind::Count),
    ("maxLength", Kind::Count),
    ("maxProperties", Kind::Count),
    ("maximum", Kind::Number),
    ("minItems", Kind::Count),
    ("minLength", Kind::Count),
    ("minProperties", Kind::Count),
    ("minimum", Kind::Number),
    ("multipleOf", Kind::PositiveNumber),
    ("oneOf", Kind::Schemas),
    ("pattern", Kind::Text),
    ("patternProperties", Kind::NamedSchemas),
    ("prefixItems", Kind::Schemas),
    ("properties", Kind::NamedSchemas),
    ("required", Kind::Names),
    ("type", Kind::Types),
];

/// Keywords that cannot be enforced, and what may be written instead.
const REFUSED: [(&str, &str); 21] = [
    ("$dynamicRef", "use $ref"),
    ("$recursiveRef", "use $ref"),
    ("contains", "use items"),
    ("dependencies", "use anyOf"),
    ("dependentRequired", "use anyOf"),
    ("dependentSchemas", "use anyOf"),
    ("else", "use anyOf"),
    ("if", "use anyOf"),
    ("maxContains", "use maxItems"),
    ("minContains", "use minItems"),
    ("not", "say what is allowed"),
    ("nullable", "use \"type\": [\"…\", \"null\"]"),
    ("propertyNames", "use patternProperties with \"additionalProperties\": false"),
    ("then", "use anyOf"),
    ("unevaluatedItems", "use items"),
    ("unevaluatedProperties", "use additionalProperties"),
    ("uniqueItems", "leave it out, and make items unique afterwards"),
    ("extends", "use allOf"),
    ("disallow", "say what is allowed"),
    ("divisibleBy", "use multipleOf"),
    ("x-guidance", "leave it out"),
];

/// Those of them that say nothing where they are false.
const SAY_NOTHING: [&str; 2] = ["nullable", "uniqueItems"];

const TYPES: [&str; 7] = ["array", "boolean", "integer", "null", "number", "object", "string"];

/// How JSON is written.
pub(super) fn on_one_line(schema: &Value) -> Value {
    let mut style = json!({
        "item_separator": ", ",
        "key_separator": ": ",
        "whitespace_flexible": false,
    });
    if has_named_among_others(schema) {
        style["json_allowed_escapes"] = json!("nrbtf\\\"");
    }
    match prepared(schema, is_old(schema)) {
        Value::Object(mut fields) => {
            fields.insert("x-guidance".to_owned(), style);
            Value::Object(fields)
        }
        Value::Bool(true) => json!({"x-guidance": style}),
        other => other,
    }
}

/// Days that there are: the 29th of February in leap years alone.
const DAY: &str = "(?:[0-9]{4}-(?:0[13-9]|1[0-2])-|[0-9]{4}-02-(?:[01]|2[0-8])\
     |(?:[0-9]{2}(?:0[48]|[2468][048]|[13579][26])|(?:[02468][048]|[13579][26])00)-02-29)";

/// What formats do not say and those who read them insist on: days exist, times end within the minute (the 60 of leap seconds
/// is no time for most), the parts of addresses have a length, and two hyphens in the third place are kept for other
/// alphabets.
fn more_of_format(format: &str) -> Option<String> {
    let label = "(?:[^.]{1,3}|[^.]{2}(?:[^.-][^.]|-[^.-])[^.]{0,59})";
    match format {
        "date" => Some(format!("^{DAY}")),
        "date-time" => Some(format!("^{DAY}[^:]*:[0-9]{{2}}:[0-5]")),
        "time" => Some("^[^:]*:[0-9]{2}:[0-5]".to_owned()),
        "email" => Some("^[^@]{1,64}@[^@.]{1,63}(\\.[^@.]{1,63}){0,2}$".to_owned()),
        "hostname" => Some(format!("^{label}(?:\\.{label}){{0,2}}$")),
        _ => None,
    }
}

/// Whether `$ref` stands alone: to draft 7, what is written beside it says nothing.
fn is_old(schema: &Value) -> bool {
    let draft = schema.get("$schema").and_then(Value::as_str).unwrap_or_default();
    ["/draft-04/", "/draft-06/", "/draft-07/"].iter().any(|old| draft.contains(old))
}

/// Whether an object anywhere has names of its own and others beside them: those could be the same in other letters.
fn has_named_among_others(schema: &Value) -> bool {
    let within = |value: &Value| match value {
        Value::Array(items) => items.iter().any(has_named_among_others),
        value => has_named_among_others(value),
    };
    let Value::Object(fields) = schema else { return false };
    let is_some = |key: &&str| match fields.get(*key) {
        Some(Value::Object(named)) => !named.is_empty(),
        Some(Value::Array(named)) => !named.is_empty(),
        _ => false,
    };
    let has_names = ["properties", "patternProperties", "required"].iter().any(is_some);
    let is_closed = fields.get("additionalProperties") == Some(&Value::Bool(false));
    has_names && !is_closed || fields.values().any(within)
}

/// Keywords that are read together, as llguidance reads them only if none of [`IN_PLACE`] stands between them.
const TOGETHER: [&str; 6] = [
    "properties",
    "patternProperties",
    "additionalProperties",
    "prefixItems",
    "items",
    "additionalItems",
];
const IN_PLACE: [&str; 6] = ["const", "enum", "allOf", "anyOf", "oneOf", "$ref"];

/// The same schema for the compiler, in its words and with what its formats let through and validators do not.
fn prepared(schema: &Value, is_old: bool) -> Value {
    let Value::Object(fields) = schema else { return schema.clone() };
    let is_alone = is_old && fields.contains_key("$ref");
    let says = |key: &str| !is_alone || ["$ref", "$defs", "definitions", "$schema"].contains(&key);
    let mut out = Map::new();
    let first = fields.keys().position(|key| TOGETHER.contains(&&**key)).unwrap_or(fields.len());
    let (before, after): (Vec<_>, Vec<_>) =
        fields.iter().enumerate().partition(|(at, (key, _))| *at < first || !is_in_place(key));
    for (_, (key, value)) in before.into_iter().chain(after) {
        if !says(key) || value == &Value::Bool(false) && SAY_NOTHING.contains(&&**key) {
            continue;
        }
        let kind = ENFORCED.iter().find(|(known, _)| known == key).map(|(_, kind)| *kind);
        let value = match (kind, value) {
            (Some(Kind::Schema | Kind::SchemaOrSchemas), Value::Object(_)) => {
                prepared(value, is_old)
            }
            (Some(Kind::Schemas | Kind::SchemaOrSchemas), Value::Array(schemas)) => {
                schemas.iter().map(|schema| prepared(schema, is_old)).collect()
            }
            (Some(Kind::NamedSchemas), Value::Object(schemas)) => {
                let is_pattern = key == "patternProperties";
                let name = |name: &String| {
                    if is_pattern { pattern::in_rust(name) } else { name.clone() }
                };
                schemas.iter().map(|(key, schema)| (name(key), prepared(schema, is_old))).collect()
            }
            (Some(Kind::Count), Value::Number(number)) => whole(number).into(),
            (Some(Kind::Text), Value::String(text)) if key == "pattern" => {
                pattern::in_rust(text).into()
            }
            (Some(Kind::Text), Value::String(text)) if key == "$ref" => {
                pointer(text).unwrap_or_else(|_| text.clone()).into()
            }
            _ => value.clone(),
        };
        out.insert(key.clone(), value);
    }
    let more = out.get("format").and_then(Value::as_str).and_then(more_of_format);
    if let Some(more) = more {
        if !out.contains_key("pattern") {
            out.insert("pattern".to_owned(), more.into());
        } else if let Some(all) = out.get_mut("allOf").and_then(Value::as_array_mut) {
            all.push(json!({"pattern": more}));
        } else {
            out.insert("allOf".to_owned(), json!([{"pattern": more}]));
        }
    }
    Value::Object(out)
}

fn is_in_place(key: &str) -> bool {
    IN_PLACE.contains(&key)
}

/// A count; 2.0 is one.
fn whole(number: &Number) -> Option<u64> {
    let exact = |it: &f64| it.fract() == 0.0 && (0.0..=LARGEST as f64).contains(it);
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is a count")]
    number.as_u64().or_else(|| number.as_f64().filter(exact).map(|it| it as u64))
}

/// A reference as llguidance reads it, which knows no escapes.
fn pointer(reference: &str) -> Result<String, String> {
    let Some(path) = reference.strip_prefix("#/") else {
        return if reference == "#" { Ok("#".to_owned()) } else { Err(ONLY_WITHIN.to_owned()) };
    };
    let mut steps = Vec::new();
    for step in path.split('/') {
        let step = unescaped(step).ok_or("its escapes are none of an address")?;
        let step = step.replace("~1", "/").replace("~0", "~");
        if step.is_empty() || step.contains('/') {
            return Err(format!("the name {step:?} cannot be referred to"));
        }
        steps.push(step);
    }
    Ok(format!("#/{}", steps.join("/")))
}

const ONLY_WITHIN: &str = "expected a place in this schema, such as #/$defs/name";

/// Without the percent signs of addresses.
fn unescaped(step: &str) -> Option<String> {
    let (mut bytes, mut rest) = (Vec::new(), step.as_bytes());
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte == b'%' {
            let digits = std::str::from_utf8(rest.get(..2)?).ok()?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            rest = &rest[2..];
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}

/// The schema of arguments: of an object, even where it does not say so.
pub(super) fn of_object(schema: &Value) -> Value {
    match schema {
        Value::Object(fields) if !fields.contains_key("type") && !fields.contains_key("$ref") => {
            let mut fields = fields.clone();
            fields.insert("type".to_owned(), json!("object"));
            Value::Object(fields)
        }
        Value::Object(_) => schema.clone(),
        _ => json!({"type": "object"}),
    }
}

/// Whether a schema has anything that cannot be enforced.
///
/// # Errors
/// What it is and where.
pub(super) fn check(schema: &Value) -> Result<(), String> {
    check_at(schema, &mut Place { steps: Vec::new(), depth: 0 })?;
    let mut divisors = Vec::new();
    divisors_of(schema, &mut divisors);
    if divisors.len() > 1 && product(&divisors).is_none() {
        let message =
            "\"multipleOf\": all of them together have a common multiple of more than 9 digits";
        return Err(message.to_owned());
    }
    Ok(())
}

/// A number above 0 by its digits and how many of them are behind the point, if they are few enough for llguidance.
fn divisor(number: &Number) -> Option<(u32, u32)> {
    let text = number.to_string();
    let (digits, exponent) = text.split_once(['e', 'E']).unwrap_or((&text, "0"));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let fraction = fraction.trim_end_matches('0');
    let places = i32::try_from(fraction.len()).ok()? - exponent.parse::<i32>().ok()?;
    let mut digits: u64 = format!("{whole}{fraction}").parse().ok()?;
    if !(-9..=9).contains(&places) {
        return None;
    }
    let (up, places) =
        if places < 0 { (places.unsigned_abs(), 0) } else { (0, places.unsigned_abs()) };
    digits = digits.checked_mul(10_u64.pow(up))?;
    let digits = u32::try_from(digits).ok().filter(|it| (1..=LARGEST_DIVISOR).contains(it))?;
    Some((digits, places))
}

/// Remainders are states of a machine, one each: 100,000 of them take seconds to make, 10,000 some tenths of one.
const LARGEST_DIVISOR: u32 = 10_000;

/// What the products within llguidance must not exceed.
const LARGEST_PRODUCT: u64 = u32::MAX as u64;

/// All numbers of `multipleOf`.
fn divisors_of(schema: &Value, found: &mut Vec<(u32, u32)>) {
    match schema {
        Value::Object(fields) => {
            for (key, value) in fields {
                match value.as_number().filter(|_| key == "multipleOf").and_then(divisor) {
                    Some(divisor) if !found.contains(&divisor) => found.push(divisor),
                    Some(_) => {}
                    None => divisors_of(value, found),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| divisors_of(item, found)),
        _ => {}
    }
}

/// The common multiple of all, if no product on the way to it, in any order, has more than 32 bits.
fn product(divisors: &[(u32, u32)]) -> Option<u64> {
    let places = divisors.iter().map(|(_, places)| *places).max()?;
    let mut scaled =
        divisors.iter().map(|&(digits, own)| u64::from(digits) * 10_u64.pow(places - own));
    let largest = scaled.clone().max()?;
    let multiple = scaled.try_fold(1u64, |multiple, one| {
        let product = multiple.checked_mul(one)?;
        (product <= LARGEST_PRODUCT * LARGEST_PRODUCT).then_some(product / gcd(multiple, one))
    })?;
    (multiple.checked_mul(largest)? <= LARGEST_PRODUCT).then_some(multiple)
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// Where in a schema.
struct Place {
    steps: Vec<String>,
    /// Schemas around this one.
    depth: usize,
}

impl Place {
    fn refused(&self, message: impl std::fmt::Display) -> String {
        if self.steps.is_empty() {
            return format!("{message}, at the top");
        }
        format!("{message}, at /{}", self.steps.join("/"))
    }

    fn within(&mut self, step: impl Into<String>, schema: &Value) -> Result<(), String> {
        self.steps.push(step.into());
        check_at(schema, self)?;
        self.steps.pop();
        Ok(())
    }
}

fn check_at(schema: &Value, place: &mut Place) -> Result<(), String> {
    let fields = match schema {
        Value::Bool(_) => return Ok(()),
        Value::Object(fields) => fields,
        other => {
            let message =
                format!("expected a schema, an object or a boolean, found {}", kind(other));
            return Err(place.refused(message));
        }
    };
    if place.depth > DEEPEST {
        return Err(place.refused(format!("it is nested more than {DEEPEST} deep")));
    }
    place.depth += 1;
    for (key, value) in fields {
        if let Some((_, instead)) = REFUSED.iter().find(|(refused, _)| refused == key)
            && (*value != Value::Bool(false) || !SAY_NOTHING.contains(&&**key))
        {
            return Err(place.refused(format!("{key:?} is not supported ({instead})")));
        }
        if let Some((_, expected)) = ENFORCED.iter().find(|(known, _)| known == key) {
            place.steps.push(key.clone());
            check_value(key, value, *expected, place)?;
            place.steps.pop();
            continue;
        }
        if key == "$id" && !place.steps.is_empty() {
            return Err(place.refused("\"$id\" is not supported below the top"));
        }
        let known = ENFORCED.iter().map(|(known, _)| *known);
        let mut meant = known.chain(REFUSED.iter().map(|(known, _)| *known));
        let is_misspelt = |known: &&str| *known != key && known.eq_ignore_ascii_case(key);
        if let Some(meant) = meant.find(is_misspelt) {
            return Err(place.refused(format!("{key:?} is no keyword: it is written {meant:?}")));
        }
    }
    place.depth -= 1;
    contradictions(fields, place)
}

/// Bounds that no value meets.
fn contradictions(fields: &Map<String, Value>, place: &Place) -> Result<(), String> {
    for (least, most) in
        [("minItems", "maxItems"), ("minLength", "maxLength"), ("minProperties", "maxProperties")]
    {
        let count = |key: &str| fields.get(key).and_then(Value::as_u64);
        if let (Some(from), Some(to)) = (count(least), count(most))
            && from > to
        {
            return Err(place.refused(format!("{least} is {from} and {most} is {to}")));
        }
    }
    if fields.contains_key("prefixItems") && fields.contains_key("additionalItems") {
        let message = "\"additionalItems\" is not of the same draft as \"prefixItems\": it is written \"items\"";
        return Err(place.refused(message));
    }
    // Names that are free may come twice and then count once.
    let least = fields.get("minProperties").and_then(Value::as_number).and_then(whole);
    let required = fields.get("required").and_then(Value::as_array).map_or(0, Vec::len);
    if let Some(least) = least.filter(|&least| least > required as u64 + 1) {
        return Err(place.refused(format!(
            "\"minProperties\": expected one more than \"required\" has names at most, {}, found {least}",
            required + 1
        )));
    }
    Ok(())
}

/// Numbers within a constant: those that are none of a float's are taken for others.
fn check_constant(value: &Value) -> Result<(), String> {
    match value {
        Value::Number(number) => {
            let is_exact = match (number.as_i64(), number.as_u64()) {
                (Some(it), _) => it.unsigned_abs() <= EXACT,
                (None, Some(_)) => false,
                (None, None) => number
                    .as_f64()
                    .is_some_and(|it| it == 0.0 || (1e-6..=FARTHEST).contains(&it.abs())),
            };
            if is_exact { Ok(()) } else { Err(format!("the number {number} has too many digits")) }
        }
        Value::Array(items) => items.iter().try_for_each(check_constant),
        Value::Object(fields) => fields.values().try_for_each(check_constant),
        _ => Ok(()),
    }
}

fn check_value(key: &str, value: &Value, expected: Kind, place: &mut Place) -> Result<(), String> {
    let is_name = |value: &Value| value.as_str().is_some_and(|name| TYPES.contains(&name));
    let number = value.as_f64();
    let list = value.as_array().map(Vec::as_slice).unwrap_or_default();
    let (is_right, what) = match (expected, value) {
        (Kind::Schema, schema)
        | (Kind::SchemaOrSchemas, schema @ (Value::Object(_) | Value::Bool(_))) => {
            return check_at(schema, place);
        }
        (Kind::Schemas | Kind::SchemaOrSchemas, Value::Array(schemas))
            if !schemas.is_empty() || key == "prefixItems" || key == "items" =>
        {
            let mut schemas = schemas.iter().enumerate();
            return schemas.try_for_each(|(at, schema)| place.within(at.to_string(), schema));
        }
        (Kind::NamedSchemas, Value::Object(schemas)) => {
            if key == "patternProperties" {
                for name in schemas.keys() {
                    check_pattern(name).map_err(|message| place.refused(message))?;
                }
            }
            if key == "properties" && schemas.len() > MOST_PROPERTIES {
                let found = schemas.len();
                return Err(place.refused(format!(
                    "\"properties\": expected {MOST_PROPERTIES} names at most, found {found}"
                )));
            }
            let mut schemas = schemas.iter();
            return schemas.try_for_each(|(name, schema)| place.within(name.clone(), schema));
        }
        (Kind::Schemas, _) => (false, "a list of schemas".to_owned()),
        (Kind::SchemaOrSchemas, _) => (false, "a schema or a list of schemas".to_owned()),
        (Kind::NamedSchemas, _) => (false, "an object of schemas".to_owned()),
        (Kind::Types, value) => {
            let are_names = !list.is_empty() && list.iter().all(is_name);
            (is_name(value) || are_names, format!("one of {}, or a list of them", TYPES.join(", ")))
        }
        (Kind::Names, value) => {
            let are_names = value.is_array() && list.iter().all(Value::is_string);
            (are_names, "a list of names".to_owned())
        }
        (Kind::Values | Kind::Anything, value) if check_constant(value).is_err() => {
            let message = check_constant(value).err().unwrap_or_default();
            return Err(place.refused(format!("{key:?}: {message}")));
        }
        (Kind::Values, _) => (!list.is_empty(), "a list with a value at least".to_owned()),
        (Kind::Anything, _) => return Ok(()),
        (Kind::Count, count) => (
            count.as_number().and_then(whole).is_some_and(|count| count <= LARGEST),
            format!("a whole number from 0 to {LARGEST}"),
        ),
        (Kind::Number, _) => (
            number.is_some_and(|number| number.abs() <= FARTHEST),
            format!("a number from -{FARTHEST:e} to {FARTHEST:e}"),
        ),
        (Kind::PositiveNumber, _) => {
            let most = LARGEST_DIVISOR;
            let is_right = value.as_number().and_then(divisor).is_some();
            (
                is_right,
                format!(
                    "a number above 0 whose digits are {most} at most, 9 of them behind the point"
                ),
            )
        }
        (Kind::Text, Value::String(text)) if key == "pattern" => {
            return check_pattern(text).map_err(|message| place.refused(message));
        }
        (Kind::Text, Value::String(text)) if key == "$ref" => {
            return match pointer(text) {
                Ok(_) => Ok(()),
                Err(message) => Err(place.refused(format!("\"$ref\": {message}, found {text:?}"))),
            };
        }
        (Kind::Text, value) => (value.is_string(), "a text".to_owned()),
    };
    if is_right {
        return Ok(());
    }
    let found = shortened(value);
    Err(place.refused(format!("{key:?}: expected {what}, found {found}")))
}

/// Whether a regular expression is one that can be compiled in time.
fn check_pattern(text: &str) -> Result<(), String> {
    if text.len() > LONGEST_PATTERN {
        let len = text.len();
        return Err(format!("\"pattern\": expected {LONGEST_PATTERN} bytes at most, found {len}"));
    }
    match pattern::repeats(text) {
        Some(count) if count <= MOST_REPEATS => Ok(()),
        _ => Err(format!(
            "\"pattern\": its repetitions are more than {MOST_REPEATS}: {}",
            shortened(&text.into())
        )),
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

fn shortened(value: &Value) -> String {
    let text = value.to_string();
    let short: String = text.chars().take(60).collect();
    if short.len() < text.len() { format!("{short}…") } else { short }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_enforced_is_named_with_its_place() {
        let deep = (0..100).fold(json!({"type": "string"}), |inner, _| json!({"items": inner}));
        for (schema, expected) in [
            (json!({"not": {}}), "\"not\" is not supported (say what is allowed), at the top"),
            (
                json!({"properties": {"a": {"uniqueItems": true}}}),
                "\"uniqueItems\" is not supported (leave it out, and make items unique afterwards), at \
                 /properties/a",
            ),
            (
                json!({"anyOf": [{}, {"minlength": 3}]}),
                "\"minlength\" is no keyword: it is written \"minLength\", at /anyOf/1",
            ),
            (
                json!({"type": "text"}),
                "\"type\": expected one of array, boolean, integer, null, number, object, string, or a \
                 list of them, found \"text\", at /type",
            ),
            (
                json!({"exclusiveMinimum": true}),
                "\"exclusiveMinimum\": expected a number from -1e16 to 1e16, found true, at /exclusiveMinimum",
            ),
            (json!({"minItems": 3, "maxItems": 2}), "minItems is 3 and maxItems is 2, at the top"),
            (json!([]), "expected a schema, an object or a boolean, found a list, at the top"),
            (
                json!({"items": 7}),
                "\"items\": expected a schema or a list of schemas, found 7, at /items",
            ),
            (
                json!({"enum": []}),
                "\"enum\": expected a list with a value at least, found [], at /enum",
            ),
            (
                json!({"maxLength": 1e9}),
                "\"maxLength\": expected a whole number from 0 to 1000000, found 1000000000.0, at \
                 /maxLength",
            ),
        ] {
            assert_eq!(check(&schema), Err(expected.to_owned()));
        }
        assert!(check(&deep).is_err_and(|message| message.contains("nested")));
    }

    #[test]
    fn names_and_values_are_no_keywords() {
        for schema in [
            json!({"properties": {"not": {"type": "string"}, "minlength": true}}),
            json!({"const": {"not": 1}, "default": {"if": 2}, "examples": [{"uniqueItems": true}]}),
            json!({"uniqueItems": false, "title": "T", "x-order": 1, "deprecated": true}),
            json!({"enum": [{"nullable": true}]}),
        ] {
            assert_eq!(check(&schema), Ok(()), "{schema}");
        }
    }

    #[test]
    fn every_keyword_is_in_one_list() {
        for (at, (key, _)) in ENFORCED.iter().enumerate() {
            assert!(!REFUSED.iter().any(|(refused, _)| refused == key), "{key}");
            assert!(!ENFORCED[..at].iter().any(|(other, _)| other == key), "{key}");
        }
    }
}
