//! What runs a model: the runtimes of this tool, and the arguments that every command which loads a model shares.

use defrost_model::{Runtime, runtime};
use defrost_tasks::RerankerOptions;

use crate::place::RestoreArgs;

/// The runtimes that are built in.
pub(crate) const LINKED: &[&dyn Runtime] = &[
    &defrost_engine::RUNTIME,
    #[cfg(feature = "ort")]
    &defrost_ort::RUNTIME,
    #[cfg(feature = "candle")]
    &defrost_candle::RUNTIME,
];

/// How models are run.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct BackendArgs {
    /// What must run the model: engine, or gpu, ort or candle where built in; default: what the snapshot is made for.
    #[arg(long, env = "BACKEND", value_parser = parse)]
    backend: Option<&'static str>,
    /// ONNX Runtime's library or its folder; default: beside the binary, or the system's.
    #[cfg(feature = "ort")]
    #[arg(long, env = "ORT_DYLIB_PATH")]
    ort_dylib_path: Option<std::path::PathBuf>,
    /// Ready as early as possible; false: compile ONNX models for this processor.
    #[cfg(feature = "ort")]
    #[arg(long, env = "FAST_BOOT", default_value_t = true, action = clap::ArgAction::Set)]
    fast_boot: bool,
}

impl BackendArgs {
    /// The arguments as options of a reranker, the others of which are the usual ones.
    pub(crate) fn options(&self, restore: &RestoreArgs) -> RerankerOptions {
        RerankerOptions {
            backend: self.backend,
            #[cfg(feature = "ort")]
            library: self.ort_dylib_path.clone(),
            #[cfg(feature = "ort")]
            compile: !self.fast_boot,
            cache_dir: restore.cache_dir.clone(),
            ..RerankerOptions::default()
        }
    }
}

fn parse(name: &str) -> Result<&'static str, String> {
    runtime::by_name(name)
        .ok_or_else(|| format!("expected engine, gpu, ort or candle, found {name:?}"))
}

/// More threads than any machine has cores that this runs on; a system that is asked for 100,000 ends the process.
const MOST_THREADS: usize = 1024;

/// A number of worker threads.
pub(crate) fn threads(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(count @ 1..=MOST_THREADS) => Ok(count),
        _ => Err(format!("expected a whole number from 1 to {MOST_THREADS}")),
    }
}
