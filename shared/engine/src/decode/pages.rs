//! Which pages hold the keys and values of which tokens: a fixed pool, shared among sequences that begin alike. No numbers
//! are here: memory follows what this says.
//!
//! ```text
//! sequence A   [page 4: 32 tokens] [page 7: 32 tokens] [page 2: 5 tokens]
//! sequence B   [page 4: 32 tokens] [page 9: 11 tokens]                        the first page is held twice
//! tree         (page 4) -> (page 7)
//!                       -> (page 1: 20 tokens)                                of a sequence that was closed: kept
//! free         0, 3, 5, 6, 8
//! ```
//!
//! Keys and values of a token depend on the tokens up to it. So a page is named by its tokens and all before them: a node of a
//! tree, whose parent is the page before. Every full page of an open sequence is a node; two sequences that computed the same page
//! go on with one of them, which is no difference, as both hold the same bits. The last page of an open sequence, while
//! it is not full, is no node; it is written to, so it must have one holder. A fork shares it until either goes on, which copies it
//! first.
//!
//! What a closed sequence leaves behind stays in the tree, its last page too, as far as it goes: a *kept* page, which nobody
//! holds. A sequence that begins alike takes whole pages of it, and copies what it can use of one more. Kept pages are given up where
//! room is needed, the least recently used first, leaves before what they follow. Whoever holds a page holds those before
//! it; so what nobody holds has nobody's pages below it, and all of it can be had.

use std::collections::{BTreeMap, BTreeSet};

use defrost_model::{Room, SequenceId};

/// Tokens of a page: a head's keys of a layer are a run of 4 KiB (64 wide, f16), long enough to be read at the speed of memory, and
/// what a sequence wastes on average, half a page, is 16 tokens. Two pages make a panel of 64 scores.
pub(super) const PAGE_TOKENS: usize = 32;

/// The number of a page.
pub(super) type PageId = u32;

/// The first tokens of a page that must be copied into another before anything else is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PageCopy {
    pub(super) from: PageId,
    pub(super) to: PageId,
}

#[derive(Debug, Default)]
struct Page {
    /// Open sequences that have it.
    holders: u32,
    /// When it was last used, by the count of uses.
    used: u64,
    node: Option<Node>,
}

/// A page's place in the tree.
#[derive(Debug)]
struct Node {
    parent: Option<PageId>,
    /// Its tokens: a whole page of them, unless nobody holds it.
    tokens: Vec<u32>,
    children: Vec<PageId>,
}

#[derive(Debug, Default, Clone)]
struct Open {
    tokens: Vec<u32>,
    /// The pages of its tokens, and those that are there for tokens to come.
    pages: Vec<PageId>,
}

/// See the module page.
#[derive(Debug)]
pub(super) struct Pages {
    states: Vec<Page>,
    free: Vec<PageId>,
    /// Pages that nothing precedes.
    roots: Vec<PageId>,
    /// Kept leaves, by when they were last used.
    leaves: BTreeSet<(u64, PageId)>,
    kept: usize,
    uses: u64,
    open: BTreeMap<SequenceId, Open>,
    opened: u64,
}

/// The sequence is not open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NotOpen(pub(super) SequenceId);

fn pages_of(tokens: usize) -> usize {
    tokens.div_ceil(PAGE_TOKENS)
}

