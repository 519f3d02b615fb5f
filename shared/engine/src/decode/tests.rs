//! Steps against the definition in f64, and against each other: to the bit, however they come about.

mod definition;
mod tiny;

use std::collections::BTreeMap;

use defrost_model::{Attention, LocalLayers, Precision, RopeScaling};
use proptest::prelude::*;

use self::tiny::{Tiny, config};
use super::*;
use crate::{Kernel, LayerPass, ModelConfig, Probe, Threads};

fn last(sequence: SequenceId, ids: &[u32]) -> Piece<'_> {
    Piece { sequence, ids, logits: LogitsOf::Last, allowed: None }
}

fn every(sequence: SequenceId, ids: &[u32]) -> Piece<'_> {
    Piece { logits: LogitsOf::All, ..last(sequence, ids) }
}

/// The logits of every position, computed at once and alone.
fn alone(model: &Arc<Model>, ids: &[u32]) -> Vec<Vec<f32>> {
    let decoder = PagedDecoder::new(Arc::clone(model), Some(ids.len()), None, &[]).unwrap();
    let opened = decoder.open(ids).unwrap();
    assert_eq!(opened.cached, 0);
    let mut logits = decoder.step(&[every(opened.id, ids)]).unwrap();
    logits.remove(0).0
}

fn bits(rows: &[Vec<f32>]) -> Vec<Vec<u32>> {
    rows.iter().map(|row| row.iter().map(|value| value.to_bits()).collect()).collect()
}

fn text(seed: u32, len: usize, vocab: usize) -> Vec<u32> {
    let mut state = seed;
    let next = |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) % vocab as u32
    };
    (0..len).map(next).collect()
}

#[track_caller]
fn close(found: &[Vec<f32>], expected: &[Vec<f64>], tolerance: f64) {
    assert_eq!(found.len(), expected.len());
    for (at, (found, expected)) in found.iter().zip(expected).enumerate() {
        for (&found, &expected) in found.iter().zip(expected) {
            let error = (f64::from(found) - expected).abs();
            assert!(error <= tolerance, "token {at}: {found} {expected}");
        }
    }
}

/// Whether errors are a tenth of logits, on average: what rounding activations to eight bits leaves of random weights.
#[track_caller]
fn alike(found: &[Vec<f32>], expected: &[Vec<f64>]) {
    let pairs = || found.iter().flatten().zip(expected.iter().flatten());
    let errors: f64 = pairs().map(|(&found, expected)| (f64::from(found) - expected).powi(2)).sum();
    let all: f64 = pairs().map(|(_, expected)| expected.powi(2)).sum();
    assert!(errors <= 0.01 * all, "{:.3} of logits", (errors / all).sqrt());
}

/// Every word of a blueprint and every rule of attention, over more tokens than a chunk has.
#[test]
fn logits_follow_the_definition() {
    let local = Some(LocalLayers { window: 40, every: 3, theta: 1e4 });
    let llama3 = RopeScaling::Llama3 { factor: 8.0, low: 1.0, high: 4.0, original: 512.0 };
    let rules = [
        Attention::default(),
        Attention { scale: Some(0.4), ..Attention::default() },
        Attention { rope: RopeScaling::Linear { factor: 8.0 }, local, ..Attention::default() },
        Attention { rope: llama3, ..Attention::default() },
    ];
    for name in tiny::families() {
        for (at, attention) in rules.into_iter().enumerate() {
            let config = ModelConfig { attention, tied: at % 2 == 0, ..config(name) };
            let ids = text(at as u32, 270, config.vocab);
            for precision in [Precision::F32, Precision::Bf16] {
                let tiny = Tiny::new(&config, precision, 7);
                let found = alone(&tiny.model(Kernel::detect(), 2), &ids);
                let expected = definition::logits(&tiny, &ids);
                // Pages of f16 round keys and values to eleven bits.
                let tolerance = if precision == Precision::F32 { 2e-4 } else { 2e-2 };
                close(&found, &expected, tolerance);
            }
        }
    }
}

