//! Models that think aloud before they answer, between two marks.

/// The marks around thoughts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Thinking {
    /// What thoughts begin with.
    pub open: &'static str,
    /// What they end with.
    pub close: &'static str,
}

const MARKS: [Thinking; 3] = [
    Thinking { open: "<think>", close: "</think>" },
    Thinking { open: "[THINK]", close: "[/THINK]" },
    Thinking { open: "<seed:think>", close: "</seed:think>" },
];

impl Thinking {
    /// The marks that a template knows.
    pub(crate) fn of(template: &str) -> Option<Self> {
        MARKS.into_iter().find(|marks| template.contains(marks.close))
    }

    /// Whether a prompt ends within thoughts: the template has opened them.
    pub(crate) fn is_open_in(self, prompt: &str) -> bool {
        prompt.trim_end().ends_with(self.open)
    }
}
