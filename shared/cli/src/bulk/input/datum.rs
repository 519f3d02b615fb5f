//! Values of a row, of whichever form of file.
//!
//! Beside JSON's own there is what must not be taken for something else: a field that is there twice, a number with more
//! digits than are kept, and what has no counterpart in JSON. Only a field that the command asks for is a fault then.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde::de::{
    Deserialize, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor,
};
use serde_json::Value;

use super::Unread;

/// The fields of a row by name.
pub(crate) type Record = BTreeMap<String, Datum>;

/// A double holds 15 decimal digits, and parsing keeps no more: with more, two ids could become one.
const INEXACT: f64 = 1e15;

/// A value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Datum {
    Null,
    Bool(bool),
    /// A number as it is printed.
    Number(String),
    Text(String),
    List(Vec<Datum>),
    Object(Record),
    /// Two values under one name.
    Twice,
    /// Another value, named in words.
    Other(Cow<'static, str>),
}

impl Datum {
    pub(super) fn number(value: f64) -> Self {
        match serde_json::Number::from_f64(value) {
            Some(number) if value.abs() < INEXACT => Self::Number(number.to_string()),
            Some(_) => Self::Other(
                format!(
                    "{value:e}, a number with more digits than are kept (write it as a string)"
                )
                .into(),
            ),
            None => Self::Other(value.to_string().into()),
        }
    }
}

/// What a value is, in words.
pub(crate) fn kind(value: &Datum) -> &str {
    match value {
        Datum::Null => "null",
        Datum::Bool(_) => "a boolean",
        Datum::Number(_) => "a number",
        Datum::Text(_) => "a string",
        Datum::List(_) => "a list",
        Datum::Object(_) => "an object",
        Datum::Twice => "two values",
        Datum::Other(what) => what,
    }
}

/// A field that must be a text.
pub(crate) fn text(record: &mut Record, field: &str) -> Result<String, String> {
    match record.get_mut(field) {
        Some(Datum::Text(text)) => Ok(std::mem::take(text)),
        Some(other) => Err(not(field, "a string", other)),
        None => Err(format!("there is no {field:?}, expected a string")),
    }
}

/// What is wrong with a field that is something else than was expected.
pub(crate) fn not(field: &str, expected: &str, found: &Datum) -> String {
    match found {
        Datum::Twice => format!("{field:?} is there twice, expected {expected}"),
        other => format!("{field:?} must be {expected}, found {}", kind(other)),
    }
}

/// A value as JSON has it; nothing, where it has no such value.
pub(crate) fn json(value: Datum) -> Option<Value> {
    Some(match value {
        Datum::Null => Value::Null,
        Datum::Bool(value) => Value::Bool(value),
        Datum::Number(number) => Value::Number(number.parse().ok()?),
        Datum::Text(text) => Value::String(text),
        Datum::List(all) => Value::Array(all.into_iter().map(json).collect::<Option<_>>()?),
        Datum::Object(record) => {
            let fields = record.into_iter().map(|(name, value)| Some((name, json(value)?)));
            Value::Object(fields.collect::<Option<_>>()?)
        }
        Datum::Twice | Datum::Other(_) => return None,
    })
}

/// Adds a field; a second one of a name makes both of no use.
pub(super) fn insert(record: &mut Record, name: String, value: Datum) {
    record.entry(name).and_modify(|known| *known = Datum::Twice).or_insert(value);
}

/// Reads an object, of whose fields only these are kept, and the others counted.
pub(super) struct Fields<'a>(pub(super) &'a [String], pub(super) &'a mut Unread);

impl<'de> DeserializeSeed<'de> for Fields<'_> {
    type Value = Record;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Record, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Fields<'_> {
    type Value = Record;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Record, A::Error> {
        let mut record = Record::new();
        while let Some(name) = map.next_key::<String>()? {
            if self.0.contains(&name) {
                insert(&mut record, name, map.next_value()?);
            } else if map.next_value::<Option<IgnoredAny>>()?.is_some() {
                self.1.add(name, 1);
            }
        }
        Ok(record)
    }
}

impl<'de> Deserialize<'de> for Datum {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Any)
    }
}

struct Any;

impl<'de> Visitor<'de> for Any {
    type Value = Datum;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value of JSON")
    }

    fn visit_unit<E>(self) -> Result<Datum, E> {
        Ok(Datum::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Datum, E> {
        Ok(Datum::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Datum, E> {
        Ok(Datum::Number(value.to_string()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Datum, E> {
        Ok(Datum::Number(value.to_string()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Datum, E> {
        Ok(Datum::number(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Datum, E> {
        Ok(Datum::Text(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Datum, E> {
        Ok(Datum::Text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Datum, A::Error> {
        let mut all = Vec::new();
        while let Some(value) = list.next_element()? {
            all.push(value);
        }
        Ok(Datum::List(all))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Datum, A::Error> {
        let mut record = Record::new();
        while let Some((name, value)) = map.next_entry()? {
            insert(&mut record, name, value);
        }
        Ok(Datum::Object(record))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_printed_as_they_came_or_not_taken() {
        for (json, expected) in [
            ("0", "0"),
            ("-9223372036854775808", "-9223372036854775808"),
            ("18446744073709551615", "18446744073709551615"),
            ("1.5", "1.5"),
            ("999999999999999.0", "999999999999999.0"),
        ] {
            assert_eq!(
                serde_json::from_str::<Datum>(json).unwrap(),
                Datum::Number(expected.into())
            );
        }
        for json in ["18446744073709551616", "-9223372036854775809", "1000000000000000.0", "1e300"]
        {
            let found = serde_json::from_str::<Datum>(json).unwrap();
            assert!(kind(&found).contains("more digits than are kept"), "{json}: {found:?}");
        }
        assert_eq!(kind(&Datum::number(f64::NAN)), "NaN");
        assert_eq!(kind(&Datum::number(f64::INFINITY)), "inf");
    }
}
