//! Which chunks are fetched next.
//!
//! Chunks that a reader waits for come first, then all others in file order, which is execution order. Several chunks in
//! a row go into one request; a request for wanted chunks takes only those, because the ones between would delay what
//! a reader waits for.

use std::ops::Range;

use crate::board::{Board, GOOD, WANTED};

/// Which chunks have a request on its way or resting.
#[derive(Debug)]
pub(super) struct Queue {
    taken: Vec<bool>,
    /// All before it are taken or were good.
    low: usize,
}

impl Queue {
    pub(super) fn new(chunks: usize) -> Self {
        Self { taken: vec![false; chunks], low: 0 }
    }

    /// Takes the next run of up to `longest` chunks; `None` while every missing chunk is taken.
    pub(super) fn next(&mut self, board: &Board, longest: usize) -> Option<Range<usize>> {
        let len = self.taken.len();
        let free = |chunk: usize| !self.taken[chunk] && board.state(chunk) != GOOD;
        let low = (self.low..len).find(|&chunk| free(chunk)).unwrap_or(len);
        let wanted = |chunk: usize| free(chunk) && board.state(chunk) == WANTED;
        let (first, fits): (usize, &dyn Fn(usize) -> bool) =
            match (low..len).find(|&chunk| wanted(chunk)) {
                Some(first) => (first, &wanted),
                None => (low, &free),
            };
        let most = (first + longest).min(len);
        let end = (first..most).find(|&chunk| !fits(chunk));
        let run = first..end.unwrap_or(most);
        self.low = low;
        self.taken[run.clone()].fill(true);
        (!run.is_empty()).then_some(run)
    }

    /// Takes chunks back from the request that had them; the missing ones may be taken again.
    pub(super) fn release(&mut self, chunks: Range<usize>) {
        self.low = self.low.min(chunks.start);
        self.taken[chunks].fill(false);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn wanted_chunks_come_first_and_alone() {
        let board = Board::private(20).unwrap();
        let mut queue = Queue::new(20);
        assert_eq!(queue.next(&board, 4), Some(0..4));
        board.want(10);
        board.want(11);
        board.want(13);
        board.good(5);
        assert_eq!(queue.next(&board, 4), Some(10..12));
        assert_eq!(queue.next(&board, 4), Some(13..14));
        assert_eq!(queue.next(&board, 4), Some(4..5));
        assert_eq!(queue.next(&board, 4), Some(6..10));
        assert_eq!(queue.next(&board, 4), Some(12..13));
        queue.release(0..4);
        assert_eq!(queue.next(&board, 4), Some(0..4));
        assert_eq!(queue.next(&board, 4), Some(14..18));
        assert_eq!(queue.next(&board, 4), Some(18..20));
        assert_eq!(queue.next(&board, 4), None);
    }

    proptest! {
        #[test]
        fn whatever_is_good_or_wanted_every_missing_chunk_is_taken_once(
            states in proptest::collection::vec(0u8..3, 1..200),
            longest in 1usize..6,
        ) {
            let board = Board::private(states.len()).unwrap();
            for (chunk, state) in states.iter().enumerate() {
                match state {
                    1 => board.want(chunk),
                    2 => board.good(chunk),
                    _ => {}
                }
            }
            let mut queue = Queue::new(states.len());
            let mut seen = vec![0; states.len()];
            while let Some(run) = queue.next(&board, longest) {
                prop_assert!((1..=longest).contains(&run.len()));
                run.for_each(|chunk| seen[chunk] += 1);
            }
            for (chunk, state) in states.iter().enumerate() {
                prop_assert_eq!(seen[chunk], usize::from(*state != 2));
            }
        }
    }
}
