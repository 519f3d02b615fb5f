//! A set of byte strings with a number each, walked byte by byte: a double array.
//!
//! A node is one `u32` unit, and its child by byte `b` is the unit at `base ^ b`, if that unit carries the label `b`.
//!
//! | bits  | of a node                                  | of a value       |
//! |-------|--------------------------------------------|------------------|
//! | 0-7   | label: the byte that leads here            | value, bits 0-30 |
//! | 8     | a string ends here; its value is at `base` | "                |
//! | 9-30  | `base`                                     | "                |
//! | 31    | 0                                          | 1                |
//!
//! Unit 0 is the root. Units that nothing uses look like values, which no label equals. No two nodes share a base, so a
//! label is enough to tell whose child a unit is. Strings hold no zero byte: `base ^ 0` is where values are.

use crate::view::Words;

/// Marks a value.
pub(crate) const VALUE: u32 = 1 << 31;
/// Marks a node at which a string ends.
pub(crate) const LEAF: u32 = 1 << 8;
/// First bit of the base.
pub(crate) const BASE_SHIFT: u32 = 9;
/// Units that a base can reach.
pub(crate) const MAX_UNITS: usize = 1 << 22;
const LABEL: u32 = VALUE | 0xff;

/// Longest string that is stored. A bound on how far a walk looks ahead, so that a damaged table with a cycle costs no
/// more; real vocabularies stay below 300 bytes.
pub(crate) const MAX_KEY: usize = 512;

/// A read-only trie inside an image.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Trie<'a> {
    units: Words<'a>,
}

/// Where a walk is: the unit itself.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Node(u32);

impl<'a> Trie<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { units: Words::new(bytes) }
    }

    /// Where every walk starts. An empty table has a root without children.
    pub(crate) fn root(self) -> Node {
        Node(self.units.at(0).unwrap_or(VALUE))
    }

    #[inline]
    pub(crate) fn child(self, node: Node, byte: u8) -> Option<Node> {
        let unit = self.units.at(base(node) ^ usize::from(byte))?;
        (unit & LABEL == u32::from(byte)).then_some(Node(unit))
    }

    /// The value of the string that ends here.
    #[inline]
    pub(crate) fn value(self, node: Node) -> Option<u32> {
        if node.0 & LEAF == 0 {
            return None;
        }
        self.units.at(base(node)).map(|unit| unit & !VALUE)
    }

    /// The node that `key` leads to from `node`.
    pub(crate) fn walk(self, node: Node, key: &[u8]) -> Option<Node> {
        key.iter().try_fold(node, |node, &byte| self.child(node, byte))
    }

    /// The longest stored string that `text` starts with, from `node`: its length and value.
    #[inline]
    pub(crate) fn longest(self, mut node: Node, text: &[u8]) -> Option<(usize, u32)> {
        let mut found = None;
        for (at, &byte) in text.iter().take(MAX_KEY).enumerate() {
            let Some(next) = self.child(node, byte) else { break };
            node = next;
            if let Some(value) = self.value(node) {
                found = Some((at + 1, value));
            }
        }
        found
    }
}

#[inline]
fn base(node: Node) -> usize {
    (node.0 & !VALUE) as usize >> BASE_SHIFT
}
