//! The bytes that requests and answers hold in memory, together at most `MAX_BYTES_IN_FLIGHT`.
//!
//! ```text
//! request ──> its body, as it comes ──> what it asks for ──> its answer, until the client has taken the last byte
//!             grows chunk by chunk      before it runs       lives in the bytes themselves
//! ```
//!
//! A client that sends most of a body and stops, or asks and never reads, holds what it holds, and
//! others could be left with nothing. So the budget has two parts. Bodies and answers of up to
//! [`SMALL_BYTES`] draw on a quarter of it, larger ones on the rest: whatever is done with large
//! ones, a search with a few short texts is answered. What does not fit is refused with 503 at
//! once, no request queues for bytes, and a client that holds them is cut off once it is too slow
//! ([`crate::edge::pace`]).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;

use crate::error::ApiError;

/// Up to here a body or an answer is small: a query with a few dozen passages, or the vectors of
/// ten texts.
pub(crate) const SMALL_BYTES: usize = 64 << 10;

/// Bytes of a number in decimals with its comma.
const DECIMALS: usize = 13;

/// Most bytes that a number of an answer takes while the answer is made: as the model gives it,
/// then as it is handed over (4 each), the first of which are gone before it is written in
/// decimals.
pub(crate) const BYTES_OF_A_NUMBER: usize = 4 + 4 + DECIMALS;

/// See the module page.
#[derive(Debug, Clone)]
pub(crate) struct Budget(Arc<Pools>);

#[derive(Debug)]
struct Pools {
    small: Pool,
    large: Pool,
}

#[derive(Debug)]
struct Pool {
    most: usize,
    held: AtomicUsize,
}

impl Pool {
    fn of(most: usize) -> Self {
        Self { most, held: AtomicUsize::new(0) }
    }

    /// Exchanges `old` bytes that are held for `new` ones, if there is room.
    fn exchange(&self, old: usize, new: usize) -> bool {
        let exchanged = self.held.try_update(Ordering::Relaxed, Ordering::Relaxed, |held| {
            let others = held - old;
            others.checked_add(new).filter(|sum| *sum <= self.most || new <= old)
        });
        exchanged.is_ok()
    }
}

impl Budget {
    /// A budget of so many bytes together.
    pub(crate) fn of(bytes: usize) -> Self {
        let small = bytes / 4;
        Self(Arc::new(Pools { small: Pool::of(small), large: Pool::of(bytes - small) }))
    }

    /// Holds no bytes yet.
    pub(crate) fn hold(&self) -> Held {
        Held { pools: Arc::clone(&self.0), bytes: 0, large: false }
    }

    /// Most bytes that one request or answer can hold.
    pub(crate) fn most(&self) -> usize {
        self.0.large.most
    }

    /// Bytes held at this moment.
    pub(crate) fn held(&self) -> usize {
        [&self.0.small, &self.0.large].map(|pool| pool.held.load(Ordering::Relaxed)).iter().sum()
    }
}

/// Bytes of one request or answer.
#[derive(Debug)]
pub(crate) struct Held {
    pools: Arc<Pools>,
    bytes: usize,
    /// Which part of the budget they are of.
    large: bool,
}

impl Held {
    fn pool(&self, large: bool) -> &Pool {
        if large { &self.pools.large } else { &self.pools.small }
    }

    /// Holds so many bytes from now on, more or fewer than before.
    ///
    /// # Errors
    /// 503 if there is no room for more now, 413 if there never is; what was held before still is.
    pub(crate) fn resize(&mut self, bytes: usize) -> Result<(), ApiError> {
        // What has become smaller stays where it is: the other part may be full.
        let large = self.large || bytes > SMALL_BYTES;
        let (old, new) = (self.pool(self.large), self.pool(large));
        let fits = if large == self.large {
            new.exchange(self.bytes, bytes)
        } else {
            let fits = new.exchange(0, bytes);
            if fits {
                old.exchange(self.bytes, 0);
            }
            fits
        };
        if bytes > new.most {
            return Err(ApiError::never_fits(bytes, new.most));
        }
        if !fits {
            let held = new.held.load(Ordering::Relaxed);
            return Err(ApiError::too_many_bytes(held, new.most, !large));
        }
        (self.bytes, self.large) = (bytes, large);
        Ok(())
    }

    /// How many bytes are held.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// A buffer for the answer of so many numbers as bytes are held for: one that grows would be
    /// there twice while it does.
    pub(crate) fn buffer(&self) -> Vec<u8> {
        Vec::with_capacity(self.bytes / BYTES_OF_A_NUMBER * DECIMALS)
    }

    /// The bytes of an answer, which are held until the last of them is sent.
    pub(crate) fn answer(mut self, bytes: Vec<u8>) -> Result<Bytes, ApiError> {
        self.resize(bytes.len())?;
        Ok(Bytes::from_owner(HeldBytes { bytes, _held: self }))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.pool(self.large).exchange(self.bytes, 0);
    }
}

struct HeldBytes {
    bytes: Vec<u8>,
    _held: Held,
}

impl AsRef<[u8]> for HeldBytes {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LARGE: usize = SMALL_BYTES + 1;

    #[test]
    fn what_is_large_leaves_room_for_what_is_small() {
        let budget = Budget::of(8 * SMALL_BYTES);
        let mut large = budget.hold();
        large.resize(6 * SMALL_BYTES).unwrap();
        assert!(budget.hold().resize(LARGE).is_err());
        let mut small = budget.hold();
        small.resize(SMALL_BYTES).unwrap();
        assert!(small.resize(LARGE).is_err(), "there is no room for it as a large one");
        assert_eq!(budget.held(), 7 * SMALL_BYTES, "it still holds what it held");
        drop(large);
        small.resize(LARGE).unwrap();
        assert_eq!(budget.held(), LARGE);
    }

    #[test]
    fn an_answer_is_held_until_its_last_byte_is_gone() {
        let budget = Budget::of(8 * SMALL_BYTES);
        let mut answer = budget.hold().answer(vec![7; LARGE]).unwrap();
        let tail = answer.split_off(LARGE - 1);
        drop(answer);
        assert_eq!(budget.held(), LARGE, "one byte keeps all of them in memory");
        drop(tail);
        assert_eq!(budget.held(), 0);
    }

    proptest! {
        #[test]
        fn it_is_never_exceeded_and_nothing_is_lost(
            steps in prop::collection::vec((0usize..6, 0usize..4 * SMALL_BYTES), 0..60),
        ) {
            let budget = Budget::of(8 * SMALL_BYTES);
            let mut all: Vec<Held> = (0..6).map(|_| budget.hold()).collect();
            for (at, bytes) in steps {
                let before = all[at].bytes;
                let fits = all[at].resize(bytes).is_ok();
                prop_assert_eq!(all[at].bytes, if fits { bytes } else { before });
                prop_assert!(fits || bytes > before);
                prop_assert_eq!(budget.held(), all.iter().map(|one| one.bytes).sum::<usize>());
                prop_assert!(budget.held() <= 8 * SMALL_BYTES);
            }
            all.clear();
            prop_assert_eq!(budget.held(), 0);
        }
    }
}
