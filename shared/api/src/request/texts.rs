//! The texts of a request: taken from the key of its shape, checked against the limits.

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value};

use super::{Limits, QueryGroup, Shape};
use crate::body::{Pair, RerankBody};
use crate::checks;
use crate::error::Invalid;
use crate::lenient::{Document, Documents, Text};

/// Most names in `rank_fields`: several times the columns of a wide table of products.
pub const MAX_RANK_FIELDS: usize = 100;

/// What is to be scored.
pub(super) struct Texts {
    pub(super) groups: Vec<QueryGroup>,
    /// See [`super::RerankRequest::originals`].
    pub(super) originals: Vec<Option<Map<String, Value>>>,
}

impl RerankBody {
    /// Takes the texts; `keep`: documents that are objects are wanted back.
    pub(super) fn groups(
        self,
        shape: Shape,
        limits: &Limits,
        keep: bool,
    ) -> Result<Texts, Invalid> {
        let fields = self.rank_fields.as_deref();
        check_fields(fields.unwrap_or_default())?;
        let (key, documents) = match shape {
            Shape::Canonical | Shape::Sglang => ("documents", self.documents),
            Shape::Tei => ("texts", self.texts),
            Shape::Mixedbread => ("input", self.input),
            _ => return Ok(Texts { groups: self.pairs_of(shape, limits)?, originals: Vec::new() }),
        };
        let is_object = |document: &Document| matches!(document, Document::Fields(_));
        let originals = match &documents {
            Some(Documents(documents)) if keep && documents.iter().any(is_object) => {
                let original = |document: &Document| match document {
                    Document::Fields(fields) => Some(fields.clone()),
                    Document::Text(_) => None,
                };
                // More than are allowed are refused below.
                documents.iter().take(limits.max_documents).map(original).collect()
            }
            _ => Vec::new(),
        };
        Ok(Texts { groups: one(self.query, key, documents, fields, limits)?, originals })
    }

    fn pairs_of(self, shape: Shape, limits: &Limits) -> Result<Vec<QueryGroup>, Invalid> {
        match shape {
            Shape::BaaiSingle => {
                let query = bounded("query", self.query, limits)?;
                let passage = bounded("passage", self.passage, limits)?;
                Ok(vec![QueryGroup { query, documents: vec![passage], positions: vec![0] }])
            }
            Shape::BaaiBatch => pairs(self.pairs, limits),
            Shape::BaaiQuery => passages(self.query, self.passages, limits),
            // Read above, or by `ScoreBody`: no route gives its shape to a rerank body.
            _ => Ok(Vec::new()),
        }
    }
}

/// Each field once, and no more than a document can be expected to have: the fields that are named
/// are looked up in every document, and joined to the text that is scored.
fn check_fields(names: &[String]) -> Result<(), Invalid> {
    if names.len() > MAX_RANK_FIELDS {
        let message = format!(
            "rank_fields: at most {MAX_RANK_FIELDS} fields may be named, found {}; send those that are to be read",
            names.len()
        );
        return Err(Invalid::new("rank_fields", message));
    }
    let mut seen = HashSet::with_capacity(names.len());
    match names.iter().find(|name| !seen.insert(*name)) {
        None => Ok(()),
        Some(twice) => {
            let shown: String = twice.chars().take(100).collect();
            let message = format!("rank_fields: {shown:?} is named twice; send each field once");
            Err(Invalid::new("rank_fields", message))
        }
    }
}

fn one(
    query: Option<Text>,
    key: &str,
    documents: Option<Documents>,
    rank_fields: Option<&[String]>,
    limits: &Limits,
) -> Result<Vec<QueryGroup>, Invalid> {
    let query = query.map(|Text(query)| query).ok_or_else(|| {
        Invalid::new("query", "query is missing; send the text to rank by").unreadable()
    })?;
    if query.trim().is_empty() {
        return Err(Invalid::new("query", "query: expected a text, found only white space"));
    }
    let Documents(documents) = documents.ok_or_else(|| {
        Invalid::new(key, format!("{key} is missing; send a list of texts to rank")).unreadable()
    })?;
    let found = documents.len();
    if found == 0 {
        let message = format!("{key}: expected at least one text, found an empty list");
        // TEI's clients tell it from other mistakes.
        let is_tei = key == "texts";
        return Err(if is_tei { Invalid::empty(key, message) } else { Invalid::new(key, message) });
    }
    if found > limits.max_documents {
        return Err(Invalid::new(
            key,
            format!(
                "{key}: at most {} texts are allowed (MAX_DOCUMENTS), found {found}; send several requests",
                limits.max_documents
            ),
        ));
    }
    let documents = documents
        .into_iter()
        .enumerate()
        .map(|(index, document)| document_text(key, index, document, rank_fields))
        .collect::<Result<Vec<_>, _>>()?;
    Ok(vec![QueryGroup { query, documents, positions: (0..found).collect() }])
}

