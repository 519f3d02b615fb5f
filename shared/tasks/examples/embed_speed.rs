//! How fast a made-up model of a known size embeds, and what vectors of single tokens cost on top.
//!
//! ```sh
//! cargo run --profile quick -p defrost-tasks --example embed_speed -- [preset] [layers] [tokens] [texts]
//! ```

#![allow(clippy::print_stdout, reason = "an example prints")]

use std::error::Error;
use std::time::Instant;

use defrost_model::{Precision, isa};
use defrost_pack::{Checkpoint, Outliers, PackOptions, Shape, SpecOptions, pack, synthesize};
use defrost_tasks::{
    EmbedTask, Embedder, EmbedderOptions, Input, ModelOptions, Outputs, RestoreOptions, restore,
};

/// What runs the models here.
const LINKED: &[&dyn defrost_model::Runtime] = &[&defrost_engine::RUNTIME];

/// Of which the fastest counts.
const ROUNDS: u32 = 10;

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize, default: usize| {
        args.get(at).and_then(|text| text.parse().ok()).unwrap_or(default)
    };
    let preset = args.first().map_or("bge-m3", String::as_str);
    let (layers, tokens, texts) = (number(1, 24), number(2, 256), number(3, 8));
    let mut shape = Shape::preset(preset).ok_or("no such preset")?;
    shape.set("layers", layers)?;
    // The table of words is only looked up in; a small one is made in no time.
    shape.set("vocab", 32_768)?;
    let vocab = u32::try_from(shape.config.vocab)?;
    let dir = std::env::temp_dir().join(format!("embed-speed-{}", std::process::id()));
    synthesize(&shape, None, 1, &dir)?;
    let options = PackOptions {
        spec: SpecOptions { name: preset.into(), ..SpecOptions::default() },
        precision: Precision::Int8,
        isa: isa::NATIVE.to_owned(),
        outliers: Outliers::Off,
        store_prefix: true,
    };
    let out = dir.join("model.snap");
    pack(&Checkpoint::open(&dir)?, &options, &out, &mut |_, _| {})?;
    let snapshot = restore(LINKED, &out.as_path().into(), &RestoreOptions::default())?;
    let model = ModelOptions { num_threads: Some(1), ..ModelOptions::default() };
    let embedder = Embedder::load(
        LINKED,
        &snapshot,
        &EmbedderOptions { model, ..EmbedderOptions::default() },
    )?;
    let info = embedder.info();
    println!(
        "{preset}, {layers} layers, int8, 1 thread, {}: {texts} texts of {tokens} tokens",
        info.kernel
    );
    let dense = Outputs::default();
    let sparse = Outputs { sparse: info.has_sparse, ..dense };
    let kinds = [
        ("dense", dense),
        ("dense + sparse", sparse),
        ("dense + sparse + ColBERT", Outputs { colbert: info.has_colbert, ..sparse }),
        ("dense + tokens", Outputs { tokens: true, ..dense }),
    ];
    let mut best = [f64::INFINITY; 4];
    // In turns, so that whatever else the machine does meets all alike.
    for round in 0..ROUNDS {
        for (best, (_, outputs)) in best.iter_mut().zip(kinds) {
            // Equal texts would be run once.
            let text = |at: u32| {
                let ids = 0..u32::try_from(tokens).unwrap_or(0);
                let id = |id: u32| 300 + (id * 7919 + at * 31 + round) % (vocab / 2 - 300);
                Input::Tokens(ids.map(id).collect())
            };
            let inputs = (0..u32::try_from(texts)?).map(text).collect();
            let request = EmbedTask { inputs, outputs, ..EmbedTask::default() };
            let start = Instant::now();
            embedder.embed(&[request], &|| false)?;
            *best = best.min(start.elapsed().as_secs_f64());
        }
    }
    for (best, (name, _)) in best.iter().zip(kinds) {
        println!("  {name:<26} {:8.1} tokens/s", (tokens * texts) as f64 / best);
    }
    std::fs::remove_dir_all(dir)?;
    Ok(())
}
