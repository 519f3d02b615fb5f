//! A model that takes part in a comparison: a snapshot, or an ONNX file that is packed for the occasion.

use std::path::Path;

use anyhow::{Context, Result};
use defrost_loader::Location;
use defrost_pack::{OnnxSource, SpecOptions, pack_onnx};
use defrost_tasks::{Reranker, RerankerOptions};

use crate::backend::{BackendArgs, LINKED};
use crate::place::RestoreArgs;

/// A loaded model and what to call it.
pub(super) struct Contestant {
    /// The name of the model's file, and the runtime that runs it.
    pub(super) label: String,
    pub(super) reranker: Reranker,
}

/// How all contestants of a run are loaded.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct LoadArgs {
    /// Worker threads of each; default: physical cores within the cgroup's quota.
    #[arg(long, env = "NUM_THREADS", value_parser = crate::backend::threads)]
    num_threads: Option<usize>,
    #[command(flatten)]
    restore: RestoreArgs,
    #[command(flatten)]
    backend: BackendArgs,
}

impl LoadArgs {
    /// Loads the model, and then its peers, in this order.
    pub(super) fn load(&self, model: &Location, peers: &[Location]) -> Result<Vec<Contestant>> {
        std::iter::once(model).chain(peers).map(|location| self.one(location)).collect()
    }

    fn one(&self, location: &Location) -> Result<Contestant> {
        let text = location.to_string();
        let name = Path::new(&text)
            .file_name()
            .map_or_else(|| text.clone(), |name| name.to_string_lossy().into_owned());
        let name = name.trim_end_matches(".snap").to_owned();
        let options = RerankerOptions {
            num_threads: self.num_threads,
            ..self.backend.options(&self.restore)
        };
        let is_file = Path::new(&text).extension().is_some_and(|end| end == "onnx");
        let onnx = is_file.then(|| OnnxSource::find(Path::new(&text))).flatten();
        // The snapshot of an ONNX file may go once it is mapped.
        let dir = tempfile::tempdir().context("cannot make a temporary directory")?;
        let location = if let Some(onnx) = onnx {
            let out = dir.path().join("peer.snap");
            let spec = SpecOptions { name: name.clone(), ..SpecOptions::default() };
            pack_onnx(&onnx, &spec, &out, &mut |_, _| {})
                .with_context(|| format!("cannot pack {text}"))?;
            out.as_path().into()
        } else {
            location.clone()
        };
        let snapshot = self.restore.restore(&location, self.num_threads)?;
        let reranker = Reranker::load(LINKED, &snapshot, &options)
            .with_context(|| format!("cannot load {text}"))?;
        let info = reranker.info();
        let label = format!("{name} ({} {})", info.backend, info.precision);
        Ok(Contestant { label, reranker })
    }
}
