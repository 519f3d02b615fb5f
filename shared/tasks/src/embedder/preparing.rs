//! A request whose inputs are encoded in steps: an input at a time, each distinct one once.

use std::sync::Arc;

use super::sequence::{Common, Sequence};
use super::{EmbedTask, Embedder, Embedding, Input, Outputs};
use crate::Error;
use crate::bounds::{Bounds, Count, Preparing, first_of};
use crate::prepared::Prepared;

/// See the module page.
#[derive(Debug)]
pub struct EmbedPreparing {
    model: Arc<Embedder>,
    request: Arc<EmbedTask>,
    begun: Option<Begun>,
    count: Count,
}

/// The part of the work that is done once the prompt is tokenised.
#[derive(Debug)]
struct Begun {
    common: Common,
    first_of: Vec<usize>,
    sequences: Vec<Sequence>,
}

impl Embedder {
    /// Prepares as [`Embedder::prepare`] does, in steps and within bounds, and on the thread that makes them alone.
    pub fn preparing(self: Arc<Self>, request: Arc<EmbedTask>, bounds: Bounds) -> EmbedPreparing {
        EmbedPreparing { model: self, request, begun: None, count: Count::new(bounds) }
    }

    /// Numbers that a request wants of every token, and of every input.
    fn numbers(&self, request: &EmbedTask) -> (usize, usize) {
        let Outputs { dense, sparse, colbert, tokens } = request.outputs;
        let of = |wanted: bool, numbers: usize| if wanted { numbers } else { 0 };
        let hidden = self.info.hidden;
        // A weight is written with its token.
        let each = of(sparse, 2) + of(colbert, self.colbert_width) + of(tokens, hidden);
        (each, of(dense, request.dimensions.unwrap_or(hidden)))
    }
}

impl EmbedPreparing {
    fn begin(&mut self) -> Result<Begun, Error> {
        let (model, request) = (&self.model, &self.request);
        model.check(request)?;
        let common = model.common(request)?;
        let length = |input: &Input| match input {
            Input::Text(text) => text.len(),
            Input::Tokens(tokens) => tokens.len(),
        };
        let bytes = request.inputs.iter().map(length).sum();
        self.count.texts("input", bytes, request.inputs.len(), common.repeated_bytes())?;
        let first_of = first_of(&request.inputs);
        Ok(Begun { common, first_of, sequences: Vec::new() })
    }
}

impl Preparing<Vec<Embedding>> for EmbedPreparing {
    fn step(&mut self, bytes: usize) -> Result<Option<Prepared<Vec<Embedding>>>, Error> {
        let prepared = self.step_unchecked(bytes);
        // As in `Embedder::prepare`: an edited file is the reason for whatever is wrong with its tokens.
        self.model.snapshot.intact()?;
        prepared
    }
}

impl EmbedPreparing {
    fn step_unchecked(&mut self, bytes: usize) -> Result<Option<Prepared<Vec<Embedding>>>, Error> {
        let mut begun = match self.begun.take() {
            Some(begun) => begun,
            None => self.begin()?,
        };
        let (model, request) = (&self.model, &self.request);
        let Begun { common, first_of, sequences } = &mut begun;
        let encoder = model.encoder(common);
        let (each, whole) = model.numbers(request);
        let whole = whole.saturating_mul(request.inputs.len());
        if request.late_chunking {
            let prepared = model.prepare_chunks(&encoder, request)?;
            let numbers = self.count.numbers(0, whole)?;
            return Ok(Some(prepared.with_numbers(numbers)));
        }
        let mut spent = 0usize;
        while let Some(input) = request.inputs.get(sequences.len()) {
            if spent >= bytes {
                self.begun = Some(begun);
                return Ok(None);
            }
            let index = sequences.len();
            let sequence = if first_of[index] < index {
                sequences[first_of[index]].clone()
            } else {
                let text = if let Input::Text(text) = input { text.len() } else { 0 };
                spent = spent.saturating_add(text + common.repeated_bytes() + 1);
                encoder.encode(input, (0, index))?
            };
            self.count.sequence("input", sequence.tokens.ids.len())?;
            sequences.push(sequence);
        }
        let numbers = self.count.numbers(each, whole)?;
        let sequences = std::mem::take(sequences);
        Ok(Some(model.prepared(request, sequences).with_numbers(numbers)))
    }
}
