//! Keys and values as tasks read them: packed once when they are written, in pages.
//!
//! A *page* holds up to [`PAGE_KEYS`] neighbouring keys of one key-value head with their values, in one run of memory:
//!
//! ```text
//! key scales | value scales | panels of up to 64 keys: groups of a key's inputs | panels of up to 64 columns: groups of keys
//! ```
//!
//! for attention in integers, where a group is a pair and scales are f32; without scales and with groups of one for
//! floats. A page has room for whole registers of keys (16), so that a short sequence takes little. Where a causal
//! query sees a part of a page, it reads a part: the panels before its last key, the groups up to it.
//!
//! The pages of a *run* of keys (a sequence's own tokens, what it shares with others, what is stored with the model)
//! lie one after the other, and a sequence is up to three runs ([`Sequence`]). A run need not end with a page or a
//! register: the next one's keys follow, in scores and sums, as if they were of the same run, so answers do not depend on
//! where runs are cut. Nothing in a page says whose it is or how long it stays: a run that several sequences read, or that
//! outlives the pass, is read like any other.

use bytemuck::Pod;

use super::Arithmetic;
use crate::kernel::operands::COLUMN_STEP;
use crate::layout::PANEL;

/// Keys of a page: enough that sums wait in memory between the pages of a long sequence for few of a hundred cycles, few
/// enough that packing a sequence is work for several threads. Whole panels.
pub(super) const PAGE_KEYS: usize = 512;

/// What the pages of a layer look like.
#[derive(Debug, Clone, Copy)]
pub(super) struct Form {
    arithmetic: Arithmetic,
    width: usize,
}

impl Form {
    pub(super) fn new(arithmetic: Arithmetic, width: usize) -> Self {
        Self { arithmetic, width }
    }

    /// Inputs or keys that lie side by side.
    fn group(self) -> usize {
        match self.arithmetic {
            Arithmetic::Int16 => 2,
            Arithmetic::Float => 1,
        }
    }

    /// Inputs of a key, in whole groups.
    pub(super) fn depth(self) -> usize {
        self.width.next_multiple_of(self.group())
    }

    /// Columns of all panels of values, in whole registers.
    pub(super) fn columns(self) -> usize {
        self.width.next_multiple_of(COLUMN_STEP)
    }

    /// Lengths of a page's parts, in their elements, with room for `keys`.
    fn parts(self, keys: usize) -> (usize, [usize; 4]) {
        let room = keys.next_multiple_of(COLUMN_STEP);
        let scales = match self.arithmetic {
            Arithmetic::Int16 => room,
            Arithmetic::Float => 0,
        };
        (room, [scales, scales, room * self.depth(), room * self.columns()])
    }

    /// Memory of a page with room for `keys`, in words of four bytes: whole cache lines.
    pub(super) fn page_words(self, keys: usize) -> usize {
        let (_, [key_scales, value_scales, keys, values]) = self.parts(keys);
        key_scales + value_scales + (keys + values) / self.group()
    }

    /// Memory of the pages of a run of `keys`, in words.
    pub(super) fn run_words(self, keys: usize) -> usize {
        keys / PAGE_KEYS * self.page_words(PAGE_KEYS) + self.page_words(keys % PAGE_KEYS)
    }

    /// A page of `keys` to be filled.
    pub(super) fn page_mut<T: Pod>(self, words: &mut [f32], keys: usize) -> PageMut<'_, T> {
        let (room, [key_scales, value_scales, key_panels, _]) = self.parts(keys);
        let (key_scales, words) = words.split_at_mut(key_scales);
        let (value_scales, words) = words.split_at_mut(value_scales);
        let (keys, values) = bytemuck::cast_slice_mut(words).split_at_mut(key_panels);
        PageMut { form: self, room, key_scales, value_scales, keys, values }
    }
}

/// Padded columns of the panel that starts with the `first` of `all`: a short sequence fills one register of keys, not
/// four.
fn columns(all: usize, first: usize) -> usize {
    PANEL.min(all - first).next_multiple_of(COLUMN_STEP)
}

/// A page that is being filled.
pub(super) struct PageMut<'a, T> {
    form: Form,
    room: usize,
    pub(super) key_scales: &'a mut [f32],
    pub(super) value_scales: &'a mut [f32],
    keys: &'a mut [T],
    values: &'a mut [T],
}

