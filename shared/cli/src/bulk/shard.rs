//! Which texts are this machine's: those whose key, as a number, leaves I when divided by N. Keys are hashes, so shards are
//! of like size, equal texts are in one of them, and no machine needs to know how many rows there are.

use std::fmt;
use std::str::FromStr;

use super::key::Key;

/// `I/N`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shard {
    index: u32,
    count: u32,
}

/// The most shards; their numbers have four digits in file names.
const MOST: u32 = 9999;

impl Shard {
    /// All texts.
    pub(super) const WHOLE: Self = Self { index: 0, count: 1 };

    pub(super) fn has(self, key: Key) -> bool {
        key.number() % u64::from(self.count) == u64::from(self.index)
    }

    /// How its files begin.
    pub(super) fn prefix(self) -> String {
        format!("{:04}-of-{:04}.", self.index, self.count)
    }
}

impl FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once('/').and_then(|(index, count)| {
            Some(Self { index: index.parse().ok()?, count: count.parse().ok()? })
        });
        parts
            .filter(|shard| shard.index < shard.count && shard.count <= MOST)
            .ok_or_else(|| format!("expected I/N with I from 0 to N - 1 and N up to {MOST}, such as 0/8, found {text:?}"))
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index, self.count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_in_one_shard() {
        let settings = super::super::key::Settings::new([]).unwrap();
        let shards: Vec<Shard> = (0..7).map(|index| Shard { index, count: 7 }).collect();
        let mut sizes = [0; 7];
        for number in 0..7000 {
            let key = settings.key([number.to_string().as_str()]);
            let of: Vec<usize> = (0..7).filter(|&at| shards[at].has(key)).collect();
            assert_eq!(of.len(), 1);
            sizes[of[0]] += 1;
            assert!(Shard::WHOLE.has(key));
        }
        assert!(sizes.iter().all(|&size| (850..1150).contains(&size)), "{sizes:?}");
    }

    #[test]
    fn shards_are_counted_from_0() {
        assert_eq!("3/8".parse(), Ok(Shard { index: 3, count: 8 }));
        assert_eq!("0/1".parse(), Ok(Shard::WHOLE));
        for text in ["", "3", "8/8", "-1/8", "0/0", "1/2/3", "a/b", "0/10000"] {
            assert!(text.parse::<Shard>().is_err(), "{text}");
        }
    }
}
