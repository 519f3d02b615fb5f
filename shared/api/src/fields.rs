//! Fields that nothing reads: told to the client, with the name that was perhaps meant.
//!
//! A field that is ignored without a word is a wish that is not granted without a word: `topn` for
//! `top_n` gives all results, and looks right. So the names of a body's fields are compared with
//! those that its type reads, and the others go into the answer's warnings. Which names a type
//! reads is asked of its own `Deserialize`, so there is no second list. Names that never change
//! what is answered, by any service, are let pass: see [`HARMLESS`].
//!
//! The names are read in a scan of their own, which skips the values: that costs a thousandth of
//! tokenising them. It ends after [`MOST_FIELDS`] names, of which no request has so many.

use std::fmt;

use serde::Deserialize;
use serde::de::value::Error as NoValue;
use serde::de::{Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::forward_to_deserialize_any;

/// Fields that other services take for their own book-keeping.
const HARMLESS: [&str; 10] = [
    "user",
    "request_id",
    "priority",
    "cache_salt",
    "metadata",
    "store",
    "service_tier",
    "safety_identifier",
    "padding",
    "stream",
];

/// Most fields of a body that are looked at; a body that this crate reads has 100 at most.
const MOST_FIELDS: usize = 256;

/// Most fields that are told; further ones are counted.
const MOST_TOLD: usize = 5;

/// Most characters of a name that are repeated.
const MOST_CHARS: usize = 40;

/// The names of a body's fields, in order, each with what it holds.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Names(Vec<(String, Held)>);

/// What a field holds, as far as it takes no room.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Held {
    Null,
    /// Also as a string.
    Flag(bool),
    Number(f64),
    /// A string, a list or an object of nothing.
    Empty,
    /// A string, a list or an object of something.
    Full,
}

impl Names {
    /// The names of a body that has been read already.
    pub(crate) fn of(bytes: &[u8]) -> Self {
        let bytes = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(bytes);
        let mut names = Vec::new();
        let scanned = serde_json::Deserializer::from_slice(bytes).deserialize_map(Scan(&mut names));
        // A scan that ends early ends with an error, and has what it is for.
        drop(scanned);
        Self(names)
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(known, _)| known == name)
    }

    /// Whether every field is one of these.
    pub(crate) fn are_among(&self, names: &[&str]) -> bool {
        self.0.iter().all(|(name, _)| names.contains(&name.as_str()))
    }

    /// What the first field of this name holds; `None`: there is none, or it holds null.
    pub(crate) fn held(&self, name: &str) -> Option<Held> {
        let found = self.0.iter().find(|(known, _)| known == name);
        found.map(|(_, held)| *held).filter(|held| *held != Held::Null)
    }

    /// What to tell of the fields that `T` does not read.
    pub(crate) fn unread<'de, T: Deserialize<'de>>(&self) -> Vec<String> {
        self.unread_beside(fields::<T>(), &[])
    }

    /// What to tell of the fields that are neither `known` nor taken for `others`' book-keeping.
    pub(crate) fn unread_beside(&self, known: &[&str], others: &[&str]) -> Vec<String> {
        let is_unread =
            |name: &str| ![known, &HARMLESS, others].iter().any(|all| all.contains(&name));
        let unread = self.0.iter().filter(|(name, held)| *held != Held::Null && is_unread(name));
        let mut told: Vec<String> =
            unread.clone().take(MOST_TOLD).map(|(name, _)| tell(name, known)).collect();
        let more = unread.count().saturating_sub(MOST_TOLD);
        if more > 0 {
            // A scan that ended early has not seen all of them.
            let least = if self.0.len() == MOST_FIELDS { "at least " } else { "" };
            told.push(format!("{least}{more} more fields are not read here and were ignored"));
        }
        told
    }
}

fn tell(name: &str, known: &[&str]) -> String {
    let shown: String = name.chars().take(MOST_CHARS).flat_map(char::escape_default).collect();
    match nearest(name, known) {
        Some(meant) => format!("{shown} is not read here and was ignored: did you mean {meant}?"),
        None => format!("{shown} is not read here and was ignored"),
    }
}

/// The known name that this one is probably a misspelling of: at most one letter in four is
/// another.
fn nearest<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    if name.len() > MOST_CHARS {
        return None;
    }
    let plain = |name: &str| -> Vec<char> {
        let letters = name.chars().filter(|c| c.is_alphanumeric());
        letters.flat_map(char::to_lowercase).collect()
    };
    let asked = plain(name);
    // What is documented, not its other spellings.
    let known = known.iter().filter(|known| !known.contains(char::is_uppercase));
    let distances = known.map(|known| (distance(&asked, &plain(known)), *known));
    let (distance, meant) = distances.min_by_key(|(distance, _)| *distance)?;
    (distance * 4 <= asked.len()).then_some(meant)
}

/// Letters to insert, leave out or exchange to get from one word to the other (Levenshtein).
fn distance(a: &[char], b: &[char]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (at, from) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = at + 1;
        for (place, to) in b.iter().enumerate() {
            let exchanged = diagonal + usize::from(from != to);
            diagonal = row[place + 1];
            row[place + 1] = exchanged.min(row[place] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

struct Scan<'a>(&'a mut Vec<(String, Held)>);

impl<'de> Visitor<'de> for Scan<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some((name, held)) = map.next_entry::<String, Held>()? {
            if self.0.len() == MOST_FIELDS {
                return Err(A::Error::custom("enough"));
            }
            self.0.push((name, held));
        }
        Ok(())
    }
}

