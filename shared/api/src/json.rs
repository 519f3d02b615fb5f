//! Reading a body: from bytes to a struct, or to an error that names the field at fault.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, DeserializeOwned, Deserializer, MapAccess, Visitor};

use crate::error::Invalid;

/// Longest error message taken from the JSON reader, in bytes. Its messages quote the value at
/// fault, which may be as long as the body.
const MAX_MESSAGE_BYTES: usize = 300;

/// Reads one JSON object; `example` shows in the error what an object of this route looks like.
pub(crate) fn read<T: DeserializeOwned>(bytes: &[u8], example: &str) -> Result<T, Invalid> {
    read_object(bytes, example).map_err(Invalid::unreadable)
}

fn read_object<T: DeserializeOwned>(bytes: &[u8], example: &str) -> Result<T, Invalid> {
    let text = std::str::from_utf8(bytes).map_err(|error| {
        Invalid::body(format!(
            "the body is not valid utf-8: byte {} begins no character; send json encoded as utf-8",
            error.valid_up_to()
        ))
    })?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    match text.trim_ascii_start().bytes().next() {
        Some(b'{') => {}
        None => return Err(Invalid::body("the body is empty; send a json object")),
        // A derived struct would also read an array, field by field.
        Some(_) => {
            return Err(Invalid::body(format!(
                "the body is not a json object; send an object such as {example}"
            )));
        }
    }
    let mut json = serde_json::Deserializer::from_str(text);
    let body = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let path = error.path().to_string();
        let inner = error.inner();
        if inner.is_data() {
            let message = shorten(without_position(&inner.to_string()));
            match path.as_str() {
                "." | "?" => Invalid::body(message),
                _ => Invalid::new(path.clone(), format!("{path}: {message}")),
            }
        } else {
            not_json(inner)
        }
    })?;
    json.end().map_err(|error| not_json(&error))?;
    Ok(body)
}

/// Reads an object inside of the body; a derived struct would also read an array, field by field.
pub(crate) fn object<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    struct Object<T>(PhantomData<T>);

    impl<'de, T: Deserialize<'de>> Visitor<'de> for Object<T> {
        type Value = Option<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
            T::deserialize(MapAccessDeserializer::new(map)).map(Some)
        }

        fn visit_unit<E>(self) -> Result<Self::Value, E> {
            Ok(None)
        }
    }

    deserializer.deserialize_any(Object(PhantomData))
}

/// Keeps the difference between `"key": null` and no key.
#[allow(clippy::option_option, reason = "absent, null and a value are three different things here")]
pub(crate) fn present<'de, D, T>(deserializer: D) -> Result<Option<Option<T>>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    Option::deserialize(deserializer).map(Some)
}

fn not_json(error: &serde_json::Error) -> Invalid {
    Invalid::body(shorten(&format!("the body is not valid json: {error}")))
}

fn without_position(message: &str) -> &str {
    message.rfind(" at line ").map_or(message, |end| &message[..end])
}

fn shorten(message: &str) -> String {
    if message.len() <= MAX_MESSAGE_BYTES {
        return message.to_owned();
    }
    let half = MAX_MESSAGE_BYTES / 2;
    let head = message.floor_char_boundary(half);
    let tail = message.ceil_char_boundary(message.len() - half);
    format!("{}…{}", &message[..head], &message[tail..])
}
