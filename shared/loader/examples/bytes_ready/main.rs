//! One restore, measured: the Rust side of `scripts/bench/bench_loader`.
//!
//! ```text
//! cargo run --release -p defrost-loader --example bytes_ready -- make DIR MIB
//! cargo run --release -p defrost-loader --example bytes_ready -- MODE FILE
//! ```
//!
//! `make` writes the same tensors as `model.safetensors`, `model.snap` and `model.raw`, and `model.json` which lists
//! them with their hashes. Every other mode reads one of these in a fresh process, touches every page, and prints one
//! JSON line; `measure` says what its fields mean. `defrost-*` take the snapshot, the others the raw file.
#![allow(clippy::print_stdout, reason = "printing is its purpose")]

mod make;
mod measure;
mod plain;

use std::error::Error;
use std::path::Path;

use defrost_loader::{OpenOptions, Snapshot, VerifyMode};

use crate::measure::Meter;

/// What the synthetic snapshot says it is packed for, and what its readers accept.
const ISA: &str = "portable";
const LAYOUT_ABI: u32 = 1;

const USAGE: &str = "usage: bytes_ready make DIR MIB
       bytes_ready MODE FILE
MODE: defrost-stamped, defrost-on-the-fly, defrost-eager (FILE is model.snap),
      mmap-populate, mmap-touch, pread, odirect (FILE is model.raw)";

fn main() -> Result<(), Box<dyn Error>> {
    let meter = Meter::start()?;
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let line = match arguments[..] {
        ["make", dir, mib] => {
            let mib = mib.parse().map_err(|_| format!("expected a number of MiB, found {mib}"))?;
            make::make(Path::new(dir), mib)?
        }
        ["defrost-stamped", file] => restore(meter, Path::new(file), VerifyMode::Stamped)?,
        ["defrost-on-the-fly", file] => restore(meter, Path::new(file), VerifyMode::OnTheFly)?,
        ["defrost-eager", file] => restore(meter, Path::new(file), VerifyMode::Eager)?,
        ["mmap-populate", file] => plain::map(meter, Path::new(file), true)?,
        ["mmap-touch", file] => plain::map(meter, Path::new(file), false)?,
        ["pread", file] => plain::pread(meter, Path::new(file))?,
        ["odirect", file] => plain::odirect(meter, Path::new(file))?,
        _ => return Err(USAGE.into()),
    };
    println!("{line}");
    Ok(())
}

/// Opens the snapshot, takes every tensor (each is handed out once its bytes are known to be good), touches them.
fn restore(mut meter: Meter, file: &Path, mode: VerifyMode) -> Result<String, Box<dyn Error>> {
    let mut options = OpenOptions::new([ISA], LAYOUT_ABI);
    options.verify = mode;
    let snapshot = Snapshot::open(file, &options)?;
    meter.opened();
    let mut tensors = Vec::with_capacity(snapshot.manifest().tensors.len());
    for entry in &snapshot.manifest().tensors {
        tensors.push(snapshot.tensor(&entry.name)?);
    }
    snapshot.wait_verified()?;
    meter.ready();
    for tensor in &tensors {
        measure::touch(&tensor.bytes);
    }
    meter.touched()?;
    meter.note("verification", snapshot.verification().mode.to_string());
    tensors.sort_by(|a, b| a.name.cmp(&b.name));
    meter.line(&format!("defrost-{mode}"), tensors.iter().map(|tensor| &tensor.bytes[..]))
}
