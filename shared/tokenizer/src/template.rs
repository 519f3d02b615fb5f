//! Special tokens around and between texts.
//!
//! An entry of a template is three `u32` values: what it is, an id, and the type of its tokens.

use crate::view::Words;

/// A special token; the id says which.
pub(crate) const SPECIAL: u32 = 0;
/// The ids of the first text.
pub(crate) const FIRST: u32 = 1;
/// The ids of the second text.
pub(crate) const SECOND: u32 = 2;
/// Values of an entry.
pub(crate) const ENTRY: usize = 3;
/// The most entries of a template; real ones have 7 at most.
pub(crate) const MAX_ENTRIES: usize = 64;

/// Ids and types as a model takes them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Sequence {
    /// Token ids.
    pub ids: Vec<u32>,
    /// Token types, as many.
    pub types: Vec<u32>,
}

/// A template of an image.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Template<'a>(pub(crate) Words<'a>);

impl Template<'_> {
    fn entries(self) -> impl Iterator<Item = [u32; ENTRY]> {
        let count = (self.0.len() / ENTRY).min(MAX_ENTRIES);
        let value = move |at| self.0.at(at).unwrap_or_default();
        (0..count).map(move |entry| std::array::from_fn(|at| value(entry * ENTRY + at)))
    }

    /// How many special tokens it has.
    pub(crate) fn added(self) -> usize {
        self.entries().filter(|[kind, ..]| *kind == SPECIAL).count()
    }

    /// Fills in the texts. No id of its own is above `largest_id`.
    pub(crate) fn fill(self, first: &[u32], second: &[u32], largest_id: u32) -> Sequence {
        let len = self.added() + first.len() + second.len();
        let mut out = Sequence { ids: Vec::with_capacity(len), types: Vec::with_capacity(len) };
        for [kind, id, kind_type] in self.entries() {
            match kind {
                SPECIAL => out.ids.push(id.min(largest_id)),
                FIRST => out.ids.extend(first),
                SECOND => out.ids.extend(second),
                _ => {}
            }
            out.types.resize(out.ids.len(), kind_type);
        }
        out
    }
}
