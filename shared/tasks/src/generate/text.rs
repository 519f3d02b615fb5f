//! From the bytes of tokens to text that can be shown: whole characters, and nothing of a text that ends the completion.
//!
//! ```text
//! bytes of tokens:  ... shown | could begin a stop text, or be half a character
//! ```
//!
//! Every byte moves an automaton of each stop text (Knuth, Morris and Pratt, 1977): how long is the longest beginning of the
//! stop text that the bytes so far end with. That many bytes are held back, and at its whole length the completion ends. So
//! what is shown, held back and cut off is the same however the bytes are cut into tokens, and of several stop texts the one
//! that is complete first ends the completion; of those that end at the same byte, the longest.
//!
//! Bytes that are no UTF-8 become U+FFFD, as `String::from_utf8_lossy` of the whole makes them.

use crate::generate::job::{Produced, ProducedToken};

/// A completion's text while it grows.
#[derive(Debug, Clone)]
pub(crate) struct TextStream {
    stops: Vec<Automaton>,
    include_stop: bool,
    /// Bytes that are not shown yet.
    held: Vec<u8>,
    /// The number of bytes shown before.
    shown: usize,
    /// Tokens whose bytes are not all shown yet, with where those begin and end.
    tokens: Vec<(ProducedToken, usize, usize)>,
}

/// What a token has added.
#[derive(Debug, PartialEq)]
pub(crate) struct Added {
    /// What can be shown, if anything.
    pub(crate) produced: Option<Produced>,
    /// The number of the stop text that ends the completion.
    pub(crate) stopped: Option<usize>,
}

impl TextStream {
    pub(crate) fn new(stops: &[String], include_stop: bool) -> Self {
        let stops = stops.iter().map(|stop| Automaton::new(stop.as_bytes())).collect();
        Self { stops, include_stop, held: Vec::new(), shown: 0, tokens: Vec::new() }
    }

    /// Takes the next token, which stands for these bytes. After a stop text nothing may follow.
    pub(crate) fn push(&mut self, token: ProducedToken, bytes: &[u8]) -> Added {
        let begin = self.shown + self.held.len();
        for &byte in bytes {
            self.held.push(byte);
            if let Some(stop) = self.step(byte) {
                self.tokens.push((token, begin, begin + bytes.len()));
                let cut = if self.include_stop { 0 } else { self.stops[stop].text.len() };
                self.held.truncate(self.held.len() - cut);
                return Added { produced: self.finish(), stopped: Some(stop) };
            }
        }
        self.tokens.push((token, begin, begin + bytes.len()));
        let undecided = self.stops.iter().map(|stop| stop.matched).max().unwrap_or(0);
        let decided = whole(&self.held[..self.held.len() - undecided]);
        let produced = self.show(decided);
        Added { produced, stopped: None }
    }

    /// Takes the token that ends the completion, with all of its bytes.
    pub(crate) fn end(&mut self, token: ProducedToken, bytes: &[u8]) {
        let begin = self.shown + self.held.len();
        self.held.extend(bytes);
        self.tokens.push((token, begin, begin + bytes.len()));
    }

    /// Moves all automata; the longest of the stop texts that are complete with this byte.
    fn step(&mut self, byte: u8) -> Option<usize> {
        let mut longest: Option<usize> = None;
        for at in 0..self.stops.len() {
            let is_complete = self.stops[at].step(byte);
            let is_longer = longest
                .is_none_or(|other| self.stops[at].text.len() > self.stops[other].text.len());
            if is_complete && is_longer {
                longest = Some(at);
            }
        }
        longest
    }

    /// All that is held back, since nothing follows.
    pub(crate) fn finish(&mut self) -> Option<Produced> {
        let end = self.shown + self.held.len();
        // Those that begin beyond the end are of a stop text.
        self.tokens.retain(|&(_, from, to)| from < end || to <= end);
        for (_, _, to) in &mut self.tokens {
            *to = (*to).min(end);
        }
        self.show(self.held.len())
    }

    /// Shows the first `len` bytes of what is held.
    fn show(&mut self, len: usize) -> Option<Produced> {
        let text = String::from_utf8_lossy(&self.held[..len]).into_owned();
        self.held.drain(..len);
        self.shown += len;
        let ended = self.tokens.iter().take_while(|(_, _, end)| *end <= self.shown).count();
        let tokens: Vec<_> = self.tokens.drain(..ended).map(|(token, ..)| token).collect();
        (!text.is_empty() || !tokens.is_empty()).then_some(Produced {
            text,
            tokens,
            is_echo: false,
        })
    }
}

/// How many of the bytes are whole characters, or can become none whatever follows.
fn whole(bytes: &[u8]) -> usize {
    let mut at = 0;
    loop {
        match std::str::from_utf8(&bytes[at..]) {
            Ok(_) => return bytes.len(),
            Err(error) => match error.error_len() {
                Some(wrong) => at += error.valid_up_to() + wrong,
                None => return at + error.valid_up_to(),
            },
        }
    }
}

/// Finds one text in a stream of bytes.
#[derive(Debug, Clone)]
struct Automaton {
    text: Vec<u8>,
    /// For each number of matched bytes: how long the longest shorter beginning is that they end with.
    shorter: Vec<usize>,
    matched: usize,
}

impl Automaton {
    fn new(text: &[u8]) -> Self {
        let mut shorter = vec![0; text.len() + 1];
        for at in 1..text.len() {
            let mut matched = shorter[at];
            while matched > 0 && text[matched] != text[at] {
                matched = shorter[matched];
            }
            shorter[at + 1] = matched + usize::from(text[matched] == text[at]);
        }
        Self { text: text.to_vec(), shorter, matched: 0 }
    }

    /// Takes the next byte; whether the text is complete with it.
    fn step(&mut self, byte: u8) -> bool {
        if self.matched == self.text.len() {
            self.matched = self.shorter[self.matched];
        }
        while self.matched > 0 && self.text[self.matched] != byte {
            self.matched = self.shorter[self.matched];
        }
        if self.text.get(self.matched) == Some(&byte) {
            self.matched += 1;
        }
        self.matched == self.text.len()
    }
}

#[cfg(test)]
mod tests;
