//! Builds the double array that [`crate::trie`] walks.
//!
//! Nodes are placed level by level, so that the first steps of every walk share a few pages. Free units are chained; a
//! node takes the first base on the chain at which all its children fit, and after [`MAX_TRIES`] a new block is opened,
//! which keeps building linear at the price of some holes.

use std::collections::{BTreeMap, VecDeque};

use crate::error::CompileError;
use crate::trie::{BASE_SHIFT, LEAF, MAX_KEY, MAX_UNITS, VALUE};

/// Units that differ in the label's 8 bits only lie in one block.
const BLOCK: usize = 256;
/// Free units that are tried for a node before a new block is opened.
const MAX_TRIES: usize = 512;
/// The end of the chain of free units.
const END: usize = usize::MAX;

struct Builder {
    units: Vec<u32>,
    used: Vec<bool>,
    taken_base: Vec<bool>,
    next: Vec<usize>,
    previous: Vec<usize>,
    first: usize,
    last: usize,
}

/// The bytes of a trie with these strings and values (below 2^31).
pub(super) fn build(keys: &BTreeMap<Vec<u8>, u32>) -> Result<Vec<u8>, CompileError> {
    let entries: Vec<(&[u8], u32)> = keys.iter().map(|(key, &value)| (&key[..], value)).collect();
    for &(key, value) in &entries {
        if key.is_empty() || key.len() > MAX_KEY || key.contains(&0) || value >= VALUE {
            return Err(CompileError::unsupported(format!(
                "a token of {} bytes with id {value}: expected 1 to {MAX_KEY} bytes, none of them zero",
                key.len()
            )));
        }
    }
    let mut builder = Builder {
        units: Vec::new(),
        used: Vec::new(),
        taken_base: Vec::new(),
        next: Vec::new(),
        previous: Vec::new(),
        first: END,
        last: END,
    };
    builder.open_block()?;
    builder.take(0);
    builder.taken_base[0] = true;
    builder.units[0] = 0;
    let mut queue = VecDeque::from([(0, 0..entries.len(), 0)]);
    while let Some((unit, range, depth)) = queue.pop_front() {
        let mut labels: Vec<(u8, usize)> = Vec::new();
        let mut rest = range.clone();
        let value = entries.get(rest.start).filter(|(key, _)| key.len() == depth);
        if value.is_some() {
            rest.start += 1;
        }
        for at in rest.clone() {
            let label = entries[at].0[depth];
            if labels.last().is_none_or(|&(last, _)| last != label) {
                labels.push((label, at));
            }
        }
        let mut wanted: Vec<u8> = labels.iter().map(|&(label, _)| label).collect();
        if value.is_some() {
            wanted.insert(0, 0);
        }
        if wanted.is_empty() {
            continue;
        }
        let base = builder.place(&wanted)?;
        let base_bits = u32::try_from(base).unwrap_or(u32::MAX) << BASE_SHIFT;
        builder.units[unit] |= base_bits;
        if let Some(&(_, value)) = value {
            builder.units[unit] |= LEAF;
            builder.units[base] = VALUE | value;
        }
        for (index, &(label, start)) in labels.iter().enumerate() {
            let end = labels.get(index + 1).map_or(rest.end, |&(_, next)| next);
            let child = base ^ usize::from(label);
            builder.units[child] = u32::from(label);
            queue.push_back((child, start..end, depth + 1));
        }
    }
    Ok(builder.units.iter().flat_map(|unit| unit.to_le_bytes()).collect())
}

impl Builder {
    /// A base at which all `labels` are free; they are taken.
    fn place(&mut self, labels: &[u8]) -> Result<usize, CompileError> {
        // Single labels fit nearly anywhere and fill the holes of old blocks, others are tried in new ones.
        let oldest =
            if labels.len() == 1 { self.search(labels, self.first, &self.next) } else { None };
        let found = oldest.or_else(|| self.search(labels, self.last, &self.previous));
        if let Some(base) = found {
            return Ok(self.settle(base, labels));
        }
        let block = self.units.len();
        self.open_block()?;
        let base = (block..block + BLOCK)
            .find(|&base| self.fits(base, labels))
            .ok_or_else(|| CompileError::unsupported("a trie node that fits nowhere"))?;
        Ok(self.settle(base, labels))
    }

    /// Tries free units from `candidate` on along a chain.
    fn search(&self, labels: &[u8], mut candidate: usize, chain: &[usize]) -> Option<usize> {
        for _ in 0..MAX_TRIES {
            if candidate == END {
                return None;
            }
            let base = candidate ^ usize::from(labels[0]);
            if self.fits(base, labels) {
                return Some(base);
            }
            candidate = chain[candidate];
        }
        None
    }

    fn fits(&self, base: usize, labels: &[u8]) -> bool {
        !self.taken_base[base] && labels.iter().all(|&label| !self.used[base ^ usize::from(label)])
    }

    fn settle(&mut self, base: usize, labels: &[u8]) -> usize {
        self.taken_base[base] = true;
        for &label in labels {
            self.take(base ^ usize::from(label));
        }
        base
    }

    fn take(&mut self, unit: usize) {
        self.used[unit] = true;
        let (before, after) = (self.previous[unit], self.next[unit]);
        if before == END {
            self.first = after;
        } else {
            self.next[before] = after;
        }
        if after == END {
            self.last = before;
        } else {
            self.previous[after] = before;
        }
    }

    fn open_block(&mut self) -> Result<(), CompileError> {
        let start = self.units.len();
        if start + BLOCK > MAX_UNITS {
            return Err(CompileError::unsupported("a vocabulary too large for the trie"));
        }
        for unit in start..start + BLOCK {
            self.units.push(VALUE);
            self.used.push(false);
            self.taken_base.push(false);
            self.previous.push(self.last);
            self.next.push(END);
            if self.last == END {
                self.first = unit;
            } else {
                self.next[self.last] = unit;
            }
            self.last = unit;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::trie::Trie;

    proptest! {
        #[test]
        fn a_trie_finds_what_a_map_holds(
            keys in prop::collection::btree_map(prop::collection::vec(1u8..6, 1..7), 0u32..VALUE, 0..200),
            texts in prop::collection::vec(prop::collection::vec(0u8..7, 0..9), 50),
        ) {
            let bytes = build(&keys).unwrap();
            let trie = Trie::new(&bytes);
            for text in keys.keys().chain(&texts) {
                let expected = (1..=text.len()).rev().find_map(|len| Some((len, *keys.get(&text[..len])?)));
                prop_assert_eq!(trie.longest(trie.root(), text), expected);
                let exact = trie.walk(trie.root(), text).and_then(|node| trie.value(node));
                prop_assert_eq!(exact, keys.get(text).copied());
            }
        }
    }

    #[test]
    fn strings_that_no_walk_can_find_are_refused() {
        for key in [vec![], vec![1, 0, 2], vec![1; MAX_KEY + 1]] {
            assert!(build(&BTreeMap::from([(key, 1)])).is_err());
        }
    }
}
