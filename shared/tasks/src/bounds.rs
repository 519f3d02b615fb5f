//! What one request may grow into. Few bytes can ask for much: a prompt goes before every text, a query before every
//! document, a document is read in pieces, and every token may have a vector in the answer. So what a request asks for is
//! counted while it is tokenised and refused before it is built; a server that bounds the bytes of a request bounds its
//! memory and its time on other requests' account with these.

use crate::Error;
use crate::prepared::Prepared;

/// Bounds on what is made of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Bytes of text that are tokenised; a prompt or a query counts with every text that it goes before.
    pub text_bytes: usize,
    /// The number of sequences that are run.
    pub sequences: usize,
    /// The number of tokens of all sequences together.
    pub tokens: usize,
    /// The count of numbers in all vectors of the answer together.
    pub numbers: usize,
}

impl Bounds {
    /// No bounds, for callers that know what they ask for.
    pub const NONE: Self = Self {
        text_bytes: usize::MAX,
        sequences: usize::MAX,
        tokens: usize::MAX,
        numbers: usize::MAX,
    };
}

/// A request that is tokenised in steps, so that other requests have their turn in between and it can be given up.
pub trait Preparing<T>: Send {
    /// Tokenises about `bytes` bytes of text, at least one text; gives the request once all texts are tokenised.
    ///
    /// # Errors
    /// If the request is wrong, or asks for more than its bounds allow ([`Error::TooMuch`]).
    fn step(&mut self, bytes: usize) -> Result<Option<Prepared<T>>, Error>;
}

/// What has been counted of a request.
#[derive(Debug)]
pub(crate) struct Count {
    bounds: Bounds,
    text_bytes: usize,
    sequences: usize,
    tokens: usize,
}

impl Count {
    pub(crate) fn new(bounds: Bounds) -> Self {
        Self { bounds, text_bytes: 0, sequences: 0, tokens: 0 }
    }

    /// Texts of together `bytes`, before each of `count` of them `repeated` bytes more.
    pub(crate) fn texts(
        &mut self,
        param: &'static str,
        bytes: usize,
        count: usize,
        repeated: usize,
    ) -> Result<(), Error> {
        let more = repeated.saturating_mul(count).saturating_add(bytes);
        self.text_bytes = self.text_bytes.saturating_add(more);
        let (found, most) = (self.text_bytes, self.bounds.text_bytes);
        within(param, found, most, || {
            format!(
                "{param}: with the {repeated} bytes that go before each of {count} texts there are {found} bytes to tokenise, \
                 at most {most} are allowed; send fewer texts in a request, or less before them"
            )
        })
    }

    /// One sequence more.
    pub(crate) fn sequence(&mut self, param: &'static str, tokens: usize) -> Result<(), Error> {
        self.sequences += 1;
        self.tokens = self.tokens.saturating_add(tokens);
        let (found, most) = (self.sequences, self.bounds.sequences);
        within(param, found, most, || {
            format!(
                "{param}: the texts are more than {most} sequences to run, which is the most of one request; send fewer \
                 texts, or ask for fewer pieces of each"
            )
        })?;
        let (found, most) = (self.tokens, self.bounds.tokens);
        within(param, found, most, || {
            format!(
                "{param}: the sequences have more than {most} tokens, which is the most of one request; send fewer texts, \
                 or a shorter query"
            )
        })
    }

    /// Numbers of the answer: `each` for every token and `whole` beside them.
    pub(crate) fn numbers(&self, each: usize, whole: usize) -> Result<usize, Error> {
        let found = self.tokens.saturating_mul(each).saturating_add(whole);
        let most = self.bounds.numbers;
        within("input", found, most, || {
            format!(
                "the vectors of {} tokens have {found} numbers, at most {most} are allowed in an answer; send fewer or shorter \
                 texts, or ask for fewer kinds of vectors",
                self.tokens
            )
        })?;
        Ok(found)
    }
}

fn within(
    param: &'static str,
    found: usize,
    most: usize,
    message: impl FnOnce() -> String,
) -> Result<(), Error> {
    if found <= most { Ok(()) } else { Err(Error::TooMuch { param, message: message() }) }
}

/// The place, for each item, of the first one that equals it, mostly its own.
pub(crate) fn first_of<T: std::hash::Hash + Eq>(items: &[T]) -> Vec<usize> {
    let mut known = std::collections::HashMap::with_capacity(items.len());
    items.iter().enumerate().map(|(at, item)| *known.entry(item).or_insert(at)).collect()
}
