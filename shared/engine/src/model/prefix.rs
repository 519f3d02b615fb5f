//! Keys and values of what every sequence of a template begins with, computed once and stored with the weights.
//!
//! In a causal model the keys and values of a token depend on the tokens before it alone. Those of a prompt's fixed
//! beginning (system text, instruction) are thus constants of the model: `pack` computes them with this pass, layer by
//! layer as it encodes the layers, and a forward pass reads them where it would compute them ([`crate::Prefix::stored`]).
//! As every kernel set gives the same bits, so do stored and computed ones.

use super::decoder::Layer;
use super::{Buffers, heads};
use crate::attention::Span;
use crate::gemm::Context;
use crate::weights::{Embedding, Weights};
use crate::{Error, Kernel, ModelConfig, Threads};

/// A prefix on its way through a model whose layers come one after the other.
#[derive(Debug)]
pub struct PrefixPass {
    config: ModelConfig,
    kernel: Kernel,
    threads: Threads,
    buffers: Buffers,
    positions: Vec<usize>,
    next: usize,
}

impl PrefixPass {
    /// Begins with the `config.stored_prefix` tokens whose embeddings are the rows of `embedding.words` in `words`, as
    /// the model itself will have them: quantised alike.
    ///
    /// # Errors
    /// If the configuration stores no prefix, or `words` has other rows.
    pub fn new(
        config: &ModelConfig,
        words: &dyn Weights,
        kernel: Kernel,
        threads: Threads,
    ) -> Result<Self, Error> {
        config.validate()?;
        let (tokens, hidden) = (config.stored_prefix, config.hidden);
        if tokens == 0 {
            return Err(Error::Config("stored_prefix is 0: there is nothing to compute".into()));
        }
        let words = Embedding::load(words, "embedding.words", tokens, hidden)?;
        let mut buffers = Buffers::default();
        let x = buffers.x.slot(tokens * hidden);
        for (token, row) in x.chunks_exact_mut(hidden).enumerate() {
            words.add_row(token, row);
        }
        buffers.rotations.extend_to(tokens, config.head_dim, config.rope_theta);
        let positions = (0..tokens).collect();
        // The layers that compute a prefix have none.
        let config = ModelConfig { stored_prefix: 0, ..config.clone() };
        Ok(Self { config, kernel, threads, buffers, positions, next: 0 })
    }

    /// Runs the next layer, which `weights` has; returns its rows `[k heads | v heads]`, one a token.
    pub fn layer(&mut self, weights: &dyn Weights) -> Result<Vec<f32>, Error> {
        let Self { config, buffers, positions, .. } = self;
        let layer = Layer::load(config, weights, self.next)?;
        self.next += 1;
        let cx = Context { kernel: self.kernel, threads: &self.threads };
        layer.project(cx, config, positions, buffers);
        let heads = heads(config);
        let stored = buffers
            .qkv
            .chunks_exact(heads.row())
            .flat_map(|row| &row[heads.queries * heads.width..])
            .copied()
            .collect();
        let all = 0..positions.len();
        let span = Span { stored: 0, prefix: 0..0, tokens: all.clone(), queries: all, out: 0 };
        layer.finish(cx, config, &[span], buffers);
        Ok(stored)
    }
}
