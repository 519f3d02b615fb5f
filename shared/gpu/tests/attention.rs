//! Attention on the emulator against a naive computation in f64, and to the bit against itself.
//!
//! A token's queries, keys and values are drawn from its number alone. So a text can be laid out in many ways, alone or in
//! a batch, whole or cut into stored rows, a prefix and the rest, and must have the same answers in all of them.

#![allow(clippy::cast_possible_truncation, reason = "shapes are small")]

mod emulated;

use defrost_gpu::kernels::Half;
use defrost_gpu::kernels::attention::{Attention, SequenceRow, TILE_QUERIES};
use emulated::{Device, Random, assert_close, halved, widened};

#[derive(Debug, Clone, Copy)]
struct Layer {
    half: Half,
    heads: u32,
    kv_heads: u32,
    head_dim: u32,
    causal: bool,
    window: u32,
}

/// A sequence: so many of the stored tokens, those of a sequence before it, and its own.
#[derive(Debug, Clone)]
struct Text {
    stored: usize,
    prefix: Option<usize>,
    own: Vec<u64>,
}

impl Text {
    fn of(own: impl IntoIterator<Item = u64>) -> Self {
        Self { stored: 0, prefix: None, own: own.into_iter().collect() }
    }
}

/// Tokens that no two texts share.
fn texts(lens: &[u64]) -> Vec<Text> {
    (1..).zip(lens).map(|(text, &len)| Text::of((0..len).map(|at| text * 10_000 + at))).collect()
}

impl Layer {
    const PLAIN: Self =
        Self { half: Half::Bf16, heads: 2, kv_heads: 2, head_dim: 64, causal: false, window: 0 };

    fn width(&self) -> usize {
        (self.heads * self.head_dim) as usize
    }

    fn scale(&self) -> f32 {
        (self.head_dim as f32).powf(-0.5)
    }

    /// A token's row of `qkv`, as the type can hold it.
    fn row(&self, token: u64) -> Vec<f32> {
        let values = (self.heads + 2 * self.kv_heads) * self.head_dim;
        let values = Random::new(token).floats(values as usize);
        // Doubled, so that scores differ by more than a little.
        let values: Vec<f32> = values.iter().map(|value| 2.0 * value).collect();
        widened(self.half, &halved(self.half, &values))
    }

    /// The kernel's answers: the bits of each text's rows.
    fn run(&self, stored: &[u64], texts: &[Text], seed: u64) -> Vec<Vec<u16>> {
        let tiles = Attention::tiles(texts.iter().map(|text| text.own.len() as u32));
        self.run_tiles(stored, texts, &tiles, seed)
    }

    fn run_tiles(
        &self,
        stored: &[u64],
        texts: &[Text],
        tiles: &[[u32; 2]],
        seed: u64,
    ) -> Vec<Vec<u16>> {
        let device = Device::new();
        let mut sequences: Vec<SequenceRow> = Vec::new();
        let mut tokens = Vec::new();
        for text in texts {
            let prefix = text.prefix.map(|prefix| sequences[prefix]).unwrap_or_default();
            sequences.push(SequenceRow {
                start: tokens.len() as u32,
                len: text.own.len() as u32,
                prefix_start: prefix.start,
                prefix_len: prefix.len,
                stored: text.stored as u32,
                ..SequenceRow::default()
            });
            tokens.extend_from_slice(&text.own);
        }
        let of = |tokens: &[u64], skip: usize| {
            let rows = tokens.iter().flat_map(|&token| self.row(token).split_off(skip));
            rows.collect::<Vec<_>>()
        };
        let len = tokens.len() * self.width();
        let out = device.room::<u16>(len);
        let stored =
            (!stored.is_empty()).then(|| device.put(&halved(self.half, &of(stored, self.width()))));
        let attention = Attention {
            qkv: device.put(&halved(self.half, &of(&tokens, 0))),
            half: self.half,
            heads: self.heads,
            kv_heads: self.kv_heads,
            head_dim: self.head_dim,
            out,
            sequences: device.put(&sequences),
            tiles: device.put(tiles),
            tile_count: tiles.len() as u32,
            causal: self.causal,
            window: self.window,
            scale: self.scale(),
            stored,
        };
        device.run(&attention.launch(), seed);
        let bits = device.get::<u16>(out, len);
        let mut rows = bits.chunks_exact(self.width());
        let mut take = |len: usize| rows.by_ref().take(len).flatten().copied().collect();
        texts.iter().map(|text| take(text.own.len())).collect()
    }

