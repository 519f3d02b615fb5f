//! Times the steps of a random language model in true dimensions: a prompt, then a token at a time, at several depths.
//!
//! `cargo run --release -p defrost-engine --example decode_speed -- [0.5b|0.6b|1.7b] [q8_0|q4_0|q4_k|...] [layers] [depths] [sequences] [prompt] [threads]`
//!
//! Depths are separated by commas, `128,4096` unless told; `-` is none. Prints tokens a second of a prompt, of 512 tokens unless told,
//! and for each depth the milliseconds of a step, median of 15, and the bytes of weights and of keys and values that it reads a second.
//! Least times are also told as the processor's own: that of one thread does not grow where others use the machine.

#![allow(clippy::print_stdout, reason = "an example answers on stdout")]

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use defrost_engine::blocks::{PANELS_OF, ROWS_OF, pack, quantize};
use defrost_engine::layout::{PANEL, ROW_MAJOR};
use defrost_engine::{Kernel, Model, PagedDecoder, Threads, Weights};
use defrost_loader::{Dtype, Tensor};
use defrost_model::parts::{Naming, Storage, plan};
use defrost_model::{
    BlockKind, Decoder, Error, Family, Head, LogitsOf, ModelConfig, Piece, SequenceId, TokenHeads,
};

const STEPS: usize = 15;
const PROMPTS: usize = 10;

/// Seconds that all threads of this process have computed, as Linux counts them; elsewhere none.
fn processor_time() -> f64 {
    let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let nanoseconds = tasks.map(|task| {
        let told = std::fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
        told.split(' ').next().and_then(|word| word.parse::<u64>().ok()).unwrap_or(0)
    });
    nanoseconds.sum::<u64>() as f64 / 1e9
}

struct Random(HashMap<String, Tensor>);

impl Weights for Random {
    fn get(&self, name: &str) -> Result<Option<Tensor>, Error> {
        Ok(self.0.get(name).cloned())
    }
}

/// Owned memory aligned for every type.
struct Aligned(Vec<u64>);

impl AsRef<[u8]> for Aligned {
    fn as_ref(&self) -> &[u8] {
        bytemuck::cast_slice(&self.0)
    }
}

fn tensor(dtype: Dtype, layout: &str, shape: Vec<usize>, bytes: &[u8]) -> Tensor {
    let mut words = vec![0u64; bytes.len().div_ceil(8)];
    bytemuck::cast_slice_mut(&mut words)[..bytes.len()].copy_from_slice(bytes);
    let bytes = Bytes::from_owner(Aligned(words)).slice(..bytes.len());
    Tensor::in_memory("", dtype, layout, shape, bytes)
}

/// A few random rows, again and again.
fn blocks(kind: BlockKind, n: usize, k: usize) -> Vec<u8> {
    let mut state = 1u64;
    let some = n.min(8);
    let values: Vec<f32> = (0..some * k)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 40) as f32 / 4.0e8 - 0.02
        })
        .collect();
    let rows = quantize(kind, &values, k);
    rows.iter().copied().cycle().take(rows.len() / some * n).collect()
}

fn random(config: &ModelConfig, kind: BlockKind) -> (Random, usize) {
    let (mut tensors, mut read) = (HashMap::new(), 0);
    for part in plan(config, &Naming::default()).iter().flat_map(|group| &group.parts) {
        let (n, k) = (part.shape[0], part.shape.last().copied().unwrap_or(1));
        match part.storage {
            Storage::Linear | Storage::Vocabulary => {
                let keys = config.kv_heads * config.head_dim;
                let sizes = match part.sources.len() {
                    3 => vec![n - 2 * keys, keys, keys],
                    2 => vec![n / 2; 2],
                    _ => vec![n],
                };
                for (at, n) in sizes.into_iter().enumerate() {
                    let panels = pack(kind, &blocks(kind, n, k), n, k);
                    read += panels.len();
                    let layout = format!("{PANELS_OF}{}", kind.name());
                    let tensor = tensor(Dtype::U8, &layout, vec![panels.len()], &panels);
                    tensors.insert(format!("{}.{at}", part.name), tensor);
                }
            }
            Storage::Table => {
                let rows = blocks(kind, n, k);
                let layout = format!("{ROWS_OF}{}", kind.name());
                let tensor = tensor(Dtype::U8, &layout, vec![rows.len()], &rows);
                tensors.insert(part.name.clone(), tensor);
            }
            _ => {
                let len = if part.storage == Storage::Bias { n.next_multiple_of(PANEL) } else { n };
                let values = vec![1f32; len];
                let bytes = bytemuck::cast_slice(&values);
                tensors.insert(part.name.clone(), tensor(Dtype::F32, ROW_MAJOR, vec![len], bytes));
            }
        }
    }
    (Random(tensors), read)
}

