//! Values that chat clients send in more than one form, each with its own visitor for the reason
//! that `lenient` gives: the path to the element at fault.

use std::cell::Cell;
use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{
    Deserialize, DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess,
    Unexpected, Visitor,
};
use serde_json::{Map, Value};

/// A number.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Number(pub(crate) f64);

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        f64::deserialize(deserializer).map(Self)
    }
}

/// Any whole number of 64 bits, with a sign or without.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seed(pub(crate) i128);

impl<'de> Deserialize<'de> for Seed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct SeedVisitor;

        impl Visitor<'_> for SeedVisitor {
            type Value = Seed;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a whole number of 64 bits")
            }

            fn visit_i64<E: Error>(self, value: i64) -> Result<Seed, E> {
                Ok(Seed(value.into()))
            }

            fn visit_u64<E: Error>(self, value: u64) -> Result<Seed, E> {
                Ok(Seed(value.into()))
            }
        }

        deserializer.deserialize_any(SeedVisitor)
    }
}

/// Most texts of a list: `OpenAI` allows four stop strings, clients of llama.cpp send some more.
const MAX_TEXTS: usize = 1024;

/// A text or a list of texts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Texts(pub(crate) Vec<String>);

impl<'de> Deserialize<'de> for Texts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextsVisitor;

        impl<'de> Visitor<'de> for TextsVisitor {
            type Value = Texts;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text or a list of texts")
            }

            fn visit_str<E: Error>(self, value: &str) -> Result<Texts, E> {
                Ok(Texts(vec![value.to_owned()]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Texts, A::Error> {
                let mut texts = Vec::new();
                while let Some(text) = seq.next_element()? {
                    if texts.len() == MAX_TEXTS {
                        return Err(A::Error::custom(format!(
                            "expected at most {MAX_TEXTS} texts"
                        )));
                    }
                    texts.push(text);
                }
                Ok(Texts(texts))
            }
        }

        deserializer.deserialize_any(TextsVisitor)
    }
}

/// A boolean, or how many (`logprobs`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FlagOrCount {
    Flag(bool),
    Count(i64),
}

impl<'de> Deserialize<'de> for FlagOrCount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct FlagOrCountVisitor;

        impl Visitor<'_> for FlagOrCountVisitor {
            type Value = FlagOrCount;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("true, false or a whole number")
            }

            fn visit_bool<E: Error>(self, value: bool) -> Result<FlagOrCount, E> {
                Ok(FlagOrCount::Flag(value))
            }

            fn visit_i64<E: Error>(self, value: i64) -> Result<FlagOrCount, E> {
                Ok(FlagOrCount::Count(value))
            }

            fn visit_u64<E: Error>(self, value: u64) -> Result<FlagOrCount, E> {
                Ok(FlagOrCount::Count(i64::try_from(value).unwrap_or(i64::MAX)))
            }

            fn visit_str<E: Error>(self, value: &str) -> Result<FlagOrCount, E> {
                match value {
                    "true" => Ok(FlagOrCount::Flag(true)),
                    "false" => Ok(FlagOrCount::Flag(false)),
                    _ => Err(E::invalid_value(Unexpected::Str(value), &self)),
                }
            }
        }

        deserializer.deserialize_any(FlagOrCountVisitor)
    }
}

/// Token ids with what is added to their logits: `{"15": -100}`, or llama.cpp's `[[15, -100.0]]`,
/// where `false` forbids the token.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct LogitBias(pub(crate) Vec<(u32, f64)>);

impl<'de> Deserialize<'de> for LogitBias {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct BiasVisitor;

        impl<'de> Visitor<'de> for BiasVisitor {
            type Value = LogitBias;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object from token ids to numbers, or a list of pairs of the two")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<LogitBias, A::Error> {
                let mut biases = Vec::new();
                while let Some(token) = map.next_key::<String>()? {
                    let id =
                        token.parse().map_err(|_| no_id("expected token ids as keys", &token))?;
                    biases.push((id, map.next_value::<Bias>()?.0));
                }
                Ok(LogitBias(biases))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<LogitBias, A::Error> {
                let mut biases = Vec::new();
                while let Some((BiasedToken(token), Bias(bias))) =
                    seq.next_element::<(BiasedToken, Bias)>()?
                {
                    biases.push((token, bias));
                }
                Ok(LogitBias(biases))
            }
        }

        deserializer.deserialize_any(BiasVisitor)
    }
}

fn no_id<E: Error>(expected: &str, text: &str) -> E {
    let shown: String = text.chars().take(40).collect();
    E::custom(format!("{expected}, found {shown:?}; /tokenize turns a text into ids"))
}

/// A token's id. llama.cpp takes texts too, of which it biases every token.
struct BiasedToken(u32);

impl<'de> Deserialize<'de> for BiasedToken {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TokenVisitor;

