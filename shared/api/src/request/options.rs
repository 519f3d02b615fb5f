//! The options of a request: which of several names was used, and whether two of them disagree.

use super::{Normalization, RerankTruncation, Route, Shape};
use crate::body::RerankBody;
use crate::checks;
use crate::error::Invalid;
use crate::lenient::{Count, FlagOrName};
use crate::truncate::{self, Cut};

impl RerankBody {
    pub(super) fn refuse_contradictions(&self, route: Route, shape: Shape) -> Result<(), Invalid> {
        let expected = match shape {
            Shape::Canonical | Shape::Sglang => "documents",
            Shape::Tei => "texts",
            Shape::BaaiSingle => "passage",
            Shape::BaaiBatch => "pairs",
            Shape::BaaiQuery => "passages",
            Shape::Mixedbread | Shape::Classification => "input",
            Shape::Score => "queries",
            Shape::Prediction | Shape::Predictions => "inputs",
        };
        let keys = [
            ("documents", self.documents.is_some()),
            ("texts", self.texts.is_some()),
            ("passage", self.passage.is_some()),
            ("input", self.input.is_some()),
            ("pairs", self.pairs.is_some()),
            ("passages", self.passages.is_some()),
        ];
        let has_expected = keys.iter().any(|&(key, given)| given && key == expected);
        let Some((other, _)) = keys.iter().find(|&&(key, given)| given && key != expected) else {
            return Ok(());
        };
        let message = match (has_expected, *other) {
            (true, _) => {
                format!("{expected} and {other} contradict each other; send only one of them")
            }
            (false, "pairs") if route == Route::Rerank => {
                "pairs is read on /rerank/batch; send it there".to_owned()
            }
            (false, "passages") if route == Route::Rerank => {
                "passages is read on /rerank/query; send it there, or send documents".to_owned()
            }
            (false, _) => format!("this route expects {expected}, found {other}"),
        };
        Err(Invalid::new(*other, message))
    }

    /// The mapping of scores, from whichever of four fields says it.
    pub(crate) fn normalization(&self) -> Result<Option<Normalization>, Invalid> {
        let scaled = |yes: bool| {
            if yes { Normalization::Normalized } else { Normalization::Raw }
        };
        let mut asked: Vec<(&str, Normalization)> = Vec::new();
        if let Some(name) = &self.normalization {
            asked.push(("normalization", named("normalization", name)?));
        }
        match &self.normalize {
            None => {}
            Some(FlagOrName::Flag(flag)) => asked.push(("normalize", scaled(*flag))),
            Some(FlagOrName::Name(name)) => asked.push(("normalize", named("normalize", name)?)),
        }
        if let Some(raw) = self.raw_scores {
            asked.push(("raw_scores", scaled(!raw.0)));
        }
        if let Some(activation) = self.use_activation {
            asked.push(("use_activation", scaled(activation.0)));
        }
        let mut chosen: Option<(&str, Normalization)> = None;
        for (field, wanted) in asked {
            chosen = match chosen {
                None => Some((field, wanted)),
                Some((_, have)) if have == wanted => chosen,
                Some((first, Normalization::Normalized)) if wanted != Normalization::Raw => {
                    Some((first, wanted))
                }
                Some((_, have))
                    if wanted == Normalization::Normalized && have != Normalization::Raw =>
                {
                    chosen
                }
                Some((first, _)) => {
                    return Err(Invalid::new(
                        field,
                        format!(
                            "{first} and {field} ask for different scores; send only one of them"
                        ),
                    ));
                }
            };
        }
        Ok(chosen.map(|(_, wanted)| wanted))
    }

    pub(crate) fn truncation(&self) -> Result<RerankTruncation, Invalid> {
        let names = truncate::Names {
            truncate: self.truncate.as_ref(),
            truncation: self.truncation.flatten(),
            truncation_direction: self.truncation_direction.as_deref(),
            truncation_side: self.truncation_side.as_deref(),
            truncate_prompt_tokens: self.truncate_prompt_tokens,
        };
        // Cut unless it is refused: nothing is told but of what is cut.
        let (cut, max_tokens) = names.agreed(Cut::End, &mut Vec::new())?;
        let max_chunks_per_doc = chunks(self.max_chunks_per_doc)?.filter(|&chunks| chunks > 1);
        if cut == Cut::Start && max_chunks_per_doc.is_some() {
            return Err(Invalid::new(
                "max_chunks_per_doc",
                "max_chunks_per_doc: a document is read in pieces from its start, and truncation on the left was asked for \
                 too; send only one of them",
            ));
        }
        Ok(RerankTruncation {
            forbidden: cut == Cut::Refuse,
            from_start: cut == Cut::Start,
            max_tokens,
            max_chunks_per_doc,
            max_tokens_per_query: checks::token_limit(
                "max_tokens_per_query",
                self.max_tokens_per_query,
            )?,
            max_tokens_per_doc: checks::token_limit("max_tokens_per_doc", self.max_tokens_per_doc)?,
        })
    }

    pub(super) fn top_n(&self) -> Result<Option<usize>, Invalid> {
        let top_n = checks::natural("top_n", self.top_n)?;
        let top_k = checks::natural("top_k", self.top_k.flatten())?;
        match (top_n, top_k) {
            (Some(n), Some(k)) if n != k => Err(Invalid::new(
                "top_k",
                format!("top_n is {n} and top_k is {k}; send only one of them"),
            )),
            _ => Ok(top_n.or(top_k)),
        }
    }
}

/// Most pieces of a document: Cohere's is 10, and what a book has in pieces of a page is below
/// this.
pub const MAX_CHUNKS_PER_DOC: usize = 1000;

fn chunks(asked: Option<Count>) -> Result<Option<usize>, Invalid> {
    match checks::natural("max_chunks_per_doc", asked)? {
        Some(found) if found > MAX_CHUNKS_PER_DOC => Err(Invalid::new(
            "max_chunks_per_doc",
            format!("max_chunks_per_doc: expected at most {MAX_CHUNKS_PER_DOC}, found {found}"),
        )),
        asked => Ok(asked),
    }
}

fn named(field: &str, name: &str) -> Result<Normalization, Invalid> {
    Normalization::named(&name.to_ascii_lowercase()).ok_or_else(|| {
        Invalid::new(
            field,
            format!("{field}: expected \"sigmoid\", \"raw\" or \"mxbai\"; found another name"),
        )
    })
}
