//! A reply's text, as it comes, to what it consists of: thoughts, an answer, calls of tools.
//!
//! ```text
//! text --Thoughts--> reasoning            between the marks that the template knows
//!             `----> text --Calls--> content, calls, arguments        in the format that the prompt asked for
//! ```
//!
//! Nothing is said twice or taken back, and what is said does not depend on how the text was cut: a piece that may yet
//! become a mark is held until that is decided. Arguments go out as the model writes them, as soon as the name of the tool is
//! known.
//!
//! Text that looks like a call and turns out to be none is content, every letter of it. White space around thoughts and
//! calls belongs to the format and is dropped; elsewhere it stays.

mod calls;
mod hold;
mod object;
mod thoughts;

use crate::delta::Delta;
use crate::format::FormatKind;
use crate::thinking::Thinking;
use calls::Calls;
pub(crate) use calls::short_id;
use thoughts::Thoughts;

/// What a reply's text is to be read as; it comes with the prompt.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ReplyForm {
    /// How calls of tools are written; `None`: there are none.
    pub calls: Option<FormatKind>,
    /// The names of the tools that there are.
    pub tools: Vec<String>,
    /// The marks around thoughts; `None`: there are none.
    pub thinking: Option<Thinking>,
    /// Whether the prompt ends within thoughts.
    pub is_thinking: bool,
    /// Whether ids of calls are nine letters and digits.
    pub short_ids: bool,
}

impl ReplyForm {
    /// The texts of special tokens that are to be part of the text, while other special tokens are left out of it.
    pub fn marks(&self) -> Vec<&'static str> {
        let of_calls = self.calls.map_or(&[][..], FormatKind::marks);
        let of_thoughts = self.thinking.map(|thinking| [thinking.open, thinking.close]);
        of_calls.iter().copied().chain(of_thoughts.into_iter().flatten()).collect()
    }
}

/// Reads one reply.
#[derive(Debug)]
pub struct ReplyParser {
    thoughts: Thoughts,
    calls: Calls,
}

impl ReplyParser {
    /// A reply of this form. Ids of calls are made from the seed, which should be another one for each reply.
    pub fn new(form: &ReplyForm, seed: u64) -> Self {
        Self { thoughts: Thoughts::new(form), calls: Calls::new(form, seed) }
    }

    /// The next text.
    pub fn feed(&mut self, text: &str) -> Vec<Delta> {
        let mut deltas = Vec::new();
        let answer = self.thoughts.feed(text, &mut deltas);
        self.calls.feed(&answer, &mut deltas);
        deltas
    }

    /// There is no more: what was held is said.
    pub fn finish(&mut self) -> Vec<Delta> {
        let mut deltas = Vec::new();
        let answer = self.thoughts.finish(&mut deltas);
        self.calls.feed(&answer, &mut deltas);
        self.calls.finish(&mut deltas);
        deltas
    }

    /// How many calls have begun.
    pub fn calls(&self) -> usize {
        self.calls.count()
    }
}

/// Reads a whole reply.
pub fn parse_reply(form: &ReplyForm, seed: u64, text: &str) -> Vec<Delta> {
    let mut parser = ReplyParser::new(form, seed);
    let mut deltas = parser.feed(text);
    deltas.extend(parser.finish());
    deltas
}
