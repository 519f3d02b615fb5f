//! Logits of language models are those of `transformers`, on every kernel set and however a sequence is cut into pieces.

use super::cases::packed;
use super::common::LINKED;

use defrost_engine::Kernel;
use defrost_model::{Decoder, LogitsOf, Piece, Precision};
use defrost_pack::{ModelKind, SpecOptions};
use defrost_tasks::{Generator, GeneratorOptions, ModelOptions};
use defrost_testing::golden;
use serde::Deserialize;

const MODELS: [&str; 6] = [
    "generate-llama",
    "generate-smollm",
    "generate-tinyllama",
    "generate-qwen2",
    "generate-qwen3",
    "generate-gemma3",
];
/// Twice what f32 is away from f64 in the worst of these models, which the golden files say (`noise`): two ways to sum.
const TOLERANCE: f32 = 2e-4;

#[derive(Deserialize)]
struct Golden {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    ids: Vec<u32>,
    tokens: Vec<u32>,
    logits: Vec<Row>,
}

/// The logits after so many of [`Case::tokens`].
#[derive(Deserialize)]
struct Row {
    at: usize,
    values: Vec<f32>,
}

fn read(model: &str) -> Golden {
    let file = golden::checkpoint(model).join("golden.json");
    serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap()
}

fn load(model: &str, precision: Precision, kernel: Kernel) -> Generator {
    let spec = SpecOptions {
        name: model.to_owned(),
        kind: Some(ModelKind::Chat),
        ..SpecOptions::default()
    };
    let (_, snapshot) = packed(&golden::checkpoint(model), precision, spec).unwrap();
    let model = ModelOptions {
        num_threads: Some(2),
        kernel: Some(kernel.name()),
        ..ModelOptions::default()
    };
    Generator::load(LINKED, &snapshot, &GeneratorOptions { model, ..GeneratorOptions::default() })
        .unwrap()
}

/// Logits of every position of a sequence that is given in pieces of these lengths, in turns.
fn rows(decoder: &dyn Decoder, ids: &[u32], lengths: &[usize]) -> Vec<Vec<f32>> {
    let sequence = decoder.open(&[ids[0] ^ 1]).unwrap().id;
    let (mut rest, mut found) = (ids, Vec::new());
    for length in lengths.iter().cycle() {
        let (ids, after) = rest.split_at(rest.len().min(*length));
        assert!(decoder.make_room(&[(sequence, ids.len())]).unwrap());
        let piece = Piece { sequence, ids, logits: LogitsOf::All, allowed: None };
        found.extend(decoder.step(&[piece]).unwrap().remove(0).0);
        rest = after;
        if rest.is_empty() {
            break;
        }
    }
    decoder.close(sequence);
    found
}

fn worst(found: &[Vec<f32>], case: &Case) -> f32 {
    let mut worst = 0f32;
    for Row { at, values } in &case.logits {
        let row = &found[case.ids.len() - 1 + at];
        assert_eq!(row.len(), values.len(), "{}", case.name);
        worst = row.iter().zip(values).map(|(a, b)| (a - b).abs()).fold(worst, f32::max);
    }
    worst
}

fn whole(case: &Case) -> Vec<u32> {
    let ids = case.ids.iter().chain(&case.tokens[..case.tokens.len() - 1]);
    ids.copied().collect()
}

#[test]
fn f32_logits_are_those_of_transformers_on_every_kernel() {
    for model in MODELS {
        let golden = read(model);
        for kernel in Kernel::available() {
            let generator = load(model, Precision::F32, kernel);
            let mut all = 0f32;
            for case in &golden.cases {
                let found = rows(generator.decoder().unwrap(), &whole(case), &[64, 1, 1, 7]);
                let error = worst(&found, case);
                assert!(error <= TOLERANCE, "{model} on {}: {} {error}", kernel.name(), case.name);
                all = all.max(error);
            }
            println!("{model:<20} {:<12} worst error {all:.1e}", kernel.name());
        }
    }
}
