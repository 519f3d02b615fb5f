//! Byte-pair encoding: the bytes of a piece are tokens at first, and neighbours merge, always the pair with the lowest
//! rank, of equal ones the leftmost, until no pair has a rank.
//!
//! `SentencePiece`'s begins with characters instead, of a piece that is mostly the whole text; one that is no token is the
//! tokens of its bytes. Llama 3's takes a piece that is a word of the vocabulary for that word, whatever merges would make
//! of it: the few of which they make something else lie in a trie.
//!
//! Merges lie in a hash table of `u64` slots with linear probing:
//!
//! | bits  | of a slot                               |
//! |-------|-----------------------------------------|
//! | 0-19  | rank                                    |
//! | 20-39 | id of the right token                   |
//! | 40-59 | id of the left token                    |
//!
//! A slot with all bits set is empty. 8 bytes a slot instead of 16 halve the pages that the first text touches; what a
//! merge gives is looked up by its rank, and only when it is made.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::trie::Trie;
use crate::view::{Longs, Words};

/// Ids and ranks have this many bits.
pub(crate) const BITS: u32 = 20;
/// A slot that holds nothing. Its ids would be [`MAX`], which no token has.
pub(crate) const EMPTY: u64 = u64::MAX;
/// Ids and ranks are below this.
pub(crate) const MAX: u32 = (1 << BITS) - 1;
/// Slots looked at for one pair. Tables are built so that this is enough, and damaged ones cost no more.
pub(crate) const MAX_PROBES: usize = 128;
/// 2^64 divided by the golden ratio, made odd: spreads keys that differ little.
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

/// The rank of a merge that does not exist.
const NONE: u32 = u32::MAX;
/// Symbols up to which merging shifts an array; beyond, a heap keeps the work from growing with the square.
const SHORT: usize = 64;

/// The merges of an image.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Merges<'a> {
    pub(crate) bytes: Words<'a>,
    pub(crate) merged: Words<'a>,
    pub(crate) pairs: Longs<'a>,
    /// Character pairs: the characters that are tokens. Byte pairs: the pieces that are tokens whatever merges make of them.
    pub(crate) trie: Trie<'a>,
}

/// A token and how many bytes it has.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Symbol {
    pub(crate) id: u32,
    pub(crate) len: usize,
    /// Rank of the merge with the next symbol.
    rank: u32,
}

/// The slot at which the search for a pair starts, in a table of `slots`, a power of two.
#[inline]
pub(crate) fn first_slot(key: u64, slots: usize) -> usize {
    // The high half of the product is the well-mixed one; a table has less than 2^32 slots.
    let mixed = key.wrapping_mul(SPREAD) >> 32;
    (mixed & (slots as u64).wrapping_sub(1)) as usize
}

/// The key of a pair of ids, each at most [`MAX`].
#[inline]
pub(crate) fn key(left: u32, right: u32) -> u64 {
    u64::from(left) << BITS | u64::from(right)
}

#[inline]
#[allow(clippy::cast_possible_truncation, reason = "masked to 20 bits")]
fn rank_of(slot: u64) -> u32 {
    (slot & u64::from(MAX)) as u32
}

