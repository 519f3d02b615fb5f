//! Times forward passes of a few random layers in the true dimensions of a model.
//!
//! `cargo run --release -p defrost-engine --example forward_speed -- [mxbai|bge|minilm] [layers] [tokens] [length] [kernel] [runs]`
//!
//! Sequences of `length` tokens, 512 unless told. Prints milliseconds per pass, median of 101 runs unless told and least
//! (which tells more where others use the machine), and multiply-adds per second of the linear layers.

#![allow(clippy::print_stdout, reason = "an example answers on stdout")]

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use defrost_engine::layout::{INT8_GROUP, PANEL, PANEL64, ROW_MAJOR, panel_len};
use defrost_engine::{Kernel, Model, Threads, Weights};
use defrost_loader::{Dtype, Tensor};
use defrost_model::parts::{Naming, Storage, plan};
use defrost_model::{Batch, Error, Family, Head, ModelConfig, TokenHeads};

/// Odd, for the median; a short pass needs many to warm a profile up.
const RUNS: usize = 101;

struct Random(HashMap<String, Tensor>);

impl Weights for Random {
    fn get(&self, name: &str) -> Result<Option<Tensor>, Error> {
        Ok(self.0.get(name).cloned())
    }
}

/// Owned memory aligned for every dtype type.
struct Aligned(Vec<u64>);

impl AsRef<[u8]> for Aligned {
    fn as_ref(&self) -> &[u8] {
        bytemuck::cast_slice(&self.0)
    }
}

fn view(dtype: Dtype, layout: &str, shape: &[usize], len: usize, small: bool) -> Tensor {
    let width = dtype.size();
    let mut state = 1u64;
    let words = (0..(len * width).div_ceil(8)).map(|_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        match (dtype, small) {
            (Dtype::I8, _) => state,
            (_, true) => 0x3a83_126f_3a83_126f,
            (_, false) => 0,
        }
    });
    let bytes = Bytes::from_owner(Aligned(words.collect())).slice(..len * width);
    Tensor::in_memory("", dtype, layout, shape.to_vec(), bytes)
}

fn random(config: &ModelConfig) -> Random {
    let mut views = HashMap::new();
    for part in plan(config, &Naming::default()).iter().flat_map(|group| &group.parts) {
        let stem = part.name.trim_end_matches(".weight").to_owned();
        let (n, len) = (part.shape[0], part.shape.iter().product());
        let padded = n.next_multiple_of(PANEL);
        match part.storage {
            Storage::Linear | Storage::Vocabulary => {
                let size = panel_len(n, part.shape[1], INT8_GROUP);
                views.insert(part.name.clone(), view(Dtype::I8, PANEL64, &part.shape, size, false));
                views.insert(
                    format!("{stem}.scale"),
                    view(Dtype::F32, ROW_MAJOR, &[padded], padded, true),
                );
                views.insert(
                    format!("{stem}.offset"),
                    view(Dtype::I32, ROW_MAJOR, &[padded], padded, false),
                );
            }
            Storage::LinearF32 => {
                let size = panel_len(n, part.shape[1], 1);
                views.insert(part.name.clone(), view(Dtype::F32, PANEL64, &part.shape, size, true));
            }
            Storage::Bias => {
                views.insert(
                    part.name.clone(),
                    view(Dtype::F32, ROW_MAJOR, &[padded], padded, true),
                );
            }
            Storage::Table | Storage::FineTable | Storage::Vector | Storage::Prefix => {
                views
                    .insert(part.name.clone(), view(Dtype::F32, ROW_MAJOR, &part.shape, len, true));
            }
        }
    }
    Random(views)
}

fn config(model: &str, layers: usize) -> ModelConfig {
    let (family, head, [hidden, heads, kv_heads, head_dim, intermediate]) = match model {
        "bge" => ("xlm-roberta", Head::Classifier, [1024, 16, 16, 64, 4096]),
        "minilm" => ("bert", Head::MeanPooling, [384, 12, 12, 32, 1536]),
        _ => ("qwen2", Head::YesNo, [896, 14, 2, 64, 4864]),
    };
    let family = Family::by_name(family).expect("a known family");
    ModelConfig {
        family,
        head,
        token_heads: TokenHeads::default(),
        bidirectional: false,
        dense: Vec::new(),
        hidden,
        layers,
        heads,
        kv_heads,
        head_dim,
        intermediate,
        vocab: 1000,
        max_positions: 8192,
        type_vocab: usize::from(family.blueprint.token_types),
        norm_eps: 1e-5,
        rope_theta: 1e6,
        attention: defrost_model::Attention::default(),
        tied: false,
        pad_id: 1,
        stored_prefix: 0,
    }
}

fn main() -> Result<(), Error> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let text = |at: usize, default: &str| args.get(at).cloned().unwrap_or_else(|| default.into());
    let number = |at: usize, default: usize| text(at, "").parse().unwrap_or(default);
    let config = config(&text(0, "mxbai"), number(1, 6));
    let kernel = Kernel::by_name(&text(4, "")).unwrap_or_else(Kernel::detect);
    let tokens = number(2, 512);
    let length = number(3, 512);
    let weights = random(&config);
    let per_token: usize = plan(&config, &Naming::default())
        .iter()
        .flat_map(|group| &group.parts)
        .filter(|part| part.storage == Storage::Linear)
        .map(|part| part.shape.iter().product::<usize>())
        .sum();
    let ids: Vec<u32> = (2..902).cycle().step_by(7).take(tokens).collect();
    for threads in [1, Threads::default_count()] {
        let pool = Arc::new(Threads::new(Some(threads)));
        let model = Model::load(config.clone(), &weights, kernel, pool)?;
        let mut batch = Batch::default();
        ids.chunks(length.max(1)).for_each(|ids| batch.push(ids, &[]));
        let mut times: Vec<f64> = (0..number(5, RUNS))
            .map(|_| {
                let start = Instant::now();
                model.forward(&batch).map(|_| start.elapsed().as_secs_f64())
            })
            .collect::<Result<_, _>>()?;
        times.sort_by(f64::total_cmp);
        let median = times[times.len() / 2];
        println!(
            "{} {} layers {tokens} tokens by {length}, {} x {threads}: {:.3} ms, least {:.3}, {:.0} GMAC/s in linear layers",
            text(0, "mxbai"),
            config.layers,
            kernel.name(),
            median * 1e3,
            times[0] * 1e3,
            (per_token * tokens) as f64 / median / 1e9
        );
    }
    Ok(())
}