        impl Visitor<'_> for TokenVisitor {
            type Value = BiasedToken;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a token id")
            }

            fn visit_u64<E: Error>(self, value: u64) -> Result<BiasedToken, E> {
                let id = u32::try_from(value);
                id.map(BiasedToken)
                    .map_err(|_| E::invalid_value(Unexpected::Unsigned(value), &self))
            }

            fn visit_str<E: Error>(self, value: &str) -> Result<BiasedToken, E> {
                Err(no_id("expected a token id", value))
            }
        }

        deserializer.deserialize_any(TokenVisitor)
    }
}

/// A number, or `false` for minus infinity.
struct Bias(f64);

impl<'de> Deserialize<'de> for Bias {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneVisitor;

        impl Visitor<'_> for OneVisitor {
            type Value = Bias;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number, or false to forbid the token")
            }

            fn visit_bool<E: Error>(self, value: bool) -> Result<Bias, E> {
                if value {
                    return Err(E::invalid_value(Unexpected::Bool(value), &self));
                }
                Ok(Bias(f64::NEG_INFINITY))
            }

            fn visit_i64<E: Error>(self, value: i64) -> Result<Bias, E> {
                Ok(Bias(value as f64))
            }

            fn visit_u64<E: Error>(self, value: u64) -> Result<Bias, E> {
                Ok(Bias(value as f64))
            }

            fn visit_f64<E: Error>(self, value: f64) -> Result<Bias, E> {
                Ok(Bias(value))
            }
        }

        deserializer.deserialize_any(OneVisitor)
    }
}

/// Most bytes of a schema or of a tool's parameters: as a tree JSON takes up to a hundred times its
/// length, and what compiles schemas takes more. The largest of real tools are below 100 KB.
const MAX_JSON_BYTES: usize = 256 * 1024;

/// Any JSON of a bounded length.
pub(crate) type Json = Bounded<MAX_JSON_BYTES>;

/// Any JSON of at most about `MAX` bytes.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Bounded<const MAX: usize> {
    pub(crate) value: Value,
    /// How long it is, without white space: about, since only texts are measured.
    pub(crate) bytes: usize,
}

impl<'de, const MAX: usize> Deserialize<'de> for Bounded<MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let left = Cell::new(MAX);
        let value = Tree { left: &left, most: MAX }.deserialize(deserializer)?;
        Ok(Self { value, bytes: MAX - left.get() })
    }
}

/// Builds a tree as long as there is something left.
#[derive(Clone, Copy)]
struct Tree<'a> {
    left: &'a Cell<usize>,
    most: usize,
}

impl Tree<'_> {
    /// Takes a value of this many bytes, with what stands between it and the next.
    fn take<E: Error>(self, bytes: usize) -> Result<(), E> {
        let Some(left) = self.left.get().checked_sub(bytes + 2) else {
            return Err(E::custom(format!(
                "expected at most {} bytes of json, found more",
                self.most
            )));
        };
        self.left.set(left);
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for Tree<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Tree<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any json")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        self.take(4).map(|()| Value::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        self.take(4).map(|()| value.into())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        self.take(1).map(|()| value.into())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        self.take(1).map(|()| value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        self.take(3).map(|()| value.into())
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        self.take(value.len() + 2).map(|()| value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        self.take(1)?;
        let mut list = Vec::new();
        while let Some(value) = seq.next_element_seed(self)? {
            list.push(value);
        }
        Ok(list.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        self.take(1)?;
        let mut object = Map::new();
        while let Some(key) = map.next_key::<String>()? {
            self.take(key.len() + 2)?;
            let value = map.next_value_seed(self)?;
            object.insert(key, value);
        }
        Ok(object.into())
    }
}

/// An object. A derived struct would also read an array, field by field.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Object<T>(pub(crate) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ObjectVisitor<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
            type Value = Object<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Object)
            }
        }

        deserializer.deserialize_any(ObjectVisitor(PhantomData))
    }
}

/// A list of at most `MAX` objects: `{}` is two bytes of a body and some hundreds in memory.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Objects<T, const MAX: usize>(pub(crate) Vec<T>);

impl<T, const MAX: usize> Default for Objects<T, MAX> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>, const MAX: usize> Deserialize<'de> for Objects<T, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ObjectsVisitor<T, const MAX: usize>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>, const MAX: usize> Visitor<'de> for ObjectsVisitor<T, MAX> {
            type Value = Objects<T, MAX>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of objects")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                let mut objects = Vec::new();
                while objects.len() < MAX {
                    match seq.next_element::<Object<T>>()? {
                        Some(Object(object)) => objects.push(object),
                        None => return Ok(Objects(objects)),
                    }
                }
                match seq.next_element::<IgnoredAny>()? {
                    None => Ok(Objects(objects)),
                    Some(_) => Err(A::Error::custom(format!("expected at most {MAX} objects"))),
                }
            }
        }

        deserializer.deserialize_any(ObjectsVisitor(PhantomData))
    }
}