/// Int8 activations are rounded to eight bits of their largest; still the same tokens, mostly.
#[test]
fn int8_models_continue_too() {
    let config = ModelConfig { tied: true, ..config("qwen2") };
    let tiny = Tiny::new(&config, Precision::Int8, 3);
    let ids = text(1, 60, config.vocab);
    let found = alone(&tiny.model(Kernel::detect(), 1), &ids);
    alike(&found, &definition::logits(&tiny, &ids));
}

/// Matrices of different kinds of blocks in one product, tied and untied words. Activations are rounded to eight bits of the
/// largest of each thirty-two.
#[test]
fn models_of_blocks_continue_too() {
    for name in tiny::families() {
        for tied in [true, false] {
            let config = ModelConfig { tied, ..tiny::of_blocks(name) };
            let tiny = Tiny::new(&config, Precision::Blocks, 3);
            let ids = text(1, 60, config.vocab);
            let found = alone(&tiny.model(Kernel::detect(), 1), &ids);
            alike(&found, &definition::logits(&tiny, &ids));
        }
    }
}

/// Up to a chunk's length, a step adds up in the order of a whole pass.
#[test]
fn a_step_is_the_pass_over_whole_sequences() {
    for name in ["qwen2", "qwen3"] {
        for tied in [true, false] {
            let tiny = Tiny::new(&ModelConfig { tied, ..config(name) }, Precision::F32, 5);
            let model = tiny.model(Kernel::detect(), 2);
            for len in [1, 2, 31, 32, 33, 200, 256] {
                let ids = text(len as u32, len, tiny.config.vocab);
                let mut batch = Batch::default();
                batch.push(&ids, &[]);
                let whole = model.forward(&batch).unwrap();
                assert_eq!(bits(&alone(&model, &ids)[len - 1..]), bits(&[whole]), "{name} {len}");
            }
        }
    }
}

#[test]
fn every_kernel_set_and_number_of_threads_gives_the_same_bits() {
    let local = Some(LocalLayers { window: 70, every: 2, theta: 1e4 });
    let attention = Attention { local, ..Attention::default() };
    for precision in [Precision::F32, Precision::Bf16, Precision::Blocks] {
        let config = ModelConfig { attention, ..tiny::of_blocks("qwen3") };
        let tiny = Tiny::new(&config, precision, 9);
        let ids = text(2, 262, tiny.config.vocab);
        let mut first = None;
        for kernel in Kernel::for_tests() {
            for threads in [1, 5] {
                let found = bits(&alone(&tiny.model(kernel, threads), &ids));
                let first = first.get_or_insert_with(|| found.clone());
                assert!(*first == found, "{} on {threads} threads", kernel.name());
            }
        }
    }
}

#[test]
fn only_what_is_asked_for_is_answered() {
    let tiny = Tiny::new(&config("qwen3"), Precision::F32, 4);
    let model = tiny.model(Kernel::detect(), 1);
    let ids = text(5, 40, tiny.config.vocab);
    let expected = bits(&alone(&model, &ids));
    let decoder = PagedDecoder::new(model, Some(400), None, &[]).unwrap();
    let open = || decoder.open(&ids[..1]).unwrap().id;
    let (none, one, all, masked) = (open(), open(), open(), open());
    let mut mask = TokenMask::none(tiny.config.vocab);
    for id in [3, 17, 46] {
        mask.allow(id);
    }
    let logits = decoder
        .step(&[
            Piece { logits: LogitsOf::None, ..last(none, &ids) },
            last(one, &ids),
            every(all, &ids),
            Piece { allowed: Some(&mask), ..every(masked, &ids) },
        ])
        .unwrap();
    assert_eq!(logits[0], Logits::default());
    assert_eq!(bits(&logits[1].0), expected[39..]);
    assert_eq!(bits(&logits[2].0), expected);
    // The mask is for the last one.
    assert_eq!(bits(&logits[3].0[..39]), expected[..39]);
    for (id, logit) in logits[3].0[39].iter().enumerate() {
        let free = expected[39][id];
        let want = if mask.allows(id as u32) { free } else { f32::NEG_INFINITY.to_bits() };
        assert_eq!(logit.to_bits(), want);
    }
    let nothing = Piece { logits: LogitsOf::None, ..last(none, &ids[..3]) };
    assert_eq!(decoder.step(&[nothing]).unwrap(), [Logits::default()]);
    assert_eq!(decoder.step(&[]).unwrap(), []);
}

