//! Sequences that go on: a [`Decoder`] whose keys and values are in pages that outlive a pass.
//!
//! ```text
//! pages      which page holds which tokens: pool, counts of holders, copy on write, a tree by tokens
//! memory     what a page looks like
//! attention  of new tokens over all in the pages
//! ```
//!
//! A step is the pass that whole sequences take ([`Model`]), over the rows of all pieces; where keys and values live is
//! the only difference. In the last layer only rows whose logits are wanted go on after attention.
//!
//! What prompts begin with may lie in the snapshot, computed when it was packed: it is in the tree before anything is opened, as if a
//! sequence had left it behind.
//!
//! Results do not depend on how a step came about. Everything of a pass but attention works row by row, in an order that
//! depends on the model alone; attention sums over positions in an order that depends on their numbers alone.

mod attention;
mod memory;
mod one_layer;
mod pages;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub(crate) use attention::Paged;
use attention::{PieceAt, restore};
use defrost_model::{
    Decoder, Logits, LogitsOf, OpenedSequence, Piece, Room, SequenceId, TokenMask, USUAL_ROOM_BYTES,
};
use memory::{Memory, Shape};
pub(crate) use one_layer::OneLayer;
use pages::{NotOpen, PAGE_TOKENS, PageCopy, Pages};

use crate::attention::Span;
use crate::buffer::Buffer;
use crate::{Batch, Error, Head, Model};

/// More pages, of 134 million tokens, are a mistake: what is written down of each takes memory before any is used.
const MOST_PAGES: usize = 1 << 22;

/// A language model that continues sequences.
#[derive(Debug)]
pub struct PagedDecoder {
    model: Arc<Model>,
    context: usize,
    note: Option<String>,
    state: Mutex<State>,
    /// As the last call left it: whoever asks need not wait for a step.
    room: Mutex<Room>,
    /// What all of it takes.
    room_bytes: u64,
}

#[derive(Debug)]
struct State {
    pages: Pages,
    memory: Memory,
    partials: Buffer<f32>,
    /// The tokens of the stored prefix, until they are in the tree.
    stored: Vec<u32>,
}

impl State {
    fn copy(&mut self, copies: impl IntoIterator<Item = PageCopy>) {
        for copy in copies {
            self.memory.copy(copy);
        }
    }
}

