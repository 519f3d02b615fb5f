//! Strict reading of JSON objects: what is not asked for is unsupported.

use serde_json::{Map, Value};

use crate::error::CompileError;

/// An object and what to call it in errors.
#[derive(Debug, Clone, Copy)]
pub(super) struct Object<'a> {
    map: &'a Map<String, Value>,
    name: &'a str,
}

impl<'a> Object<'a> {
    pub(super) fn of(value: &'a Value, name: &'a str) -> Result<Self, CompileError> {
        let map = value.as_object();
        let map = map.ok_or_else(|| CompileError::unsupported(format!("{name} is no object")))?;
        Ok(Self { map, name })
    }

    /// Refuses fields that are not `known`.
    pub(super) fn only(self, known: &[&str]) -> Result<(), CompileError> {
        match self.map.keys().find(|key| !known.contains(&key.as_str())) {
            Some(key) => {
                Err(CompileError::unsupported(format!("{} has a field {key:?}", self.name)))
            }
            None => Ok(()),
        }
    }

    /// A field; null is as good as absent.
    pub(super) fn get(self, key: &str) -> Option<&'a Value> {
        self.map.get(key).filter(|value| !value.is_null())
    }

    pub(super) fn object(self, key: &'a str) -> Result<Self, CompileError> {
        Self::of(self.get(key).ok_or_else(|| self.wrong(key))?, key)
    }

    pub(super) fn list(self, key: &str) -> Result<&'a [Value], CompileError> {
        let list = self.get(key).and_then(Value::as_array);
        list.map(Vec::as_slice).ok_or_else(|| self.wrong(key))
    }

    pub(super) fn text(self, key: &str) -> Result<&'a str, CompileError> {
        self.get(key).and_then(Value::as_str).ok_or_else(|| self.wrong(key))
    }

    pub(super) fn number(self, key: &str) -> Result<u32, CompileError> {
        let number = self.get(key).and_then(Value::as_u64).and_then(|n| u32::try_from(n).ok());
        number.ok_or_else(|| self.wrong(key))
    }

    /// Refuses a field that is there with another value than one of `wanted`.
    pub(super) fn absent_or(self, key: &str, wanted: &[Value]) -> Result<(), CompileError> {
        match self.get(key) {
            Some(value) if !wanted.contains(value) => Err(self.wrong(key)),
            _ => Ok(()),
        }
    }

    pub(super) fn boolean(self, key: &str, default: Option<bool>) -> Result<bool, CompileError> {
        match self.get(key) {
            Some(value) => value.as_bool().ok_or_else(|| self.wrong(key)),
            None => default.ok_or_else(|| self.wrong(key)),
        }
    }

    pub(super) fn wrong(self, key: &str) -> CompileError {
        let value = self.map.get(key).map_or_else(String::new, |value| {
            let text = value.to_string();
            text.chars().take(60).collect()
        });
        CompileError::unsupported(format!("{} with {key} {value}", self.name))
    }

    pub(super) fn entries(self) -> impl Iterator<Item = (&'a String, &'a Value)> {
        self.map.iter()
    }
}