#[test]
fn what_cannot_be_done_is_refused_and_changes_nothing() {
    let tiny = Tiny::new(&config("qwen3"), Precision::F32, 4);
    let model = tiny.model(Kernel::detect(), 1);
    let vocab = tiny.config.vocab as u32;
    let new = |tokens, context| PagedDecoder::new(Arc::clone(&model), tokens, context, &[]);
    let told = |error: Error| error.to_string();
    assert!(told(new(Some(0), None).unwrap_err()).contains("0 tokens"));
    assert!(told(new(None, Some(0)).unwrap_err()).contains("expected 1 to 1024"));
    assert!(told(new(None, Some(1025)).unwrap_err()).contains("expected 1 to 1024"));
    assert!(told(new(Some(usize::MAX), None).unwrap_err()).contains("expected up to 134217728"));
    let stored = PagedDecoder::new(Arc::clone(&model), None, None, &[1]);
    assert!(told(stored.unwrap_err()).contains("prefix of 1 tokens: expected 0"));
    assert_eq!(new(None, None).unwrap().context(), 1024);
    assert_eq!(new(None, None).unwrap().note(), None);
    let small = new(Some(70), None).unwrap();
    assert_eq!(small.context(), 96);
    assert!(small.note().unwrap().contains("up to 96 tokens instead of 1024"));
    assert_eq!(new(Some(64), Some(50)).unwrap().context(), 50);

    let decoder = new(Some(64), None).unwrap();
    let (long, other) = ([1; 65], [2; 64]);
    assert!(told(decoder.open(&[]).unwrap_err()).contains("0 tokens: expected 1 to 64"));
    assert!(told(decoder.open(&long).unwrap_err()).contains("65 tokens: expected 1 to 64"));
    assert!(told(decoder.open(&[vocab]).unwrap_err()).contains("outside of the"));
    let id = decoder.open(&[1]).unwrap().id;
    let second = decoder.open(&[2]).unwrap().id;
    decoder.step(&[last(id, &[1; 5])]).unwrap();
    let gone = SequenceId(99);
    let small = TokenMask::all(3);
    for (pieces, part) in [
        (vec![last(gone, &[1])], "sequence 99 is not open"),
        (vec![last(id, &[])], "no next tokens"),
        (vec![last(id, &long[..60])], "would have 65 tokens, expected up to 64"),
        (vec![last(id, &[vocab])], "outside of the"),
        (vec![last(id, &[1]), last(id, &[2])], "occurs twice"),
        (vec![Piece { allowed: Some(&small), ..last(id, &[1]) }], "vocabulary of 3"),
        (vec![last(id, &[1]), last(second, &other)], "no room for the keys and values of 65"),
    ] {
        let error = told(decoder.step(&pieces).unwrap_err());
        assert!(error.contains(part), "{error}");
    }
    assert!(!decoder.make_room(&[(second, 64)]).unwrap());
    assert!(told(decoder.make_room(&[(gone, 1)]).unwrap_err()).contains("not open"));
    assert!(told(decoder.fork(gone).unwrap_err()).contains("not open"));
    assert!(told(decoder.truncate(gone, 0).unwrap_err()).contains("not open"));
    assert!(told(decoder.truncate(id, 6).unwrap_err()).contains("5 tokens: 6 cannot be left"));
    decoder.close(gone);
    let found = decoder.step(&[last(id, &[3])]).unwrap();
    let expected = alone(&model, &[1, 1, 1, 1, 1, 3]);
    assert_eq!(bits(&found[0].0), bits(&expected[5..]));
    assert_eq!(decoder.room(), Room { total: 64, held: 32, kept: 0 });
}