impl Merges<'_> {
    /// The tokens of `piece`, in `out`.
    pub(crate) fn encode(self, piece: &[u8], out: &mut Vec<Symbol>) {
        out.clear();
        if let Some(id) = self.token(piece) {
            out.push(Symbol { id, len: piece.len(), rank: NONE });
            return;
        }
        out.extend(piece.iter().map(|&byte| self.byte(byte)));
        self.merge(out);
    }

    /// The tokens of `piece`, whose characters come first, in `out`.
    pub(crate) fn encode_characters(self, piece: &str, out: &mut Vec<Symbol>) {
        out.clear();
        let bytes = piece.as_bytes();
        for (at, c) in piece.char_indices() {
            let character = &bytes[at..at + c.len_utf8()];
            match self.token(character) {
                Some(id) => out.push(Symbol { id, len: character.len(), rank: NONE }),
                None => out.extend(character.iter().map(|&byte| self.byte(byte))),
            }
        }
        self.merge(out);
    }

    fn byte(self, byte: u8) -> Symbol {
        let id = self.bytes.at(usize::from(byte)).unwrap_or_default();
        Symbol { id, len: 1, rank: NONE }
    }

    /// The token of the trie that `text` is.
    fn token(self, text: &[u8]) -> Option<u32> {
        self.trie.walk(self.trie.root(), text).and_then(|node| self.trie.value(node))
    }

    fn merge(self, out: &mut Vec<Symbol>) {
        for at in 1..out.len() {
            out[at - 1].rank = self.rank(out[at - 1].id, out[at].id);
        }
        if out.len() <= SHORT { self.merge_short(out) } else { self.merge_long(out) }
    }

    /// The rank of a merge, [`NONE`] if there is none.
    #[inline]
    fn rank(self, left: u32, right: u32) -> u32 {
        if left >= MAX || right >= MAX {
            return NONE;
        }
        let wanted = key(left, right);
        let mask = self.pairs.len().wrapping_sub(1);
        let mut at = first_slot(wanted, self.pairs.len());
        for _ in 0..MAX_PROBES {
            match self.pairs.at(at) {
                Some(EMPTY) | None => return NONE,
                Some(slot) if slot >> BITS == wanted => return rank_of(slot),
                Some(_) => at = (at + 1) & mask,
            }
        }
        NONE
    }

    #[inline]
    fn merged(self, rank: u32) -> u32 {
        self.merged.at(rank as usize).unwrap_or_default()
    }

    fn merge_short(self, symbols: &mut Vec<Symbol>) {
        loop {
            let mut best = (NONE, 0);
            for (at, symbol) in symbols.iter().enumerate() {
                if symbol.rank < best.0 {
                    best = (symbol.rank, at);
                }
            }
            let (rank, at) = best;
            if rank == NONE || at + 1 >= symbols.len() {
                return;
            }
            let right = symbols.remove(at + 1);
            symbols[at].id = self.merged(rank);
            symbols[at].len += right.len;
            symbols[at].rank =
                symbols.get(at + 1).map_or(NONE, |next| self.rank(symbols[at].id, next.id));
            if let Some(before) = at.checked_sub(1) {
                symbols[before].rank = self.rank(symbols[before].id, symbols[at].id);
            }
        }
    }

    /// Merged symbols stay in place with length 0 until the end; `next` and `before` skip them.
    fn merge_long(self, symbols: &mut Vec<Symbol>) {
        let count = symbols.len();
        let mut next: Vec<usize> = (1..=count).collect();
        let mut before: Vec<usize> = (0..count).map(|at| at.wrapping_sub(1)).collect();
        let mut heap: BinaryHeap<Reverse<(u32, usize)>> = symbols
            .iter()
            .enumerate()
            .filter(|(_, symbol)| symbol.rank != NONE)
            .map(|(at, symbol)| Reverse((symbol.rank, at)))
            .collect();
        while let Some(Reverse((rank, at))) = heap.pop() {
            let right = next[at];
            // Outdated: the pair that had this rank is no more.
            if symbols[at].rank != rank || symbols[at].len == 0 || right >= count {
                continue;
            }
            let after = next[right];
            symbols[at].id = self.merged(rank);
            symbols[at].len += symbols[right].len;
            symbols[right].len = 0;
            symbols[right].rank = NONE;
            next[at] = after;
            symbols[at].rank = NONE;
            if after < count {
                before[after] = at;
                symbols[at].rank = self.rank(symbols[at].id, symbols[after].id);
                if symbols[at].rank != NONE {
                    heap.push(Reverse((symbols[at].rank, at)));
                }
            }
            if let Some(first) = symbols.get(before[at]) {
                let rank = self.rank(first.id, symbols[at].id);
                symbols[before[at]].rank = rank;
                if rank != NONE {
                    heap.push(Reverse((rank, before[at])));
                }
            }
        }
        symbols.retain(|symbol| symbol.len != 0);
    }
}
