//! Requests that are tokenised in steps: a document at a time, each distinct one of a query once.

use std::sync::Arc;

use defrost_model::Tokens;

use super::{Read, Reranker, Score, ScoreTask, finish};
use crate::Error;
use crate::bounds::{Bounds, Count, Preparing, first_of};
use crate::prepared::Prepared;
use crate::prompt::{Prompt, Query, Sequence};

/// See the module page.
#[derive(Debug)]
pub struct ScorePreparing {
    model: Arc<Reranker>,
    requests: Arc<Vec<ScoreTask>>,
    /// The number of requests that are done.
    done: usize,
    at_hand: Option<AtHand>,
    count: Count,
    sequences: Vec<Tokens>,
    read: Vec<Read>,
}

/// A request of which some documents are tokenised.
#[derive(Debug)]
struct AtHand {
    query: Query,
    /// Bytes that are tokenised again with each document.
    repeated: usize,
    first_of: Vec<usize>,
    documents: Vec<Vec<Sequence>>,
}

impl Reranker {
    /// Prepares as [`Reranker::prepare`] does, in steps and within bounds, and on the thread that makes them alone.
    pub fn preparing(
        self: Arc<Self>,
        requests: Arc<Vec<ScoreTask>>,
        bounds: Bounds,
    ) -> ScorePreparing {
        ScorePreparing {
            model: self,
            requests,
            done: 0,
            at_hand: None,
            count: Count::new(bounds),
            sequences: Vec::new(),
            read: Vec::new(),
        }
    }
}

impl ScorePreparing {
    fn begin(&mut self, at: usize) -> Result<AtHand, Error> {
        let request = &self.requests[at];
        let prompt = &self.model.prompt;
        let query =
            prompt.query(&request.query, request.instruction.as_deref(), &request.truncation)?;
        let repeated = prompt.repeated_bytes(&query);
        let bytes = request.documents.iter().map(String::len).sum();
        self.count.texts("documents", bytes, request.documents.len(), repeated)?;
        let first_of = first_of(&request.documents);
        Ok(AtHand { query, repeated, first_of, documents: Vec::new() })
    }

    fn end(&mut self, AtHand { query, documents, .. }: AtHand) {
        let query = Prompt::query_sequence(&query);
        self.read.push(Read::of(query.as_ref(), &documents));
        let all = query.into_iter().chain(documents.into_iter().flatten());
        self.sequences.extend(all.map(|sequence| sequence.tokens));
        self.done += 1;
    }
}

impl Preparing<Vec<Vec<Score>>> for ScorePreparing {
    fn step(&mut self, bytes: usize) -> Result<Option<Prepared<Vec<Vec<Score>>>>, Error> {
        let prepared = self.step_unchecked(bytes);
        // As in `Reranker::prepare`: an edited file is the reason for whatever is wrong with its tokens.
        self.model.snapshot.intact()?;
        prepared
    }
}

impl ScorePreparing {
    fn step_unchecked(&mut self, bytes: usize) -> Result<Option<Prepared<Vec<Vec<Score>>>>, Error> {
        let mut spent = 0usize;
        while self.done < self.requests.len() {
            let mut at_hand = match self.at_hand.take() {
                Some(at_hand) => at_hand,
                None => self.begin(self.done)?,
            };
            let request = &self.requests[self.done];
            while let Some(document) = request.documents.get(at_hand.documents.len()) {
                if spent >= bytes {
                    self.at_hand = Some(at_hand);
                    return Ok(None);
                }
                let at = at_hand.documents.len();
                let first = at_hand.first_of[at];
                let pieces = if first < at {
                    at_hand.documents[first].clone()
                } else {
                    spent = spent.saturating_add(document.len() + at_hand.repeated + 1);
                    let count = &mut self.count;
                    self.model.prompt.documents(
                        &at_hand.query,
                        document,
                        &request.truncation,
                        &mut |piece| count.sequence("documents", piece.tokens.ids.len()),
                    )?
                };
                if first < at {
                    for piece in &pieces {
                        self.count.sequence("documents", piece.tokens.ids.len())?;
                    }
                }
                at_hand.documents.push(pieces);
            }
            spent = spent.saturating_add(request.query.len() + 1);
            self.end(at_hand);
        }
        let (sequences, read) =
            (std::mem::take(&mut self.sequences), std::mem::take(&mut self.read));
        Ok(Some(finish(&self.model, sequences, read)))
    }
}
