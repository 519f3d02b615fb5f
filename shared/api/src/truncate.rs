//! What clients ask for over-long texts, under the names that services gave it.

use crate::checks;
use crate::error::Invalid;
use crate::lenient::{Flag, FlagOrName};

/// What happens to a text that is longer than the model reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Cut {
    /// The request does not say: the server's setting decides.
    #[default]
    ServerDefault,
    /// The request fails.
    Refuse,
    /// Tokens are dropped at the end.
    End,
    /// Tokens are dropped at the start.
    Start,
}

impl Cut {
    /// From TEI's, Cohere's and Jina's `truncate` and Voyage's `truncation`.
    pub(crate) fn asked(
        truncate: Option<&FlagOrName>,
        truncation: Option<Flag>,
    ) -> Result<Self, Invalid> {
        let flag = |allowed| if allowed { Self::End } else { Self::Refuse };
        let truncate = match truncate {
            None => None,
            Some(FlagOrName::Flag(allowed)) => Some(flag(*allowed)),
            Some(FlagOrName::Name(name)) => match name.as_str() {
                "none" => Some(Self::Refuse),
                "end" => Some(Self::End),
                "start" => Some(Self::Start),
                _ => {
                    return Err(Invalid::new(
                        "truncate",
                        "truncate: expected true, false, \"END\", \"NONE\" or (embeddings only) \"START\"",
                    ));
                }
            },
        };
        let truncation = truncation.map(|Flag(allowed)| flag(allowed));
        match (truncate, truncation) {
            // `truncation: true` says that texts are cut, not where.
            (Some(Self::Start), Some(Self::End)) => Ok(Self::Start),
            _ => checks::agreed([("truncate", truncate), ("truncation", truncation)])
                .map(Option::unwrap_or_default),
        }
    }
}
