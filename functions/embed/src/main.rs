//! Embeddings on CPU from a mapped snapshot. `MODEL=<snapshot> PORT=8000 embed`.

use std::process::ExitCode;

use defrost_server::{EMBED, Function, Offer, restore_embedder, run};

const FUNCTION: Function = Function {
    name: env!("CARGO_PKG_NAME"),
    version: env!("CARGO_PKG_VERSION"),
    about: "embeds texts on a CPU with a model restored from a snapshot",
    runtimes: &[
        // First, so that a build for GPUs uses one unless BACKEND=engine says otherwise.
        #[cfg(feature = "gpu")]
        &defrost_gpu::RUNTIME,
        &defrost_engine::RUNTIME,
        #[cfg(feature = "ort")]
        &defrost_ort::RUNTIME,
        #[cfg(feature = "candle")]
        &defrost_candle::RUNTIME,
    ],
};

fn main() -> ExitCode {
    run(FUNCTION, [Offer::new(&EMBED, restore_embedder)])
}
