//! Late chunking: the inputs of a request are chunks of one text, and each vector knows what the others say.
//!
//! The model reads all of them as one sequence, and the vector of a chunk is the mean over its own tokens' hidden states
//! (Günther et al., "Late Chunking", arXiv 2409.04701). In between lies what makes it differ from embedding each chunk:
//! attention, through which "the city" takes the meaning of the "Berlin" of an earlier chunk.
//!
//! ```text
//! [CLS]  prompt  chunk 0 . . .  chunk 1 . .  chunk 2 . . . .  [SEP]
//!                |-- mean 0 --||- mean 1 -||--- mean 2 ----|
//! ```
//!
//! Each chunk is tokenised by itself, so that a token belongs to one chunk: as if they were words apart, which is how
//! `WordPiece` and XLM-R's tokenizer take the beginning of a text. Special tokens and the prompt belong to none. Nothing is
//! cut: a chunk that the model does not read has no vector.

use std::ops::Range;

use defrost_model::{Answers, Tokens, Wanted};

use super::sequence::Encoder;
use super::{EmbedTask, Embedder, EmbedderInfo, Embedding};
use crate::Error;
use crate::prepared::{Prepared, Said};

impl EmbedderInfo {
    /// Whether requests may have [`EmbedTask::late_chunking`]: only means can be taken over a part of the tokens.
    pub fn takes_late_chunking(&self) -> bool {
        self.pooling == "mean" && self.has_tokens
    }
}

impl Embedder {
    /// The one sequence of all chunks. Expects what [`check`] lets pass.
    pub(super) fn prepare_chunks(
        &self,
        encoder: &Encoder<'_>,
        request: &EmbedTask,
    ) -> Result<Prepared<Vec<Embedding>>, Error> {
        let rules = self.rules(request);
        let (tokens, spans) = encoder.chunks(&request.inputs)?;
        let wanted = Wanted { hidden: true, ..Wanted::default() };
        let finish = move |said: &[Said<'_>]| {
            let (count, hidden) = match said {
                [Some((tokens, answers))] => (tokens.ids.len(), answers.hidden.as_slice()),
                _ => (0, &[][..]),
            };
            let others = count - spans.iter().map(Range::len).sum::<usize>();
            let chunks = spans.iter().enumerate().map(|(index, span)| {
                let rows = &hidden[span.start * rules.hidden..span.end * rules.hidden];
                let pooled = mean(rows, rules.hidden);
                let answers = Answers { pooled, ..Answers::default() };
                let embedding = rules.embedding(Some((&Tokens::default(), &answers)), false);
                // What belongs to no chunk was run all the same, and is counted once.
                let token_count = span.len() + if index == 0 { others } else { 0 };
                let embedding = embedding.ok_or(Error::NonFinite { request: 0, index })?;
                Ok(Embedding { token_count, ..embedding })
            });
            chunks.collect()
        };
        Ok(Prepared::new(vec![tokens], self.model.runner().grouping(wanted), wanted, finish))
    }
}

/// The mean of rows of this width; zeros where there are none.
#[allow(clippy::cast_possible_truncation, reason = "rounding to f32 is meant")]
fn mean(rows: &[f32], width: usize) -> Vec<f32> {
    let rows = rows.chunks_exact(width);
    let count = rows.len().max(1) as f64;
    let mut sums = vec![0f64; width];
    for row in rows {
        sums.iter_mut().zip(row).for_each(|(sum, &value)| *sum += f64::from(value));
    }
    sums.iter().map(|sum| (sum / count) as f32).collect()
}

/// Refuses late chunking where there is no such thing.
pub(super) fn check(info: &EmbedderInfo, request: &EmbedTask) -> Result<(), Error> {
    let refuse = |message| Err(Error::InvalidInput { param: "late_chunking", message });
    let outputs = request.outputs;
    if !request.late_chunking {
        Ok(())
    } else if !info.takes_late_chunking() {
        let (name, pooling) = (&info.name, info.pooling);
        let why = if info.has_tokens {
            format!("its vectors are made of one token ({pooling})")
        } else {
            "vectors of single tokens cannot be had".to_owned()
        };
        refuse(format!(
            "late_chunking needs a model that takes means of tokens, and of {name} {why}"
        ))
    } else if outputs.sparse || outputs.colbert || outputs.tokens {
        refuse("late_chunking gives dense vectors alone, and others were asked for".to_owned())
    } else {
        Ok(())
    }
}
