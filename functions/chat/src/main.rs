//! Chat and completions on CPU from a mapped snapshot. `MODEL=<snapshot> PORT=8000 chat`.

use std::process::ExitCode;

use defrost_server::{CHAT, Function, Offer, restore_completer, run};

const FUNCTION: Function = Function {
    name: env!("CARGO_PKG_NAME"),
    version: env!("CARGO_PKG_VERSION"),
    about: "continues conversations and texts on a CPU with a model restored from a snapshot",
    runtimes: &[&defrost_engine::RUNTIME],
};

fn main() -> ExitCode {
    run(FUNCTION, [Offer::new(&CHAT, restore_completer)])
}
