//! Products with blocks against what the machine can do at most, kind by kind.
//!
//! `cargo run --profile quick -p defrost-engine --example block_speed -- [threads] [kind] [kernel] [rounds]`
//!
//! * One row, the product of decoding, and eight: bytes of weights a second beside those of a plain read of the same memory, in
//!   turns, of matrices that no cache holds.
//! * 96 rows, the product of a prompt: multiply-adds a second beside those of a loop that does nothing else.
//!
//! Best of all rounds, 15 unless told, for others may use the machine.

#![allow(clippy::print_stdout, reason = "an example answers on stdout")]

use defrost_engine::measure::{Kind, Layer, peak};
use defrost_engine::{Kernel, Threads};
use defrost_model::{BlockKind, Error};

/// Matrices of one row's product, and their channels and inputs: 4 MB of 8-bit codes are read in less time than a thread is
/// given on a machine that others use, and all together are far larger than a cache.
const MATRICES: usize = 32;
const MATRIX: [usize; 2] = [4096, 1024];
/// Rows, channels and inputs of a prompt's product: as short.
const PROMPT: [usize; 3] = [96, 1024, 2048];

/// The least times of products or reads of many matrices, added up; of products of one and of eight rows.
struct Best {
    read: f64,
    one: f64,
    eight: f64,
}

fn best(kernel: Kernel, kind: BlockKind, threads: &Threads, rounds: usize) -> Result<Best, Error> {
    let [n, k] = MATRIX;
    let layers = |rows: usize| -> Result<Vec<Layer>, Error> {
        (0..MATRICES).map(|_| Layer::of_blocks(kernel, kind, Kind::Plain, [rows, n, k])).collect()
    };
    let (mut one, mut eight) = (layers(1)?, layers(8)?);
    let mut least = vec![[f64::MAX; 3]; MATRICES];
    for _ in 0..rounds {
        for (layer, least) in one.iter().zip(&mut least) {
            least[0] = least[0].min(layer.read(threads));
        }
        for (layer, least) in one.iter_mut().zip(&mut least) {
            least[1] = least[1].min(layer.run(threads));
        }
        for (layer, least) in eight.iter_mut().zip(&mut least) {
            least[2] = least[2].min(layer.run(threads));
        }
    }
    let sum = |at: usize| least.iter().map(|least| least[at]).sum();
    Ok(Best { read: sum(0), one: sum(1), eight: sum(2) })
}

fn main() -> Result<(), Error> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let arg = |at: usize| args.get(at).map_or("", String::as_str);
    let threads = Threads::new(Some(arg(0).parse().unwrap_or_else(|_| Threads::default_count())));
    let kinds =
        BlockKind::by_name(arg(1)).map_or_else(|| BlockKind::ALL.to_vec(), |kind| vec![kind]);
    let kernel = Kernel::by_name(arg(2)).unwrap_or_else(Kernel::detect);
    let rounds: usize = arg(3).parse().unwrap_or(15);
    println!("kernel set {}, {} threads, best of {rounds}", kernel.name(), threads.count());
    println!(
        "{:<6} {:>9} {:>9} {:>6} {:>6}   {:>9} {:>9} {:>6}",
        "kind", "GB/s", "read", "share", "8 rows", "GMAC/s", "limit", "share"
    );
    for kind in kinds {
        let found = best(kernel, kind, &threads, rounds)?;
        let mut prompt = Layer::of_blocks(kernel, kind, Kind::Plain, PROMPT)?;
        let bytes = prompt.bytes() as f64 / 1e9 * (MATRIX[0] * MATRIX[1] * MATRICES) as f64
            / (PROMPT[1] * PROMPT[2]) as f64;
        let (mut fastest, mut limit) = (f64::MAX, 0f64);
        for _ in 0..4 * rounds {
            limit = limit.max(peak(kernel, &threads).unwrap_or(f64::NAN));
            fastest = fastest.min(prompt.run(&threads));
        }
        let rate = prompt.multiply_adds() as f64 / fastest;
        println!(
            "{:<6} {:>9.2} {:>9.2} {:>5.0}% {:>5.2}x   {:>9.0} {:>9.0} {:>5.0}%",
            kind.name(),
            bytes / found.one,
            bytes / found.read,
            100.0 * found.read / found.one,
            found.eight / found.one,
            rate / 1e9,
            limit / 1e9,
            100.0 * rate / limit
        );
    }
    Ok(())
}
