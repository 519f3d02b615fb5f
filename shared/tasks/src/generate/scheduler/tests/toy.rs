//! A decoder whose logits are a hash of the tokens of the sequence. It keeps sequences in pages, few of them, as a real one
//! does, and panics on whatever the seam does not allow.

use std::collections::HashMap;
use std::sync::Mutex;

use defrost_model::{Decoder, Error, Logits, LogitsOf, OpenedSequence, Piece, Room, SequenceId};

/// Tokens of a page.
const PAGE: usize = 4;

#[derive(Debug)]
pub(super) struct Toy {
    pub(super) vocab: usize,
    pub(super) context: usize,
    /// Logits depend on so many of the last tokens: on few, texts repeat themselves.
    pub(super) memory: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    next: u64,
    open: HashMap<SequenceId, Sequence>,
    free: Vec<usize>,
    /// How many sequences have each page.
    counts: Vec<usize>,
    /// Full pages by all tokens up to their end, least recently used first.
    known: Vec<(Vec<u32>, usize)>,
    granted: HashMap<SequenceId, usize>,
    /// Steps until one fails.
    fails_after: Option<usize>,
    steps: usize,
}

#[derive(Debug, Clone, Default)]
struct Sequence {
    tokens: Vec<u32>,
    pages: Vec<usize>,
}

impl State {
    fn is_known(&self, page: usize) -> bool {
        self.known.iter().any(|(_, other)| *other == page)
    }

    /// How many pages it takes to go on with so many tokens; one that others have too is copied.
    fn needed(&self, sequence: &Sequence, more: usize) -> usize {
        let len = sequence.tokens.len();
        let is_begun = !len.is_multiple_of(PAGE);
        let is_shared = |&page: &usize| self.counts[page] > 1 || self.is_known(page);
        let copied = is_begun && sequence.pages.last().is_some_and(is_shared);
        (len + more).div_ceil(PAGE) - len.div_ceil(PAGE) + usize::from(copied)
    }

    /// Pages that nobody has and that are only known.
    fn kept(&self) -> usize {
        self.known.iter().filter(|(_, page)| self.counts[*page] == 0).count()
    }

    fn drop_page(&mut self, page: usize) {
        self.counts[page] -= 1;
        if self.counts[page] == 0 && !self.is_known(page) {
            self.free.push(page);
        }
    }

    fn push(&mut self, id: SequenceId, token: u32) {
        let mut sequence = self.open.remove(&id).expect("an open sequence");
        let begun = (!sequence.tokens.len().is_multiple_of(PAGE)).then(|| sequence.pages.pop());
        let page = match begun.flatten() {
            Some(page) if self.counts[page] == 1 && !self.is_known(page) => page,
            old => {
                let page = self.free.pop().expect("room, since it was granted");
                assert_eq!(self.counts[page], 0);
                self.counts[page] = 1;
                if let Some(old) = old {
                    self.drop_page(old);
                }
                page
            }
        };
        sequence.pages.push(page);
        sequence.tokens.push(token);
        let is_full = sequence.tokens.len().is_multiple_of(PAGE);
        if is_full && !self.known.iter().any(|(tokens, _)| *tokens == sequence.tokens) {
            self.known.push((sequence.tokens.clone(), page));
        }
        self.open.insert(id, sequence);
    }

    fn check(&self) {
        let mut counts = vec![0; self.counts.len()];
        for sequence in self.open.values() {
            assert_eq!(sequence.pages.len(), sequence.tokens.len().div_ceil(PAGE));
            sequence.pages.iter().for_each(|&page| counts[page] += 1);
        }
        assert_eq!(counts, self.counts);
        let used = (0..counts.len()).filter(|&page| counts[page] > 0 || self.is_known(page));
        assert_eq!(used.count() + self.free.len(), counts.len());
    }
}

impl Toy {
    pub(super) fn new(vocab: usize, context: usize, memory: usize, pages: usize) -> Self {
        let state =
            State { free: (0..pages).collect(), counts: vec![0; pages], ..State::default() };
        Self { vocab, context, memory, state: Mutex::new(state) }
    }

    /// One whose step of this number fails.
    pub(super) fn failing(self, after: usize) -> Self {
        self.state.lock().unwrap().fails_after = Some(after);
        self
    }

    pub(super) fn open_sequences(&self) -> usize {
        let state = self.state.lock().unwrap();
        state.check();
        state.open.len()
    }

    pub(super) fn steps(&self) -> usize {
        self.state.lock().unwrap().steps
    }

    /// What comes after these tokens.
    pub(super) fn logits(&self, tokens: &[u32]) -> Vec<f32> {
        let last = &tokens[tokens.len().saturating_sub(self.memory)..];
        let mut state = 0xcbf2_9ce4_8422_2325u64;
        for &token in last {
            state = (state ^ u64::from(token + 1)).wrapping_mul(0x0100_0000_01b3);
        }
        (0..self.vocab as u64)
            .map(|id| {
                let mut word = (state ^ id << 17).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                word = (word ^ word >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9);
                ((word >> 40) % 64) as f32 / 8.0
            })
            .collect()
    }
}

