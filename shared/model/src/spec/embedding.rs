//! What an embedding model's files say about its vectors: prompts, normalisation, dimensions, and which tokens have no
//! weight in sparse vectors.
//!
//! In a snapshot's metadata:
//!
//! ```text
//! embedding.normalizes      true | false                       whether vectors are scaled to length 1
//! embedding.matryoshka      none | 32.. | 64,128,256           see [`Matryoshka`]
//! embedding.prompts         2                                  how many follow
//! embedding.prompt.0.name   query
//! embedding.prompt.0.text   Instruct: …
//! embedding.default_prompt  query                              absent if there is none
//! embedding.weightless      0,1,2,3                            token ids; absent without a sparse head
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use super::meta::Meta;
use crate::Error;

const NORMALIZES: &str = "embedding.normalizes";
const MATRYOSHKA: &str = "embedding.matryoshka";
const PROMPTS: &str = "embedding.prompts";
const DEFAULT_PROMPT: &str = "embedding.default_prompt";
const WEIGHTLESS: &str = "embedding.weightless";

/// The most prompts of a model; the richest on the hub have some dozens.
pub const MOST_PROMPTS: usize = 1024;

/// Names that queries' prompts go by: sentence-transformers', then those of models that name theirs in the words of hosted
/// services or of benchmarks.
const QUERY_NAMES: [&str; 5] =
    ["query", "search_query", "retrieval.query", "retrieval_query", "s2p_query"];

/// Names that documents' prompts go by: sentence-transformers' in its order, then others as for queries.
const DOCUMENT_NAMES: [&str; 8] = [
    "document",
    "passage",
    "corpus",
    "search_document",
    "retrieval.passage",
    "retrieval_passage",
    "retrieval.document",
    "retrieval_document",
];

/// How an embedding model's texts become vectors.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EmbeddingSpec {
    /// Texts that go before inputs, by name.
    pub prompts: BTreeMap<String, String>,
    /// The prompt for inputs of no particular kind, one of `prompts`.
    pub default_prompt: Option<String>,
    /// Whether dense vectors are scaled to length 1.
    pub normalizes: bool,
    /// The lengths to which dense vectors may be cut.
    pub matryoshka: Matryoshka,
    /// Token ids that get no weight in sparse vectors: those of cls, eos, pad and unk, as in `FlagEmbedding`.
    pub weightless: BTreeSet<u32>,
}

/// To how many dimensions dense vectors may be cut: such models are trained so that the first ones say most (Matryoshka
/// representation learning).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Matryoshka {
    /// Vectors are of use only at full length.
    #[default]
    No,
    /// Vectors may be cut to any number of dimensions from this one on.
    From(usize),
    /// Vectors may be cut to one of these numbers of dimensions, ascending.
    Only(Vec<usize>),
}

impl Matryoshka {
    /// Whether a vector of `hidden` dimensions may be cut to `dimensions`.
    pub fn allows(&self, dimensions: usize, hidden: usize) -> bool {
        dimensions == hidden
            || match self {
                Self::No => false,
                Self::From(least) => (*least..hidden).contains(&dimensions),
                Self::Only(few) => few.contains(&dimensions) && dimensions < hidden,
            }
    }
}

impl fmt::Display for Matryoshka {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::No => f.write_str("none"),
            Self::From(least) => write!(f, "{least}.."),
            Self::Only(few) => {
                let few: Vec<String> = few.iter().map(ToString::to_string).collect();
                f.write_str(&few.join(","))
            }
        }
    }
}

impl FromStr for Matryoshka {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |text: &str| text.parse().ok().filter(|&number: &usize| number > 0);
        let parsed = match text.strip_suffix("..") {
            Some(least) => number(least).map(Self::From),
            None if text == "none" => Some(Self::No),
            None => {
                let few = text.split(',').map(number).collect::<Option<Vec<usize>>>();
                few.map(|mut few| {
                    few.sort_unstable();
                    Self::Only(few)
                })
            }
        };
        let parsed = parsed.ok_or_else(|| {
            format!("{text:?} is not `none`, `32..` or `64,128,256`, numbers of dimensions from 1")
        })?;
        match &parsed {
            Self::Only(few) if few.windows(2).any(|pair| pair[0] == pair[1]) => {
                Err(format!("{text:?} names a number of dimensions twice: expected each once"))
            }
            _ => Ok(parsed),
        }
    }
}

