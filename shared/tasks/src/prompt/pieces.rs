//! Long documents in pieces, each scored with the whole query; the document's score is that of its best piece.
//!
//! Cohere's `max_chunks_per_doc`, and what search engines do by themselves (Elasticsearch's `chunk_rescorer`). A document
//! that fits is one piece and costs what it did. Pieces follow each other without overlap and end at white space where
//! there is some in their second half; what is left after the last one is cut off, and said.

use super::{Form, Prompt, Query, QueryPart, Sequence};
use crate::{Error, Truncation};

/// Tokens by which a piece may grow when it is tokenised behind the words before a document.
const MARGIN: usize = 2;

impl Prompt {
    /// The sequences of one document: one, or as many pieces as it takes and `truncation` allows. With pieces,
    /// `max_tokens_per_doc` bounds each of them. `allow` is asked about every one before the next is made.
    pub fn documents(
        &self,
        query: &Query,
        document: &str,
        truncation: &Truncation,
        allow: &mut dyn FnMut(&Sequence) -> Result<(), Error>,
    ) -> Result<Vec<Sequence>, Error> {
        let most = truncation.max_chunks_per_doc.unwrap_or(1);
        if most <= 1 {
            return one(self.document(query, document, truncation)?, allow);
        }
        if truncation.from_start {
            return Err(Error::InvalidInput {
                param: "max_chunks_per_doc",
                message: "max_chunks_per_doc: a document is read in pieces from its start, and truncation on the left was \
                          asked for too; send one of the two"
                    .into(),
            });
        }
        let cut = Truncation { forbidden: false, ..truncation.clone() };
        let whole = self.document(query, document, &cut)?;
        if !whole.truncated {
            return one(whole, allow);
        }
        let room = self
            .document_room(query, truncation)?
            .min(truncation.max_tokens_per_doc.unwrap_or(usize::MAX));
        let mut rest = document;
        let mut pieces = Vec::new();
        while !rest.is_empty() && pieces.len() < most {
            let (piece, left) = self.piece(rest, room)?;
            rest = left;
            let piece = self.document(query, piece, &cut)?;
            allow(&piece)?;
            pieces.push(piece);
        }
        let truncated = !rest.is_empty() || pieces.iter().any(|piece| piece.truncated);
        self.refuse_if(truncated && truncation.forbidden, "documents")?;
        for piece in &mut pieces {
            piece.truncated = truncated;
        }
        Ok(pieces)
    }

    /// The first piece of at most `room` tokens, and what follows it.
    fn piece<'a>(&self, text: &'a str, room: usize) -> Result<(&'a str, &'a str), Error> {
        let (piece, more) = self.tokenizer.cut(text, room.saturating_sub(MARGIN).max(1))?;
        if !more {
            return Ok((text, ""));
        }
        let end = match piece.char_indices().rfind(|(_, c)| c.is_whitespace()) {
            Some((at, _)) if at > piece.len() / 2 => at,
            // A text whose first token stands for nothing must still go on.
            _ if piece.is_empty() => text.chars().next().map_or(text.len(), char::len_utf8),
            _ => piece.len(),
        };
        Ok((&text[..end], text[end..].trim_start()))
    }

    /// Tokens that a document may have beside the query.
    fn document_room(&self, query: &Query, truncation: &Truncation) -> Result<usize, Error> {
        let count = |text: &str| Ok::<_, Error>(self.tokenizer.ids(text, self.max_length)?.len());
        let taken = match (&self.form, &query.part) {
            (Form::Mxbai { separator, .. }, QueryPart::Ids(query)) => {
                query.len() + separator.len() + count("document: ")?
            }
            (Form::Qwen3 { .. }, QueryPart::Text(text)) => self.fixed_tokens() + count(text)?,
            (Form::Pair, QueryPart::Ids(query)) => query.len() + self.tokenizer.added(true),
            (Form::Embedding { document_prompt, .. }, _) => {
                self.tokenizer.added(false) + count(document_prompt)?
            }
            _ => return Err(Error::Model("the query was prepared for another template".into())),
        };
        Ok(self.length_for(truncation)?.saturating_sub(taken))
    }
}

fn one(
    sequence: Sequence,
    allow: &mut dyn FnMut(&Sequence) -> Result<(), Error>,
) -> Result<Vec<Sequence>, Error> {
    allow(&sequence)?;
    Ok(vec![sequence])
}