fn document_text(
    key: &str,
    index: usize,
    document: Document,
    rank_fields: Option<&[String]>,
) -> Result<String, Invalid> {
    match (document, rank_fields) {
        (Document::Text(text), _) => Ok(text),
        (Document::Fields(fields), Some(names)) if !names.is_empty() => {
            let values: Vec<String> =
                names.iter().filter_map(|name| fields.get(name)).filter_map(field_text).collect();
            if values.is_empty() {
                return Err(Invalid::new(
                    format!("{key}[{index}]"),
                    format!("{key}[{index}]: the object has none of the rank_fields"),
                ));
            }
            Ok(values.join("\n"))
        }
        (Document::Fields(fields), _) => text_field(fields).ok_or_else(|| {
            Invalid::new(
                format!("{key}[{index}]"),
                format!("{key}[{index}]: expected an object with a string `text`; name other fields in rank_fields"),
            )
        }),
    }
}

fn text_field(mut fields: Map<String, Value>) -> Option<String> {
    match fields.remove("text") {
        Some(Value::String(text)) => Some(text),
        _ => None,
    }
}

fn field_text(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}

fn bounded(param: &str, text: Option<Text>, limits: &Limits) -> Result<String, Invalid> {
    checks::bounded(param, text, limits.max_text_chars, "MAX_TEXT_CHARS")
}

fn pairs(pairs: Option<Vec<Pair>>, limits: &Limits) -> Result<Vec<QueryGroup>, Invalid> {
    let pairs = checks::counted("pairs", pairs, limits.max_pairs, "MAX_PAIRS")?;
    let texts = pairs
        .into_iter()
        .enumerate()
        .map(|(index, pair)| {
            let query = bounded(&format!("pairs[{index}].query"), pair.query, limits)?;
            let passage = bounded(&format!("pairs[{index}].passage"), pair.passage, limits)?;
            Ok((query, passage))
        })
        .collect::<Result<Vec<_>, _>>()?;
    Ok(grouped(texts))
}

/// Pairs of one query go together: its prompt is tokenised once. No text is copied.
pub(crate) fn grouped(pairs: Vec<(String, String)>) -> Vec<QueryGroup> {
    let mut slots: HashMap<&str, usize> = HashMap::with_capacity(pairs.len());
    let places: Vec<usize> = pairs
        .iter()
        .map(|(query, _)| {
            let next = slots.len();
            *slots.entry(query).or_insert(next)
        })
        .collect();
    let mut groups: Vec<QueryGroup> = Vec::with_capacity(slots.len());
    for (index, ((query, document), slot)) in pairs.into_iter().zip(places).enumerate() {
        if slot == groups.len() {
            groups.push(QueryGroup { query, ..QueryGroup::default() });
        }
        groups[slot].documents.push(document);
        groups[slot].positions.push(index);
    }
    groups
}

fn passages(
    query: Option<Text>,
    passages: Option<Vec<Text>>,
    limits: &Limits,
) -> Result<Vec<QueryGroup>, Invalid> {
    let query = bounded("query", query, limits)?;
    let passages = checks::counted("passages", passages, limits.max_pairs, "MAX_PAIRS")?;
    let positions = (0..passages.len()).collect();
    let documents = passages
        .into_iter()
        .enumerate()
        .map(|(index, passage)| bounded(&format!("passages[{index}]"), Some(passage), limits))
        .collect::<Result<_, _>>()?;
    Ok(vec![QueryGroup { query, documents, positions }])
}
