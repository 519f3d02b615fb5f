use std::path::Path;

use proptest::prelude::*;

use super::*;

fn golden(name: &str) -> Vec<u8> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/golden/gguf-blocks");
    std::fs::read(dir.join(name)).unwrap_or_else(|err| panic!("{name}: {err}"))
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect()
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// Inputs of a golden row.
const COLUMNS: usize = 512;

#[test]
fn values_are_those_of_the_gguf_package() {
    for kind in BlockKind::ALL {
        let (blocks, expected) = (
            golden(&format!("{}.blocks", kind.name())),
            floats(&golden(&format!("{}.values", kind.name()))),
        );
        let mut values = vec![0.0; expected.len()];
        dequantize(kind, &blocks, &mut values);
        assert_eq!(bits(&values), bits(&expected), "{}", kind.name());
        let n = expected.len() / COLUMNS;
        assert_eq!(blocks.len(), n * row_len(kind, COLUMNS));
        let panels = pack(kind, &blocks, n, COLUMNS);
        for (row, expected) in expected.chunks_exact(COLUMNS).enumerate() {
            let mut values = vec![0.0; COLUMNS];
            unpack_row(kind, &panels, n, COLUMNS, row, &mut values);
            assert_eq!(bits(&values), bits(expected), "{} row {row}", kind.name());
        }
    }
}

#[test]
fn plain_kinds_round_as_the_gguf_package_does() {
    let weights = floats(&golden("weights.values"));
    let kinds = BlockKind::ALL.into_iter().filter(|kind| !form(*kind).headed);
    for kind in kinds {
        let expected = golden(&format!("{}.quantized", kind.name()));
        assert_eq!(quantize(kind, &weights, COLUMNS), expected, "{}", kind.name());
    }
}

#[test]
fn panels_take_little_more_than_the_file() {
    for kind in BlockKind::ALL {
        let (n, k) = (128, 1024);
        let (file, packed) = (n * row_len(kind, k), panels_len(kind, n, k));
        assert!(packed >= file && packed * 100 <= file * 103, "{} {file} {packed}", kind.name());
        assert!(
            form(kind).block_bytes().is_multiple_of(64)
                && form(kind).run_bytes().is_multiple_of(64)
        );
        assert_eq!(panels_len(kind, 0, k), 0);
        assert_eq!(panels_len(kind, 1, k), panels_len(kind, PANEL, k));
    }
}

#[test]
#[should_panic(expected = "expected a multiple of 256")]
fn rows_are_whole_blocks() {
    panels_len(BlockKind::Q4_K, 64, 288);
}

fn any_kind() -> impl Strategy<Value = BlockKind> {
    prop::sample::select(BlockKind::ALL.to_vec())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Random bytes as blocks: every bit of codes and scales is in its place, for any number of channels.
    #[test]
    fn packed_rows_have_their_values(kind in any_kind(), n in 1usize..140, blocks in 1usize..4, seed: u64) {
        let (weights, _) = kind.gguf_block();
        let k = blocks * weights;
        let mut state = seed;
        let rows: Vec<u8> = (0..n * row_len(kind, k)).map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        }).collect();
        let panels = pack(kind, &rows, n, k);
        prop_assert_eq!(panels.len(), panels_len(kind, n, k));
        let (mut expected, mut found) = (vec![0.0; k], vec![0.0; k]);
        for (row, file) in rows.chunks_exact(row_len(kind, k)).enumerate() {
            dequantize(kind, file, &mut expected);
            unpack_row(kind, &panels, n, k, row, &mut found);
            prop_assert_eq!(bits(&found), bits(&expected));
        }
    }

    /// Whatever is quantised comes back within a step of its block.
    #[test]
    fn quantisation_errs_by_a_step(kind in any_kind(), scale in 1e-3f32..10.0, seed: u64) {
        let mut state = seed;
        let values: Vec<f32> = (0..512).map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            ((state >> 40) as f32 / 16_777_216.0 - 0.5) * scale
        }).collect();
        let blocks = quantize(kind, &values, 256);
        let mut found = vec![0.0; values.len()];
        dequantize(kind, &blocks, &mut found);
        // A code fewer, because the largest magnitude may be a half away; six bits round the scale again.
        let steps = f32::from((1u16 << form(kind).bits.min(7)) - 1);
        let step = 1.1 * scale / steps;
        for (value, found) in values.iter().zip(&found) {
            prop_assert!((value - found).abs() <= step, "{} {value} {found} {step}", kind.name());
        }
    }

    /// Quantised values are their own quantisation: what was packed from floats loses nothing when packed again.
    #[test]
    fn eight_bits_are_stable(seed: u64) {
        let mut state = seed;
        let values: Vec<f32> = (0..64).map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / 16_777_216.0 - 0.5
        }).collect();
        let blocks = quantize(BlockKind::Q8_0, &values, 64);
        let mut found = vec![0.0; 64];
        dequantize(BlockKind::Q8_0, &blocks, &mut found);
        let again = quantize(BlockKind::Q8_0, &found, 64);
        let codes = |blocks: &[u8]| -> Vec<u8> {
            blocks.chunks_exact(34).flat_map(|block| block[2..].to_vec()).collect()
        };
        prop_assert_eq!(codes(&again), codes(&blocks));
    }
}