    /// What the query of one of these rows is answered, head by head.
    fn answer(&self, rows: &[Vec<f32>], at: usize) -> Vec<Vec<f64>> {
        let dim = self.head_dim as usize;
        let sees = |key: usize| {
            let window = if self.window == 0 { usize::MAX } else { self.window as usize };
            at.abs_diff(key) < window && (key <= at || !self.causal)
        };
        let vector = |row: usize, head: usize| &rows[row][head * dim..][..dim];
        let head = |head: usize| {
            let (heads, kv_heads) = (self.heads as usize, self.kv_heads as usize);
            let key_head = heads + head / (heads / kv_heads);
            let dot = |a: &[f32], b: &[f32]| -> f64 {
                a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
            };
            let keys: Vec<usize> = (0..rows.len()).filter(|&key| sees(key)).collect();
            let scores: Vec<f64> = keys
                .iter()
                .map(|&key| dot(vector(at, head), vector(key, key_head)) * f64::from(self.scale()))
                .collect();
            let top = scores.iter().copied().fold(f64::MIN, f64::max);
            let sum: f64 = scores.iter().map(|score| (score - top).exp()).sum();
            let mut out = vec![0.0; dim];
            for (&key, score) in keys.iter().zip(scores) {
                for (out, &value) in out.iter_mut().zip(vector(key, key_head + kv_heads)) {
                    *out += (score - top).exp() / sum * f64::from(value);
                }
            }
            out
        };
        (0..self.heads as usize).map(head).collect()
    }

    /// Runs texts, and compares some rows of each.
    fn check(&self, stored: &[u64], texts: &[Text]) {
        let within = match self.half {
            Half::Bf16 => 2e-2,
            Half::F16 => 3e-3,
        };
        for (number, (text, found)) in texts.iter().zip(self.run(stored, texts, 7)).enumerate() {
            let mut tokens = stored[..text.stored].to_vec();
            tokens.extend(text.prefix.iter().flat_map(|&prefix| texts[prefix].own.clone()));
            let before = tokens.len();
            tokens.extend_from_slice(&text.own);
            let tokens: Vec<Vec<f32>> = tokens.into_iter().map(|token| self.row(token)).collect();
            let len = text.own.len();
            // Where tiles, warps and blocks of keys begin and end, and some rows in between.
            let edges = [1, 8, 15, 16, 31, 32, 63, 64, 65, 127, 128].into_iter();
            let rows = (0..len).step_by(37).chain(edges).chain([len - 1]);
            for own in rows.filter(|&own| own < len) {
                let found = widened(self.half, &found[own * self.width()..][..self.width()]);
                let answer = self.answer(&tokens, before + own);
                let heads = found.chunks_exact(self.head_dim as usize);
                for (head, (found, expected)) in heads.zip(answer).enumerate() {
                    let what = (self, number, own, head);
                    assert_close(found, &expected, within, &what);
                }
            }
        }
    }
}

#[test]
fn every_width_and_mask_agrees_with_the_formula() {
    use Half::{Bf16, F16};
    let check = |half, [heads, kv_heads, head_dim]: [u32; 3], causal, window, lens: &[u64]| {
        Layer { half, heads, kv_heads, head_dim, causal, window }.check(&[], &texts(lens));
    };
    check(Bf16, [2, 2, 32], false, 0, &[1, 7, 64, 65, 130]);
    check(F16, [4, 2, 64], true, 0, &[1, 63, 100, 129]);
    check(Bf16, [6, 2, 64], true, 33, &[200]);
    check(Bf16, [2, 1, 128], true, 0, &[5, 131]);
    check(Bf16, [2, 2, 96], false, 17, &[150, 3]);
    check(F16, [2, 1, 256], true, 0, &[70, 33]);
    check(Bf16, [1, 1, 256], false, 5, &[90]);
    check(F16, [1, 1, 64], false, 1, &[66]);
    check(Bf16, [1, 1, 64], true, 1000, &[66]);
    check(Bf16, [3, 3, 8], false, 0, &[17, 66]);
    check(F16, [3, 1, 24], true, 20, &[17, 66]);
    check(Bf16, [2, 1, 40], false, 9, &[70]);
    check(F16, [1, 1, 72], true, 0, &[70]);
    check(Bf16, [1, 1, 104], false, 0, &[70]);
    check(F16, [1, 1, 136], true, 0, &[40]);
    check(Bf16, [1, 1, 200], false, 0, &[40]);
}

#[test]
fn long_sequences_agree_with_the_formula() {
    Layer { heads: 1, kv_heads: 1, head_dim: 32, ..Layer::PLAIN }.check(&[], &texts(&[600]));
    let causal = Layer { heads: 1, kv_heads: 1, head_dim: 128, causal: true, ..Layer::PLAIN };
    causal.check(&[], &texts(&[509]));
    Layer { window: 65, ..causal }.check(&[], &texts(&[577]));
}

#[test]
fn every_short_length_agrees_with_the_formula() {
    let lens: Vec<u64> = (1..=70).collect();
    for causal in [false, true] {
        let layer = Layer { heads: 1, kv_heads: 1, head_dim: 16, causal, ..Layer::PLAIN };
        layer.check(&[], &texts(&lens));
    }
}

