//! What names an answer: the model, the settings that matter to it, and the text.

use std::collections::BTreeMap;
use std::fmt;

use anyhow::{Context, Result};

/// A BLAKE3 hash over settings and text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Key(pub(super) [u8; 32]);

impl Key {
    /// The number that decides to which shard it belongs.
    pub(super) fn number(self) -> u64 {
        let mut first = [0; 8];
        first.copy_from_slice(&self.0[..8]);
        u64::from_be_bytes(first)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// All that an answer depends on beside the text, by name. Two runs with equal settings may share answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Settings {
    by_name: BTreeMap<String, String>,
    digest: [u8; 32],
}

impl Settings {
    pub(crate) fn new(all: impl IntoIterator<Item = (&'static str, String)>) -> Result<Self> {
        let by_name = all.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        Self::of(by_name)
    }

    fn of(by_name: BTreeMap<String, String>) -> Result<Self> {
        let json = serde_json::to_vec(&by_name)?;
        Ok(Self { by_name, digest: *blake3::hash(&json).as_bytes() })
    }

    /// These with some more, or others in their place.
    pub(super) fn with(&self, own: Vec<(&'static str, String)>) -> Result<Self> {
        let mut by_name = self.by_name.clone();
        by_name.extend(own.into_iter().map(|(name, value)| (name.to_owned(), value)));
        Self::of(by_name)
    }

    /// The form in which a part carries them.
    pub(super) fn to_json(&self) -> Result<Vec<u8>> {
        Ok(serde_json::to_vec(&self.by_name)?)
    }

    pub(super) fn from_json(json: &[u8]) -> Result<Self> {
        Self::of(serde_json::from_slice(json).context("its settings cannot be read")?)
    }

    /// The key of what `fields` say together.
    pub(super) fn key<'a>(&self, fields: impl IntoIterator<Item = &'a str>) -> Key {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.digest);
        for field in fields {
            // With lengths, so that no two lists of fields say the same.
            hasher.update(&(field.len() as u64).to_le_bytes());
            hasher.update(field.as_bytes());
        }
        Key(*hasher.finalize().as_bytes())
    }

    /// What is different in `other`, in words.
    pub(super) fn differences(&self, other: &Self) -> String {
        let names: std::collections::BTreeSet<&String> =
            self.by_name.keys().chain(other.by_name.keys()).collect();
        let value = |of: &Self, name: &str| match of.by_name.get(name) {
            None => "none".to_owned(),
            // A root is told by its beginning, a prompt too.
            Some(value) => value.chars().take(24).collect(),
        };
        let different = names.into_iter().filter_map(|name| {
            let (here, there) = (self.by_name.get(name), other.by_name.get(name));
            (here != there).then(|| {
                format!("{name} is {} there and {} here", value(other, name), value(self, name))
            })
        });
        different.collect::<Vec<_>>().join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_tell_fields_and_settings_apart() {
        let one = Settings::new([("model", "a".to_owned())]).unwrap();
        let two = Settings::new([("model", "b".to_owned())]).unwrap();
        let keys = [
            one.key(["ab", "c"]),
            one.key(["a", "bc"]),
            one.key(["abc"]),
            one.key(["abc", ""]),
            two.key(["abc"]),
        ];
        let distinct: std::collections::BTreeSet<Key> = keys.into_iter().collect();
        assert_eq!(distinct.len(), keys.len());
        assert_eq!(one.key(["abc"]), one.key(["abc"]));
        assert_eq!(one.key(["abc"]).to_string().len(), 64);
        assert_eq!(Settings::from_json(&one.to_json().unwrap()).unwrap(), one);
        assert_eq!(one.differences(&two), "model is b there and a here");
    }
}
