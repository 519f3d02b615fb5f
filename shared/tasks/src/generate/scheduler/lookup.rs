//! Guesses what comes next: what came the last time after the same three tokens (prompt lookup).
//!
//! A model that is bound by memory computes a few rows in the time of one, so tokens that are guessed right come for nothing.
//! They are right where a text repeats what it has: quotes, code, lists, names. Where they are wrong, guessing pauses, longer
//! each time, so that a text that repeats nothing loses little.

use std::collections::HashMap;

/// Two tokens come again by chance too often, four miss the beginnings of what is repeated.
const KEY: usize = 3;
/// Tokens of the first guess; doubled when all were right.
const FIRST: usize = 3;
/// Tokens of the longest guess.
const LONGEST: usize = 16;
/// The longest pause, in tokens.
const LONGEST_PAUSE: usize = 64;

/// The places where each run of three tokens ended last.
#[derive(Debug, Clone)]
pub(super) struct Lookup {
    places: HashMap<[u32; KEY], usize>,
    /// The number of tokens that are in `places`.
    known: usize,
    /// The place after the earlier one of the last three tokens.
    next: Option<usize>,
    length: usize,
    pause: usize,
    /// How many more times nothing is guessed.
    wait: usize,
}

impl Lookup {
    pub(super) fn new() -> Self {
        Self { places: HashMap::new(), known: 0, next: None, length: FIRST, pause: 1, wait: 0 }
    }

    /// What may come after these tokens, at most so many. They begin as those of the last call.
    pub(super) fn guess(&mut self, tokens: &[u32], most: usize) -> Vec<u32> {
        for end in self.known.max(KEY - 1) + 1..=tokens.len() {
            if let Ok(key) = tokens[end - KEY..end].try_into() {
                self.next = self.places.insert(key, end);
            }
        }
        self.known = tokens.len();
        if self.wait > 0 {
            self.wait -= 1;
            return Vec::new();
        }
        let Some(from) = self.next else { return Vec::new() };
        let mut guess: Vec<u32> = Vec::new();
        for at in (from..).take(self.length.min(most)) {
            // What repeats itself goes on in what has been guessed.
            let token = tokens.get(at).or_else(|| guess.get(at - tokens.len()));
            let Some(&token) = token else { break };
            guess.push(token);
        }
        guess
    }

    /// Learns how many of so many guesses were right.
    pub(super) fn learn(&mut self, guessed: usize, right: usize) {
        if right == guessed {
            self.length = (self.length * 2).min(LONGEST);
        } else {
            self.length = right.max(1);
        }
        if right > 0 {
            self.pause = 1;
        } else {
            self.wait = self.pause;
            self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_before_is_guessed() {
        let mut lookup = Lookup::new();
        assert!(lookup.guess(&[1, 2, 3, 4, 5, 9, 1, 2], 8).is_empty());
        assert_eq!(lookup.guess(&[1, 2, 3, 4, 5, 9, 1, 2, 3], 8), [4, 5, 9]);
        assert_eq!(lookup.guess(&[1, 2, 3, 4, 5, 9, 1, 2, 3], 2), [4, 5]);
        lookup.learn(3, 3);
        assert_eq!(lookup.guess(&[1, 2, 3, 4, 5, 9, 1, 2, 3, 4], 8), [5, 9, 1, 2, 3, 4]);
        // The latest place counts, and a period shorter than the guess goes on.
        let mut lookup = Lookup::new();
        assert_eq!(lookup.guess(&[7, 7, 7, 7], 8), [7, 7, 7]);
        assert!(lookup.guess(&[7, 7, 7, 7], 0).is_empty());
    }

    #[test]
    fn wrong_guesses_pause() {
        let tokens = [7; 8];
        let mut lookup = Lookup::new();
        for pause in [1, 2, 4, 8, 16, 32, 64, 64] {
            assert!(!lookup.guess(&tokens, 8).is_empty());
            lookup.learn(1, 0);
            assert!((0..pause).all(|_| lookup.guess(&tokens, 8).is_empty()), "{pause}");
        }
        assert_eq!(lookup.guess(&tokens, 8), [7]);
        lookup.learn(1, 1);
        assert_eq!(lookup.guess(&tokens, 8), [7, 7]);
    }
}
