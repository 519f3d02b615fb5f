//! Word pieces: a word is cut into the longest tokens from its start, of which all but the first have a prefix in the
//! vocabulary. A word that cannot be cut, or is too long, is unknown as a whole.

use crate::trie::{Node, Trie};

/// The vocabulary of an image.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WordPiece<'a> {
    pub(crate) trie: Trie<'a>,
    /// The node to which the prefix leads; `None`: no token has the prefix.
    pub(crate) inside: Option<Node>,
    pub(crate) unknown: u32,
    /// The number of characters of the longest word that is looked up.
    pub(crate) longest_word: usize,
}

impl WordPiece<'_> {
    /// Gives the tokens of `word`: id, first byte, end.
    pub(crate) fn encode(self, word: &str, pieces: &mut Vec<(u32, usize, usize)>) {
        pieces.clear();
        // Bytes are at least as many as characters, and mostly settle it.
        let is_long = word.len() > self.longest_word && word.chars().count() > self.longest_word;
        if is_long || !self.cut(word.as_bytes(), pieces) {
            pieces.clear();
            pieces.push((self.unknown, 0, word.len()));
        }
    }

    fn cut(self, word: &[u8], pieces: &mut Vec<(u32, usize, usize)>) -> bool {
        let mut start = 0;
        while start < word.len() {
            let from = if start == 0 { Some(self.trie.root()) } else { self.inside };
            let found = from.and_then(|node| self.trie.longest(node, &word[start..]));
            let Some((len, id)) = found else { return false };
            pieces.push((id, start, start + len));
            start += len;
        }
        true
    }
}
