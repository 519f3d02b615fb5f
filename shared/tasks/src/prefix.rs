//! The stored prefix of a snapshot: keys and values of what prompts begin with, computed while the layers are written.
//!
//! A causal model's system text and instruction are the same in every prompt, a quarter of the tokens of a short one.
//! Their keys and values lie in the snapshot behind each layer's weights, and a start maps them like these. Which ids they
//! are is in the metadata; a sequence uses as many as it begins with, so a request's own instruction costs only what it
//! replaces. Nothing else depends on the prefix: without one every answer is the same to the bit.

use bytes::Bytes;
use defrost_engine::plan::{Group, Part, Storage};
use defrost_engine::{
    Element, Error as EngineError, Kernel, PrefixPass, Threads, WeightView, Weights,
};
use defrost_loader::{Checkpoint, Dtype};

use crate::encode::Encoding;
use crate::pack::{Encoded, encode};
use crate::quality::Treatment;
use crate::spec::ModelSpec;
use crate::{Error, isa};

/// A prefix on its way through the layers.
#[derive(Debug)]
pub(crate) struct StoredPrefix<'a> {
    pass: PrefixPass,
    /// What the pass reads, whatever the snapshot is packed for.
    native: Encoding<'a>,
}

impl<'a> StoredPrefix<'a> {
    /// Makes `beginning` the model's stored prefix and embeds it; `None` if it is empty.
    pub(crate) fn start(
        checkpoint: &Checkpoint,
        spec: &mut ModelSpec,
        mut beginning: Vec<u32>,
        groups: &[Group],
        treatment: &Treatment,
        encoding: Encoding<'a>,
    ) -> Result<Option<Self>, Error> {
        beginning.truncate(spec.config.max_positions - 1);
        let mut parts = groups.iter().flat_map(|group| &group.parts);
        let Some(table) = parts.find(|part| part.name == "embedding.words.weight") else {
            return Ok(None);
        };
        if beginning.is_empty() {
            return Ok(None);
        }
        let rows: Vec<usize> = beginning.iter().map(|&id| id as usize).collect();
        let shape = vec![rows.len(), spec.config.hidden];
        let words = Group {
            name: "prefix".into(),
            sparse: false,
            parts: vec![Part { rows, shape, ..table.clone() }],
        };
        spec.config.stored_prefix = beginning.len();
        spec.stored_prefix = beginning;
        let native = Encoding { isa: isa::NATIVE, ..encoding };
        let words = Tensors(encode(checkpoint, &words, treatment, native)?);
        let threads = Threads::new(None);
        let pass = PrefixPass::new(&spec.config, &words, Kernel::detect(), threads)?;
        Ok(Some(Self { pass, native }))
    }

    /// Appends the group's keys and values to its `tensors`, if it is a layer: groups come in execution order. `encode`
    /// gives the same tensors in another encoding.
    pub(crate) fn layer(
        &mut self,
        group: &Group,
        tensors: &mut Vec<Encoded>,
        encode: &dyn Fn(Encoding<'a>) -> Result<Vec<Encoded>, Error>,
        encoding: Encoding<'a>,
    ) -> Result<(), Error> {
        let Some(part) = group.parts.iter().find(|part| part.storage == Storage::Prefix) else {
            return Ok(());
        };
        let native = encoding.isa == self.native.isa;
        let weights = Tensors(if native { tensors.clone() } else { encode(self.native)? });
        let rows = self.pass.layer(&weights)?;
        let bytes = encoding.fill(part, rows).into_iter().map(Bytes::from);
        tensors.extend(encoding.plan(part).into_iter().zip(bytes));
        Ok(())
    }
}

/// Encoded tensors as the engine's weights. Their memory comes from the allocator and so is aligned for any element.
#[derive(Debug)]
struct Tensors(Vec<Encoded>);

impl Weights for Tensors {
    fn get(&self, name: &str) -> Result<Option<WeightView>, EngineError> {
        let Some((tensor, bytes)) = self.0.iter().find(|(tensor, _)| tensor.name == name) else {
            return Ok(None);
        };
        let element = match tensor.dtype {
            Dtype::I8 => Element::I8,
            Dtype::I32 => Element::I32,
            Dtype::Bf16 => Element::Bf16,
            _ => Element::F32,
        };
        let (layout, shape) = (tensor.layout.clone(), tensor.shape.clone());
        Ok(Some(WeightView { element, layout, shape, bytes: bytes.clone() }))
    }
}
