//! Unigram: of all ways to write a piece as tokens, the one with the highest sum of scores.
//!
//! The sums are made from left to right in `f64`, and of equal ones the first found stays, as in the `tokenizers` crate:
//! both decide which of two ways wins where scores tie or nearly do.

use crate::trie::{MAX_KEY, Trie};
use crate::view::Longs;

/// The vocabulary of an image.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Unigram<'a> {
    pub(crate) trie: Trie<'a>,
    pub(crate) scores: Longs<'a>,
    pub(crate) unknown: u32,
    pub(crate) unknown_score: f64,
}

/// The best way to write a piece up to some byte.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Best {
    score: f64,
    /// The start of the last token; [`NOWHERE`] if no way leads here.
    start: usize,
    id: u32,
}

const NOWHERE: usize = usize::MAX;

impl Best {
    #[inline]
    fn offer(&mut self, score: f64, start: usize, id: u32) {
        if self.start == NOWHERE || score > self.score {
            *self = Self { score, start, id };
        }
    }
}

impl Unigram<'_> {
    /// Appends the tokens of `piece` to `out`: id, first byte, end.
    pub(crate) fn encode(
        self,
        piece: &str,
        best: &mut Vec<Best>,
        out: &mut Vec<(u32, usize, usize)>,
    ) {
        let bytes = piece.as_bytes();
        best.clear();
        best.resize(bytes.len() + 1, Best { score: 0.0, start: NOWHERE, id: 0 });
        for (start, c) in piece.char_indices() {
            let so_far = best[start].score;
            let mut knows_char = false;
            let mut node = self.trie.root();
            for (at, &byte) in bytes[start..].iter().take(MAX_KEY).enumerate() {
                let Some(next) = self.trie.child(node, byte) else { break };
                node = next;
                if let Some(id) = self.trie.value(node) {
                    let len = at + 1;
                    let score = self.scores.float(id as usize).unwrap_or(f64::MIN);
                    best[start + len].offer(score + so_far, start, id);
                    knows_char |= len == c.len_utf8();
                }
            }
            if !knows_char {
                let score = self.unknown_score + so_far;
                best[start + c.len_utf8()].offer(score, start, self.unknown);
            }
        }
        self.trace(bytes, best, out);
    }

    /// Walks back from the end, and takes neighbours that are unknown as one.
    fn trace(self, piece: &[u8], best: &[Best], out: &mut Vec<(u32, usize, usize)>) {
        let first = out.len();
        let mut end = piece.len();
        let mut unknown_until = None;
        while let Some(step) = best.get(end).filter(|step| step.start < end) {
            if step.id == self.unknown {
                unknown_until.get_or_insert(end);
            } else {
                if let Some(until) = unknown_until.take() {
                    out.push((self.whole(&piece[end..until]), end, until));
                }
                out.push((step.id, step.start, end));
            }
            end = step.start;
        }
        if let Some(until) = unknown_until {
            out.push((self.whole(&piece[end..until]), end, until));
        }
        out[first..].reverse();
    }

    /// The id of a text that was taken as one: it may be a token after all.
    fn whole(self, text: &[u8]) -> u32 {
        let node = self.trie.walk(self.trie.root(), text);
        node.and_then(|node| self.trie.value(node)).unwrap_or(self.unknown)
    }
}
