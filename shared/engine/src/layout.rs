//! How weight matrices lie in memory, and how they are brought there.
//!
//! A linear layer `y = x W^T + b` has `W` as `n` rows (output channels) of `k` inputs. Kernels
//! produce tiles of 64 channels, so the packed layout stores *panels*: 64 channels side by side,
//! inputs in order, in groups of as many inputs as one multiply instruction takes.
//!
//! ```text
//! panel p, group g:   | channel 64p      | channel 64p+1    | ... | channel 64p+63   |
//!   int8   (group 4): | k=4g .. 4g+3     | k=4g .. 4g+3     |     |                  |  256 bytes
//!   bf16/f32 (one):   | k=g              | k=g              |     |                  |  128/256 bytes
//! ```
//!
//! One int8 row of a panel is four 512-bit registers as `VPDPBUSD` wants them, eight 256-bit ones
//! for AVX2, and a strided AMX tile: a snapshot packed once serves every x86-64 processor. The last
//! panel and the last group are filled with zeros, which add nothing to any sum.
//!
//! The *portable* layout is plain row-major `n x k`. It is what other machines exchange and what
//! `pack --isa portable` writes; [`panels`] turns it into the layout above. A change of this page is a
//! new [`defrost_model::isa::LAYOUT_ABI`].

use half::{bf16, f16};

use crate::math::ROUND;

/// Channels per panel. 64 is four AVX-512 registers of i32 (with 6 rows 24 accumulators of the 32 registers, which leaves
/// room for operands and hides the latency of the multiply), and four AMX tiles side by side.
pub const PANEL: usize = 64;

/// Inputs that one int8 multiply instruction sums (`VPDPBUSD`: four u8 x i8 products per lane).
pub const INT8_GROUP: usize = 4;

/// The layout tag of row-major tensors.
pub const ROW_MAJOR: &str = "row-major";
/// The layout tag of panels of 64 channels.
pub const PANEL64: &str = "panel64";

/// A layout of panels, as a kernel set names the one it reads. All are [`PANEL`] channels wide; how inputs are grouped
/// is the layout's.
#[derive(Debug)]
pub(crate) struct PanelLayout {
    /// The layout's tag in snapshots.
    pub(crate) tag: &'static str,
    /// Inputs that int8 panels are padded to a multiple of: a multiple of [`INT8_GROUP`].
    pub(crate) int8_group: usize,
}

/// The layout of this page.
pub(crate) static PANELS_OF_64: PanelLayout = PanelLayout { tag: PANEL64, int8_group: INT8_GROUP };

/// Element count of an `n x k` matrix in panels of groups of `group` inputs.
pub fn panel_len(n: usize, k: usize, group: usize) -> usize {
    n.next_multiple_of(PANEL) * k.next_multiple_of(group)
}

/// Packs a row-major `n x k` matrix into panels.
///
/// # Panics
/// If `rows` does not hold `n * k` elements.
pub fn panels<T: Copy + Default>(rows: &[T], n: usize, k: usize, group: usize) -> Vec<T> {
    assert_eq!(rows.len(), n * k, "row-major matrix of another size");
    let k_padded = k.next_multiple_of(group);
    let mut packed = vec![T::default(); panel_len(n, k, group)];
    for (panel_index, panel) in packed.chunks_exact_mut(PANEL * k_padded).enumerate() {
        let first = panel_index * PANEL;
        for column in 0..PANEL.min(n - first) {
            let row = &rows[(first + column) * k..][..k];
            for (at, &value) in row.iter().enumerate() {
                panel[(at / group) * PANEL * group + column * group + at % group] = value;
            }
        }
    }
    packed
}

/// Quantises each row to int8, symmetric: `w = q * scale`, `scale = max|w| / 127`, ties to even.
///
/// Returns the row-major integers and one scale per row. A row of zeros has scale 0.
pub fn quantize_rows(rows: &[f32], k: usize) -> (Vec<i8>, Vec<f32>) {
    let mut quantized = Vec::with_capacity(rows.len());
    let mut scales = Vec::with_capacity(rows.len() / k.max(1));
    for row in rows.chunks_exact(k) {
        let max = row.iter().fold(0f32, |max, value| max.max(value.abs()));
        let inverse = if max > 0.0 { 127.0 / max } else { 0.0 };
        // As for activations: the low byte of the shifted mantissa is q in two's complement. A call of
        // `round_ties_even` per weight would take most of the time of packing.
        quantized.extend(row.iter().map(|value| (value * inverse + ROUND).to_bits() as u8 as i8));
        scales.push(max / 127.0);
    }
    (quantized, scales)
}

/// What must be subtracted from each channel's sum because activations are stored as `q + 128`:
/// `128 * sum(row)`.
pub fn int8_offsets(rows: &[i8], k: usize) -> Vec<i32> {
    rows.chunks_exact(k).map(|row| 128 * row.iter().map(|&q| i32::from(q)).sum::<i32>()).collect()
}

/// Rounds f32 to bf16, ties to even.
pub fn to_bf16(values: &[f32]) -> Vec<bf16> {
    values.iter().map(|&value| bf16::from_f32(value)).collect()
}

/// Rounds f32 to f16, ties to even.
pub fn to_f16(values: &[f32]) -> Vec<f16> {
    values.iter().map(|&value| f16::from_f32(value)).collect()
}

/// Appends zeros until the length is a whole number of panels.
pub fn pad_to_panel<T: Copy + Default>(mut values: Vec<T>) -> Vec<T> {
    values.resize(values.len().next_multiple_of(PANEL), T::default());
    values
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn panels_hold_every_element_once(n in 1usize..200, k in 1usize..40, group in prop_oneof![Just(1usize), Just(4)]) {
            let rows: Vec<u32> = (1..=u32::try_from(n * k).unwrap()).collect();
            let packed = panels(&rows, n, k, group);
            prop_assert_eq!(packed.len(), panel_len(n, k, group));
            let k_padded = k.next_multiple_of(group);
            for channel in 0..n {
                for input in 0..k {
                    let at = (channel / PANEL) * PANEL * k_padded
                        + (input / group) * PANEL * group
                        + (channel % PANEL) * group
                        + input % group;
                    prop_assert_eq!(packed[at], rows[channel * k + input]);
                }
            }
            prop_assert_eq!(packed.iter().filter(|&&value| value != 0).count(), n * k);
        }

        #[test]
        fn quantisation_errs_by_half_a_step(row in prop::collection::vec(-3.0f32..3.0, 1..64)) {
            let (quantized, scales) = quantize_rows(&row, row.len());
            for (value, q) in row.iter().zip(&quantized) {
                prop_assert!((value - f32::from(*q) * scales[0]).abs() <= scales[0] * 0.5001);
            }
            let sum: i32 = quantized.iter().map(|&q| i32::from(q)).sum();
            prop_assert_eq!(int8_offsets(&quantized, row.len()), vec![128 * sum]);
        }
    }

    #[test]
    fn zero_rows_stay_zero() {
        assert_eq!(quantize_rows(&[0.0; 4], 4), (vec![0; 4], vec![0.0]));
    }
}
