//! What restricts the tokens of a sequence while it is generated: a grammar, a schema, the shape of a call.
//!
//! Whoever generates goes round with it, for each token:
//!
//! ```text
//! is_done? -> the text ends here
//! forced() -> tokens that must come; each goes to accept()
//! mask(), may_end() -> one is chosen of what may come; it goes to accept(), unless it ends the text
//! ```
//!
//! A constraint knows text and nothing of the tokens that end a turn: whether one may come is [`Constraint::may_end`].

use std::fmt;

use crate::{Error, TokenMask};

/// The state of what restricts one sequence.
pub trait Constraint: Send + fmt::Debug {
    /// The tokens that may come next; `None`: all of them. What it says of tokens that end a turn is not looked at.
    ///
    /// # Errors
    /// If that cannot be told ([`Error::Constraint`]): the grammar is too much work, or was left by an earlier token.
    fn mask(&mut self) -> Result<Option<TokenMask>, Error>;

    /// Takes the next token, one of those that may come.
    ///
    /// # Errors
    /// If it may not come.
    fn accept(&mut self, id: u32) -> Result<(), Error>;

    /// The tokens that must come next, as many as are known; mostly none. They are not accepted by this.
    fn forced(&mut self) -> Vec<u32> {
        Vec::new()
    }

    /// Whether the text may end here.
    fn may_end(&mut self) -> bool;

    /// Whether the text must end here: nothing can follow.
    fn is_done(&mut self) -> bool;
}
