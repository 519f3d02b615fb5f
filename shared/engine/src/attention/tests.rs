use proptest::prelude::*;

use super::*;
use crate::kernel::Kernel;
use crate::threads::Threads;

/// The definition, in f64.
fn reference(
    heads: Heads,
    qkv: &[f32],
    tokens: Range<usize>,
    query: usize,
    head: usize,
) -> Vec<f64> {
    let (row, width) = (heads.row(), heads.width);
    let kv = head / (heads.queries / heads.key_values);
    let at =
        |token: usize, slot: usize| &qkv[(tokens.start + token) * row + slot * width..][..width];
    let seen = if heads.causal { query + 1 } else { tokens.len() };
    let dot = |a: &[f32], b: &[f32]| {
        a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>()
    };
    let scores: Vec<f64> = (0..seen)
        .map(|token| dot(at(query, head), at(token, heads.queries + kv)) / (width as f64).sqrt())
        .collect();
    let max = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let weights: Vec<f64> = scores.iter().map(|score| (score - max).exp()).collect();
    let total: f64 = weights.iter().sum();
    (0..width)
        .map(|column| {
            weights
                .iter()
                .enumerate()
                .map(|(token, weight)| {
                    weight / total
                        * f64::from(at(token, heads.queries + heads.key_values + kv)[column])
                })
                .sum()
        })
        .collect()
}

/// Runs every kernel set on one and two threads; they must agree to the bit.
fn run(heads: Heads, arithmetic: Arithmetic, qkv: &[f32], spans: &[Span], rows: usize) -> Vec<f32> {
    run_after(heads, arithmetic, qkv, &[], spans, rows)
}

/// As [`run`], where spans may begin with the `stored` rows.
fn run_after(
    heads: Heads,
    arithmetic: Arithmetic,
    qkv: &[f32],
    stored: &[f32],
    spans: &[Span],
    rows: usize,
) -> Vec<f32> {
    let mut first: Option<Vec<f32>> = None;
    // What one call leaves must not be seen by the next.
    let mut pages = Pages::default();
    for kernel in Kernel::for_tests() {
        for count in [1, 2] {
            let threads = Threads::new(Some(count));
            let cx = Context { kernel, threads: &threads };
            let mut out = vec![f32::NAN; rows * heads.queries * heads.width];
            attention(cx, heads, arithmetic, qkv, stored, spans, &mut pages, &mut out);
            let bits = |values: &[f32]| values.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
            let first = first.get_or_insert_with(|| out.clone());
            assert_eq!(bits(first), bits(&out), "{} on {count} threads", kernel.name());
        }
    }
    first.unwrap()
}

fn random(seed: u32, len: usize) -> Vec<f32> {
    let mut state = seed;
    (0..len)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / 8_388_608.0 - 1.0
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn equals_the_definition_alone_and_in_a_batch(
        lengths in prop::collection::vec(1usize..150, 1..4),
        (queries, key_values) in prop_oneof![Just((4usize, 4usize)), Just((4, 2)), Just((3, 1))],
        width in prop_oneof![Just(8usize), Just(16), Just(32), Just(72)],
        causal: bool,
        // How much larger some scores get: from flat to all on one key.
        sharpness in prop_oneof![Just(1f32), Just(6.0)],
        seed in 1u32..1000,
    ) {
        let heads = Heads { queries, key_values, width, causal };
        let total: usize = lengths.iter().sum();
        let qkv: Vec<f32> = random(seed, total * heads.row()).iter().map(|x| x * sharpness).collect();
        let mut spans = Vec::new();
        let mut start = 0;
        for &length in &lengths {
            spans.push(Span { stored: 0, prefix: 0..0, tokens: start..start + length, queries: 0..length, out: start });
            start += length;
        }
        for (arithmetic, tolerance) in [(Arithmetic::Float, 1e-5), (Arithmetic::Int16, 2e-3)] {
            let out = run(heads, arithmetic, &qkv, &spans, total);
            for span in &spans {
                for query in [0, span.tokens.len() / 2, span.tokens.len() - 1] {
                    for head in 0..queries {
                        let found = &out[((span.tokens.start + query) * queries + head) * width..][..width];
                        let expected = reference(heads, &qkv, span.tokens.clone(), query, head);
                        for (found, expected) in found.iter().zip(expected) {
                            let error = (f64::from(*found) - expected).abs();
                            // Scores grow with the square, and with them the error of their exponentials.
                            prop_assert!(error < tolerance * f64::from(sharpness).powi(2), "{arithmetic:?} {error}");
                        }
                    }
                }
                let alone = Span { tokens: 0..span.tokens.len(), out: 0, ..span.clone() };
                let own = &qkv[span.tokens.start * heads.row()..span.tokens.end * heads.row()];
                let single = run(heads, arithmetic, own, &[alone], span.tokens.len());
                let batch = &out[span.tokens.start * queries * width..][..single.len()];
                prop_assert!(single.iter().zip(batch).all(|(a, b)| a.to_bits() == b.to_bits()));
            }
        }
    }

    /// Wherever a sequence is cut into a stored prefix, one of the batch and the rest, and however far apart they lie.
    #[test]
    fn a_prefix_changes_nothing(
        length in 2usize..200,
        cut in any::<prop::sample::Index>(),
        stored in any::<prop::sample::Index>(),
        between in 0usize..3,
        seed in 1u32..1000,
    ) {
        let heads = Heads { queries: 4, key_values: 2, width: 16, causal: true };
        let (cut, row) = (1 + cut.index(length - 1), heads.row());
        let whole = random(seed, length * row);
        let span = Span { stored: 0, prefix: 0..0, tokens: 0..length, queries: 0..length, out: 0 };
        let stored = stored.index(cut);
        let rows: Vec<f32> = whole[..cut * row]
            .chunks_exact(row)
            .flat_map(|row| &row[heads.queries * heads.width..])
            .chain(&[f32::NAN; 4]) // More may be stored than is used.
            .copied()
            .collect();
        let shared = cut - stored;
        let apart =
            [&whole[stored * row..cut * row], &random(!seed, between * row), &whole[cut * row..]].concat();
        let own = shared + between..length - stored + between;
        let spans = [
            Span { stored, prefix: 0..0, tokens: 0..shared, queries: 0..shared, out: 0 },
            Span { stored, prefix: 0..shared, tokens: own.clone(), queries: 0..length - cut, out: shared },
            // The same, after more of what is stored: the others see a part of that.
            Span { stored: cut, prefix: 0..0, tokens: own, queries: 0..length - cut, out: length - stored },
        ];
        for arithmetic in [Arithmetic::Float, Arithmetic::Int16] {
            let expected = run(heads, arithmetic, &whole, std::slice::from_ref(&span), length);
            let after = |token: usize| &expected[token * heads.queries * heads.width..];
            let expected = [after(stored), after(cut)].concat();
            let found =
                run_after(heads, arithmetic, &apart, &rows, &spans, 2 * length - stored - cut);
            prop_assert_eq!(found.len(), expected.len());
            prop_assert!(found.iter().zip(expected).all(|(a, b)| a.to_bits() == b.to_bits()));
        }
    }
}

