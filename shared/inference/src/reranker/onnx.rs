//! A reranker over a snapshot that holds an ONNX model.

use std::sync::Arc;
use std::time::Instant;

use defrost_engine::Threads;
use defrost_loader::Snapshot;

use super::{LoadTimings, ModelInfo, Reranker, RerankerOptions};
use crate::onnx::spec::OnnxSpec;
use crate::ort::OrtModel;
use crate::prompt::Prompt;
use crate::runner::{BackendKind, Runner};
use crate::spec::kind_of;
use crate::{Error, Normalization};

impl Reranker {
    /// As [`Reranker::load`], for ONNX Runtime.
    pub(super) fn load_onnx(snapshot: &Snapshot, options: &RerankerOptions) -> Result<Self, Error> {
        let start = Instant::now();
        let spec = OnnxSpec::from_snapshot(snapshot)?;
        let tokenizer = super::tokenizer(snapshot)?;
        let max_length = options.max_length.unwrap_or(spec.max_length);
        let prompt = Prompt::new(tokenizer, &spec.template, max_length, spec.max_positions)?;
        let tokenizer_ready = Instant::now();
        let threads = Arc::new(Threads::new(options.num_threads)?);
        let model = OrtModel::load(snapshot, &spec, threads.count(), &options.ort)?;
        let timings =
            LoadTimings { tokenizer: tokenizer_ready - start, engine: tokenizer_ready.elapsed() };
        let info = ModelInfo {
            kind: kind_of(spec.head),
            template: spec.template.name(),
            name: spec.name,
            family: spec.family,
            precision: spec.precision,
            hidden: spec.hidden,
            layers: spec.layers,
            max_length: prompt.max_length(),
            takes_instruction: prompt.takes_instruction(),
            estimated_max: spec.estimated_max,
            backend: BackendKind::Ort,
            kernel: "onnxruntime",
            threads: threads.count(),
            snapshot: snapshot.root().to_string(),
            default_normalization: Normalization::default(),
        };
        Ok(Self {
            info,
            snapshot: snapshot.clone(),
            timings,
            prompt,
            model: Runner::Ort(Box::new(model)),
            threads,
            max_batch_tokens: options.max_batch_tokens.max(1),
        })
    }
}