/// Keeps the rows `[k heads | v heads]` of a layer.
struct Kept {
    wanted: std::ops::Range<usize>,
    rows: Vec<f32>,
}

impl Probe for Kept {
    fn projected(&mut self, qkv: &[f32]) {
        let rows = qkv.chunks_exact(self.wanted.end);
        self.rows = rows.flat_map(|row| &row[self.wanted.clone()]).copied().collect();
    }
}

/// What a snapshot stores of prompts' beginning is what would be computed, to the bit, and is found like what was.
#[test]
fn a_stored_prefix_is_there_from_the_beginning() {
    let local = Some(LocalLayers { window: 20, every: 2, theta: 1e4 });
    let attention = Attention { local, ..Attention::default() };
    for name in tiny::families() {
        for precision in [Precision::F32, Precision::Bf16, Precision::Blocks] {
            let plain = ModelConfig { attention, tied: true, ..tiny::of_blocks(name) };
            let ids = text(6, 70, plain.vocab);
            for stored in [1, 32, 45] {
                let config = ModelConfig { stored_prefix: stored, ..plain.clone() };
                let mut tiny = Tiny::new(&config, precision, 2);
                let table = tiny.table(&ids[..stored]);
                let (kernel, threads) = (Kernel::detect(), Threads::new(Some(2)));
                let mut pass =
                    LayerPass::of_words(&config, &table, stored, kernel, threads).unwrap();
                let wanted = LayerPass::keys_and_values(&config);
                let mut kept = Kept { wanted, rows: Vec::new() };
                for layer in 0..config.layers {
                    pass.layer(&tiny, &mut kept).unwrap();
                    tiny.store(layer, &kept.rows);
                }
                let decoder =
                    PagedDecoder::new(tiny.model(kernel, 2), Some(300), None, &ids[..stored])
                        .unwrap();
                tiny.config.stored_prefix = 0;
                let expected = bits(&alone(&tiny.model(kernel, 1), &ids));
                assert_eq!(decoder.open(&[ids[0] ^ 1, 3]).unwrap().cached, 0);
                let opened = decoder.open(&ids).unwrap();
                assert_eq!(opened.cached, stored);
                let found = decoder.step(&[every(opened.id, &ids[stored..])]).unwrap();
                assert_eq!(bits(&found[0].0), expected[stored..], "{name} {precision:?} {stored}");
                let short = decoder.open(&ids[..stored]).unwrap();
                assert_eq!(short.cached, stored - 1);
            }
        }
    }
}

/// Logits of texts, computed alone once.
struct Expected {
    model: Arc<Model>,
    known: BTreeMap<Vec<u32>, Vec<Vec<u32>>>,
}

impl Expected {
    /// The bits of the logits after `ids`.
    fn after(&mut self, ids: &[u32]) -> Vec<u32> {
        let longer = self.known.range(ids.to_vec()..).next();
        if let Some((_, rows)) = longer.filter(|(known, _)| known.starts_with(ids)) {
            return rows[ids.len() - 1].clone();
        }
        let rows = bits(&alone(&self.model, ids));
        let found = rows[ids.len() - 1].clone();
        self.known.insert(ids.to_vec(), rows);
        found
    }
}

#[derive(Debug, Clone)]
enum Move {
    Open {
        text: u8,
        len: usize,
    },
    Fork(prop::sample::Index),
    Truncate {
        which: prop::sample::Index,
        to: prop::sample::Index,
    },
    Close(prop::sample::Index),
    /// The next tokens of up to three sequences: of how many each, and of which text.
    Step([(prop::sample::Index, usize, u8); 3]),
}