impl Decoder for Toy {
    fn vocab(&self) -> usize {
        self.vocab
    }

    fn context(&self) -> usize {
        self.context
    }

    fn room(&self) -> Room {
        let state = self.state.lock().unwrap();
        let held = state.counts.iter().filter(|count| **count > 0).count();
        Room { total: state.counts.len() * PAGE, held: held * PAGE, kept: state.kept() * PAGE }
    }

    fn open(&self, ids: &[u32]) -> Result<OpenedSequence, Error> {
        assert!(!ids.is_empty() && ids.len() <= self.context, "{} tokens", ids.len());
        let mut state = self.state.lock().unwrap();
        let mut sequence = Sequence::default();
        while let Some(place) = state.known.iter().position(|(tokens, _)| {
            tokens.len() == (sequence.pages.len() + 1) * PAGE && ids.starts_with(tokens)
        }) {
            let (tokens, page) = state.known.remove(place);
            state.counts[page] += 1;
            sequence.pages.push(page);
            sequence.tokens.clone_from(&tokens);
            state.known.push((tokens, page));
        }
        sequence.tokens.truncate(ids.len() - 1);
        let unused = sequence.tokens.len().div_ceil(PAGE);
        for page in sequence.pages.split_off(unused) {
            state.drop_page(page);
        }
        let (id, cached) = (SequenceId(state.next), sequence.tokens.len());
        state.next += 1;
        state.open.insert(id, sequence);
        state.check();
        Ok(OpenedSequence { id, cached })
    }

    fn fork(&self, sequence: SequenceId) -> Result<SequenceId, Error> {
        let mut state = self.state.lock().unwrap();
        let copy = state.open[&sequence].clone();
        copy.pages.iter().for_each(|&page| state.counts[page] += 1);
        let id = SequenceId(state.next);
        state.next += 1;
        state.open.insert(id, copy);
        state.check();
        Ok(id)
    }

    fn make_room(&self, wanted: &[(SequenceId, usize)]) -> Result<bool, Error> {
        let mut state = self.state.lock().unwrap();
        let needed: usize =
            wanted.iter().map(|(id, more)| state.needed(&state.open[id], *more)).sum();
        if needed > state.free.len() + state.kept() {
            return Ok(false);
        }
        while state.free.len() < needed {
            let State { known, counts, free, .. } = &mut *state;
            let oldest = known.iter().position(|(_, page)| counts[*page] == 0);
            free.push(known.remove(oldest.expect("a kept page")).1);
        }
        state.granted = wanted.iter().copied().collect();
        Ok(true)
    }

    fn step(&self, pieces: &[Piece<'_>]) -> Result<Vec<Logits>, Error> {
        let mut state = self.state.lock().unwrap();
        let granted = std::mem::take(&mut state.granted);
        assert!(!pieces.is_empty(), "an empty step");
        if state.fails_after == Some(state.steps) {
            state.steps += 1;
            return Err(Error::OutOfMemory("as the test asked for".to_owned()));
        }
        state.steps += 1;
        let mut said = Vec::new();
        for (at, piece) in pieces.iter().enumerate() {
            let Piece { sequence, ids, logits, allowed } = *piece;
            assert!(pieces[..at].iter().all(|other| other.sequence != sequence), "twice");
            assert!(!ids.is_empty() && ids.iter().all(|&id| (id as usize) < self.vocab));
            assert!(granted.get(&sequence).is_some_and(|&most| ids.len() <= most), "no room");
            assert!(state.open[&sequence].tokens.len() + ids.len() <= self.context);
            let mut rows = Vec::new();
            for (at, &id) in ids.iter().enumerate() {
                state.push(sequence, id);
                let is_last = at + 1 == ids.len();
                if logits == LogitsOf::All || logits == LogitsOf::Last && is_last {
                    let mut row = self.logits(&state.open[&sequence].tokens);
                    if let Some(mask) = allowed.filter(|_| is_last) {
                        (0..)
                            .zip(&mut row)
                            .filter(|(id, _)| !mask.allows(*id))
                            .for_each(|(_, logit)| *logit = f32::NEG_INFINITY);
                    }
                    rows.push(row);
                }
            }
            said.push(Logits(rows));
        }
        state.check();
        Ok(said)
    }

    fn truncate(&self, sequence: SequenceId, len: usize) -> Result<(), Error> {
        let mut state = self.state.lock().unwrap();
        let open = state.open.get_mut(&sequence).expect("an open sequence");
        assert!(len <= open.tokens.len());
        open.tokens.truncate(len);
        for page in open.pages.split_off(len.div_ceil(PAGE)) {
            state.drop_page(page);
        }
        state.check();
        Ok(())
    }

    fn close(&self, sequence: SequenceId) {
        let mut state = self.state.lock().unwrap();
        if let Some(Sequence { pages, .. }) = state.open.remove(&sequence) {
            for page in pages {
                state.drop_page(page);
            }
        }
        state.check();
    }
}
