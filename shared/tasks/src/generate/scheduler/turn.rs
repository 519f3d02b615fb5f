//! What a step computes for one branch.

use defrost_model::{Decoder, Logits, LogitsOf, Piece, SequenceId, TokenMask};

use crate::Error;

#[derive(Debug)]
pub(super) struct Turn {
    /// The number of the request.
    pub(super) entry: u64,
    pub(super) choice: usize,
    pub(super) sequence: SequenceId,
    /// The next tokens, at the end perhaps guessed ones.
    pub(super) ids: Vec<u32>,
    pub(super) guessed: usize,
    pub(super) logits: LogitsOf,
    pub(super) allowed: Option<TokenMask>,
}

impl Turn {
    /// Only the tokens that are known.
    pub(super) fn forget_guesses(&mut self) {
        if self.guessed > 0 {
            self.ids.truncate(self.ids.len() - self.guessed);
            self.guessed = 0;
            self.logits = LogitsOf::Last;
        }
    }

    /// Half of the tokens; what would come after the last one is looked at when the others are computed.
    pub(super) fn halve(&mut self) {
        self.ids.truncate(self.ids.len() / 2);
        if self.logits == LogitsOf::Last {
            (self.logits, self.allowed) = (LogitsOf::None, None);
        }
    }

    fn piece(&self) -> Piece<'_> {
        let Self { sequence, ids, logits, allowed, .. } = self;
        Piece { sequence: *sequence, ids, logits: *logits, allowed: allowed.as_ref() }
    }

    fn rows(&self) -> usize {
        match self.logits {
            LogitsOf::None => 0,
            LogitsOf::Last => 1,
            LogitsOf::All => self.ids.len(),
        }
    }
}

/// What the model says, in the order of the turns.
pub(super) fn run(decoder: &dyn Decoder, turns: &[Turn]) -> Result<Vec<Logits>, Error> {
    let pieces: Vec<Piece<'_>> = turns.iter().map(Turn::piece).collect();
    let said = decoder.step(&pieces)?;
    let found: Vec<usize> = said.iter().map(|Logits(rows)| rows.len()).collect();
    let expected: Vec<usize> = turns.iter().map(Turn::rows).collect();
    if found != expected {
        let what =
            format!("the model gave {found:?} rows of logits in a step, expected {expected:?}");
        return Err(Error::Model(what));
    }
    Ok(said)
}