/// A text whole, and cut in every way that there is: between, at and across tiles of keys.
#[test]
fn where_keys_lie_changes_no_bit() {
    let common: Vec<u64> = (900..1_020).collect();
    let rest: Vec<u64> = (50..120).collect();
    for (head_dim, causal, window) in
        [(64, true, 0), (64, true, 40), (128, true, 50), (32, false, 0), (256, false, 45)]
    {
        let layer = Layer { heads: 2, kv_heads: 1, head_dim, causal, window, half: Half::F16 };
        let whole = Text::of(common.iter().chain(&rest).copied());
        let expected =
            layer.run(&[], &[whole], 1).remove(0)[common.len() * layer.width()..].to_vec();
        for (stored, prefix) in [(0, 120), (1, 119), (64, 56), (100, 20), (57, 63), (120, 0)] {
            let mut texts = vec![
                // What else is in the batch makes no difference either.
                Text::of(7_000..7_009),
                Text { stored, prefix: None, own: common[stored..].to_vec() },
                Text { stored, prefix: Some(1), own: rest.clone() },
                Text { stored, prefix: Some(1), own: (300..333).collect() },
            ];
            if prefix == 0 {
                texts.remove(1);
                for text in &mut texts {
                    text.prefix = None;
                }
            }
            assert_eq!(prefix, common.len() - stored);
            let found = layer.run(&common, &texts, 2);
            assert_eq!(found[texts.len() - 2], expected, "{layer:?}, cut at {stored}");
            if stored == 57 {
                layer.check(&common, &texts);
            }
        }
    }
}

#[test]
fn the_batch_changes_no_bit_of_a_sequence() {
    let layer = Layer { causal: true, ..Layer::PLAIN };
    let batch = texts(&[20, 90, 1, 64, 130]);
    let together = layer.run(&[], &batch, 3);
    for (text, together) in batch.into_iter().zip(together) {
        assert_eq!(layer.run(&[], &[text], 4), [together]);
    }
}

/// As a last layer of which only the first or last row is read.
#[test]
fn a_query_by_itself_has_the_bits_that_it_has_among_others() {
    for causal in [false, true] {
        let layer = Layer { causal, window: 70, ..Layer::PLAIN };
        let batch = texts(&[140, 65, 1]);
        let all = layer.run(&[], &batch, 5);
        let width = layer.width();
        for ahead in [1, 12, 64] {
            let tiles: Vec<[u32; 2]> = (0..)
                .zip(&batch)
                .map(|(number, text)| [number, (text.own.len() as u32).saturating_sub(ahead)])
                .collect();
            let found = layer.run_tiles(&[], &batch, &tiles, 6);
            for ([_, first], (all, found)) in tiles.iter().zip(all.iter().zip(found)) {
                assert_eq!(all[*first as usize * width..], found[*first as usize * width..]);
            }
        }
    }
}

#[test]
fn no_order_of_threads_changes_a_bit() {
    let common: Vec<u64> = (900..905).collect();
    let batch = [
        Text { stored: 5, prefix: None, own: (0..11).collect() },
        Text { stored: 5, prefix: Some(0), own: (20..41).collect() },
        Text::of(50..85),
    ];
    for head_dim in [24, 136] {
        let layer =
            Layer { heads: 1, kv_heads: 1, head_dim, causal: true, window: 30, ..Layer::PLAIN };
        let first = layer.run(&common, &batch, 0);
        for seed in 1..200 {
            assert_eq!(layer.run(&common, &batch, seed), first, "seed {seed}");
        }
    }
}

/// What is not a number stays in its sequence and is seen there.
#[test]
fn a_nan_spreads_to_the_queries_that_see_it_alone() {
    let device = Device::new();
    let (head_dim, rows) = (32, 40);
    let mut qkv = Random::new(1).floats(rows * 3 * head_dim);
    // A key of row 20, the first of the second sequence's.
    qkv[20 * 3 * head_dim + head_dim] = f32::NAN;
    let sequences = [(0, 20), (20, 20)].map(|(start, len)| SequenceRow {
        start,
        len,
        ..SequenceRow::default()
    });
    let tiles = Attention::tiles(sequences.map(|row| row.len));
    let out = device.room::<u16>(rows * head_dim);
    let attention = Attention {
        qkv: device.put(&halved(Half::Bf16, &qkv)),
        half: Half::Bf16,
        heads: 1,
        kv_heads: 1,
        head_dim: head_dim as u32,
        out,
        sequences: device.put(&sequences),
        tiles: device.put(&tiles),
        tile_count: tiles.len() as u32,
        causal: true,
        window: 5,
        scale: 0.2,
        stored: None,
    };
    device.run(&attention.launch(), 1);
    let out = widened(Half::Bf16, &device.get(out, rows * head_dim));
    for (row, values) in out.chunks_exact(head_dim).enumerate() {
        // A value of the row is in the tile of all, with the probability 0.
        let finite = values.iter().all(|value| value.is_finite());
        let nan = values.iter().all(|value| value.is_nan());
        assert!(if (20..25).contains(&row) { nan } else { finite }, "row {row}: {values:?}");
    }
}

#[test]
fn tiles_cover_every_query_once() {
    assert_eq!(
        Attention::tiles([1, 64, 130, 65]),
        [[0, 0], [1, 0], [2, 0], [2, 64], [2, 128], [3, 0], [3, TILE_QUERIES]]
    );
    assert!((0..300).all(|dim| Attention::supports(dim) == (dim > 0 && dim < 257 && dim % 8 == 0)));
}
