//! What clients ask for over-long texts, under the names that services gave it.

use crate::checks;
use crate::error::Invalid;
use crate::lenient::{Count, Flag, FlagOrName};

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
                        "truncate: expected true, false, \"END\", \"START\" or \"NONE\"",
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

/// Every name under which services take what happens to over-long texts.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Names<'a> {
    pub(crate) truncate: Option<&'a FlagOrName>,
    pub(crate) truncation: Option<Flag>,
    pub(crate) truncation_direction: Option<&'a str>,
    pub(crate) truncation_side: Option<&'a str>,
    pub(crate) truncate_prompt_tokens: Option<Count>,
}

impl Names<'_> {
    /// What happens to over-long texts, and to how many tokens the request wants them cut;
    /// `default` where it does not say.
    ///
    /// A side says where to cut, not whether: where nothing is cut, a warning says that it was not
    /// needed.
    pub(crate) fn agreed(
        self,
        default: Cut,
        warnings: &mut Vec<String>,
    ) -> Result<(Cut, Option<usize>), Invalid> {
        let side = checks::agreed([
            ("truncation_direction", side("truncation_direction", self.truncation_direction)?),
            ("truncation_side", side("truncation_side", self.truncation_side)?),
        ])?;
        let asked = Cut::asked(self.truncate, self.truncation)?;
        // -1 is what the model reads, 0 none in particular.
        let tokens = match self.truncate_prompt_tokens {
            Some(Count(-1)) => Some(0),
            value => checks::natural("truncate_prompt_tokens", value)?.filter(|&limit| limit > 0),
        };
        let cut = match (asked, tokens) {
            (Cut::Refuse, Some(_)) => {
                return Err(checks::contradiction("truncate", "truncate_prompt_tokens"));
            }
            (Cut::ServerDefault, Some(_)) => Cut::End,
            (Cut::ServerDefault, None) => default,
            (asked, _) => asked,
        };
        let cut = match (cut, side) {
            (Cut::End, Some(side)) => side,
            (Cut::Start, Some(Cut::End)) => {
                return Err(checks::contradiction("truncate", "truncation_direction"));
            }
            (Cut::ServerDefault, Some(Cut::Start)) => {
                warnings.push(
                    "truncation_direction is ignored: it is read together with truncate: true only"
                        .to_owned(),
                );
                cut
            }
            _ => cut,
        };
        Ok((cut, tokens.filter(|&limit| limit > 0)))
    }
}

fn side(field: &'static str, name: Option<&str>) -> Result<Option<Cut>, Invalid> {
    let Some(name) = name else { return Ok(None) };
    match name.to_ascii_lowercase().as_str() {
        "left" | "start" => Ok(Some(Cut::Start)),
        "right" | "end" => Ok(Some(Cut::End)),
        _ => Err(Invalid::new(field, format!("{field}: expected \"Left\" or \"Right\""))),
    }
}
