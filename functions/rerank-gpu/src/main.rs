//! Reranker on an NVIDIA GPU from a mapped snapshot. `MODEL=<snapshot> PORT=8000 rerank-gpu`.

use std::process::ExitCode;

use defrost_server::{Function, Offer, RERANK, restore_reranker, run};

const FUNCTION: Function = Function {
    name: env!("CARGO_PKG_NAME"),
    version: env!("CARGO_PKG_VERSION"),
    about: "reranks documents on an NVIDIA GPU with a model restored from a snapshot",
    runtimes: &[
        &defrost_gpu::RUNTIME,
        #[cfg(feature = "candle")]
        &defrost_candle::RUNTIME,
    ],
};

fn main() -> ExitCode {
    run(FUNCTION, [Offer::new(&RERANK, restore_reranker)])
}