fn config(model: &str, layers: Option<usize>) -> ModelConfig {
    let (family, all, [hidden, heads, kv_heads, head_dim, intermediate], vocab) = match model {
        "0.6b" => ("qwen3", 28, [1024, 16, 8, 128, 3072], 151_936),
        "1.7b" => ("qwen3", 28, [2048, 16, 8, 128, 6144], 151_936),
        _ => ("qwen2", 24, [896, 14, 2, 64, 4864], 151_936),
    };
    ModelConfig {
        family: Family::by_name(family).expect("a known family"),
        head: Head::LanguageModel,
        token_heads: TokenHeads::default(),
        bidirectional: false,
        dense: Vec::new(),
        hidden,
        layers: layers.unwrap_or(all),
        heads,
        kv_heads,
        head_dim,
        intermediate,
        vocab,
        max_positions: 1 << 17,
        type_vocab: 0,
        norm_eps: 1e-6,
        rope_theta: 1e6,
        attention: defrost_model::Attention::default(),
        tied: true,
        pad_id: 0,
        stored_prefix: 0,
    }
}

fn step(decoder: &PagedDecoder, sequences: &[SequenceId], ids: &[u32], logits: LogitsOf) -> f64 {
    let piece = |&sequence| Piece { sequence, ids, logits, allowed: None };
    let pieces: Vec<Piece<'_>> = sequences.iter().map(piece).collect();
    let begun = Instant::now();
    decoder.step(&pieces).expect("a step");
    begun.elapsed().as_secs_f64()
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let arg = |at: usize, usual: &'static str| args.get(at).map_or(usual, String::as_str);
    let kind = BlockKind::by_name(arg(1, "q8_0")).expect("a kind of blocks");
    let config = config(arg(0, "0.5b"), args.get(2).and_then(|layers| layers.parse().ok()));
    let depths: Vec<usize> = arg(3, "128,4096").split(',').filter_map(|n| n.parse().ok()).collect();
    let count: usize = arg(4, "1").parse().expect("a number of sequences");
    let prompt: u32 = arg(5, "512").parse().expect("tokens of a prompt");
    let threads = args.get(6).map(|count| count.parse().expect("a number of threads"));
    let (weights, read) = random(&config, kind);
    let threads = Arc::new(Threads::new(threads));
    let kernel = Kernel::detect();
    let model = Model::load(config.clone(), &weights, kernel, threads).expect("a model");
    println!(
        "{} on {} threads, {} MB of weights a step",
        kernel.name(),
        model.threads(),
        read >> 20
    );
    let deepest = depths.iter().max().copied().unwrap_or(0) + prompt as usize + 512;
    let decoder =
        PagedDecoder::new(Arc::new(model), Some(deepest * count), None, &[]).expect("memory");
    let ids: Vec<u32> = (0..prompt).collect();
    let id = decoder.open(&ids).expect("a sequence").id;
    let mut least = [f64::MAX; 2];
    for _ in 0..PROMPTS {
        decoder.truncate(id, 0).expect("open");
        let before = processor_time();
        let seconds = step(&decoder, &[id], &ids, LogitsOf::Last);
        least = [least[0].min(seconds), least[1].min(processor_time() - before)];
    }
    println!(
        "prompt of {prompt}: {:.0} tokens/s; {:.1} ms of the processor",
        f64::from(prompt) / least[0],
        1e3 * least[1]
    );
    decoder.close(id);
    let ids: Vec<SequenceId> =
        (600..).take(count).map(|at| decoder.open(&[at, 1]).expect("a sequence").id).collect();
    let mut depth = 0;
    for wanted in depths {
        while depth < wanted {
            let some: Vec<u32> = (0..).take((wanted - depth).min(256)).collect();
            step(&decoder, &ids, &some, LogitsOf::None);
            depth += some.len();
        }
        let (mut times, mut processor) = (Vec::new(), f64::MAX);
        for _ in 0..STEPS {
            let before = processor_time();
            times.push(step(&decoder, &ids, &[7], LogitsOf::Last));
            processor = processor.min(processor_time() - before);
        }
        depth += STEPS;
        times.sort_by(f64::total_cmp);
        let seconds = times[STEPS / 2];
        let kept = 4 * config.layers * config.kv_heads * config.head_dim * depth * count;
        println!(
            "depth {wanted}, {count} sequences: {:.2} ms a step (least {:.2}, of the processor {:.2}), {:.1} tokens/s, {:.1} GB/s",
            1e3 * seconds,
            1e3 * times[0],
            1e3 * processor,
            count as f64 / seconds,
            (read + kept) as f64 / seconds / 1e9,
        );
    }
}
