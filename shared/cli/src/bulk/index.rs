//! Where the answer of each key is: a hash table in a file.
//!
//! A billion texts have 24 GB of keys and places, which is no reason to need as much memory: the table is a nameless
//! temporary file (in `TMPDIR`), and what of it is in use is kept by the page cache, which the system takes back when it
//! needs the room. A look-up is one or two reads of some 100 bytes, a thousandth of what computing an answer takes.
//!
//! Open addressing with linear probing: the first half of a key, which is a hash, says where to begin.

use std::fs::File;
use std::os::unix::fs::FileExt;

use anyhow::{Context, Result};

use super::key::Key;

/// Where an answer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// The answer is in the part of this number, at this offset.
    At {
        /// Number of the part.
        part: u32,
        /// Offset of the record.
        offset: u32,
    },
    /// The answer is being computed.
    Pending,
    /// There will be no answer: the text was refused.
    Refused,
}

impl Place {
    fn encode(self) -> u64 {
        match self {
            // Offset 0 is the file's head, so that no place is 0, which is that of an empty slot.
            Self::At { part, offset } => u64::from(part) << 32 | u64::from(offset),
            Self::Pending => u64::MAX,
            Self::Refused => u64::MAX - 1,
        }
    }

    fn decode(value: u64) -> Option<Self> {
        match value {
            0 => None,
            u64::MAX => Some(Self::Pending),
            0xffff_ffff_ffff_fffe => Some(Self::Refused),
            _ => {
                let low = u32::try_from(value & 0xffff_ffff).ok()?;
                Some(Self::At { part: u32::try_from(value >> 32).ok()?, offset: low })
            }
        }
    }
}

/// Half a key and a place.
const SLOT: usize = 24;
const HALF: usize = 16;
/// Slots that one read brings: at most half of the slots are taken, so that most keys are among the first two.
const AT_ONCE: usize = 4;
/// Slots of a new table, of 1.5 MB.
const FIRST: u64 = 1 << 16;

/// The table.
#[derive(Debug)]
pub(super) struct Index {
    file: File,
    /// A power of two.
    slots: u64,
    taken: u64,
}

impl Index {
    pub(super) fn new() -> Result<Self> {
        Self::with_slots(FIRST)
    }

    fn with_slots(slots: u64) -> Result<Self> {
        let file = tempfile::tempfile().context("cannot make a temporary file (TMPDIR)")?;
        // A hole: what is never written reads as zeros. The last probe may run over the end.
        file.set_len((slots + AT_ONCE as u64) * SLOT as u64).context("cannot grow the index")?;
        Ok(Self { file, slots, taken: 0 })
    }

    /// How many keys have a place.
    pub(super) fn len(&self) -> u64 {
        self.taken
    }

    pub(super) fn get(&self, key: &Key) -> Result<Option<Place>> {
        Ok(Place::decode(self.find(&half(key))?.1))
    }

    /// Gives a key a place, or another one.
    pub(super) fn set(&mut self, key: &Key, place: Place) -> Result<()> {
        self.put(&half(key), place.encode())?;
        if self.taken * 2 > self.slots {
            self.grow()?;
        }
        Ok(())
    }

    fn put(&mut self, half: &[u8; HALF], place: u64) -> Result<()> {
        let (slot, before) = self.find(half)?;
        let mut bytes = [0; SLOT];
        bytes[..HALF].copy_from_slice(half);
        bytes[HALF..].copy_from_slice(&place.to_le_bytes());
        self.file.write_all_at(&bytes, slot * SLOT as u64).context("cannot write the index")?;
        self.taken += u64::from(before == 0);
        Ok(())
    }

    /// The slot of a key, or the empty one where it belongs, and the place in it.
    fn find(&self, half: &[u8; HALF]) -> Result<(u64, u64)> {
        let mut first = [0; 8];
        first.copy_from_slice(&half[..8]);
        let mut at = u64::from_le_bytes(first) & (self.slots - 1);
        let mut bytes = [0; SLOT * AT_ONCE];
        loop {
            let from = at * SLOT as u64;
            self.file.read_exact_at(&mut bytes, from).context("cannot read the index")?;
            for (more, slot) in bytes.chunks_exact(SLOT).enumerate() {
                if at + more as u64 == self.slots {
                    break;
                }
                let place = place_of(slot);
                if place == 0 || slot[..HALF] == half[..] {
                    return Ok((at + more as u64, place));
                }
            }
            at = if at + AT_ONCE as u64 >= self.slots { 0 } else { at + AT_ONCE as u64 };
        }
    }

    fn grow(&mut self) -> Result<()> {
        let mut larger = Self::with_slots(self.slots * 2)?;
        let mut bytes = vec![0; SLOT * 4096];
        for from in (0..self.slots).step_by(4096) {
            let count = usize::try_from((self.slots - from).min(4096))?;
            let bytes = &mut bytes[..count * SLOT];
            self.file.read_exact_at(bytes, from * SLOT as u64).context("cannot read the index")?;
            for slot in bytes.chunks_exact(SLOT).filter(|slot| place_of(slot) != 0) {
                let mut half = [0; HALF];
                half.copy_from_slice(&slot[..HALF]);
                larger.put(&half, place_of(slot))?;
            }
        }
        *self = larger;
        Ok(())
    }
}

fn half(key: &Key) -> [u8; HALF] {
    let mut half = [0; HALF];
    // The second half: the first one has been sorted by for shards.
    half.copy_from_slice(&key.0[HALF..]);
    half
}

fn place_of(slot: &[u8]) -> u64 {
    let mut place = [0; 8];
    place.copy_from_slice(&slot[HALF..]);
    u64::from_le_bytes(place)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    /// Few beginnings, so that probes meet.
    fn key(number: u16) -> Key {
        let mut bytes = [7; 32];
        bytes[16] = (number % 5).to_le_bytes()[0].wrapping_sub(3);
        bytes[17] = 0xff;
        bytes[30..].copy_from_slice(&number.to_le_bytes());
        Key(bytes)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn it_is_a_map(sets in prop::collection::vec((0u16..300, 1u32..1000), 0..400), slots in 3u32..5) {
            let mut index = Index::with_slots(1 << slots).unwrap();
            let mut map = HashMap::new();
            for (number, offset) in sets {
                let place = match offset {
                    1 => Place::Pending,
                    2 => Place::Refused,
                    offset => Place::At { part: offset ^ 0x155, offset },
                };
                index.set(&key(number), place).unwrap();
                map.insert(number, place);
            }
            prop_assert_eq!(index.len(), map.len() as u64);
            for number in 0..300 {
                prop_assert_eq!(index.get(&key(number)).unwrap(), map.get(&number).copied());
            }
        }
    }
}