/// Pages end inside of a long sequence and runs inside of pages, with an odd number of keys; several tasks read each.
#[test]
fn long_sequences_are_read_page_by_page() {
    let (length, asked, stored, shared) = (2 * PAGE_KEYS + 77, TASK_ROWS + 10, 37, PAGE_KEYS + 6);
    for causal in [true, false] {
        let heads = Heads { queries: 1, key_values: 1, width: 8, causal };
        let (row, asks) = (heads.row(), length - asked..length);
        let whole = random(3, length * row);
        let span =
            Span { stored: 0, prefix: 0..0, tokens: 0..length, queries: asks.clone(), out: 0 };
        let rows: Vec<f32> = whole[..stored * row]
            .chunks_exact(row)
            .flat_map(|row| &row[heads.queries * heads.width..])
            .copied()
            .collect();
        let start = stored + shared;
        let own = Span {
            stored,
            prefix: 0..shared,
            tokens: shared..length - stored,
            queries: asks.start - start..asks.end - start,
            out: 0,
        };
        for (arithmetic, tolerance) in [(Arithmetic::Float, 1e-5), (Arithmetic::Int16, 2e-3)] {
            let expected = run(heads, arithmetic, &whole, std::slice::from_ref(&span), asked);
            let rest = &whole[stored * row..];
            let found =
                run_after(heads, arithmetic, rest, &rows, std::slice::from_ref(&own), asked);
            assert!(found.iter().zip(&expected).all(|(a, b)| a.to_bits() == b.to_bits()));
            for query in [asks.start, length - 1] {
                let exact = reference(heads, &whole, 0..length, query, 0);
                let found = &found[(query - asks.start) * heads.width..][..heads.width];
                for (found, exact) in found.iter().zip(exact) {
                    assert!((f64::from(*found) - exact).abs() < tolerance, "{found} {exact}");
                }
            }
        }
    }
}

#[test]
fn what_is_not_a_number_stays_none() {
    let heads = Heads { queries: 1, key_values: 1, width: 16, causal: false };
    for at in [3, 16 + 3, 32 + 3] {
        for bad in [f32::NAN, f32::INFINITY] {
            let mut qkv = random(1, 5 * heads.row());
            qkv[2 * heads.row() + at] = bad;
            let span = Span { stored: 0, prefix: 0..0, tokens: 0..5, queries: 2..3, out: 0 };
            for arithmetic in [Arithmetic::Float, Arithmetic::Int16] {
                // An infinite score of f32 may be minus infinity, which is a weight of zero.
                if arithmetic == Arithmetic::Float && bad.is_infinite() {
                    continue;
                }
                let out = run_loosely(heads, arithmetic, &qkv, &span);
                assert!(out.iter().any(|x| !x.is_finite()), "{arithmetic:?} {at} {bad}: {out:?}");
            }
        }
    }
}

/// NaNs may differ in their bits.
fn run_loosely(heads: Heads, arithmetic: Arithmetic, qkv: &[f32], span: &Span) -> Vec<f32> {
    let threads = Threads::new(Some(1));
    let cx = Context { kernel: Kernel::detect(), threads: &threads };
    let mut out = vec![0.0; heads.queries * heads.width];
    let mut pages = Pages::default();
    attention(cx, heads, arithmetic, qkv, &[], std::slice::from_ref(span), &mut pages, &mut out);
    out
}

/// A value's scale is its own: a zero vector of values, or a tiny one, gives zero and not a division by it.
#[test]
fn zero_values_give_zero() {
    let heads = Heads { queries: 2, key_values: 1, width: 16, causal: true };
    let mut qkv = random(7, 9 * heads.row());
    for row in qkv.chunks_exact_mut(heads.row()) {
        row[3 * 16..].fill(0.0);
    }
    let span = Span { stored: 0, prefix: 0..0, tokens: 0..9, queries: 0..9, out: 0 };
    let out = run(heads, Arithmetic::Int16, &qkv, &[span], 9);
    assert!(out.iter().all(|value| *value == 0.0));
}