impl<'de> Deserialize<'de> for Held {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Look;

        impl<'de> Visitor<'de> for Look {
            type Value = Held;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("anything")
            }

            fn visit_unit<E>(self) -> Result<Held, E> {
                Ok(Held::Null)
            }

            fn visit_bool<E>(self, value: bool) -> Result<Held, E> {
                Ok(Held::Flag(value))
            }

            fn visit_i64<E>(self, value: i64) -> Result<Held, E> {
                Ok(Held::Number(value as f64))
            }

            fn visit_u64<E>(self, value: u64) -> Result<Held, E> {
                Ok(Held::Number(value as f64))
            }

            fn visit_f64<E>(self, value: f64) -> Result<Held, E> {
                Ok(Held::Number(value))
            }

            fn visit_str<E>(self, value: &str) -> Result<Held, E> {
                Ok(match value {
                    "" => Held::Empty,
                    "true" => Held::Flag(true),
                    "false" => Held::Flag(false),
                    _ => Held::Full,
                })
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Held, A::Error> {
                let mut held = Held::Empty;
                while seq.next_element::<IgnoredAny>()?.is_some() {
                    held = Held::Full;
                }
                Ok(held)
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Held, A::Error> {
                let mut held = Held::Empty;
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {
                    held = Held::Full;
                }
                Ok(held)
            }
        }

        deserializer.deserialize_any(Look)
    }
}

/// The names of the fields of a struct that derives `Deserialize`: such a type asks its
/// deserializer for them.
fn fields<'de, T: Deserialize<'de>>() -> &'static [&'static str] {
    struct Ask<'a>(&'a mut &'static [&'static str]);

    impl<'de> Deserializer<'de> for Ask<'_> {
        type Error = NoValue;

        fn deserialize_struct<V: Visitor<'de>>(
            self,
            _: &'static str,
            fields: &'static [&'static str],
            visitor: V,
        ) -> Result<V::Value, NoValue> {
            *self.0 = fields;
            self.deserialize_any(visitor)
        }

        fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, NoValue> {
            Err(NoValue::custom("there is no value, only a question"))
        }

        forward_to_deserialize_any! {
            bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
            newtype_struct seq tuple tuple_struct map enum identifier ignored_any
        }
    }

    let mut names: &[&str] = &[];
    // It has no value to give; what was asked is in `names`.
    drop(T::deserialize(Ask(&mut names)));
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize)]
    #[allow(dead_code, reason = "only its fields' names are asked for")]
    struct Body {
        top_n: Option<u8>,
        #[serde(alias = "returnDocuments")]
        return_documents: Option<bool>,
        query: String,
    }

    fn told(json: &str) -> Vec<String> {
        Names::of(json.as_bytes()).unread::<Body>()
    }

    #[test]
    fn a_type_is_asked_for_its_fields() {
        let fields = fields::<Body>();
        for name in ["top_n", "return_documents", "returnDocuments", "query"] {
            assert!(fields.contains(&name), "{name} in {fields:?}");
        }
    }

    #[test]
    fn what_is_not_read_is_told_with_what_was_meant() {
        for (json, expected) in [
            (r#"{"query":"q","top_n":1,"returnDocuments":true,"user":"u"}"#, None),
            (r#"{"topn":1}"#, Some("topn is not read here and was ignored: did you mean top_n?")),
            (r#"{"TopN":1}"#, Some("TopN is not read here and was ignored: did you mean top_n?")),
            (
                r#"{"return_document":1}"#,
                Some(
                    "return_document is not read here and was ignored: did you mean return_documents?",
                ),
            ),
            (r#"{"overlap":80}"#, Some("overlap is not read here and was ignored")),
            (r#"{"topn":null}"#, None),
            ("\u{feff}{\"a\":[{\"b\":1}]}", Some("a is not read here and was ignored")),
            (r#"{"ü\n":1}"#, Some(r"\u{fc}\n is not read here and was ignored")),
        ] {
            assert_eq!(told(json), expected.into_iter().collect::<Vec<_>>(), "{json}");
        }
    }

    #[test]
    fn any_number_of_any_names_is_told_in_few_words() {
        let many: Vec<String> = (0..1000).map(|at| format!("\"field{at}\":0")).collect();
        let told = told(&format!("{{{}}}", many.join(",")));
        assert_eq!(told.len(), MOST_TOLD + 1);
        let least = format!("at least {} more fields", MOST_FIELDS - MOST_TOLD);
        assert!(told[MOST_TOLD].starts_with(&least), "{}", told[MOST_TOLD]);
        let some = self::told(r#"{"a":0,"b":0,"c":0,"d":0,"e":0,"f":0,"g":0}"#);
        assert!(some[MOST_TOLD].starts_with("2 more fields"), "{}", some[MOST_TOLD]);
        let long = self::told(&format!("{{\"{}\":0}}", "n".repeat(100_000)));
        assert!(long[0].len() < 100, "{}", long[0].len());
    }
}