impl EmbeddingSpec {
    /// The prompt for queries; empty if the model has none.
    pub fn query_prompt(&self) -> &str {
        self.prompt_named(&QUERY_NAMES)
    }

    /// The prompt for documents; empty if the model has none.
    pub fn document_prompt(&self) -> &str {
        self.prompt_named(&DOCUMENT_NAMES)
    }

    /// The first of these, in any case; empty if the model has none of them.
    fn prompt_named(&self, names: &[&str]) -> &str {
        let named = |name: &&str| {
            let mut prompts = self.prompts.iter();
            prompts.find(|(own, _)| own.eq_ignore_ascii_case(name)).map(|(_, text)| text.as_str())
        };
        names.iter().find_map(named).unwrap_or_default()
    }

    /// Adds the metadata strings that [`EmbeddingSpec::from_meta`] reads.
    pub(crate) fn put_meta(&self, meta: &mut BTreeMap<String, String>) {
        let mut put = |key: &str, value: String| meta.insert(key.to_owned(), value);
        put(NORMALIZES, self.normalizes.to_string());
        put(MATRYOSHKA, self.matryoshka.to_string());
        put(PROMPTS, self.prompts.len().to_string());
        for (at, (name, text)) in self.prompts.iter().enumerate() {
            let [name_key, text_key] = prompt_keys(at);
            put(&name_key, name.clone());
            put(&text_key, text.clone());
        }
        if let Some(name) = &self.default_prompt {
            put(DEFAULT_PROMPT, name.clone());
        }
        if !self.weightless.is_empty() {
            let ids: Vec<String> = self.weightless.iter().map(ToString::to_string).collect();
            put(WEIGHTLESS, ids.join(","));
        }
    }

    /// Reads them back; `None` if there are none. The error names the key at fault.
    pub(crate) fn from_meta(meta: &Meta<'_>) -> Result<Option<Self>, Error> {
        if (meta.get)(NORMALIZES).is_none() {
            return Ok(None);
        }
        let count: usize = meta.parse(PROMPTS)?;
        if count > MOST_PROMPTS {
            return Err(meta.unknown(PROMPTS, &count.to_string()));
        }
        let prompts = (0..count).map(|at| {
            let [name, text] = prompt_keys(at);
            Ok((meta.text(&name)?.to_owned(), meta.text(&text)?.to_owned()))
        });
        let prompts = prompts.collect::<Result<BTreeMap<_, _>, Error>>()?;
        let default_prompt = (meta.get)(DEFAULT_PROMPT).map(str::to_owned);
        if let Some(name) = default_prompt.as_ref().filter(|&name| !prompts.contains_key(name)) {
            return Err(meta.unknown(DEFAULT_PROMPT, name));
        }
        let weightless = match (meta.get)(WEIGHTLESS) {
            None => BTreeSet::new(),
            Some(ids) => ids
                .split(',')
                .map(|id| id.parse().map_err(|_| meta.unknown(WEIGHTLESS, ids)))
                .collect::<Result<_, Error>>()?,
        };
        Ok(Some(Self {
            prompts,
            default_prompt,
            normalizes: meta.parse(NORMALIZES)?,
            matryoshka: meta.parse(MATRYOSHKA)?,
            weightless,
        }))
    }
}

fn prompt_keys(at: usize) -> [String; 2] {
    ["name", "text"].map(|part| format!("embedding.prompt.{at}.{part}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dimensions_are_written_as_they_are_read() {
        for text in ["none", "32..", "64,128,256", "5"] {
            assert_eq!(text.parse::<Matryoshka>().unwrap().to_string(), text);
        }
        assert_eq!("256,64".parse(), Ok(Matryoshka::Only(vec![64, 256])));
        let twice = "256,64,64".parse::<Matryoshka>().unwrap_err();
        assert!(twice.contains("twice"), "{twice}");
        for text in ["", "32...", "..", "0..", "64,", "0", "yes", "-1.."] {
            assert!(text.parse::<Matryoshka>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_cut_must_be_one_the_model_is_trained_for() {
        let allowed = |text: &str| -> Vec<usize> {
            let matryoshka: Matryoshka = text.parse().unwrap();
            (0..=9).filter(|&dimensions| matryoshka.allows(dimensions, 8)).collect()
        };
        assert_eq!(allowed("none"), [8]);
        assert_eq!(allowed("6.."), [6, 7, 8]);
        assert_eq!(allowed("2,4,9"), [2, 4, 8]);
    }
}