impl<T: Pod> PageMut<'_, T> {
    /// The groups of a key's inputs, each where the panel has them.
    pub(super) fn key<const GROUP: usize>(
        &mut self,
        key: usize,
    ) -> impl Iterator<Item = &mut [T; GROUP]> {
        let (depth, first) = (self.form.depth(), key / PANEL * PANEL);
        let columns = columns(self.room, first);
        let panel = &mut self.keys[first * depth..][..columns * depth];
        panel.as_chunks_mut().0.iter_mut().skip(key - first).step_by(columns)
    }

    /// The values of the group of keys that begins with `key`, in the panel of the columns from `start` on.
    pub(super) fn values(&mut self, key: usize, start: usize) -> &mut [T] {
        let columns = columns(self.form.width, start);
        &mut self.values[start * self.room + key * columns..][..columns * self.form.group()]
    }

    /// Clears what will lie behind the last of so many keys, which is multiplied though no query sees it: it must not
    /// be another model's.
    pub(super) fn clear_after(&mut self, keys: usize) {
        self.keys[keys / PANEL * PANEL * self.form.depth()..].fill(T::zeroed());
        for scales in [&mut *self.key_scales, &mut *self.value_scales] {
            scales.iter_mut().skip(keys).for_each(|scale| *scale = 0.0);
        }
    }
}

/// A page of a sequence.
#[derive(Clone, Copy)]
pub(super) struct Page<'a, T> {
    form: Form,
    room: usize,
    /// The place, among the sequence's keys, of the page's first.
    pub(super) first: usize,
    /// The number of the page's keys that are seen.
    pub(super) seen: usize,
    pub(super) key_scales: &'a [f32],
    pub(super) value_scales: &'a [f32],
    keys: &'a [T],
    values: &'a [T],
}

impl<'a, T> Page<'a, T> {
    /// The panel of keys from the page's `first` on, and its columns.
    pub(super) fn key_panel(&self, first: usize) -> (&'a [T], usize) {
        let (columns, depth) = (columns(self.room, first), self.form.depth());
        (&self.keys[first * depth..][..columns * depth], columns)
    }

    /// The values of the keys seen, in the panel of the columns from `start` on, and how many these are.
    pub(super) fn value_panel(&self, start: usize) -> (&'a [T], usize) {
        let columns = columns(self.form.width, start);
        let groups = self.seen.next_multiple_of(self.form.group());
        (&self.values[start * self.room..][..groups * columns], columns)
    }
}

/// The pages of a run, as one sequence sees them.
#[derive(Clone, Copy, Default)]
pub(super) struct RunPages<'a> {
    pub(super) words: &'a [f32],
    /// The number of keys that the run holds.
    pub(super) keys: usize,
    /// The place, among the sequence's keys, of the run's first.
    pub(super) first: usize,
    /// The number of the run's keys that belong to the sequence.
    pub(super) seen: usize,
}

/// The keys and values of a sequence.
pub(super) struct Sequence<'a> {
    pub(super) form: Form,
    pub(super) runs: [RunPages<'a>; 3],
}

impl<'a> Sequence<'a> {
    /// The pages of its first `keys`, in order.
    pub(super) fn pages<T: Pod>(&self, keys: usize) -> impl Iterator<Item = Page<'a, T>> {
        let form = self.form;
        self.runs.into_iter().flat_map(move |run| {
            let seen = run.seen.min(keys.saturating_sub(run.first));
            (0..seen).step_by(PAGE_KEYS).map(move |at| {
                let (room, [key_scales, value_scales, key_panels, _]) =
                    form.parts(PAGE_KEYS.min(run.keys - at));
                let words = &run.words[at / PAGE_KEYS * form.page_words(PAGE_KEYS)..];
                let (key_scales, words) = words[..form.page_words(room)].split_at(key_scales);
                let (value_scales, words) = words.split_at(value_scales);
                let (keys, values) = bytemuck::cast_slice(words).split_at(key_panels);
                let (first, seen) = (run.first + at, PAGE_KEYS.min(seen - at));
                Page { form, room, first, seen, key_scales, value_scales, keys, values }
            })
        })
    }
}