fn common(a: &[u32], b: &[u32]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

impl Pages {
    /// A pool of so many pages.
    pub(super) fn new(count: usize) -> Self {
        let count = PageId::try_from(count).unwrap_or(PageId::MAX);
        Self {
            states: (0..count).map(|_| Page::default()).collect(),
            // The lowest first: memory that was never used stays untouched.
            free: (0..count).rev().collect(),
            roots: Vec::new(),
            leaves: BTreeSet::new(),
            kept: 0,
            uses: 0,
            open: BTreeMap::new(),
            opened: 0,
        }
    }

    /// What is held and kept, in tokens of whole pages.
    pub(super) fn room(&self) -> Room {
        let held = self.states.len() - self.free.len() - self.kept;
        Room {
            total: self.states.len() * PAGE_TOKENS,
            held: held * PAGE_TOKENS,
            kept: self.kept * PAGE_TOKENS,
        }
    }

    /// The tokens of a sequence.
    pub(super) fn len(&self, sequence: SequenceId) -> Result<usize, NotOpen> {
        self.get(sequence).map(|open| open.tokens.len())
    }

    /// The pages of a sequence, in the order of its tokens; the last ones may be for tokens to come.
    pub(super) fn of(&self, sequence: SequenceId) -> Result<&[PageId], NotOpen> {
        self.get(sequence).map(|open| &open.pages[..])
    }

    fn get(&self, sequence: SequenceId) -> Result<&Open, NotOpen> {
        self.open.get(&sequence).ok_or(NotOpen(sequence))
    }

    /// The page that a sequence's next token belongs to, if it must be copied first.
    fn shared_last(&self, open: &Open) -> Option<PageId> {
        let last = *open.pages.get(open.tokens.len() / PAGE_TOKENS)?;
        let page = &self.states[last as usize];
        (page.holders > 1 || page.node.is_some()).then_some(last)
    }

    /// Opens a sequence that begins with what is known of `ids`, but for the last: its number, how many tokens it has, and
    /// what to copy for that.
    pub(super) fn open(&mut self, ids: &[u32]) -> (SequenceId, usize, Option<PageCopy>) {
        let wanted = &ids[..ids.len().saturating_sub(1)];
        let mut open = Open::default();
        for chunk in wanted.chunks_exact(PAGE_TOKENS) {
            let Some(found) = self.child(open.pages.last().copied(), chunk) else { break };
            self.hold(found);
            open.pages.push(found);
            open.tokens.extend_from_slice(chunk);
        }
        let rest = &wanted[open.tokens.len()..];
        let copy = self.longest(open.pages.last().copied(), rest).and_then(|(from, count)| {
            // Held, it is not given up to make room for its copy.
            self.hold(from);
            let to = self.take();
            self.release(from);
            let to = to?;
            open.pages.push(to);
            open.tokens.extend_from_slice(&rest[..count]);
            Some(PageCopy { from, to })
        });
        let cached = open.tokens.len();
        (self.insert(open), cached, copy)
    }

    fn insert(&mut self, open: Open) -> SequenceId {
        self.opened += 1;
        let id = SequenceId(self.opened);
        self.open.insert(id, open);
        id
    }

    /// Opens a sequence with the same tokens, in the same pages.
    pub(super) fn fork(&mut self, sequence: SequenceId) -> Result<SequenceId, NotOpen> {
        let mut fork = self.get(sequence)?.clone();
        fork.pages.truncate(pages_of(fork.tokens.len()));
        for &page in &fork.pages {
            self.hold(page);
        }
        Ok(self.insert(fork))
    }

    /// Gives each of the sequences pages for so many more tokens, that nobody else has: what to copy for that, in this order.
    /// `None`: there are not so many pages, and nothing has changed.
    pub(super) fn make_room(
        &mut self,
        wanted: &[(SequenceId, usize)],
    ) -> Result<Option<Vec<PageCopy>>, NotOpen> {
        // Of forks that share a page, the last one to copy it need not.
        let mut copied: BTreeMap<PageId, u32> = BTreeMap::new();
        let mut needed = 0;
        for &(sequence, more) in wanted.iter().filter(|(_, more)| *more > 0) {
            let open = self.get(sequence)?;
            needed += pages_of(open.tokens.len() + more).saturating_sub(open.pages.len());
            if let Some(last) = self.shared_last(open) {
                let page = &self.states[last as usize];
                let copies = copied.entry(last).or_default();
                if page.node.is_some() || *copies + 1 < page.holders {
                    *copies += 1;
                    needed += 1;
                }
            }
        }
        if let Some((sequence, _)) = wanted.iter().find(|(id, _)| !self.open.contains_key(id)) {
            return Err(NotOpen(*sequence));
        }
        if needed > self.free.len() + self.kept {
            return Ok(None);
        }
        let mut copies = Vec::new();
        for &(sequence, more) in wanted.iter().filter(|(_, more)| *more > 0) {
            let mut open = self.open.remove(&sequence).ok_or(NotOpen(sequence))?;
            if let Some(from) = self.shared_last(&open)
                && let Some(to) = self.take()
            {
                open.pages[open.tokens.len() / PAGE_TOKENS] = to;
                self.release(from);
                copies.push(PageCopy { from, to });
            }
            while open.pages.len() < pages_of(open.tokens.len() + more) {
                let Some(page) = self.take() else { break };
                open.pages.push(page);
            }
            self.open.insert(sequence, open);
        }
        Ok(Some(copies))
    }

    /// Says that a sequence's next tokens are these: they have been written into its pages, which had room for them.
    pub(super) fn append(&mut self, sequence: SequenceId, ids: &[u32]) -> Result<(), NotOpen> {
        let mut open = self.open.remove(&sequence).ok_or(NotOpen(sequence))?;
        debug_assert!(open.pages.len() >= pages_of(open.tokens.len() + ids.len()), "room");
        let full = open.tokens.len() / PAGE_TOKENS;
        open.tokens.extend_from_slice(ids);
        for at in full..open.tokens.len() / PAGE_TOKENS {
            let parent = at.checked_sub(1).map(|before| open.pages[before]);
            let tokens = &open.tokens[at * PAGE_TOKENS..][..PAGE_TOKENS];
            let own = open.pages[at];
            match self.child(parent, tokens) {
                None => self.attach(parent, own, tokens.to_vec()),
                Some(same) => {
                    self.hold(same);
                    self.release(own);
                    open.pages[at] = same;
                }
            }
            self.touch(open.pages[at]);
        }
        self.open.insert(sequence, open);
        Ok(())
    }

    /// Takes back all tokens after the first `len`, of which there are as many, and pages that are not needed then.
    pub(super) fn truncate(&mut self, sequence: SequenceId, len: usize) -> Result<(), NotOpen> {
        let mut open = self.open.remove(&sequence).ok_or(NotOpen(sequence))?;
        open.tokens.truncate(len);
        for page in open.pages.split_off(pages_of(len).min(open.pages.len())) {
            self.release(page);
        }
        if let Some(last) = open.pages.last().copied().filter(|_| !len.is_multiple_of(PAGE_TOKENS))
        {
            // What followed was only guessed, mostly: where nothing else goes on after it, the page is written again.
            let page = &self.states[last as usize];
            let alone = page.node.as_ref().is_some_and(|node| node.children.is_empty());
            if page.holders == 1 && alone {
                self.detach(last);
            }
        }
        self.open.insert(sequence, open);
        Ok(())
    }

    /// Closes a sequence; its pages are kept.
    pub(super) fn close(&mut self, sequence: SequenceId) {
        let Some(open) = self.open.remove(&sequence) else { return };
        let full = open.tokens.len() / PAGE_TOKENS;
        let rest = &open.tokens[full * PAGE_TOKENS..];
        if let Some(&last) = open.pages.get(full).filter(|_| !rest.is_empty()) {
            let parent = full.checked_sub(1).map(|before| open.pages[before]);
            let page = &self.states[last as usize];
            if page.holders == 1 && page.node.is_none() {
                self.keep(parent, last, rest);
            }
        }
        // What precedes is used later, so that it is given up later.
        for &page in open.pages.iter().rev() {
            self.touch(page);
            self.release(page);
        }
    }

    /// Puts a page that is not full into the tree, unless what it holds is there; a kept page that holds a part of it goes.
    fn keep(&mut self, parent: Option<PageId>, page: PageId, tokens: &[u32]) {
        let node = |id: PageId| self.states[id as usize].node.as_ref();
        let siblings = self.children(parent);
        if siblings.iter().any(|&id| node(id).is_some_and(|node| node.tokens.starts_with(tokens))) {
            return;
        }
        let part = siblings.iter().copied().find(|&id| {
            let part = node(id).is_some_and(|node| tokens.starts_with(&node.tokens));
            part && self.states[id as usize].holders == 0
        });
        if let Some(part) = part {
            self.give_up(part);
        }
        self.attach(parent, page, tokens.to_vec());
    }

    fn children(&self, parent: Option<PageId>) -> &[PageId] {
        match parent.and_then(|parent| self.states[parent as usize].node.as_ref()) {
            Some(node) => &node.children,
            None if parent.is_none() => &self.roots,
            None => &[],
        }
    }

    /// The page that follows `parent` with exactly these tokens.
    fn child(&self, parent: Option<PageId>, tokens: &[u32]) -> Option<PageId> {
        let node = |id: PageId| self.states[id as usize].node.as_ref();
        let same = |id: &PageId| node(*id).is_some_and(|node| node.tokens == tokens);
        self.children(parent).iter().copied().find(same)
    }

    /// The page that follows `parent` and has the most of the next tokens, and how many.
    fn longest(&self, parent: Option<PageId>, tokens: &[u32]) -> Option<(PageId, usize)> {
        let node = |id: PageId| self.states[id as usize].node.as_ref();
        let children = self.children(parent).iter();
        let shared = children
            .map(|&id| (id, node(id).map_or(0, |node| common(&node.tokens, tokens))))
            .max_by_key(|(_, shared)| *shared);
        shared.filter(|(_, shared)| *shared > 0)
    }

    fn attach(&mut self, parent: Option<PageId>, page: PageId, tokens: Vec<u32>) {
        self.unlist(page);
        self.states[page as usize].node = Some(Node { parent, tokens, children: Vec::new() });
        match parent.and_then(|parent| self.states[parent as usize].node.as_mut()) {
            Some(parent) => parent.children.push(page),
            None => self.roots.push(page),
        }
        if let Some(parent) = parent {
            self.unlist(parent);
        }
        if self.states[page as usize].holders == 0 {
            self.kept += 1;
            self.list(page);
        }
    }

    /// Takes a leaf out of the tree.
    fn detach(&mut self, page: PageId) {
        self.unlist(page);
        let Some(node) = self.states[page as usize].node.take() else { return };
        if self.states[page as usize].holders == 0 {
            self.kept -= 1;
        }
        let siblings = match node.parent.and_then(|id| self.states[id as usize].node.as_mut()) {
            Some(parent) => &mut parent.children,
            None => &mut self.roots,
        };
        siblings.retain(|sibling| *sibling != page);
        if let Some(parent) = node.parent {
            self.list(parent);
        }
    }

    /// Lists a page among those that may be given up, if it is one.
    fn list(&mut self, id: PageId) {
        let page = &self.states[id as usize];
        let leaf = page.node.as_ref().is_some_and(|node| node.children.is_empty());
        if page.holders == 0 && leaf {
            self.leaves.insert((page.used, id));
        }
    }

    fn unlist(&mut self, id: PageId) {
        self.leaves.remove(&(self.states[id as usize].used, id));
    }

    fn touch(&mut self, id: PageId) {
        self.unlist(id);
        self.uses += 1;
        self.states[id as usize].used = self.uses;
        self.list(id);
    }

    fn hold(&mut self, id: PageId) {
        self.unlist(id);
        let page = &mut self.states[id as usize];
        if page.holders == 0 && page.node.is_some() {
            self.kept -= 1;
        }
        page.holders += 1;
    }

    fn release(&mut self, id: PageId) {
        let page = &mut self.states[id as usize];
        page.holders -= 1;
        if page.holders > 0 {
            return;
        }
        if page.node.is_some() {
            self.kept += 1;
            self.list(id);
        } else {
            self.free.push(id);
        }
    }

    /// A page that nobody has, held once; a kept one where none is free.
    fn take(&mut self) -> Option<PageId> {
        if self.free.is_empty() {
            let (_, oldest) = *self.leaves.first()?;
            self.give_up(oldest);
        }
        let page = self.free.pop()?;
        self.states[page as usize].holders = 1;
        Some(page)
    }

    /// Frees a kept leaf.
    fn give_up(&mut self, page: PageId) {
        self.detach(page);
        self.free.push(page);
    }
}

#[cfg(test)]
mod tests;
