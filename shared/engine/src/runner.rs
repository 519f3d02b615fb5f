//! The engine as a [`Runtime`], and a model of it as a [`Runner`].

use std::path::Path;
use std::sync::Arc;

use defrost_loader::Snapshot;
use defrost_model::spec::Description;
use defrost_model::{Decoder, Grouping, LoadOptions, Planned, Runner, Runtime, isa};

use crate::snapshot_weights::SnapshotWeights;
use crate::{
    Answers, Batch, Error, Head, Kernel, Model, PagedDecoder, Threads, Wanted, measure, native,
};

/// The engine, for functions to link.
pub static RUNTIME: Engine = Engine;

/// This project's own runtime, on the CPU.
#[derive(Debug, Clone, Copy)]
pub struct Engine;

impl Runtime for Engine {
    fn name(&self) -> &'static str {
        "engine"
    }

    fn isa(&self) -> &'static str {
        isa::NATIVE
    }

    fn runs(&self, description: &Description) -> bool {
        matches!(description, Description::Parts(_))
    }

    fn lay_out(&self, portable: &Snapshot, out: &Path) -> Result<(), Error> {
        native::write(portable, out)
    }

    fn is_laid_out(&self, copy: &Snapshot, portable: &Snapshot) -> bool {
        native::is_of(copy, portable)
    }

    fn load(
        &self,
        snapshot: &Snapshot,
        description: Description,
        options: &LoadOptions,
    ) -> Result<Box<dyn Runner>, Error> {
        let Description::Parts(spec) = description else {
            return Err(Error::Model("the engine runs no ONNX models".into()));
        };
        let kernel = match options.kernel {
            None => Kernel::detect(),
            Some(name) => Kernel::by_name(name).ok_or_else(|| {
                let known: Vec<&str> = Kernel::available().into_iter().map(Kernel::name).collect();
                Error::Config(format!(
                    "kernel set {name:?} is not one of this processor: expected one of {}",
                    known.join(", ")
                ))
            })?,
        };
        let threads = Arc::new(Threads::new(options.threads));
        let weights = SnapshotWeights(snapshot.clone());
        let model = Model::load(spec.config, &weights, kernel, Arc::clone(&threads))?;
        let model = Arc::new(model);
        let decoder = (model.config().head == Head::LanguageModel)
            .then(|| {
                let stored = &spec.stored_prefix;
                PagedDecoder::new(Arc::clone(&model), options.kv_tokens, options.context, stored)
            })
            .transpose()?;
        let notes = threads.missing().into_iter();
        let notes = notes.chain(decoder.as_ref().and_then(PagedDecoder::note));
        let notes = notes.map(str::to_owned).collect();
        Ok(Box::new(Loaded { model, decoder, threads, stored_prefix: spec.stored_prefix, notes }))
    }
}

/// A model that the engine has loaded.
#[derive(Debug)]
struct Loaded {
    model: Arc<Model>,
    decoder: Option<PagedDecoder>,
    threads: Arc<Threads>,
    /// Ids of its stored prefix.
    stored_prefix: Vec<u32>,
    notes: Vec<String>,
}

impl Runner for Loaded {
    fn outputs(&self) -> usize {
        self.model.outputs()
    }

    fn threads(&self) -> usize {
        self.threads.count()
    }

    fn kernel(&self) -> &'static str {
        self.model.kernel().name()
    }

    /// Where something is wanted of every token, sequences do not share beginnings, whose tokens would belong to several.
    fn grouping(&self, wanted: Wanted) -> Grouping<'_> {
        if wanted == Wanted::default() && self.model.config().shares_prefixes() {
            Grouping::ByBeginning(&self.stored_prefix)
        } else {
            Grouping::AsTheyCome
        }
    }

    fn run(&self, sequences: &[Planned<'_>], wanted: Wanted) -> Result<Vec<Answers>, Error> {
        let batch = Batch::of(sequences);
        let all = self.model.forward_with(&batch, wanted)?;
        Ok(all.of_each(sequences, wanted))
    }

    fn decoder(&self) -> Option<&dyn Decoder> {
        self.decoder.as_ref().map(|decoder| decoder as &dyn Decoder)
    }

    fn for_each(&self, count: usize, work: &(dyn Fn(usize) + Sync)) {
        self.threads.for_each(count, work);
    }

    fn limit_tokens_per_s(&self) -> Option<f64> {
        let measured = (0..5).filter_map(|_| measure::peak(self.model.kernel(), &self.threads));
        let fastest = measured.fold(0.0, f64::max);
        let a_token = self.model.config().multiply_adds() as f64;
        (fastest > 0.0).then_some(fastest / a_token)
    }

    fn notes(&self) -> &[String] {
        &self.notes
    }
}

#[cfg(test)]
mod tests {
    use defrost_model::Tokens;
    use defrost_model::planning::{Filling, shares};
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// A pass computes as many tokens as its sequences were planned to cost, wherever micro-batches begin.
        #[test]
        fn a_pass_computes_what_was_planned(
            texts in prop::collection::vec((0u32..2, prop::collection::vec(0u32..3, 1..12)), 1..20),
            stored in prop::option::of(prop::collection::vec(0u32..2, 0..6)),
            budget in 1usize..80,
        ) {
            let tokens = |(begin, ids): &(u32, Vec<u32>)| Tokens {
                ids: [&[*begin; 9], &ids[..]].concat(),
                types: Vec::new(),
            };
            let all: Vec<Tokens> = texts.iter().map(tokens).collect();
            let grouping = stored.as_deref().map_or(Grouping::AsTheyCome, Grouping::ByBeginning);
            let shares = shares(&all, grouping);
            let mut at = 0;
            while at < all.len() {
                let (mut filling, mut planned, mut cost) =
                    (Filling::new(grouping.measure(), budget), Vec::new(), 0);
                for (tokens, share) in all[at..].iter().zip(&shares[at..]) {
                    let costs = share.cost(tokens.ids.len());
                    let own = if filling.is_empty() { costs.alone } else { costs.beside };
                    if !filling.take(own) {
                        break;
                    }
                    let joins = share.joins && !planned.is_empty();
                    cost += own;
                    planned.push(Planned { tokens, share: defrost_model::Share { joins, ..*share } });
                }
                let batch = Batch::of(&planned);
                prop_assert_eq!((batch.tokens(), batch.len()), (cost, planned.len()));
                prop_assert!(cost <= budget || planned.len() == 1);
                at += planned.len();
            }
        }
    }
}
