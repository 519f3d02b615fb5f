//! A pass through a model whose layers come one after the other, as they are read or written: memory for one layer.
//!
//! Calibration runs its texts this way, and what prompts begin with gets its keys and values: in a causal model they depend
//! on the tokens before a token alone, so those of a prompt's fixed beginning (system text, instruction) are constants of the
//! model, which a forward pass reads where it would compute them ([`defrost_model::Prefix::stored`]). As every kernel set
//! gives the same bits, so do stored and computed ones. A language model's attention reads pages, as it will when it continues
//! sequences.

use std::ops::Range;

use super::embedding;
use super::layer::{Keys, Layer, Probe, Rows};
use super::norms::NormWeights;
use super::words::Words;
use super::{Buffers, heads};
use crate::attention::Span;
use crate::decode::OneLayer;
use crate::gemm::Context;
use crate::weights::Weights;
use crate::{Error, Head, Kernel, ModelConfig, Threads};

/// Sequences on their way.
#[derive(Debug)]
pub struct LayerPass {
    config: ModelConfig,
    kernel: Kernel,
    threads: Threads,
    buffers: Buffers,
    places: Vec<usize>,
    spans: Vec<Span>,
    lengths: Vec<usize>,
    /// The pages of a model that continues sequences, from its first layer on.
    pages: Option<OneLayer>,
    next: usize,
}

impl LayerPass {
    /// Begins with sequences of these lengths, whose rows lie in `states` one after the other.
    ///
    /// # Errors
    /// If the configuration contradicts itself, or there are other rows.
    pub fn new(
        config: &ModelConfig,
        states: &[f32],
        lengths: &[usize],
        kernel: Kernel,
        threads: Threads,
    ) -> Result<Self, Error> {
        // The layers that compute a prefix have none.
        let config = ModelConfig { stored_prefix: 0, ..config.clone() };
        config.validate()?;
        let tokens: usize = lengths.iter().sum();
        if states.len() != tokens * config.hidden {
            return Err(Error::Batch(format!(
                "{} values are no rows of {} for {tokens} tokens",
                states.len(),
                config.hidden
            )));
        }
        let mut buffers = Buffers::default();
        buffers.x.slot(states.len()).copy_from_slice(states);
        let longest = lengths.iter().copied().max().unwrap_or(0);
        if config.head != Head::LanguageModel {
            super::check_whole(&config, longest)?;
        }
        buffers.turn_to(&config, longest);
        let mut start = 0;
        let spans = lengths
            .iter()
            .map(|&len| {
                let tokens = start..start + len;
                start = tokens.end;
                Span { stored: 0, prefix: 0..0, queries: 0..len, out: tokens.start, tokens }
            })
            .collect();
        let places = lengths.iter().flat_map(|&len| 0..len).collect();
        let lengths = lengths.to_vec();
        Ok(Self { config, kernel, threads, buffers, places, spans, lengths, pages: None, next: 0 })
    }

    /// Begins with one sequence whose embeddings are the rows of `embedding.words` in `words`, as the model itself will have
    /// them: quantised alike.
    ///
    /// # Errors
    /// As [`LayerPass::new`], or if `words` has other rows.
    pub fn of_words(
        config: &ModelConfig,
        words: &dyn Weights,
        tokens: usize,
        kernel: Kernel,
        threads: Threads,
    ) -> Result<Self, Error> {
        let of_tokens = ModelConfig { vocab: tokens, ..config.clone() };
        let words = Words::load(&of_tokens, words, kernel)?;
        let mut states = vec![0.0; tokens * config.hidden];
        for (token, row) in (0..).zip(states.chunks_exact_mut(config.hidden)) {
            words.add_row(token, row);
        }
        embedding::scale(config, &mut states);
        Self::new(config, &states, &[tokens], kernel, threads)
    }

    /// Normalises the rows as before the first layer, with the weights of `embedding.norm`, if the family does.
    ///
    /// # Errors
    /// If the weights are missing.
    pub fn normalise(&mut self, weights: &dyn Weights) -> Result<(), Error> {
        let Self { config, buffers, places, .. } = self;
        let blueprint = &config.family.blueprint;
        if blueprint.embedding_norm {
            let hidden = config.hidden;
            let norm = NormWeights::load(weights, "embedding.norm", hidden, blueprint.norm)?;
            let cx = Context { kernel: self.kernel, threads: &self.threads };
            let x = &mut buffers.x[..places.len() * hidden];
            norm.run_in_place(cx, x, config.norm_eps, &mut buffers.normed);
        }
        Ok(())
    }

    /// Runs the next layer, which `weights` has.
    ///
    /// # Errors
    /// If they lack a part of it, or there is no memory for keys and values.
    pub fn layer(&mut self, weights: &dyn Weights, probe: &mut dyn Probe) -> Result<(), Error> {
        let Self { config, buffers, places, spans, lengths, pages, .. } = self;
        let layer = Layer::load(config, weights, self.next, self.kernel)?;
        self.next += 1;
        let cx = Context { kernel: self.kernel, threads: &self.threads };
        let mut run = |keys: Keys<'_>| {
            layer.run(cx, config, &mut Rows { places, spans, keys }, buffers, Some(probe));
        };
        if config.head == Head::LanguageModel {
            let pages = match pages {
                Some(pages) => pages,
                None => pages.insert(OneLayer::new(config, lengths, layer.is_f32())?),
            };
            pages.with(|paged| run(Keys::InPages(paged)));
        } else {
            run(Keys::OfPass);
        }
        Ok(())
    }

    /// The rows as the last layer left them.
    pub fn states(&self) -> &[f32] {
        &self.buffers.x[..self.places.len() * self.config.hidden]
    }

    /// Where the key and value heads lie in a row that a probe sees.
    pub fn keys_and_values(config: &ModelConfig) -> Range<usize> {
        let heads = heads(config);
        heads.queries * heads.width..heads.row()
    }
}
