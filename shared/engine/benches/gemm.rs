//! Int8 linear layers against the limit of the multiplier: `cargo bench -p defrost-engine --bench gemm`.
//!
//! Each line is one layer, everything fused: f32 rows in, quantised, multiplied, scaled, bias, activation or residual,
//! f32 rows out. The limit is measured beside every layer, because clocks and neighbours change; the share is the
//! median of the pairs. GOPS count a multiply-add as two operations.

#![allow(clippy::print_stdout, reason = "a benchmark answers on stdout")]

use defrost_engine::measure::{Kind, Layer, peak};
use defrost_engine::{Kernel, Threads};
use defrost_model::Error;

/// Layer, channels, inputs: the feed-forward layers of a 0.5B Qwen2, of XLM-RoBERTa large and of MiniLM.
const LAYERS: [(&str, Kind, usize, usize); 8] = [
    ("896 -> 4864 bias", Kind::Plain, 4864, 896),
    ("896 -> 2 x 4864 SwiGLU", Kind::SwiGlu, 4864, 896),
    ("4864 -> 896 residual", Kind::Residual, 896, 4864),
    ("1024 -> 4096 GELU", Kind::Gelu, 4096, 1024),
    ("4096 -> 1024 residual", Kind::Residual, 1024, 4096),
    ("1024 -> 3072 bias", Kind::Plain, 3072, 1024),
    ("384 -> 1536 GELU", Kind::Gelu, 1536, 384),
    ("1536 -> 384 residual", Kind::Residual, 384, 1536),
];
const ROWS: [usize; 3] = [16, 512, 2048];

/// Pairs of measurements behind a median.
const PAIRS: usize = 15;

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() -> Result<(), Error> {
    let kernel = Kernel::detect();
    println!("kernel set {}", kernel.name());
    println!(
        "{:<24} {:>6} {:>8} {:>9} {:>9} {:>7}",
        "layer", "rows", "threads", "limit", "GOPS", "share"
    );
    let filter = std::env::args().skip(1).find(|arg| !arg.starts_with('-')).unwrap_or_default();
    for (name, kind, n, k) in LAYERS {
        if !name.contains(&filter) {
            continue;
        }
        for rows in ROWS {
            for count in [1, Threads::default_count()] {
                let threads = Threads::new(Some(count));
                let mut layer = Layer::new(kernel, kind, rows, n, k)?;
                let work = layer.multiply_adds();
                // About 20 ms a measurement, however small the layer.
                let repeats = (8_000_000_000 * count).div_ceil(work);
                layer.run(&threads);
                let pairs: Vec<(f64, f64)> = (0..PAIRS)
                    .map(|_| {
                        let limit = peak(kernel, &threads).unwrap_or(f64::NAN);
                        let seconds: f64 = (0..repeats).map(|_| layer.run(&threads)).sum();
                        (limit, (work * repeats) as f64 / seconds)
                    })
                    .collect();
                println!(
                    "{name:<24} {rows:>6} {count:>8} {:>9.0} {:>9.0} {:>6.1}%",
                    2e-9 * median(pairs.iter().map(|pair| pair.0).collect()),
                    2e-9 * median(pairs.iter().map(|pair| pair.1).collect()),
                    100.0 * median(pairs.iter().map(|(limit, speed)| speed / limit).collect()),
                );
            }
        }
    }
    Ok(())
}
