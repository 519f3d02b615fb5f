//! Reranker on CPU, int8, from a mapped snapshot. `MODEL=<snapshot> PORT=8000 rerank-cpu-int8`.

use std::process::ExitCode;

use defrost_server::{Function, Offer, RERANK, restore_reranker, run};

const FUNCTION: Function = Function {
    name: env!("CARGO_PKG_NAME"),
    version: env!("CARGO_PKG_VERSION"),
    about: "reranks documents on a CPU with an int8 model restored from a snapshot",
    runtimes: &[
        &defrost_engine::RUNTIME,
        #[cfg(feature = "ort")]
        &defrost_ort::RUNTIME,
        #[cfg(feature = "candle")]
        &defrost_candle::RUNTIME,
    ],
};

fn main() -> ExitCode {
    run(FUNCTION, [Offer::new(&RERANK, restore_reranker)])
}