impl From<NotOpen> for Error {
    fn from(NotOpen(SequenceId(number)): NotOpen) -> Self {
        Self::Batch(format!("sequence {number} is not open"))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl PagedDecoder {
    /// A decoder over a model with a language-model head, with memory for the keys and values of `kv_tokens`, or as many as a
    /// context has and a gigabyte holds; sequences have up to `context` tokens, or as many as the model has positions, where there
    /// is memory for so many. `stored` are the tokens of the model's stored prefix.
    ///
    /// # Errors
    /// If the model has another head, or learned positions; if there is no room for a token, no memory for so many, or more context
    /// is asked for than the model has.
    pub fn new(
        model: Arc<Model>,
        kv_tokens: Option<usize>,
        context: Option<usize>,
        stored: &[u32],
    ) -> Result<Self, Error> {
        let config = model.config();
        if config.head != Head::LanguageModel || config.family.blueprint.positions.are_learned() {
            return Err(Error::Config(format!(
                "a {} model with the head {} continues no sequences: expected a language model with rotary positions",
                config.family.name,
                config.head.name()
            )));
        }
        if let Some(context) =
            context.filter(|context| !(1..=config.max_positions).contains(context))
        {
            return Err(Error::Config(format!(
                "a context of {context} tokens: expected 1 to {}, which the model was made for",
                config.max_positions
            )));
        }
        let context = context.unwrap_or(config.max_positions);
        if stored.len() != config.stored_prefix {
            return Err(Error::Config(format!(
                "a stored prefix of {} tokens: expected {}",
                stored.len(),
                config.stored_prefix
            )));
        }
        let shape = Shape::of(config, config.layers);
        let f32 = model.keeps_f32();
        let page = Memory::page_bytes(shape, f32);
        let pages = match kv_tokens {
            Some(0) => {
                return Err(Error::Config("memory for keys and values of 0 tokens".into()));
            }
            Some(tokens) => tokens.div_ceil(PAGE_TOKENS),
            None => context.div_ceil(PAGE_TOKENS).min((USUAL_ROOM_BYTES / page).max(1)),
        };
        if pages > MOST_PAGES {
            return Err(Error::Config(format!(
                "memory for keys and values of {} tokens: expected up to {}",
                pages.saturating_mul(PAGE_TOKENS),
                MOST_PAGES * PAGE_TOKENS
            )));
        }
        let wanted = context;
        let context = context.min(pages * PAGE_TOKENS);
        let note = (context < wanted).then(|| {
            format!(
                "sequences have up to {context} tokens instead of {wanted}: there is memory for the keys and values of no more, \
                 which take {} KiB a token",
                (page / PAGE_TOKENS) >> 10
            )
        });
        let state = State {
            pages: Pages::new(pages),
            memory: Memory::new(shape, f32, pages)?,
            partials: Buffer::default(),
            stored: stored.to_vec(),
        };
        let room = Mutex::new(state.pages.room());
        let room_bytes = (pages * page) as u64;
        Ok(Self { model, context, note, state: Mutex::new(state), room, room_bytes })
    }

    /// What the operator should know, if anything.
    pub(crate) fn note(&self) -> Option<&str> {
        self.note.as_deref()
    }

    fn with<R>(&self, work: impl FnOnce(&mut State) -> R) -> R {
        let mut state = lock(&self.state);
        let result = work(&mut state);
        *lock(&self.room) = state.pages.room();
        result
    }

    /// Puts what is stored into the tree, unless there is no room for it.
    fn restore(&self, state: &mut State) -> Result<(), Error> {
        let ids = std::mem::take(&mut state.stored);
        let (sequence, ..) = state.pages.open(&ids);
        state.pages.truncate(sequence, 0)?;
        let restored = match state.pages.make_room(&[(sequence, ids.len())])? {
            Some(_) => {
                let pages = state.pages.of(sequence)?;
                let restored = (0..state.memory.shape.layers).try_for_each(|layer| {
                    let rows = self.model.stored(layer)?;
                    restore(self.model.context(), &mut state.memory, layer, pages, rows);
                    Ok(())
                });
                if restored.is_ok() {
                    state.pages.append(sequence, &ids)?;
                }
                restored
            }
            None => Ok(()),
        };
        state.pages.close(sequence);
        if restored.is_err() {
            state.stored = ids;
        }
        restored
    }

    fn check_ids(&self, ids: &[u32]) -> Result<(), Error> {
        let vocab = self.vocab();
        match ids.iter().find(|&&id| id as usize >= vocab) {
            Some(id) => {
                Err(Error::Batch(format!("token id {id} is outside of the {vocab} known ones")))
            }
            None => Ok(()),
        }
    }

    /// Refuses pieces that cannot be computed.
    fn check(&self, pages: &Pages, pieces: &[Piece<'_>]) -> Result<(), Error> {
        let mut seen = BTreeSet::new();
        for piece in pieces {
            let (SequenceId(number), len) = (piece.sequence, pages.len(piece.sequence)?);
            if !seen.insert(piece.sequence) {
                return Err(Error::Batch(format!("sequence {number} occurs twice in a step")));
            }
            if piece.ids.is_empty() {
                return Err(Error::Batch(format!("sequence {number} has no next tokens")));
            }
            if len + piece.ids.len() > self.context {
                return Err(Error::Batch(format!(
                    "sequence {number} would have {} tokens, expected up to {}",
                    len + piece.ids.len(),
                    self.context
                )));
            }
            self.check_ids(piece.ids)?;
            if let Some(mask) = piece.allowed.filter(|mask| mask.vocab() != self.vocab()) {
                return Err(Error::Batch(format!(
                    "allowed tokens of a vocabulary of {}, expected {}",
                    mask.vocab(),
                    self.vocab()
                )));
            }
        }
        Ok(())
    }

    fn compute(&self, state: &mut State, pieces: &[Piece<'_>]) -> Result<Vec<Logits>, Error> {
        let State { pages, memory, partials, .. } = state;
        let (mut batch, mut places) = (Batch::default(), Vec::new());
        let (mut at, mut all, mut read) = (Vec::new(), Vec::new(), Vec::new());
        let mut allowed: Vec<Option<&TokenMask>> = Vec::new();
        for piece in pieces {
            let (start, count, first) =
                (pages.len(piece.sequence)?, piece.ids.len(), batch.tokens());
            batch.push(piece.ids, &[]);
            places.extend(start..start + count);
            at.push(PieceAt { pages: pages.of(piece.sequence)?, start });
            let span = Span {
                stored: 0,
                prefix: 0..0,
                tokens: first..first + count,
                queries: 0..count,
                out: first,
            };
            let queries = match piece.logits {
                LogitsOf::None => 0..0,
                LogitsOf::Last => count - 1..count,
                LogitsOf::All => 0..count,
            };
            read.push(Span { queries: queries.clone(), out: allowed.len(), ..span.clone() });
            all.push(span);
            allowed.extend(queries.map(|query| piece.allowed.filter(|_| query + 1 == count)));
        }
        let paged = Paged { memory, partials, pieces: &at };
        let logits = self.model.step(&batch, &places, [&all, &read], paged, &allowed)?;
        let mut logits = logits.into_iter();
        let of_each =
            read.iter().map(|span| Logits(logits.by_ref().take(span.queries.len()).collect()));
        Ok(of_each.collect())
    }
}

impl Decoder for PagedDecoder {
    fn vocab(&self) -> usize {
        self.model.config().vocab
    }

    fn context(&self) -> usize {
        self.context
    }

    fn room(&self) -> Room {
        *lock(&self.room)
    }

    fn room_bytes(&self) -> u64 {
        self.room_bytes
    }

    fn open(&self, ids: &[u32]) -> Result<OpenedSequence, Error> {
        if ids.is_empty() || ids.len() > self.context {
            return Err(Error::Batch(format!(
                "a sequence of {} tokens: expected 1 to {}",
                ids.len(),
                self.context
            )));
        }
        self.check_ids(ids)?;
        self.with(|state| {
            if state.stored.first() == ids.first() {
                self.restore(state)?;
            }
            let (id, cached, copy) = state.pages.open(ids);
            state.copy(copy);
            Ok(OpenedSequence { id, cached })
        })
    }

    fn fork(&self, sequence: SequenceId) -> Result<SequenceId, Error> {
        Ok(self.with(|state| state.pages.fork(sequence))?)
    }

    fn make_room(&self, wanted: &[(SequenceId, usize)]) -> Result<bool, Error> {
        self.with(|state| {
            let copies = state.pages.make_room(wanted)?;
            let there = copies.is_some();
            state.copy(copies.into_iter().flatten());
            Ok(there)
        })
    }

    fn step(&self, pieces: &[Piece<'_>]) -> Result<Vec<Logits>, Error> {
        self.with(|state| {
            self.check(&state.pages, pieces)?;
            let wanted: Vec<_> = pieces.iter().map(|piece| (piece.sequence, piece.ids.len())).collect();
            let Some(copies) = state.pages.make_room(&wanted)? else {
                let Room { total, held, .. } = state.pages.room();
                let more: usize = wanted.iter().map(|(_, more)| more).sum();
                return Err(Error::OutOfMemory(format!(
                    "no room for the keys and values of {more} more tokens: {held} of {total} are held; close a sequence, or load \
                     the model with room for more"
                )));
            };
            state.copy(copies);
            let logits = self.compute(state, pieces)?;
            for piece in pieces {
                state.pages.append(piece.sequence, piece.ids)?;
            }
            Ok(logits)
        })
    }

    fn truncate(&self, sequence: SequenceId, len: usize) -> Result<(), Error> {
        self.with(|state| {
            let has = state.pages.len(sequence)?;
            if len > has {
                let SequenceId(number) = sequence;
                return Err(Error::Batch(format!(
                    "sequence {number} has {has} tokens: {len} cannot be left"
                )));
            }
            Ok(state.pages.truncate(sequence, len)?)
        })
    }

    fn close(&self, sequence: SequenceId) {
        self.with(|state| state.pages.close(sequence));
    }
}

#[cfg(test)]
mod tests;