fn moves() -> impl Strategy<Value = Move> {
    let which = any::<prop::sample::Index>;
    let next = move || (which(), prop_oneof![4 => Just(1usize), 1 => 2usize..90], 0u8..3);
    prop_oneof![
        2 => (0u8..3, 1usize..330).prop_map(|(text, len)| Move::Open { text, len }),
        1 => which().prop_map(Move::Fork),
        1 => (which(), which()).prop_map(|(which, to)| Move::Truncate { which, to }),
        1 => which().prop_map(Move::Close),
        6 => [next(), next(), next()].prop_map(Move::Step),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    /// Whatever is opened, forked, taken back, closed and computed together, in whatever pieces, reused or not.
    #[test]
    fn a_token_has_the_same_logits_however_it_comes_about(
        moves in prop::collection::vec(moves(), 1..30),
        precision in prop_oneof![Just(Precision::F32), Just(Precision::Bf16), Just(Precision::Blocks)],
        pages in 12usize..24,
    ) {
        let local = Some(LocalLayers { window: 50, every: 2, theta: 1e4 });
        let attention = Attention { local, ..Attention::default() };
        let tiny = Tiny::new(&ModelConfig { attention, ..tiny::of_blocks("qwen3") }, precision, 1);
        let mut expected =
            Expected { model: tiny.model(Kernel::detect(), 1), known: BTreeMap::new() };
        let model = tiny.model(Kernel::detect(), 3);
        let decoder = PagedDecoder::new(model, Some(pages * PAGE_TOKENS), None, &[]).unwrap();
        // They begin alike and part at two thirds of a page.
        let texts: Vec<Vec<u32>> = (0..3)
            .map(|at| [text(1, 53, 47), text(at, 400, 47)].concat())
            .collect();
        let mut open: Vec<(SequenceId, Vec<u32>)> = Vec::new();
        for move_ in moves {
            match move_ {
                Move::Open { text, len } => {
                    let ids = &texts[usize::from(text)][..len];
                    let opened = decoder.open(ids).unwrap();
                    prop_assert!(opened.cached < len);
                    open.push((opened.id, ids[..opened.cached].to_vec()));
                }
                Move::Fork(which) if !open.is_empty() => {
                    let (id, tokens) = open[which.index(open.len())].clone();
                    open.push((decoder.fork(id).unwrap(), tokens));
                }
                Move::Truncate { which, to } if !open.is_empty() => {
                    let at = which.index(open.len());
                    let (id, tokens) = &mut open[at];
                    tokens.truncate(to.index(tokens.len() + 1));
                    decoder.truncate(*id, tokens.len()).unwrap();
                }
                Move::Close(which) if !open.is_empty() => {
                    decoder.close(open.swap_remove(which.index(open.len())).0);
                }
                Move::Step(wanted) if !open.is_empty() => {
                    let mut next: Vec<(usize, Vec<u32>)> = Vec::new();
                    for (which, len, text) in wanted {
                        let at = which.index(open.len());
                        let from = open[at].1.len();
                        let to = (from + len).min(texts[0].len()).min(decoder.context());
                        if next.iter().all(|(other, _)| *other != at) && to > from {
                            next.push((at, texts[usize::from(text)][from..to].to_vec()));
                        }
                    }
                    let room: Vec<_> =
                        next.iter().map(|(at, ids)| (open[*at].0, ids.len())).collect();
                    if !decoder.make_room(&room).unwrap() {
                        continue;
                    }
                    let pieces: Vec<_> =
                        next.iter().map(|(at, ids)| every(open[*at].0, ids)).collect();
                    let logits = decoder.step(&pieces).unwrap();
                    for ((at, ids), logits) in next.iter().zip(&logits) {
                        let tokens = &mut open[*at].1;
                        for (&id, logits) in ids.iter().zip(bits(&logits.0)) {
                            tokens.push(id);
                            prop_assert!(expected.after(tokens) == logits, "after {} tokens", tokens.len());
                        }
                    }
                }
                _ => {}
            }
        }
        for (id, _) in open {
            decoder.close(id);
        }
        prop_assert_eq!(decoder.room().held, 0);
    }
}
